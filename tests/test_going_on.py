"""actsweep resume and retry: a sweep ends as if it had never been killed, whatever has changed."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import slurm_cluster
from test_app import ROOT, Train, clean, logging_as_before, train  # noqa: F401

from actsweep.cli.main import main
from actsweep.config import identity
from actsweep.runs import run_dir
from actsweep.runs.leases import Leases, owners
from actsweep.sweeps import exit_codes
from actsweep.sweeps.plan import LAUNCH_FILE, read_plan
from actsweep.train import setup
from actsweep.utils import files
from actsweep.utils.errors import UserError

SMALL = ("debug=default", "depth=2", "depth.width=8", "callbacks=light", "trainer.save_every_s=0")
TWELVE = (*SMALL, "trainer.epochs=12", "trainer.patience=null")
ENDLESS = (*SMALL, "trainer.epochs=100000", "trainer.patience=null")
FOUR = ("-m", "act=relu,tanh", "seed=0,1")
Metrics = dict[str, bytes]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of one's own, with conf/ and train.py."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "train.py", folder)
    return folder


@contextmanager
def started(folder: Path, *words: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Python with these words; killed at the end, with all its jobs."""
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env={**clean(), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def ask(folder: Path, *words: str, **env: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    with started(folder, *words, **env) as process:
        out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def rows(outputs: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in outputs.glob("runs/*/metrics.jsonl"))


def wait(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def kill_in_the_middle(project: Path, *words: str, **env: str) -> None:
    """Train until there are some rows, then kill all that trains."""
    outputs = project / "outputs"
    with started(project, "train.py", *words, **env):
        wait(lambda: rows(outputs) > 6)
    for held in {one.pid for one in owners(outputs).values()}:  # jobs in sessions of their own
        with suppress(ProcessLookupError):
            os.kill(held, signal.SIGKILL)
    wait(lambda: not owners(outputs))


def metrics(outputs: Path) -> Metrics:
    return {file.parent.name: file.read_bytes() for file in outputs.glob("runs/*/metrics.jsonl")}


def states(outputs: Path) -> list[str]:
    return [json.loads(file.read_text())["state"] for file in outputs.glob("runs/*/status.json")]


def sweep_in(outputs: Path) -> Path:
    (folder,) = (outputs / "sweeps").iterdir()
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    """What the sweep leaves that nobody disturbs."""
    outputs = tmp_path_factory.mktemp("whole")
    code, _, err = ask(ROOT, "train.py", *FOUR, *TWELVE, f"paths.outputs={outputs}")
    assert code == exit_codes.OK, err
    return metrics(outputs)


@pytest.fixture
def env(launcher: str) -> Iterator[dict[str, str]]:
    if launcher != "submitit_slurm":
        yield {}
        return
    with slurm_cluster.cluster(nodes=2) as cluster:
        yield cluster.env


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_slurm"])
def test_a_sweep_that_was_killed(
    launcher: str, env: dict[str, str], project: Path, whole: Metrics
) -> None:
    """Without conf/, which is gone by then."""
    outputs = project / "outputs"
    kill_in_the_middle(project, *FOUR, *TWELVE, f"hydra/launcher={launcher}", **env)
    assert states(outputs) != ["complete"] * 4
    shutil.rmtree(project / "conf")
    code, out, err = ask(project, "-m", "actsweep", "resume", "last", **env)
    assert code == exit_codes.OK, err
    assert "Traceback" not in err
    assert "go on from step" in err or launcher != "basic"
    assert metrics(outputs) == whole
    assert "complete already" not in out  # all of it is this sweep's
    table = run_dir.read_members_csv(sweep_in(outputs))
    assert [row["state"] for row in table] == ["complete"] * 4
    code, out, err = ask(project, "-m", "actsweep", "resume", "last", **env)
    assert (code, err) == (exit_codes.OK, "")
    assert "members.csv" in out


@pytest.mark.slow
def test_a_single_run_that_was_killed(project: Path, whole: Metrics, tmp_path: Path) -> None:
    """From another folder, to which its outputs were moved."""
    kill_in_the_middle(project, "seed=1", *TWELVE, "hydra/launcher=joblib")
    moved = tmp_path / "moved"
    shutil.move(project / "outputs", moved)
    shutil.rmtree(project / "conf")
    words = ("actsweep", "resume", str(sweep_in(moved)))
    code, _, err = ask(tmp_path, "-m", *words)
    assert code == exit_codes.OK, err
    assert err.startswith(f"in {project}, where the sweep was submitted\n")
    assert not (project / "outputs").exists()
    ((name, found),) = metrics(moved).items()
    assert found == whole[name]


@pytest.mark.slow
def test_signals(project: Path) -> None:
    outputs = project / "outputs"
    kill_in_the_middle(project, "-m", "seed=0,1", *ENDLESS)
    for number, expected in (
        (signal.SIGTERM, exit_codes.PREEMPTED),
        (signal.SIGINT, exit_codes.INTERRUPTED),
    ):
        before = rows(outputs)
        with started(project, "-m", "actsweep", "resume", "last") as process:
            wait(lambda before=before: rows(outputs) > before)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        assert process.returncode == expected
        assert "Traceback" not in err
        assert f"go on:  actsweep resume {sweep_in(outputs).name}" in out
        assert states(outputs) == ["preempted"] * 2


@pytest.mark.slow
def test_jobs_train_what_was_submitted(project: Path) -> None:
    """conf/ is edited, and then broken, before the second of two jobs starts."""
    words = (*FOUR, *SMALL, "trainer.epochs=30", "trainer.patience=null")
    one_by_one = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
    with started(project, "train.py", *words, *one_by_one) as process:
        wait(lambda: rows(project / "outputs") > 0)
        assert not list(project.glob("outputs/runs/tanh-*"))
        file = project / "conf" / "optim" / "sgd.yaml"
        file.write_text(file.read_text().replace("lr: ", "lr: 9"))
        (project / "conf" / "config.yaml").write_text("no: such key")
        _, err = process.communicate(timeout=120)
    assert process.returncode == exit_codes.OK, err
    plan = read_plan(sweep_in(project / "outputs"))
    assert {member.config.optim.lr for member in plan.runs.values()} == {0.01}
    for run_id in plan.runs:
        text = (project / "outputs" / "runs" / run_id / "config.yaml").read_text()
        assert "  lr: 0.01\n" in text
        assert json.dumps(plan.overrides[run_id])


@pytest.fixture
def again(
    train: Train,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """The command `actsweep`, in this process."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setenv("PYTHONPATH", "")
        capsys.readouterr()
        code = main(words)
        return code, *capsys.readouterr()

    return run


Again = Callable[..., tuple[int, str, str]]


def fail(outputs: Path, run_id: str) -> None:
    """Let a run have failed, with its checkpoint."""
    folder = run_dir.RunDir(outputs, run_id)
    run_dir.write_status(folder, "failed", step=18, epoch=1, cause="OSError: no room")


def test_what_has_failed_is_tried_again(train: Train, again: Again) -> None:  # noqa: F811
    assert train("-m", "seed=0,1", "trainer.save_every_s=0").code == exit_codes.OK
    outputs = Path("outputs")
    folder = sweep_in(outputs)
    before = metrics(outputs)
    first, second = read_plan(folder).runs
    code, out, _ = again("retry")
    assert (code, out.splitlines()[0]) == (exit_codes.OK, f"{folder.name}: no run has failed")
    fail(outputs, second)
    code, out, _ = again("resume", "last")
    assert code == exit_codes.SOME_FAILED  # it isn't trained
    assert f"{second} failed: OSError: no room" in out
    assert out.splitlines()[-1] == f"retry:  actsweep retry {folder.name}"
    code, out, _ = again("retry", folder.name)
    assert (code, read_plan(folder).attempt) == (exit_codes.OK, 2)
    assert "1 of 2 runs were complete already" in out
    assert metrics(outputs) == before
    status = run_dir.read_status(run_dir.RunDir(outputs, second)) or {}
    assert (status["attempt"], len(status["resumed"])) == (2, 1)  # from its last checkpoint
    assert "resumed" not in (run_dir.read_status(run_dir.RunDir(outputs, first)) or {})


def test_what_has_diverged_only_when_asked(train: Train, again: Again) -> None:  # noqa: F811
    assert train("-m", "optim.lr=0.05,1e30").code == exit_codes.SOME_FAILED
    plan = read_plan(sweep_in(Path("outputs")))
    _, diverged = (member.dir for member in plan.runs.values())
    code, out, err = again("retry")
    assert (code, err) == (exit_codes.SOME_FAILED, "")
    assert "no run has failed" in out
    before = diverged.status.stat().st_mtime_ns
    assert again("retry", "--diverged")[0] == exit_codes.SOME_FAILED
    assert diverged.status.stat().st_mtime_ns > before
    assert (run_dir.read_status(diverged) or {})["attempt"] == 2


def test_nobody_retries_what_is_in_training(train: Train, again: Again) -> None:  # noqa: F811
    assert train("-m", "seed=0,1").code == exit_codes.OK
    folder = sweep_in(Path("outputs"))
    fail(Path("outputs"), next(iter(read_plan(folder).runs)))
    with Leases(Path("outputs"), folder.name):
        code, out, err = again("retry")
    assert (code, out) == (exit_codes.BAD_INPUT, "")
    assert f"process {os.getpid()}; wait for it, or stop it\n" in err
    assert read_plan(folder).attempt == 1


def test_all_must_be_trained_before_any_is_tried_again(train: Train, again: Again) -> None:  # noqa: F811
    assert train("-m", "seed=0,1").code == exit_codes.OK
    assert train("-m", "seed=0,1", "rerun=all").code == exit_codes.OK
    folder = max((Path("outputs") / "sweeps").iterdir())
    first, second = read_plan(folder).runs
    fail(Path("outputs"), first)
    status = run_dir.read_status(run_dir.RunDir(Path("outputs"), second)) or {}
    file = run_dir.RunDir(Path("outputs"), second).status
    files.write_json(file, {**status, "sweep": "the one before"})
    code, _, err = again("retry")
    assert code == exit_codes.BAD_INPUT
    assert "some runs aren't trained yet; type actsweep resume" in err


OWN = "def bent(z, bend=0.5):\n    return z * bend\n"


@pytest.mark.slow
def test_code_of_ones_own(project: Path, tmp_path: Path) -> None:
    """It is found where it was, without PYTHONPATH; and where it has changed, that is said."""
    mine = tmp_path / "mine"
    (mine / "conf" / "act").mkdir(parents=True)
    (mine / "conf" / "act" / "bent.yaml").write_text("name: bent\n_target_: my_act.bent\n")
    (mine / "my_act.py").write_text(OWN)
    words = ("--config-dir", str(mine / "conf"), "act=bent", *TWELVE)
    kill_in_the_middle(project, "-m", *words, PYTHONPATH=str(mine))
    shutil.rmtree(mine / "conf")
    (mine / "my_act.py").write_text(OWN + "\n")
    code, out, err = ask(
        tmp_path, "-m", "actsweep", "resume", "last", "--outputs", "project/outputs"
    )
    assert (code, out) == (exit_codes.BAD_INPUT, "")
    name = sweep_in(project / "outputs").name
    assert err.splitlines()[1].startswith(f"error: {name}: your own code (a _target_) or data (")
    (mine / "my_act.py").write_text(OWN)
    code, _, err = ask(tmp_path, "-m", "actsweep", "resume", "last", "--outputs", "project/outputs")
    assert code == exit_codes.OK, err
    assert states(project / "outputs") == ["complete"]


def cut_short(outputs: Path) -> Path:
    """Let the only sweep have been killed before any run began; its folder."""
    shutil.rmtree(outputs / "runs")
    return sweep_in(outputs)


def test_a_launcher_that_cannot_start_jobs_takes_nothing_away(
    train: Train,  # noqa: F811
    again: Again,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert train("-m", "seed=0,1").code == exit_codes.OK
    file = sweep_in(Path("outputs")) / LAUNCH_FILE
    text = file.read_text()
    basic = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    assert basic in text
    slurm = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
    here = f"{slurm}\n    submitit_folder: {file.parent}/.submitit"
    file.write_text(text.replace(basic, here))
    folder = cut_short(Path("outputs"))
    monkeypatch.setenv("PATH", str(folder))
    code, out, err = again("resume", "last")
    assert (code, out) == (exit_codes.BAD_INPUT, "")
    assert "RuntimeError: Could not detect" in err
    assert err.count("\n") == 1
    file.unlink()
    code, out, err = again("resume", "last")
    assert (code, out) == (exit_codes.BAD_INPUT, "")
    assert "launch.yaml: can't be read" in err
    assert read_plan(folder)


def test_bad_input_that_only_shows_in_the_job_takes_nothing_away(
    train: Train,  # noqa: F811
    again: Again,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert train("-m", "seed=0,1").code == exit_codes.OK
    folder = cut_short(Path("outputs"))

    def refuse(*_: object) -> None:
        raise UserError("data=digits: not today")

    with monkeypatch.context() as patch:
        patch.setattr(setup, "_load", refuse)
        code, out, err = again("resume", "last")
    assert (code, out, err) == (exit_codes.BAD_INPUT, "", "error: data=digits: not today\n")
    assert again("resume", folder.name)[0] == exit_codes.OK
    assert states(Path("outputs")) == ["complete"] * 2


def test_the_way_on_after_a_change_of_ones_own_code(
    train: Train,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The table is as it was; what goes on says the command that trains what the code is now."""
    (tmp_path / "mine_act.py").write_text("def bent(z):\n    raise KeyError('bent')\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = ("-m", "act=relu", "seed=0,1", "++act._target_=mine_act.bent", "++act.name=bent")
    folder = tmp_path / "outputs" / "sweeps" / "mine"
    code, out, _ = train(*words, f"hydra.sweep.dir={folder}")
    assert code == 1
    assert f"retry:  actsweep retry {folder}   (after a change of your own code: the command" in out
    (tmp_path / "mine_act.py").write_text("def bent(z):\n    return 2 * z\n")
    sys.modules.pop("mine_act")
    identity._source_digest.cache_clear()
    outputs = ("--outputs", str(tmp_path / "outputs"))
    assert main(["table", "mine", *outputs]) == 0
    assert re.search(r"^bent +0 of 2", capsys.readouterr().out, re.M)
    for command in ("retry", "resume"):
        assert main([command, "mine", *outputs]) == 2
        told = capsys.readouterr().err
        assert "Runs of it are other runs now: to train these" in told
        assert "hydra.sweep.dir" not in told
    again = told.strip().partition("type the command again: ")[2]
    code, out, err = train(*shlex.split(again)[2:])  # without python train.py
    assert code == 0, err
    assert re.search(r"^bent +2 ", out, re.M)
