"""Several processes that train a pack together end with the numbers of one; dying ones end all."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import slurm_cluster
from slurm_cluster import Cluster
from test_app import ROOT, Train, clean, logging_as_before, train  # noqa: F401
from test_going_on import Metrics, metrics, rows, sweep_in, wait

from actsweep.config.schema import TrainerConfig
from actsweep.runs import run_dir
from actsweep.runtime.distributed import ProcessGroup, check_host, process_index
from actsweep.sweeps import exit_codes
from actsweep.utils.errors import LocalError, UserError

SMALL = (
    *("data=digits", "trainer.batch_size=256", "depth=2", "depth.width=8"),
    "logger=disabled",
)
GONE = re.compile(
    r"process \d of 2: another process is gone, or never came; start all again: "
    r"what is saved goes on\n"
)
End = tuple[int, str, str]


def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def started(count: int, outputs: Path, *words: str, devices: int = 2) -> Iterator[list]:
    """So many processes of train.py on this machine, with so many devices each."""
    at = f"127.0.0.1:{port()}"
    env = {**clean(), "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    together = (f"trainer.distributed={at}", f"trainer.processes={count}") if count > 1 else ()
    with ExitStack() as stack:
        found = []
        for rank in range(count):
            own = (*together, f"trainer.process={rank}") if count > 1 else ()
            process = subprocess.Popen(
                [sys.executable, "train.py", *words, *SMALL, f"paths.outputs={outputs}", *own],
                cwd=ROOT,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(lambda p=process: _end(p))
            found.append(process)
        yield found


def _end(process: subprocess.Popen) -> None:
    with suppress(psutil.NoSuchProcess):
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                one.kill()


def ends(processes: list, seconds: float = 120) -> list[End]:
    """Exit code, output and errors of each."""
    found = []
    for process in processes:
        out, err = process.communicate(timeout=seconds)
        found.append((process.returncode, out, err))
    return found


def trained(count: int, outputs: Path, *words: str, devices: int = 2) -> list[End]:
    with started(count, outputs, *words, devices=devices) as processes:
        return ends(processes)


def close(some: Metrics, others: Metrics, rtol: float) -> None:
    """The same rows; within some tolerance the same numbers."""
    assert some.keys() == others.keys()
    for run_id, text in some.items():
        mine, theirs = ([json.loads(x) for x in t.splitlines()] for t in (text, others[run_id]))
        assert [row.keys() for row in mine] == [row.keys() for row in theirs]
        for one, other in zip(mine, theirs, strict=True):
            for key, value in one.items():
                if value is None:
                    assert other[key] is None
                else:
                    np.testing.assert_allclose(value, other[key], rtol, 1e-7, err_msg=key)


MANY = ("trainer.epochs=12", "trainer.patience=2", "optim.lr=0.05,1e30,0.5")
LIGHT, PLAIN = ((f"callbacks={which}", "trainer.epochs=3") for which in ("light", "none"))
CASES: dict[str, tuple[int, int, float, tuple[str, ...]]] = {
    # processes, devices each, tolerance (0: every byte), words
    "early stop, divergence, repacking": (2, 2, 0, ("act=relu", "seed=0,1", *MANY)),
    "four processes": (4, 1, 0, ("act=relu", "seed=0,1,2", *LIGHT)),
    "streamed": (2, 2, 0, ("act=relu", "seed=0,1,2", "data.stream=true", *PLAIN)),
    "vmap": (2, 1, 1e-5, ("act=relu", "seed=range(0,5)", "pack.batching=vmap", *LIGHT)),
    "a batch shared by both": (2, 2, 1e-5, ("act=relu", "trainer.mesh.data=4", *LIGHT)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_numbers_of_one_process(case: str, tmp_path: Path) -> None:
    count, devices, rtol, words = CASES[case]
    one, many = tmp_path / "one", tmp_path / "many"
    # One process shares a batch among as many devices: the sums are taken in the same order.
    ((code, *_),) = trained(1, one, "-m", *words, devices=count * devices)
    said = trained(count, many, "-m", *words, devices=devices)
    assert [end[0] for end in said] == [code] + [exit_codes.OK] * (count - 1)
    assert all(end[1:] == ("", "") for end in said[1:])
    assert "Gloo" not in said[0][1] + said[0][2]
    assert metrics(one)
    close(metrics(one), metrics(many), rtol) if rtol else None
    assert rtol or metrics(one) == metrics(many)
    for run in one.glob("runs/*"):
        if not rtol and (run / "histograms.npz").exists():
            theirs = np.load(many / "runs" / run.name / "histograms.npz")
            mine = np.load(run / "histograms.npz")
            assert all(np.array_equal(mine[key], theirs[key]) for key in mine.files)
        status, summary = (
            json.loads((run / f"{x}.json").read_text()) for x in ("status", "summary")
        )
        other = json.loads((many / "runs" / run.name / "summary.json").read_text())
        assert status["state"] == summary["state"] == other["state"]
        assert summary["best_epoch"] == other["best_epoch"]


HOOK = """
import os
from actsweep.callbacks import Callback, Stop

def own():
    def hook():
        def look(step, epoch, readings):
            with open(os.environ["HEARD"], "a") as file:
                file.write(f"{os.environ['WHO']}\\n")
            return Stop("enough") if readings.get("val/accuracy", 0) > 0.5 else None
        return look
    return Callback(hook=hook)
"""


@pytest.mark.slow
def test_a_hook_stops_in_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is called in one of them."""
    (tmp_path / "own_hook.py").write_text(HOOK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HEARD", str(tmp_path / "heard"))
    monkeypatch.setenv("WHO", "one")
    words = ("-m", "act=relu", "seed=0,1", "callbacks=none", "optim.lr=0.1")
    words = (
        *words,
        "trainer.epochs=60",
        "trainer.patience=null",
        "+callbacks.own._target_=own_hook.own",
    )
    one, many = tmp_path / "one", tmp_path / "many"
    assert [end[0] for end in trained(1, one, *words)] == [exit_codes.OK]
    heard = (tmp_path / "heard").read_text()
    (tmp_path / "heard").unlink()
    assert [end[0] for end in trained(2, many, *words)] == [exit_codes.OK] * 2
    assert (tmp_path / "heard").read_text() == heard
    assert metrics(many) == metrics(one)
    assert max(text.count(b"\n") for text in metrics(one).values()) < 55  # it did stop


LONG = ("-m", "act=relu", "seed=0,1,2", "callbacks=none", "trainer.patience=null")
SLOWLY = (*LONG, "trainer.epochs=150", "trainer.save_every_s=0.3")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    """What one process leaves that nobody disturbs."""
    outputs = tmp_path_factory.mktemp("whole")
    assert [end[0] for end in trained(1, outputs, *SLOWLY)] == [exit_codes.OK]
    return metrics(outputs)


def trainer_of(process: subprocess.Popen) -> psutil.Process:
    """The child that trains; its parent only passes things on."""
    (child,) = psutil.Process(process.pid).children()
    return child


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "attendant"), [(1, False), (0, True)])
def test_one_that_dies_ends_all(
    victim: int, attendant: bool, tmp_path: Path, whole: Metrics
) -> None:
    """At once, with one line; started again, in as many processes or in one, they go on."""
    with started(2, tmp_path, *SLOWLY) as processes:
        wait(lambda: rows(tmp_path) > 30)
        dying = processes[victim] if attendant else trainer_of(processes[victim])
        began = time.monotonic()
        dying.kill()
        said = ends(processes)
        assert time.monotonic() - began < 10
    code, out, err = said[1 - victim]
    assert code == exit_codes.PREEMPTED
    assert len(GONE.findall(err)) == 1, err
    assert "Traceback" not in out + err
    if victim == 1:
        assert re.search(r"preempted: stopped at epoch \d", out)
        assert "go on:  the same command again, for every process" in out
    else:
        assert (out, GONE.sub("", err)) == ("", "")
    again = trained(1 if attendant else 2, tmp_path, *SLOWLY)
    assert [end[0] for end in again] == [exit_codes.OK] * len(again)
    assert "go on from step" in again[0][2]
    assert metrics(tmp_path) == whole


@pytest.mark.slow
def test_signals_save(tmp_path: Path, whole: Metrics) -> None:
    """To all processes, as srun sends them; process 0 decides when. One process goes on."""
    for number, code in (
        (signal.SIGTERM, exit_codes.PREEMPTED),
        (signal.SIGINT, exit_codes.INTERRUPTED),
    ):
        before = rows(tmp_path)
        with started(2, tmp_path, *SLOWLY) as processes:
            wait(lambda before=before: rows(tmp_path) > before + 30)  # type: ignore[misc]
            for process in processes:
                process.send_signal(number)
            (first, *_), (second, *rest) = ends(processes)
        assert (first, second, rest) == (code, exit_codes.OK, ["", ""])
        states = [json.loads(f.read_text())["state"] for f in tmp_path.glob("runs/*/status.json")]
        assert states == ["preempted"] * 3
    assert [end[0] for end in trained(1, tmp_path, *SLOWLY, devices=4)] == [exit_codes.OK]
    assert metrics(tmp_path) == whole


@pytest.mark.slow
def test_one_process_stops_and_two_go_on(tmp_path: Path, whole: Metrics) -> None:
    with started(1, tmp_path, *SLOWLY) as (process,):
        wait(lambda: rows(tmp_path) > 30)
        process.send_signal(signal.SIGTERM)
        assert ends([process])[0][0] == exit_codes.PREEMPTED
    said = trained(2, tmp_path, *SLOWLY, devices=1)
    assert [end[0] for end in said] == [exit_codes.OK] * 2
    assert "go on from step" in said[0][2]
    assert metrics(tmp_path) == whole


@pytest.mark.slow
@pytest.mark.parametrize("present", [0, 1])
def test_one_that_never_comes(present: int, tmp_path: Path) -> None:
    own = ("trainer.processes=2", f"trainer.process={present}", f"paths.outputs={tmp_path}")
    words = (*SMALL, f"trainer.distributed=127.0.0.1:{port()}", *own)
    env = clean() | {"ACTSWEEP_JOIN_S": "3"}
    code, _, err = ask(env, sys.executable, "train.py", *words)
    assert code == exit_codes.PREEMPTED
    assert GONE.fullmatch(err), err
    assert not rows(tmp_path)


@pytest.mark.slow
def test_bad_input_that_only_shows_later(tmp_path: Path) -> None:
    """One line from process 0, nothing on the disk."""
    said = trained(2, tmp_path, "-m", "act=softmax", "init.gain=auto", "seed=0,1")
    assert said[0][:2] == (exit_codes.BAD_INPUT, "")
    assert said[0][2].startswith("error: init.gain=auto")
    assert said[0][2].count("\n") == 1
    assert said[1] == (exit_codes.OK, "", "")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


@pytest.mark.slow
def test_one_that_lacks_what_the_others_have(tmp_path: Path) -> None:
    """It says what it lacks, and all end."""
    at, outputs = f"127.0.0.1:{port()}", tmp_path / "outputs"
    code = """
import os
def act(z):
    if os.environ["RANK"] == "1":
        raise OSError("not here")
    return z
"""
    (tmp_path / "own_act.py").write_text(code)
    several = (f"trainer.distributed={at}", "trainer.processes=2", f"paths.outputs={outputs}")
    words = (*SMALL, *LIGHT, "+act._target_=own_act.act", "act.name=own", *several)
    with ExitStack() as stack:
        processes = [
            piped(
                clean() | {"RANK": str(rank), "PYTHONPATH": str(tmp_path)},
                *(sys.executable, "train.py", *words, f"trainer.process={rank}"),
            )
            for rank in (0, 1)
        ]
        for process in processes:
            stack.callback(process.wait)
            stack.callback(_end, process)
        (first, _, said), (second, _, told) = ends(processes, 100)
    assert (first, second) == (exit_codes.PREEMPTED, exit_codes.PREEMPTED), said + told
    assert "error: process 1 of 2: OSError: not here\n" in told
    assert "Traceback" not in said + told
    assert GONE.search(said)


@pytest.mark.slow
def test_an_activation_that_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pack fails in all processes; the next one is trained."""
    (tmp_path / "act").mkdir()
    (tmp_path / "act" / "bad.yaml").write_text("name: bad\n_target_: bad_act.bad\n")
    (tmp_path / "bad_act.py").write_text("def bad(z):\n    raise ValueError('no good')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outputs = tmp_path / "outputs"
    words = ("-m", "--config-dir", str(tmp_path), "act=bad,relu", "trainer.epochs=2")
    said = trained(2, outputs, *words)
    assert [end[0] for end in said] == [exit_codes.SOME_FAILED, exit_codes.OK]
    states = {r["act"]: r["state"] for r in run_dir.read_members_csv(sweep_in(outputs))}
    assert states == {"bad": "failed", "relu": "complete"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with slurm_cluster.cluster(nodes=2) as running:
        yield running


def slurm_env(cluster: Cluster) -> dict[str, str]:
    # The nodes' names are none of this machine's.
    return {**clean(), **cluster.env, "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port()}"}


SRUN = ("srun", "-K", "-N2", "-n2", "--ntasks-per-node=1", sys.executable, "train.py")


def ask(env: dict[str, str], *command: str) -> End:
    with piped(env, *command) as process:
        out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def piped(env: dict[str, str], *command: str) -> subprocess.Popen:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=env, **pipes)


def rank_of(process: psutil.Process) -> str | None:
    """Which task of a SLURM job a training process is."""
    with suppress(psutil.Error):
        if "train.py" in process.cmdline():
            return process.environ().get("SLURM_PROCID")
    return None


@pytest.mark.slow
def test_jobs_of_two_nodes(cluster: Cluster, tmp_path: Path, whole: Metrics) -> None:
    """hydra/launcher=slurm slurm.nodes=2: preempted, queued again, and the bytes of one process."""
    outputs = tmp_path / "many"
    words = (*SLOWLY, *SMALL, "trainer.distributed=slurm", f"paths.outputs={outputs}")
    asked = ("hydra/launcher=slurm", "slurm.nodes=2", "slurm.gpus=0", "slurm.cpus=1")
    env = slurm_env(cluster)
    with piped(env, sys.executable, "train.py", *words, *asked) as process:
        wait(lambda: rows(outputs) > 30)
        urgent = ("-p", "urgent", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "true")
        cluster.ask("sbatch", *urgent)
        out, err = process.communicate(timeout=180)
    assert process.returncode == exit_codes.OK, out + err
    assert metrics(outputs) == whole
    for file in outputs.glob("runs/*/status.json"):
        assert json.loads(file.read_text())["resumed"]


@pytest.mark.slow
def test_a_task_that_is_killed(cluster: Cluster, tmp_path: Path, whole: Metrics) -> None:
    """srun ends the others; what is left goes on."""
    outputs = tmp_path / "many"
    words = (*SLOWLY, *SMALL, "trainer.distributed=slurm", f"paths.outputs={outputs}")
    with piped(slurm_env(cluster), *SRUN, *words) as process:
        wait(lambda: rows(outputs) > 30)
        workers = [one for one in psutil.process_iter() if rank_of(one) == "1"]
        began = time.monotonic()
        for one in workers:
            one.kill()
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - began < 30
    assert process.returncode != exit_codes.OK
    assert "Traceback" not in out + err
    code, *_ = ask(slurm_env(cluster), *SRUN, *words)
    assert code == exit_codes.OK
    assert metrics(outputs) == whole


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("distributed=slurm", "distributed=slurm: this process was not started by srun; "),
        ("distributed=here", "distributed=here: must be slurm, or host:port of process 0"),
        ("distributed=a:1 processes=2", "process=null: must be an integer from 0 to 1"),
        ("distributed=a:1 processes=1", "processes=1: must be an integer of at least 2"),
        ("processes=2", "processes=2: must be absent unless trainer.distributed="),
    ],
)
def test_mistakes(words: str, line: str, train: Train, tmp_path: Path) -> None:  # noqa: F811
    code, out, err = train(*[f"trainer.{word}" for word in words.split()])
    assert (code, out) == (exit_codes.BAD_INPUT, "")
    assert err.startswith(f"error: trainer.{line}"), err
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_launchers_whose_jobs_cant_be_several(train: Train) -> None:  # noqa: F811
    code, _, err = train("-m", "hydra/launcher=joblib", "trainer.distributed=slurm")
    assert code == exit_codes.BAD_INPUT
    assert err.startswith("error: trainer.distributed=slurm: needs hydra/launcher=basic or slurm")


def test_of_the_tasks_of_srun_one_tells(
    train: Train,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only where they train together: else each has a command of its own."""
    for rank, said in (("0", 1), ("1", 0)):
        monkeypatch.setenv("SLURM_PROCID", rank)
        code, _, err = train("act=rleu", "trainer.distributed=slurm")
        assert (code, err.count("error: ")) == (exit_codes.BAD_INPUT, said)
        code, _, err = train("act=rleu")
        assert (code, err.count("error: ")) == (exit_codes.BAD_INPUT, 1)


@pytest.mark.parametrize(
    ("distributed", "env", "message"),
    [
        ("nowhere.invalid:8476", {}, r"host name nowhere.invalid of process 0; give its address, "),
        ("localhost:8476", {}, ""),
        ("[::1]:8476", {}, ""),
        ("slurm", {"SLURM_STEP_NODELIST": "gone[007-9,12],x"}, r"the host name gone007 of process"),
        ("slurm", {"SLURM_STEP_NODELIST": "gone,localhost"}, r"the host name gone of process 0"),
        ("slurm", {"SLURM_STEP_NODELIST": "localhost,gone"}, ""),
        (
            "slurm",
            {"SLURM_STEP_NODELIST": "gone", "JAX_COORDINATOR_ADDRESS": "127.0.0.1:8476"},
            "",
        ),
    ],
)
def test_a_host_that_cant_be_found_is_told_at_once(
    distributed: str, env: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    trainer = TrainerConfig(distributed=distributed, process=1, processes=2)
    began = time.monotonic()
    if message:
        with pytest.raises(LocalError, match=message):
            check_host(trainer)
    else:
        check_host(trainer)
    assert time.monotonic() - began < 25


def test_the_process_that_cant_find_the_other_says_so(train: Train) -> None:  # noqa: F811
    words = ("trainer.processes=2", "trainer.process=1")
    code, _, err = train("data=digits", "trainer.distributed=nowhere.invalid:8476", *words)
    assert code == exit_codes.BAD_INPUT
    assert "doesn't know the host name nowhere.invalid of process 0; give its address" in err


def test_alone_nothing_is_asked() -> None:
    us = ProcessGroup()
    with us.coordinating(TrainerConfig()):
        assert us.alone
        assert us.is_coordinator
        assert us.broadcast({"a": 1}) == {"a": 1}
    assert not us.lost


class Store:
    """What JAX's key-value store does."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.most = 0

    def key_value_set(self, key: str, value: str) -> None:
        assert key not in self.kept
        self.kept[key] = value
        self.most = max(self.most, len(self.kept))

    def blocking_key_value_get(self, key: str, milliseconds: int) -> str:
        return self.kept[key]

    def key_value_delete(self, key: str) -> None:
        del self.kept[key]


def test_what_is_said_is_heard_in_order() -> None:
    """And forgotten, a thousand messages later."""
    store, coordinator, worker = Store(), ProcessGroup(), ProcessGroup()
    for rank, one in enumerate((coordinator, worker)):
        one.rank, one.count, one._client = rank, 2, store
    for number in range(3_000):
        assert coordinator.broadcast([number, "x"]) == [number, "x"]
        assert worker.broadcast("ignored") == [number, "x"]
    assert store.most <= 1_002
    with pytest.raises(BaseException, match="another process is gone"):
        worker.receive()
    assert worker.lost


def test_who_is_who(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert process_index(TrainerConfig(distributed="slurm")) == (1, 4)
    assert process_index(TrainerConfig(distributed="a:1", processes=3, process=2)) == (2, 3)
    assert process_index(TrainerConfig()) == (0, 1)
    monkeypatch.delenv("SLURM_PROCID")
    with pytest.raises(UserError, match="was not started by srun"):
        process_index(TrainerConfig(distributed="slurm"))
