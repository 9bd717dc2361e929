"""Packs through every Hydra launcher, from the shell: the same files, whoever starts the jobs."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import slurm_cluster
from slurm_cluster import Cluster

from actsweep.runs import run_dir
from actsweep.runs.run_dir import RunDir
from actsweep.sweeps import exit_codes
from actsweep.sweeps.plan import read_plan

ROOT = Path(__file__).parents[1]
QUICK = (
    *("-m", "data=digits", "trainer.epochs=1", "trainer.batch_size=256"),
    *("depth.widths=[8]", "callbacks=light"),
)
FOUR = ("act=relu,tanh", "seed=0,1")
LAUNCHERS = ("joblib", "submitit_local", "submitit_slurm")
pytestmark = pytest.mark.slow

# An activation that ends the process that trains it. WAIT: once the two relus have ended.
FATAL = """
import os, pathlib, signal, time

def ended():
    states = [f.read_text() for f in pathlib.Path(os.environ["WAIT"]).glob("relu-*/status.json")]
    return [text for text in states if '"running"' not in text]

def fatal(z):
    end = time.monotonic() + 60
    while "WAIT" in os.environ and len(ended()) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Sweep(NamedTuple):
    code: int
    out: str
    err: str
    outputs: Path

    @property
    def folder(self) -> Path:
        (folder,) = (self.outputs / "sweeps").iterdir()
        return folder

    @property
    def rows(self) -> list[dict]:
        return run_dir.read_members_csv(self.folder)

    def metrics(self) -> dict[str, bytes]:
        return {f.parent.name: f.read_bytes() for f in self.outputs.glob("runs/*/metrics.jsonl")}


def sweep(outputs: Path, launcher: str, *words: str, **env: str) -> Sweep:
    """train.py, as typed in a shell."""
    given = [*words, *QUICK, f"hydra/launcher={launcher}", f"paths.outputs={outputs}"]
    if launcher == "joblib":
        given.append("hydra.launcher.n_jobs=2")
    done = subprocess.run(
        [sys.executable, "train.py", *given],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Sweep(done.returncode, done.stdout, done.stderr, outputs)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with slurm_cluster.cluster(nodes=2) as started:
        yield started


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep(tmp_path_factory.mktemp("basic"), "basic", *FOUR)


@pytest.fixture
def env(launcher: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """What a launcher needs around it: a cluster, for one of them."""
    return request.getfixturevalue("slurm").env if launcher == "submitit_slurm" else {}


def check_complete(done: Sweep) -> None:
    """Two packs of two, four whole folders, a table and its rows."""
    assert done.code == exit_codes.OK, done.err
    plan = read_plan(done.folder)
    assert [len(pack) for pack in plan.packs] == [2, 2]
    members = plan.runs
    keys = [(row["act"], row["seed"], row["state"], row["epochs"]) for row in done.rows]
    assert keys == [(act, seed, "complete", 1) for act in ("relu", "tanh") for seed in (0, 1)]
    assert all(0 < row["test_accuracy"] < 1 for row in done.rows)
    table = [line.split() for line in done.out.splitlines()]
    assert {tuple(line[:2]) for line in table if line} >= {("relu", "2"), ("tanh", "2")}
    assert f"{done.folder}/members.csv" in done.out
    for run_id in members:
        run = RunDir(done.outputs, run_id)
        assert (run_dir.read_status(run) or {})["state"] == "complete"
        assert (run_dir.read_summary(run) or {})["run_id"] == run_id
        assert all(
            path.exists()
            for path in (
                run.config,
                run.metrics,
                run.checkpoints,
            )
        )
        assert len(list(run.wandb.glob("offline-run-*/*.wandb"))) == 1


def test_basic(basic: Sweep) -> None:
    check_complete(basic)
    assert len(basic.metrics()) == 4


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_changes_nothing(
    launcher: str,
    env: dict[str, str],
    basic: Sweep,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    gpu = ("hydra.launcher.gpus_per_node=1",) if launcher == "submitit_slurm" else ()
    done = sweep(tmp_path, launcher, *FOUR, *gpu, **env)
    check_complete(done)
    assert done.metrics() == basic.metrics()
    if launcher != "joblib":
        assert len(list(done.folder.glob(".submitit/*/*_result.pkl"))) == 2
    if launcher == "submitit_slurm":
        check_array(request.getfixturevalue("slurm"))


def check_array(slurm: Cluster) -> None:
    """The last jobs were two tasks of one array; each got the GPU of a node of its own."""
    words = ("-X", "-n", "-P", "-o", "JobID,State,NodeList,AllocTRES")
    for _ in range(60):  # a job has given its result before its process ends and SLURM hears of it
        *_, first, second = (line.split("|") for line in slurm.ask("sacct", *words).splitlines())
        if "RUNNING" not in (first[1], second[1]):
            break
        time.sleep(1)
    array = first[0].partition("_")[0]
    assert [first[0], second[0]] == [f"{array}_0", f"{array}_1"]
    assert [first[1], second[1]] == ["COMPLETED", "COMPLETED"]
    assert {first[2], second[2]} == {"n0", "n1"}


@pytest.mark.parametrize("launcher", ["joblib", "submitit_slurm"])
def test_a_job_that_dies(launcher: str, env: dict[str, str], tmp_path: Path) -> None:
    """Its members have failed, and say why; the other job's are what they are."""
    (tmp_path / "act").mkdir()
    (tmp_path / "act" / "fatal.yaml").write_text("name: fatal\n_target_: fatal_act.fatal\n")
    (tmp_path / "fatal_act.py").write_text(FATAL)
    env = {**env, "PYTHONPATH": str(tmp_path)}
    if launcher == "joblib":  # which ends all processes with the one that died
        env["WAIT"] = str(tmp_path / "outputs" / "runs")
    swept = ("act=fatal,relu", "optim.lr=0.05,1e30")
    words = ("--config-dir", str(tmp_path), *swept, "logger=disabled")
    done = sweep(tmp_path / "outputs", launcher, *words, **env)
    assert done.code == exit_codes.SOME_FAILED
    assert "Traceback" not in done.err
    states = {(row["act"], row["lr"]): row["state"] for row in done.rows}
    assert states == {
        ("fatal", 0.05): "failed",
        ("fatal", 1e30): "failed",
        ("relu", 0.05): "complete",
        ("relu", 1e30): "diverged",
    }
    assert "diverged: the loss is not finite" in done.out
    why = "TerminatedWorkerError: " if launcher == "joblib" else "UncompletedJobError: "
    for row in done.rows:
        if row["act"] == "fatal":
            assert row["run_id"] in done.out
            assert f" failed: {why}" in done.out
            assert row["cause"].startswith(why)
            assert "\n" not in row["cause"]


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_mistake_is_one_line_whoever_starts_the_jobs(
    launcher: str, env: dict[str, str], tmp_path: Path
) -> None:
    """One that the sweeper can't see, so that it shows in the job."""
    words = ("act=softmax", "init.gain=auto", "seed=0,1", "pack.size=1")
    done = sweep(tmp_path, launcher, *words, **env)
    assert done.code == exit_codes.BAD_INPUT
    assert done.out == ""
    assert done.err.startswith("error: init.gain=auto")
    assert done.err.count("\n") == 1
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_another_sweeper_in_another_process(tmp_path: Path) -> None:
    done = sweep(tmp_path, "joblib", "hydra/sweeper=basic", "seed=0")
    assert done.code == exit_codes.BAD_INPUT
    assert "Traceback" not in done.err
    assert (
        done.err.splitlines()[-1]
        == "error: hydra/sweeper=basic: must be pack, optuna, race or tune; leave it out"
    )


def test_slurm_refuses_the_jobs(slurm: Cluster, tmp_path: Path) -> None:
    words = ("seed=0,1", "hydra.launcher.partition=nowhere")
    done = sweep(tmp_path, "submitit_slurm", *words, **slurm.env)
    assert done.code == exit_codes.BAD_INPUT
    *from_sbatch, line = done.err.splitlines()
    assert all(said.startswith("sbatch: error: ") for said in from_sbatch)
    assert line.startswith("error: hydra/launcher=submitit_slurm: ")
    assert line.endswith("invalid partition specified: nowhere")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_cluster, "PATH", str(tmp_path))
    with (
        pytest.raises(RuntimeError, match=r"no munged, .*slurm-wlm munge slurmdbd mariadb-server"),
        slurm_cluster.cluster(),
    ):
        pass


def test_a_cluster_leaves_nothing() -> None:
    """Not even a job that ignores the signals it gets, and not after an exception."""
    stubborn = ("-o", "/dev/null", "--wrap", "trap '' TERM; sleep 999 & sleep 999")
    clusters = []

    def fail() -> None:
        with slurm_cluster.cluster(nodes=1) as started:
            clusters.append(started)
            started.ask("sbatch", *stubborn)
            while started.ask("squeue", "-h", "-t", "running", "-o", "%j").split() != ["wrap"]:
                time.sleep(0.1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    (started,) = clusters
    assert not started.folder.exists()
    assert not slurm_cluster.knowing(started.folder)
