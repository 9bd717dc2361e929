"""train.py as people type it: one line for every mistake, exit codes, what a sweep leaves."""

import csv
import io
import json
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import absl.logging
import pytest

from actsweep.config.error_messages import explain
from actsweep.launch import entry, job
from actsweep.launch.entry import guarded
from actsweep.runtime.process import Process
from actsweep.sweeps import exit_codes
from actsweep.sweeps.plan import PLAN_FILE
from actsweep.utils.errors import UserError

ROOT = Path(__file__).parents[1]
QUICK = ("debug=default", "depth=2", "depth.width=8", "callbacks=light", "logger.console=false")


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Train = Callable[..., Answer]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Hydra configures logging for the whole process."""
    loggers = [logging.getLogger(name) for name in (None, "actsweep", "actsweep.traceback", "absl")]
    absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__  # else closed, pytest's
    before = [(one.level, one.handlers[:], one.propagate) for one in loggers]
    yield
    for one, (level, handlers, propagate) in zip(loggers, before, strict=True):
        for opened in set(one.handlers) - set(handlers):
            opened.close()
        one.setLevel(level)
        one.handlers[:], one.propagate = handlers, propagate
    logging.disable(logging.NOTSET)  # as a worker of a group does


@pytest.fixture
def train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Train:
    """Run train.py in this process, writing to `tmp_path/outputs`."""

    def run(*words: str, full: str = "") -> Answer:
        monkeypatch.setenv("HYDRA_FULL_ERROR", full)
        given = ["train.py", *QUICK, f"paths.outputs={tmp_path / 'outputs'}", *words]
        monkeypatch.setattr(sys, "argv", given)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        return Answer(int(ended.value.code or 0), *capsys.readouterr())

    monkeypatch.chdir(tmp_path)
    return run


def files(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


MISTAKES = [
    ("trainer.log_every=10", "no such key; did you mean trainer.chunk_steps? Known here: "),
    ("act=rleu", "act=rleu: no such name; did you mean act=relu? Known: celu, colu, elu"),
    ("act=", "act=: no such name; type for example act=celu."),
    ("act=[relu]", "act=[relu]: must be one name; type for example act=relu"),
    ("act=[relu", "act=[relu: must be one name"),
    ("model.channels=[1", "model.channels=[1: can't be read; type key=value"),
    ("relu", "relu: can't be read; type key=value"),
    ("depth=tutoriall", "did you mean depth=tutorial?"),
    ("init=he", "did you mean init=he_normal?"),
    ("model=cn", "did you mean model=cnn?"),
    ("optim=sdg", "did you mean optim=sgd?"),
    ("data=mnits", "did you mean data=mnist?"),
    ("callbacks=fulll", "did you mean callbacks=full?"),
    ("logger=offlin", "did you mean logger=offline?"),
    ("experiment=tut", "did you mean experiment=tutorial3?"),
    ("debug=x", "debug=x: no such name; type for example debug=default."),
    ("hydra/launcher=slrm", "hydra/launcher=slrm: no such name"),
    ("trainr.epochs=1", "trainr: no such key; did you mean trainer?"),
    ("lr=0.1", "lr: no such key; did you mean optim.lr? Known here: act, depth"),
    ("trainer.epoch=1", "trainer.epoch: no such key; did you mean trainer.epochs?"),
    ("callbacks.healht={}", "callbacks.healht: no such key; did you mean callbacks.health?"),
    ("act.slope=0.2", "act.slope: no such key; Known here: none"),
    ("+act.slope=0.2", "act.slope=0.2: act=relu has no such parameter; leave it out."),
    ("+optim.lrr=1", "optim.lrr: no such key; did you mean optim.lr?"),
    ("+seed=1", "+seed: this key exists already; type seed=<value>, without the +"),
    ("seed=-1", "seed=-1: must be an integer from 0 to 4294967295; type for example seed=0"),
    ("seed=", "seed=: must be an integer; type for example seed=1"),
    ("optim.lr=fast", "optim.lr=fast: must be a number; type for example optim.lr=0.1"),
    ("depth.widths=5", "depth.widths: must be a list; type for example 'depth.widths=[1,2]'"),
    ("trainer=5", "trainer: must be a group of keys; type for example trainer.<key>=<value>"),
    (
        "trainer.batch_size=1201",
        "must be at most 1200, the number of training examples of data=dig",
    ),
    ("act=relu,elu", "act=relu,elu: several values make a sweep; type python train.py -m act=relu"),
    (
        "seed=range(3)",
        "seed=range(3): several values make a sweep; type python train.py -m seed=ra",
    ),
    ("--cfg=job -m", "-m, --cfg and --info: can't be combined; type only one of them"),
    ("act=relu,rleu -m", "act=rleu: no such name; did you mean act=relu?"),
    ("seed=0,-1 -m", "seed=-1: must be an integer from 0"),
    ("-m act=relu,leaky_relu ++act.slope=0.2", "act=relu has no such parameter"),
    ("trainer.batch_size=64,5000 -m", "trainer.batch_size=5000: must be at most 1200"),
    ("hydra/sweeper=basic -m", "hydra/sweeper=basic: must be pack, optuna, race or tune"),
    ("act=rleu --cfg=job", "did you mean act=relu?"),
]


@pytest.mark.parametrize(("words", "line"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_is_one_line_and_starts_nothing(
    words: str, line: str, train: Train, tmp_path: Path
) -> None:
    code, out, err = train(*words.split())
    assert (code, out) == (exit_codes.BAD_INPUT, "")
    assert err.startswith("error: ")
    assert line in err
    assert err.count("\n") == 1
    assert not [name for name in files(tmp_path) if not name.endswith("multirun.yaml")]


@pytest.mark.parametrize("words", [(), ("-m",)])
def test_outputs_that_cannot_be_written(words: tuple[str, ...], train: Train) -> None:
    Path("blocked").write_text("")
    code, _, err = train("paths.outputs=blocked", *words)
    assert code == exit_codes.BAD_INPUT
    assert "blocked" in err
    assert "paths.outputs=/some/folder" in err
    assert err.count("\n") == 1


def test_a_full_error_has_its_traceback(train: Train) -> None:
    _, _, err = train("seed=-1", full="1")
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: seed=-1")


@pytest.mark.parametrize(
    "words",
    [("+callbacks.x._target_=nope.nope",), ("act=softmax", "init.gain=auto", "seed=0,1", "-m")],
)
def test_what_only_shows_in_the_job_is_one_line_too(
    words: tuple[str, ...], train: Train, tmp_path: Path
) -> None:
    code, out, err = train(*words)
    assert (code, out) == (exit_codes.BAD_INPUT, "")
    assert err.startswith(("error: callbacks.x._target_=nope.nope", "error: init.gain=auto"))
    assert err.count("\n") == 1
    assert not files(tmp_path)


@pytest.mark.parametrize("name", ["submitit_slurm", "submitit_local"])
def test_a_launcher_of_an_extra_says_what_to_install(name: str) -> None:
    from hydra.errors import MissingConfigException

    file = f"hydra/launcher/{name}"
    absent = MissingConfigException(f"Could not find '{file}'", file, ["basic", "slurm"])
    line = explain(absent)
    assert 'pip install "actsweep[submitit]"' in line
    assert "hydra/launcher=slurm" in line


def test_a_plan_is_shown_and_nothing_is_written(train: Train, tmp_path: Path) -> None:
    code, out, err = train("pack.plan=true", "act=relu,elu", "-m", "seed=0,0,1")
    assert (code, err) == (exit_codes.OK, "")
    assert out.splitlines()[-1] == "4 runs in 2 packs"
    assert re.match(
        r"pack 0: 2 runs, 2 at once; each of \d+ CPU devices needs 0\.\d\d GiB of the [\d.]+ GiB "
        r"that may be used\n  relu-\S+\n  relu-\S+\npack 1: ",
        out,
    )
    code, out, err = train("pack.plan=true")
    assert (code, err) == (exit_codes.OK, "")
    assert out.splitlines()[-1] == "1 run in 1 pack"
    assert not files(tmp_path)
    assert not list(tmp_path.glob("outputs/sweeps/*"))


def test_help_says_what_to_type(train: Train) -> None:
    code, out, err = train("--help")
    assert (code, err) == (exit_codes.OK, "")
    for part in (
        "python train.py -m act=relu,elu,swish seed=0,1,2",
        "init: autoinit, critical, ",
        "Exit",
    ):
        assert part in out


def test_errors_that_nobody_expected() -> None:
    assert explain(KeyError("x")) == "KeyError: 'x' (HYDRA_FULL_ERROR=1 shows where)"
    full = OSError(28, "No space left on device", "/x/plan.json")
    assert explain(full).startswith("/x/plan.json: No space left on device; type for example")


def test_one_bad_member_does_not_end_the_sweep(train: Train, tmp_path: Path) -> None:
    code, out, err = train("-m", "optim.lr=0.05,1e30", "seed=0,0")
    assert code == exit_codes.SOME_FAILED
    assert "Traceback" not in err
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    rows = {
        row["lr"]: row for row in csv.DictReader(io.StringIO((folder / "members.csv").read_text()))
    }
    assert {lr: row["state"] for lr, row in rows.items()} == {
        "0.05": "complete",
        "1e+30": "diverged",
    }
    assert "depth=2" in rows["0.05"]["overrides"]
    assert "pack.members" not in rows["0.05"]["overrides"]
    plan = json.loads((folder / PLAN_FILE).read_text())
    assert "depth=2" in plan["command"]
    assert set(plan["members"]) == {row["run_id"] for row in rows.values()}
    assert "0 of 1" in out
    assert f"{rows['1e+30']['run_id']} diverged: the loss is not finite" in out
    code, out, _ = train("optim.lr=0.05")
    assert code == exit_codes.OK
    assert "1 of 1 runs were complete already" in out


def test_a_job_that_breaks_has_failed_members(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the first line\nthe second")

    monkeypatch.setattr(entry, "train_members", broken)
    code, out, err = train("-m", "seed=0,1")
    assert code == exit_codes.SOME_FAILED
    assert err == ""
    assert out.count("failed: RuntimeError: the first line\n") == 1  # of both runs
    (log,) = tmp_path.glob("outputs/sweeps/*/0/train.log")
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize(
    ("words", "states"),
    [
        ((), [("complete", "True"), ("complete", "False"), ("failed", "False")]),
        (("rerun=all",), [("failed", "False"), ("complete", "False"), ("failed", "False")]),
    ],
)
def test_a_job_that_breaks_keeps_what_is_on_disk(
    words: tuple[str, ...],
    states: list[tuple[str, str]],
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Seed 0 was trained by an earlier sweep, seed 1 by the job that broke, seed 2 never."""
    assert train("seed=0").code == exit_codes.OK
    whole = job.train_members

    def broken(folder: Path, run_ids: list[str], process: Process, *, alone: bool) -> None:
        whole(folder, [i for i in run_ids if "-s1-" in i], process, alone=alone)
        raise RuntimeError

    monkeypatch.setattr(entry, "train_members", broken)
    code, _, _ = train("-m", "seed=0,1,2", *words)
    assert code == exit_codes.SOME_FAILED
    file = sorted(tmp_path.glob("outputs/sweeps/*/members.csv"))[-1]
    rows = csv.DictReader(io.StringIO(file.read_text()))
    assert [(row["state"], row["reused"]) for row in rows] == states


def test_a_launcher_that_cannot_start_jobs(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, err = train("-m", "seed=0,1", "hydra/launcher=submitit_slurm")
    assert (code, out) == (exit_codes.BAD_INPUT, "")
    assert err.startswith('error: hydra/launcher=submitit_slurm: RuntimeError: Could not detect "s')
    assert err.count("\n") == 1
    assert not files(tmp_path)


def clean() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in ("JAX_PLATFORMS", "HYDRA_FULL_ERROR")}


@pytest.mark.parametrize("words", ["--help", "--cfg job", "seed=-1", "-m act=relu,rleu"])
def test_answers_do_not_wait_for_jax(words: str, tmp_path: Path) -> None:
    code = (
        "import atexit, runpy, sys\n"
        f"sys.argv = ['train.py', 'paths.outputs={tmp_path}', *{words.split()}]\n"
        "heavy = {'jax', 'numpy', 'wandb', 'submitit'}\n"
        "atexit.register(lambda: print('HEAVY', sorted(heavy & set(sys.modules))))\n"
        "runpy.run_path('train.py', run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env=clean(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == (exit_codes.OK if words.startswith("--") else exit_codes.BAD_INPUT)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_an_interrupt_is_recorded_and_ends_with_130(tmp_path: Path) -> None:
    words = [*QUICK, f"paths.outputs={tmp_path}", "trainer.epochs=100000", "trainer.patience=null"]
    code = (
        "import runpy, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # also in the background\n"
        f"sys.argv = ['train.py', '-m', 'seed=0,1', *{words}]\n"
        "runpy.run_path('train.py', run_name='__main__')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            end = time.monotonic() + 90
            while len(list(tmp_path.glob("runs/*/metrics.jsonl"))) < 2 and time.monotonic() < end:
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)  # as a rule while the program is compiled
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == exit_codes.INTERRUPTED
    assert "preempted: stopped" in out or "preempted: not started" in out
    assert "actsweep resume" in out
    assert "Traceback" not in err
    states = [json.loads(f.read_text())["state"] for f in tmp_path.glob("runs/*/status.json")]
    assert set(states) <= {"preempted"}


def test_old_runs_and_those_of_other_code_are_named(train: Train, tmp_path: Path) -> None:
    assert train("seed=0").code == exit_codes.OK
    (file,) = tmp_path.glob("outputs/runs/*/status.json")
    status = json.loads(file.read_text())
    status["versions"]["jax"] = "0.1.2"
    file.write_text(json.dumps(status))
    code, out, _ = train("-m", "seed=0,1")
    assert code == exit_codes.OK
    head, first = (line.split() for line in out.splitlines()[1:3])
    assert head[:3] == ["act", "seeds", "old"]
    assert first[:3] == ["relu", "2", "1"]
    assert "1 of 2 runs were complete already" in out
    (line,) = [line for line in out.splitlines() if "other code" in line]
    assert line.startswith(f"{file.parent.name} made by other code: jax 0.1.2 (now ")
    newest = sorted(tmp_path.glob("outputs/sweeps/*/members.csv"))[-1].read_text()
    assert [row["reused"] for row in csv.DictReader(io.StringIO(newest))] == ["True", "False"]


def test_hydra_s_variable_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whatever this process starts would print tracebacks."""

    def fail(process: Process) -> int:
        assert os.environ["HYDRA_FULL_ERROR"] == "1"
        raise UserError("no")

    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    assert guarded(fail) == exit_codes.BAD_INPUT
    assert "HYDRA_FULL_ERROR" not in os.environ
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    assert guarded(fail) == exit_codes.BAD_INPUT
    assert os.environ["HYDRA_FULL_ERROR"] == "0"
