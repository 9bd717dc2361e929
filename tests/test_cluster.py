"""hydra/launcher=slurm and slurm/*.sbatch on a real cluster: jobs, and what is done to them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import slurm_cluster
from slurm_cluster import Cluster
from test_app import ROOT
from test_going_on import ask, metrics, started, sweep_in, wait

from actsweep.runs import run_dir
from actsweep.runs.leases import owners
from actsweep.sweeps import plan, slurm_jobs
from actsweep.sweeps.exit_codes import BAD_INPUT, OK, PREEMPTED, SOME_FAILED
from actsweep.sweeps.slurm_jobs import Job

pytestmark = pytest.mark.slow

SMALL = (
    *("data=digits", "trainer.batch_size=256", "depth.widths=[8]"),
    *("callbacks=light", "logger=disabled"),
)
CPU = ("slurm.gpus=0", "slurm.cpus=1")
SLURM = ("hydra/launcher=slurm", *CPU)
QUICK = (*SMALL, "trainer.epochs=2")
FOUR = ("-m", "act=relu,tanh,elu,swish")
# An epoch is saved in a tenth of a second, and trained in much less: there is time to do things.
LONG = (*SMALL, "trainer.epochs=120", "trainer.patience=null")
SLOWLY = (*LONG, "trainer.save_every_s=0")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of one's own, with all that one needs."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("conf", "slurm"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "train.py", folder)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with slurm_cluster.cluster(nodes=2) as running:
        yield running


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the long sweep leaves that nobody disturbs, without SLURM."""
    outputs = tmp_path_factory.mktemp("whole")
    code, _, err = ask(ROOT, "train.py", *FOUR, *LONG, f"paths.outputs={outputs}")
    assert code == OK, err
    return metrics(outputs)


@pytest.fixture
def env(cluster: Cluster) -> Iterator[dict[str, str]]:
    yield cluster.env
    cluster.ask("scancel", "--me")
    wait(lambda: not cluster.ask("squeue", "-h"))


@pytest.fixture(autouse=True)
def in_this_process(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the tests can ask SLURM, too."""
    for key in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(key, cluster.env[key])


def jobs_of(outputs: Path) -> dict[str, Job]:
    """The job of each activation's run."""
    known = slurm_jobs.states(slurm_jobs.batches(sweep_in(outputs)))
    return {run_id.partition("-")[0]: job for run_id, job in known.items()}


def rows_of(outputs: Path, act: str) -> int:
    files = outputs.glob(f"runs/{act}-*/metrics.jsonl")
    return sum(file.read_bytes().count(b"\n") for file in files)


def kill(outputs: Path, act: str) -> None:
    """SIGKILL the process that trains an activation's run."""
    (pid,) = {one.pid for run, one in owners(outputs).items() if run.startswith(f"{act}-")}
    os.kill(pid, signal.SIGKILL)


def status_of(folder: Path, **env: str) -> str:
    code, out, err = ask(folder, "-m", "actsweep", "status", "last", **env)
    assert (code, err) == (0, "")
    return out


def state_lines(text: str) -> dict[str, str]:
    """What the table of actsweep status says of each activation's run, after its id."""
    found = re.findall(r"^((\w+?)-mlp\S+) +(.*)$", text, re.M)
    return {act: " ".join(rest.split()) for _, act, rest in found}


def test_an_array_of_packs(cluster: Cluster, env: dict[str, str], project: Path) -> None:
    """A job a pack on a GPU of its own; the bytes of a sweep without SLURM; programs shared."""
    cache = project / "cache"
    env = {**env, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    words = ("-m", "act=relu,tanh", "seed=0,1", "pack.size=1", *QUICK)
    asked = ("slurm.gpus=1", "slurm.cpus=1", "slurm.max_parallel=2", "slurm.hours=0.5")
    more = ("slurm.partition=main", "slurm.mem_gb=0.5", 'slurm.setup=["export SEEN=setup"]')
    extra = "slurm.extra={gpus-per-node: null, gres: gpu:1}"
    launcher = ("hydra/launcher=slurm", *asked, *more, extra)
    code, out, err = ask(project, "train.py", *words, *launcher, **env)
    assert code == OK, out + err
    lines = out.splitlines()
    (array,) = re.findall(r"^4 runs in 4 jobs: array (\d+) of SLURM; logs: ", lines[0])
    assert lines[1] == "[0/4 runs] 4 jobs queued"
    assert "[4/4 runs] no jobs left" in lines
    assert any(line.split()[:2] == ["relu", "2"] for line in lines)  # the table
    outputs = project / "outputs"
    alone = project / "alone"
    assert ask(project, "train.py", *words, f"paths.outputs={alone}")[0] == OK
    assert metrics(outputs) == metrics(alone)
    said = cluster.ask("sacct", "-XnPj", array, "-o", "JobID,State,NodeList,ReqTRES,Timelimit")
    told = [line.split("|") for line in said.splitlines()]
    assert [row[0] for row in told] == [f"{array}_{task}" for task in range(4)]
    assert {row[1] for row in told} == {"COMPLETED"}
    assert {row[2] for row in told} == {"n0", "n1"}
    assert all("mem=512M" in row[3] for row in told), told
    assert {row[4] for row in told} == {"00:30:00"}
    (batch,) = slurm_jobs.batches(sweep_in(outputs))
    assert "export SEEN=setup" in batch.script.read_text()
    for task, (run_id,) in enumerate(batch.jobs):
        assert f"relu-{run_id}"[5:].split("-")[0] in batch.log(task).read_text()
    # Of two jobs of one program the second compiles nothing.
    statuses = [run_dir.read_status(run_dir.RunDir(outputs, job[0])) or {} for job in batch.jobs]
    made = [file.stat().st_mtime for file in cache.glob("*-cache")]
    last = max(time.mktime(time.strptime(s["started"][:19], "%Y-%m-%dT%H:%M:%S")) for s in statuses)
    assert made
    assert max(made) < last - time.timezone + 1


def test_submit_and_return(
    cluster: Cluster, env: dict[str, str], project: Path, whole: dict
) -> None:
    """The prompt is back at once; status, cancel and resume are all one needs."""
    outputs = project / "outputs"
    began = time.monotonic()
    words = (*FOUR, *SLOWLY, *SLURM, "slurm.cpus=2", "slurm.wait=false")
    code, out, err = ask(project, "train.py", *words, **env)
    assert code == OK, err
    assert time.monotonic() - began < 30
    name = sweep_in(outputs).name
    assert out.splitlines()[1:] == [
        f"follow: actsweep status {name}",
        f"stop:   actsweep cancel {name}",
    ]
    wait(lambda: "starting" in status_of(project, **env))
    wait(lambda: min(rows_of(outputs, "relu"), rows_of(outputs, "tanh")) > 3)
    text = status_of(project, **env)
    lines = state_lines(text)
    (array,) = {batch.array for batch in slurm_jobs.batches(sweep_in(outputs))}
    assert lines["relu"].startswith("running ")
    assert re.search(rf"/120 \d\S* \S+ \d+ (s|min) job {array}_0 on n[01]$", lines["relu"])
    assert lines["elu"] == f"queued – – – – job {array}_2 (Resources)"
    assert lines["swish"].startswith("queued")
    assert text.splitlines()[-1] == f"stop:   actsweep cancel {name}"
    again = ask(project, "-m", "actsweep", "resume", "last", **env)
    assert again[1].splitlines()[0] == "4 runs in jobs that are queued or running already"
    assert len(slurm_jobs.batches(sweep_in(outputs))) == 1

    code, out, err = ask(project, "-m", "actsweep", "cancel", "last", **env)
    assert (code, err) == (0, "")
    assert out == f"cancelled 4 jobs; go on:  actsweep resume {name}\n"
    wait(lambda: not any(job.live for job in jobs_of(outputs).values()), 30)
    assert {act: job.state for act, job in jobs_of(outputs).items()} == dict.fromkeys(
        ("relu", "tanh", "elu", "swish"), "CANCELLED"
    )
    text = status_of(project, **env)
    lines = state_lines(text)
    assert [lines[act].split()[0] for act in ("relu", "tanh", "elu")] == [
        "preempted",
        "preempted",
        "waiting",
    ]
    assert f"go on:  actsweep resume {name}" in text
    code, _, err = ask(project, "-m", "actsweep", "cancel", "last", **env)
    assert code == BAD_INPUT
    assert err.startswith(f"error: {name}: none of its jobs is queued or running in SLURM; ")

    shutil.rmtree(project / "conf")
    assert ask(project, "-m", "actsweep", "resume", "last", **env)[0] == OK
    wait(lambda: not any(job.live for job in jobs_of(outputs).values()))
    assert metrics(outputs) == whole
    # Whoever ended last has written the table.
    assert {row["state"] for row in run_dir.read_members_csv(sweep_in(outputs))} == {"complete"}
    code, out, _ = ask(project, "-m", "actsweep", "table", **env)
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()[2:6]} == {"relu", "tanh", "elu", "swish"}


def test_a_job_of_higher_priority(
    cluster: Cluster,
    env: dict[str, str],
    project: Path,
    whole: dict,
) -> None:
    """All jobs have to make room; they are queued again, and end as if nothing had happened."""
    outputs = project / "outputs"
    with started(project, "train.py", *FOUR, *SLOWLY, *SLURM, **env) as process:
        wait(lambda: min(rows_of(outputs, act) for act in ("relu", "tanh", "elu", "swish")) > 3)
        urgent = ("-p", "urgent", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 4")
        cluster.ask("sbatch", *urgent)
        wait(lambda: "queued again" in status_of(project, **env))
        lines = state_lines(status_of(project, **env))
        assert {line.split()[0] for line in lines.values()} <= {"preempted", "starting", "running"}
        out, err = process.communicate(timeout=180)
    assert process.returncode == OK, out + err
    assert metrics(outputs) == whole
    (batch,) = slurm_jobs.batches(sweep_in(outputs))
    ends = cluster.ask("sacct", "-XnPDj", str(batch.array), "-o", "State").split()
    assert ends.count("REQUEUED") + ends.count("PREEMPTED") == 4
    assert ends.count("COMPLETED") == 4
    for job in batch.jobs:
        status = run_dir.read_status(run_dir.RunDir(outputs, job[0])) or {}
        assert len(status["resumed"]) == 1
        assert status["resumed"][0] > 0


def test_the_time_is_up(env: dict[str, str], project: Path) -> None:
    """A job whose time ends is queued again, as often as it takes."""
    outputs = project / "outputs"
    limits = "slurm.extra={time: 1, signal: USR2@25}"
    words = ("-m", "act=relu", *SMALL, "trainer.patience=null", "trainer.epochs=1400", limits)
    code, out, err = ask(project, "train.py", *words, "trainer.save_every_s=0", *SLURM, **env)
    assert code == OK, out + err
    (run_id,) = plan.read_plan(sweep_in(outputs)).runs
    status = run_dir.read_status(run_dir.RunDir(outputs, run_id)) or {}
    assert status["resumed"], "it was too short"
    assert "[1/1 runs] no jobs left" in out
    alone = project / "alone"
    assert ask(project, "train.py", *words, f"paths.outputs={alone}")[0] == OK
    assert metrics(outputs) == metrics(alone)


def test_what_is_done_to_single_tasks(
    cluster: Cluster,
    env: dict[str, str],
    project: Path,
    whole: dict,
) -> None:
    """scancel, kill -9 and the signal of a preemption, each to one job; the fourth is left."""
    outputs = project / "outputs"
    acts = ("relu", "tanh", "elu", "swish")
    with started(project, "train.py", *FOUR, *SLOWLY, *SLURM, **env) as process:
        wait(lambda: min(rows_of(outputs, act) for act in acts) > 3)
        jobs = jobs_of(outputs)
        cluster.ask("scancel", jobs["relu"].name)
        kill(outputs, "tanh")
        cluster.ask("scancel", "--signal=USR2", jobs["elu"].name)
        out, err = process.communicate(timeout=180)
    assert process.returncode == PREEMPTED, out + err
    assert "Traceback" not in out + err
    states = {row["act"]: row["state"] for row in run_dir.read_members_csv(sweep_in(outputs))}
    assert states == {
        "relu": "preempted",
        "tanh": "preempted",
        "elu": "complete",
        "swish": "complete",
    }
    name = sweep_in(outputs).name
    assert f"go on:  actsweep resume {name}" in out
    assert re.search(rf"relu-\S+ preempted: job {jobs['relu'].name} on n[01]: CANCELLED", out)
    job = rf"job {jobs['tanh'].name} on n[01]: FAILED"
    killed = rf"tanh-\S+ preempted: {job}; last lines of \S+/1.log"
    assert re.search(killed, out)
    told = status_of(project, **env)
    assert re.search(
        rf"^job {jobs['tanh'].name} on n[01]: FAILED; last lines of \S+/1.log:\n    ", told, re.M
    )
    assert state_lines(told)["tanh"].startswith("interrupted")
    code, out, err = ask(project, "-m", "actsweep", "resume", "last", **env)
    assert code == OK, out + err
    assert out.startswith("2 runs in 2 jobs: array ")
    assert metrics(outputs) == whole


def test_a_member_that_fails(cluster: Cluster, env: dict[str, str], project: Path) -> None:
    """It isn't trained again when its job is queued again; the sweep's exit code says it."""
    act = "import jax\n\ndef fatal(z):\n    raise ValueError('no good')\n"
    (project / "own_act.py").write_text(act)
    (project / "conf" / "act" / "fatal.yaml").write_text("name: fatal\n_target_: own_act.fatal\n")
    words = ("-m", "act=fatal,relu", "optim.lr=0.05,1e30", *QUICK)
    code, out, err = ask(project, "train.py", *words, *SLURM, **env)
    assert code == SOME_FAILED
    assert "Traceback" not in out + err
    states = [
        (row["act"], row["state"])
        for row in run_dir.read_members_csv(sweep_in(project / "outputs"))
    ]
    assert states == [
        ("fatal", "failed"),
        ("fatal", "failed"),
        ("relu", "complete"),
        ("relu", "diverged"),
    ]
    assert "failed: ValueError: no good" in out
    (batch,) = slurm_jobs.batches(sweep_in(project / "outputs"))
    assert "Traceback" in batch.log(0).read_text()  # where one looks for it
    log = batch.log(0).read_text()
    cluster.ask("scontrol", "requeue", f"{batch.array}_0")
    wait(
        lambda: (
            batch.log(0).read_text() != log
            and not any(j.live for j in jobs_of(project / "outputs").values())
        )
    )
    assert batch.log(0).read_text().count("Traceback") == log.count("Traceback")


def test_what_slurm_refuses(env: dict[str, str], project: Path) -> None:
    for word, line in (
        (
            "slurm.partition=nowhere",
            "sbatch: .*[Ii]nvalid partition.*; type for example slurm.partition=",
        ),
        ("slurm.gpus=9", "sbatch: .*; type for example "),
        ("slurm.extra={nonsense: 3}", "sbatch: .*nonsense"),
        ("slurm.gpus=1,2", r"slurm.gpus=1,2: must be one value, .* type for example slurm.gpus=1"),
    ):
        code, out, err = ask(project, "train.py", "-m", "act=relu", *QUICK, *SLURM, word, **env)
        assert (code, out) == (BAD_INPUT, ""), word
        assert re.fullmatch(rf"error: (hydra/launcher=slurm: )?{line}.*\n", err), err
        assert not (project / "outputs").exists() or not [*(project / "outputs").rglob("*.*")]


def sbatch(project: Path, env: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        ["sbatch", "--parsable", "--cpus-per-task=1", *words],
        cwd=project,
        env={**env, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def over(cluster: Cluster) -> Callable[[], bool]:
    return lambda: not cluster.ask("squeue", "-h")


def test_a_plain_array(cluster: Cluster, env: dict[str, str], project: Path) -> None:
    """Three tasks share four runs; each is trained once, and one table is about all."""
    words = ("act=relu,tanh", "seed=0,1", "pack.size=1", *QUICK)
    array = sbatch(project, env, "--array=0-2", "slurm/array.sbatch", *words)
    wait(over(cluster))
    outputs = project / "outputs"
    logs = [file.read_text() for file in sorted(project.glob(f"slurm-{array}_*.log"))]
    assert len(logs) == 3
    assert sweep_in(outputs).name == f"slurm-{array}"
    assert [row["state"] for row in run_dir.read_members_csv(sweep_in(outputs))] == ["complete"] * 4
    assert sum(log.count("epoch 2/2  1 complete") for log in logs) == 4, logs
    ends = lambda: cluster.ask("sacct", "-XnPj", array, "-o", "State").split()  # noqa: E731
    wait(lambda: "RUNNING" not in ends(), 20)  # the accounts are a little late
    assert ends() == ["COMPLETED"] * 3, logs


def test_a_sweep_from_within_a_job(cluster: Cluster, env: dict[str, str], project: Path) -> None:
    """The job submits an array of its own, with other resources, and ends."""
    words = ("act=relu,tanh", *QUICK, *SLURM, "slurm.wait=false", "slurm.extra={mem: 300M}")
    host = sbatch(project, env, "--mem=500M", "slurm/sweep.sbatch", *words)
    wait(over(cluster))
    log = (project / f"slurm-{host}.log").read_text()
    assert re.match(r"2 runs in 2 jobs: array \d+ of SLURM", log), log
    outputs = project / "outputs"
    assert sweep_in(outputs).name == f"slurm-{host}"
    assert [row["state"] for row in run_dir.read_members_csv(sweep_in(outputs))] == ["complete"] * 2


def test_written_only(cluster: Cluster, env: dict[str, str], project: Path) -> None:
    """The script can be read, changed and submitted by hand."""
    words = ("-m", "act=relu,tanh", *QUICK, *SLURM, "slurm.submit=false")
    code, out, err = ask(project, "train.py", *words, **env)
    assert code == OK, err
    (script,) = re.findall(r"^2 runs in 2 jobs, written only; submit:  sbatch (\S+)$", out, re.M)
    assert not cluster.ask("squeue", "-h")
    sbatch(project, env, script)
    wait(lambda: "complete" in status_of(project, **env))
    wait(over(cluster))
    (batch,) = slurm_jobs.batches(sweep_in(project / "outputs"))
    assert batch.array  # noted by the jobs
    wait(lambda: jobs_of(project / "outputs")["relu"].state == "COMPLETED")  # sacct lags behind
    assert "2 complete" in status_of(project, **env)


def test_a_sweep_larger_than_an_array_goes_on_with_other_resources(
    cluster: Cluster, env: dict[str, str], project: Path
) -> None:
    """The cluster takes four jobs an array. One run is left out, and trained with more memory."""
    words = ("-m", "act=relu,tanh,elu,swish,gelu", *QUICK, *SLURM)
    code, out, err = ask(project, "train.py", *words, **env)
    assert code == OK, err
    assert re.search(r"^4 runs in 4 jobs: array \d+ of SLURM", out, re.M), out
    assert re.search(r"^1 run in 1 job: array \d+ of SLURM", out, re.M), out
    sweep = sweep_in(project / "outputs")
    assert [row["state"] for row in run_dir.read_members_csv(sweep)] == ["complete"] * 5
    (gelu,) = (project / "outputs" / "runs").glob("gelu-*")
    shutil.rmtree(gelu)
    resume = ("-m", "actsweep", "resume", sweep.name, "slurm.mem_gb=0.3", "slurm.extra.comment=x")
    code, out, err = ask(project, *resume, **env)
    assert code == OK, err
    *_, batch = slurm_jobs.batches(sweep)
    told = cluster.ask("scontrol", "show", "job", f"{batch.array}_0")
    assert "Comment=x" in told
    assert "MinMemoryNode=308M" in told
    assert (gelu / "summary.json").exists()


def test_cancel_finds_what_was_submitted_by_hand(
    cluster: Cluster, env: dict[str, str], project: Path
) -> None:
    """By the script's path before it has begun, by the sweep's name, by where its process runs."""
    outputs = project / "outputs"
    cancel = lambda sweep: ask(project, "-m", "actsweep", "cancel", sweep, **env)  # noqa: E731
    words = ("-m", "act=relu,tanh", *LONG, *SLURM, "slurm.submit=false")
    code, out, err = ask(project, "train.py", *words, **env)
    assert code == OK, err
    (script,) = re.findall(r"submit:  sbatch (\S+)$", out, re.M)
    sbatch(project, env, "--begin=now+1hour", script)
    written = sweep_in(outputs)
    assert "2 queued" in status_of(project, **env)
    assert cancel(written.name)[:2] == (
        0,
        f"cancelled 2 jobs; go on:  actsweep resume {written.name}\n",
    )
    wait(over(cluster))
    shutil.rmtree(outputs)

    array = sbatch(project, env, "--array=0-1", "slurm/array.sbatch", "act=relu,tanh", *LONG)
    wait(lambda: rows_of(outputs, "relu") + rows_of(outputs, "tanh") > 0)
    code, out, err = cancel(f"slurm-{array}")
    assert (code, out.partition(";")[0]) == (0, "cancelled 2 jobs"), err
    wait(over(cluster))
    shutil.rmtree(outputs)

    wrap = f"{sys.executable} train.py -m act=relu {' '.join(LONG)}"
    sbatch(project, env, f"--wrap={wrap}")
    wait(lambda: rows_of(outputs, "relu") > 0)
    code, out, err = cancel("last")
    assert (code, out.partition(";")[0]) == (0, "cancelled 1 job"), err
    wait(over(cluster))
    assert cancel("last")[0] == BAD_INPUT
