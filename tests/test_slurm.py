"""The options of sbatch, and the answers of squeue and sacct; without a cluster."""

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import HydraException
from test_app import Train, logging_as_before, train  # noqa: F401
from test_run import make

from actsweep.config.schema import SlurmConfig, SweepConfig
from actsweep.launch import job as job_module
from actsweep.launch import resume, slurm_submit
from actsweep.launch.job import train_job
from actsweep.runs import run_dir
from actsweep.runs.leases import Leases
from actsweep.runs.members import make_member
from actsweep.runtime.process import Process
from actsweep.sweeps import results, slurm_commands, slurm_jobs
from actsweep.sweeps.exit_codes import BAD_INPUT, OK, PREEMPTED, SOME_FAILED
from actsweep.sweeps.plan import Plan, new_plan
from actsweep.sweeps.slurm_commands import SlurmError
from actsweep.sweeps.slurm_jobs import Batch, Job
from actsweep.utils import files
from actsweep.utils.errors import UserError
from actsweep.utils.provenance import slurm_job

JOBS = [["a", "b"], ["c"]]
Command = Callable[[str, str], None]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that puts a shell script first on PATH; the script records its calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name: str, body: str) -> None:
        file = folder / name
        file.write_text(f'#!/bin/bash\necho "$@" >> {folder}/{name}.calls\n{body}\n')
        file.chmod(0o755)

    return put


def options(**given: Any) -> dict[str, Any]:
    return slurm_jobs.options(SlurmConfig(**given), 30.0, 3, "log")


def test_the_options_of_sbatch() -> None:
    defaults = options()
    assert defaults == {
        "job-name": "actsweep",
        "array": "0-2",
        "output": "log",
        "open-mode": "append",
        "requeue": True,
        "signal": "USR2@60",
        "time": 240,
        "nodes": 1,
        "ntasks-per-node": 1,
        "cpus-per-task": 4,
        "gpus-per-node": 1,
    }
    chosen = options(
        partition="gpu",
        account="me",
        hours=0.51,
        gpus=0,
        mem_gb=1.5,
        max_parallel=2,
        extra={"job_name": "mine", "exclusive": True, "requeue": None, "qos": "long", "nodes": 0},
    )
    changed = {"partition": "gpu", "account": "me", "time": 31, "mem": "1536M", "array": "0-2%2"}
    more = {"job-name": "mine", "exclusive": True, "qos": "long", "nodes": 0}
    removed = ("gpus-per-node", "requeue")
    merged = defaults | changed | more
    assert chosen == {key: value for key, value in merged.items() if key not in removed}


def test_the_script(tmp_path: Path) -> None:
    """Its options are read by sbatch as by a shell, its paths may hold anything; bash takes it."""
    sweep = tmp_path / "it's 100 % mine"
    sweep.mkdir()
    conf = SlurmConfig(setup=["echo ready", "module() { :; }"], extra={"comment": "two words"})
    batch = slurm_jobs.write(sweep, JOBS, conf, 30.0)
    text = batch.script.read_text()
    assert "\n#SBATCH --comment='two words'\n" in text
    assert "\n#SBATCH --requeue\n" in text
    assert "100 %% mine" in text.split("--output=")[1].splitlines()[0]
    assert "\necho ready\nmodule() { :; }\n" in text
    assert subprocess.run(["bash", "-n", str(batch.script)], check=False).returncode == 0
    second = slurm_jobs.write(sweep, [["c"]], conf, 30.0)
    assert [written.folder.name for written in slurm_jobs.batches(sweep)] == ["1", "2"]
    assert slurm_jobs.batches(sweep) == [batch, second]
    (sweep / "slurm" / "2" / "jobs.json").write_text("{")
    with pytest.raises(UserError, match=r"2/jobs\.json: can't be read"):
        slurm_jobs.batches(sweep)


@pytest.mark.parametrize(
    ("code", "state", "requeued"),
    [
        (75, "RUNNING", True),
        (75, "COMPLETING", False),
        (143, "RUNNING", True),
        (143, "COMPLETING", False),
        (1, "RUNNING", False),
        (0, "RUNNING", False),
    ],
)
@pytest.mark.parametrize("script", ["job", "array", "sweep"])
def test_which_jobs_are_queued_again(
    script: str, code: int, state: str, requeued: bool, tmp_path: Path, command: Command
) -> None:
    """A job that a signal has ended, unless it was cancelled; that task alone, not its array."""
    command("srun", f"exit {code}")
    command("squeue", f"echo {state}")
    command("scontrol", "")
    file = Path(__file__).parents[1] / "slurm" / f"{script}.sbatch"
    if script == "job":
        file = slurm_jobs.write(tmp_path, JOBS, SlurmConfig(), 30.0).script
    env = {**os.environ, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "9"}
    assert subprocess.run(["bash", str(file), "act=relu"], env=env, check=False).returncode == code
    name = "9" if script == "sweep" else "7_1"
    calls = tmp_path / "bin" / "scontrol.calls"
    assert (calls.read_text() if calls.exists() else "") == (
        f"requeue {name}\n" if requeued else ""
    )
    if code in (75, 143):
        assert f"--job {name} " in (tmp_path / "bin" / "squeue.calls").read_text()


def batch_in(tmp_path: Path, array: str | None = "7") -> Batch:
    return Batch(tmp_path, [["a"], ["b", "c"], ["d"], ["e"]], array)


def test_the_states_of_jobs(tmp_path: Path, command: Command) -> None:
    command(
        "squeue",
        "echo '7_0|RUNNING|n1|None|/job'; echo '7_1|PENDING||Priority|/a|b'; "
        "echo '70_3|PENDING||x|/c'",
    )
    command("sacct", "echo '7_2|OUT_OF_MEMORY|n0'; echo '7_[3-4,9%2]|CANCELLED by 0|None assigned'")
    (tmp_path / "2.log").write_text("first\n\nhalf\rwhole\nsecond\nlast\n")
    jobs = slurm_jobs.states([batch_in(tmp_path), batch_in(tmp_path, None)])
    assert [jobs["a"].where(), jobs["b"].where()] == ["job 7_0 on n1", "job 7_1 (Priority)"]
    assert [jobs[key].live for key in "abde"] == [True, True, False, False]
    assert [jobs[key].queued for key in "abde"] == [False, True, False, False]
    assert jobs["b"] is jobs["c"]
    last = f"last lines of {tmp_path}/2.log: whole | second | last"
    assert jobs["d"].describe_end() == f"job 7_2 on n0: OUT_OF_MEMORY; {last}"
    assert jobs["e"].describe_end() == "job 7_3: CANCELLED"
    command("sacct", "echo '7|CANCELLED by 0|None assigned'")
    assert (
        slurm_jobs.states([batch_in(tmp_path)])["d"].describe_end().startswith("job 7_2: CANCELLED")
    )
    command("sacct", "exit 1")
    assert slurm_jobs.states([batch_in(tmp_path)])["d"].state == "GONE"
    command("squeue", "echo 'squeue: error: no answer' >&2; exit 1")
    with pytest.raises(SlurmError, match=r"^squeue: no answer$"):
        slurm_jobs.states([batch_in(tmp_path)])
    assert slurm_jobs.states([]) == {}


def test_a_run_counts_for_the_job_it_was_last_submitted_in(
    tmp_path: Path, command: Command
) -> None:
    command("squeue", "echo '8_0|RUNNING|n1|None|/job'")
    command("sacct", "")
    jobs = slurm_jobs.states([batch_in(tmp_path, "7"), Batch(tmp_path, [["b"]], "8")])
    assert (jobs["b"].name, jobs["c"].name) == ("8_0", "7_1")
    jobs = slurm_jobs.states([Batch(tmp_path, [["b"]], "8"), batch_in(tmp_path, "7")])
    assert jobs["b"].name == "8_0"  # an older one, but still there


def test_an_array_that_was_submitted_by_hand_is_found_by_its_script(
    tmp_path: Path, command: Command
) -> None:
    batch = Batch(tmp_path, [["a"], ["b"]])
    script = f"{tmp_path}/job.sbatch"
    rows = (
        f"6_0|PENDING||None|{script}",
        f"9_0|RUNNING|n1|None|{script}",
        f"9_1|PENDING||x|{script}",
    )
    command("squeue", "; ".join(f"echo '{row}'" for row in (*rows, "8|RUNNING|n0|None|/other")))
    command("sacct", "")
    jobs = slurm_jobs.states([batch])
    assert (jobs["a"].where(), jobs["b"].where()) == ("job 9_0 on n1", "job 9_1 (x)")
    command("squeue", "echo '8|RUNNING|n0|None|/other'")
    assert slurm_jobs.states([batch]) == {}


def test_jobs_by_name(command: Command) -> None:
    command("squeue", 'for i in 7_0 7_1 70_1 8; do echo "$i|RUNNING|n1|None|/x"; done')
    assert slurm_commands.jobs_named(["7"]) == {"7_0", "7_1"}
    assert slurm_commands.jobs_named(["7_1", "8", "9"]) == {"7_1", "8"}
    assert slurm_commands.jobs_named(["7"], scripts=("array.sbatch",)) == set()
    command("squeue", "echo '7|RUNNING|n1|None|/a b/array.sbatch act=relu'")
    assert slurm_commands.jobs_named(["7"], scripts=("array.sbatch",)) == {"7"}


def test_how_large_an_array_may_be(command: Command) -> None:
    command("scontrol", "echo 'MaxAge = 3'; echo 'MaxArraySize            = 17'")
    assert slurm_commands.largest_array() == 17
    command("scontrol", "exit 1")
    assert slurm_commands.largest_array() == 1001


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    outputs = tmp_path / "outputs"
    members = [make_member(make(outputs, seed=seed)) for seed in (0, 1)]
    plan = new_plan(
        outputs / "sweeps" / "mine",
        [[member] for member in members],
        {m.run_id: [w] for m, w in zip(members, "ab", strict=True)},
    )
    plan.write()
    return plan


def end(plan: Plan, state: str = "complete") -> None:
    """Leave all runs of a sweep as their jobs would."""
    for run_id, member in plan.runs.items():
        folder = member.dir
        folder.path.mkdir(parents=True, exist_ok=True)
        run_dir.write_status(folder, state, step=1, epoch=1, sweep="mine", attempt=1)
        files.write_json(folder.summary, {"run_id": run_id, "state": state, "act": "relu"})


def test_a_job_that_is_just_ending_is_waited_for(
    plan: Plan, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a cancellation it leaves something to submit."""
    monkeypatch.setattr(slurm_submit, "POLL_S", 0.01)
    command("sbatch", "echo 7")
    slurm_jobs.submit(
        slurm_jobs.write(plan.folder, [list(plan.runs)], SlurmConfig(), 30.0), plan.cwd
    )
    state = 'n=$(wc -l < "$0.calls"); [ $n -lt 3 ] && echo "7_0|COMPLETING|n0|None|/job"; exit 0'
    command("squeue", state)
    command("sacct", "echo '7_0|CANCELLED|n0'")
    jobs, queued = slurm_submit._left(plan)
    assert (sum(map(len, jobs)), queued) == (2, 0)


def test_a_submission_that_was_cut_short_is_passed_over(plan: Plan) -> None:
    (plan.folder / "slurm" / "1").mkdir(parents=True)
    assert slurm_jobs.write(plan.folder, JOBS, SlurmConfig(), 30.0).folder.name == "2"


def test_following_goes_on_when_slurm_is_away(
    plan: Plan,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(slurm_submit, "POLL_S", 0.01)
    command("sacct", "echo '7_0|COMPLETED|n0'; echo '7_1|COMPLETED|n0'")
    command("sbatch", "echo 7")
    away = 'n=$(wc -l < "$0.calls"); [ $n = 2 ] && { echo down >&2; exit 1; }\n'
    command("squeue", f"{away}[ $n -lt 4 ] && echo '7_0|RUNNING|n0|None|/job'; exit 0")
    answer = slurm_jobs.states

    def states(batches: Any) -> Any:
        jobs = answer(batches)
        if jobs and not any(job.live for job in jobs.values()):
            end(plan)
        return jobs

    monkeypatch.setattr(slurm_jobs, "states", states)
    assert slurm_submit.train(plan, Process()) == OK
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("2 runs in 2 jobs: array 7 of SLURM; logs: ")
    assert out[1:3] == ["[0/2 runs] 1 job running", "[2/2 runs] no jobs left"]
    assert "squeue: down; asking again" in caplog.text
    assert json.loads((plan.folder / "slurm" / "1" / "jobs.json").read_text())["array"] == "7"


def test_what_waits_for_something_says_for_what(
    plan: Plan, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = slurm_submit._Progress(plan)
    jobs = {
        run_id: Job(f"7_{place}", "PENDING", True, "", "ReqNodeNotAvail", plan.folder)
        for place, run_id in enumerate(plan.runs)
    }
    shown.show(jobs)
    shown.show({**jobs, "a": Job("7_2", "RUNNING", True, "n0", "None", plan.folder)})
    assert capsys.readouterr().out.splitlines() == [
        "[0/2 runs] 2 jobs queued, SLURM: ReqNodeNotAvail",
        "[0/2 runs] 1 job running, 2 jobs queued, SLURM: ReqNodeNotAvail",
    ]


def test_what_no_array_can_hold_becomes_several(
    plan: Plan, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    command("squeue", "")
    command("scontrol", "echo 'MaxArraySize = 1'")
    command("sbatch", 'wc -l < "$0.calls"')
    plan = plan.with_configs(slurm=SlurmConfig(wait=False, max_parallel=4))
    assert slurm_submit.train(plan, Process()) == OK
    lines = capsys.readouterr().out.splitlines()
    for line, array in zip(lines, "12", strict=False):
        assert line.startswith(f"1 run in 1 job: array {array} of SLURM; logs: ")
    batches = slurm_jobs.batches(plan.folder)
    assert [[*batch.jobs] for batch in batches] == [[[run]] for run in plan.runs]
    assert all("--array=0-0%2" in batch.script.read_text() for batch in batches)


def test_of_several_arrays_slurm_may_take_the_first_alone(
    plan: Plan,
    command: Command,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    command("squeue", "")
    command("scontrol", "echo 'MaxArraySize = 1'")
    command("sbatch", '[ $(wc -l < "$0.calls") = 1 ] && echo 7 || { echo full >&2; exit 1; }')
    plan = plan.with_configs(slurm=SlurmConfig(wait=False))
    assert slurm_submit.train(plan, Process()) == OK
    assert "1 job: SLURM takes no more: sbatch: full; once it does, type: actsweep resume" in (
        caplog.text
    )
    (batch,) = slurm_jobs.batches(plan.folder)
    assert batch.array == "7"


def test_going_on_with_other_resources(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    (plan.folder / "slurm").mkdir()
    changed = resume._with_resources(plan, ["slurm.mem_gb=16", "slurm.extra.qos=long"])
    assert {member.config.slurm.mem_gb for member in changed.runs.values()} == {16.0}
    assert changed.config.slurm == SlurmConfig(mem_gb=16.0, extra={"qos": "long"})
    assert list(changed.runs) == list(plan.runs)
    before = (plan.folder / "plan.json").read_bytes()
    for word, message in (
        ("optim.lr=1", "optim.lr=1: a sweep goes on as it was submitted; only slurm.* can be"),
        ("slurm.mem_gb=-1", "slurm.mem_gb=-1.0: must be a number above 0"),
        ("slurm.memgb=1", "memgb"),
    ):
        with pytest.raises((UserError, HydraException), match=re.escape(message)):
            resume._with_resources(plan, [word])
    assert (plan.folder / "plan.json").read_bytes() == before
    (plan.folder / "slurm").rmdir()
    with pytest.raises(UserError, match="has no SLURM jobs; leave it out"):
        resume._with_resources(plan, ["slurm.mem_gb=16"])


def test_a_job_submits_without_what_it_was_given(
    plan: Plan, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("sbatch", 'env > "$0.env"; echo 7')
    for key in ("SLURM_MEM_PER_NODE", "SRUN_CPUS_PER_TASK", "SLURM_CONF", "OTHER"):
        monkeypatch.setenv(key, "x")
    batch = slurm_jobs.write(plan.folder, JOBS, SlurmConfig(), 30.0)
    slurm_jobs.submit(batch, plan.cwd)
    env = (Path(os.environ["PATH"].partition(":")[0]) / "sbatch.env").read_text().splitlines()
    assert {"OTHER=x", "SLURM_CONF=x"} <= {*env}
    assert not [line for line in env if line.startswith(("SLURM_MEM", "SRUN_"))]


def test_data_are_prepared_once_before_anything_is_submitted(
    plan: Plan, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actsweep.data import prepare

    prepared = []

    def refuse(name: str, folder: Path | None, say: Any) -> None:
        prepared.append((name, folder))
        raise UserError("no network")

    monkeypatch.setattr(prepare, "prepare", refuse)
    command("sbatch", "echo 7")
    command("squeue", "")
    plan = dataclasses.replace(plan)
    for (member,) in plan.packs:
        member.config.data.name, member.config.data.dir = "mnist", "here"
    with pytest.raises(UserError, match="no network"):
        slurm_submit.train(plan, Process())
    assert prepared == [("mnist", Path("here"))]
    assert not (plan.folder / "slurm").exists()


def test_a_refusal_leaves_nothing_and_says_what_to_type(plan: Plan, command: Command) -> None:
    command("squeue", "")
    command(
        "sbatch", "echo 'sbatch: error: Invalid generic resource (gres) specification' >&2; exit 1"
    )
    with pytest.raises(
        UserError, match=r"^hydra/launcher=slurm: sbatch: Invalid .*slurm.gpus=0 where"
    ):
        slurm_submit.train(plan, Process())
    assert slurm_jobs.batches(plan.folder) == []


def test_without_slurm(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        UserError, match=r"^hydra/launcher=slurm: sbatch: no such command; .*launcher=basic"
    ):
        slurm_submit.train(plan, Process())
    with pytest.raises(UserError, match=r"^mine: none of its jobs is queued or running"):
        slurm_submit.cancel(plan.folder)


def test_a_job_that_isnt_there(plan: Plan) -> None:
    with pytest.raises(UserError, match=r"slurm: has no submission 3"):
        slurm_submit.job(plan.folder, 3, 0, Process())
    slurm_jobs.write(plan.folder, JOBS, SlurmConfig(), 30.0)
    with pytest.raises(UserError, match=r"has no job 2; it has 0 to 1"):
        slurm_submit.job(plan.folder, 1, 2, Process())


@pytest.mark.parametrize(
    ("slow", "ahead", "code"),
    [(True, False, SOME_FAILED), (True, True, PREEMPTED), (False, False, PREEMPTED)],
)
def test_a_job_without_progress_isnt_queued_again(
    slow: bool, ahead: bool, code: int, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Except for one that had little time."""
    end(plan, "preempted")
    monkeypatch.setattr(job_module, "FRUITLESS_S", -1.0 if slow else 600.0)

    def cut_short(folder: Path, run_ids: list[str], process: Process, *, alone: bool) -> list[dict]:
        (run_id,) = run_ids
        folder_of = plan.runs[run_id].dir
        run_dir.write_status(folder_of, "preempted", step=1 + ahead, epoch=1)
        return [results.interrupted_result(plan, plan.runs[run_id])]

    monkeypatch.setattr(job_module, "train_members", cut_short)
    assert train_job(plan, [next(iter(plan.runs))], Process()) == code


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("act=relu",), "hydra/launcher=slurm: only submits sweeps; type python train.py -m …"),
        (
            ("-m", "slurm.hours=0.01"),
            "slurm.hours=0.01: must be at least 0.067, with trainer.grace_s=30",
        ),
        (("-m", "slurm.nodes=2"), "slurm.nodes=2: must be 1 unless trainer.distributed=slurm"),
        (("-m", "slurm.gpus=-1"), "slurm.gpus=-1: must be a number of at least 0"),
        (("-m", "slurm.cpus=1,2"), "slurm.cpus=1,2: must be one value, for all jobs of the sweep"),
        (("-m", "slurm.mem=3"), "slurm.mem: no such key"),
        (("-m", "slurm.cpus=two"), "slurm.cpus=two"),
    ],
)
def test_mistakes(words: tuple[str, ...], line: str, train: Train, tmp_path: Path) -> None:  # noqa: F811
    code, out, err = train("hydra/launcher=slurm", *words)
    assert (code, out) == (BAD_INPUT, "")
    assert err.startswith(f"error: {line}"), err
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_another_sweeper(train: Train) -> None:  # noqa: F811
    code, _, err = train("hydra/launcher=slurm", "-m", "hydra/sweeper=basic")
    assert (code, err.count("\n")) == (BAD_INPUT, 1)
    assert err.startswith("error: hydra/launcher=slurm: needs hydra/sweeper=pack; ")


def test_extra_takes_any_option(train: Train, command: Command, tmp_path: Path) -> None:  # noqa: F811
    command("squeue", "")
    words = ("-m", "hydra/launcher=slurm", "slurm.submit=false", "slurm.extra.qos=long")
    assert train(*words, "slurm.extra={gpu-bind: closest}").code == OK
    (script,) = (tmp_path / "outputs").glob("sweeps/*/slurm/1/job.sbatch")
    assert "#SBATCH --qos=long\n#SBATCH --gpu-bind=closest\n" in script.read_text()


def test_a_site_has_its_own_defaults(train: Train, command: Command, tmp_path: Path) -> None:  # noqa: F811
    """conf/local/default.yaml is ignored by git."""
    root = Path(__file__).parents[1]
    ignored = subprocess.run(
        ["git", "check-ignore", "conf/local/default.yaml"], cwd=root, check=False
    )
    assert ignored.returncode == 0 or not (root / ".git").exists()
    (tmp_path / "site" / "local").mkdir(parents=True)
    (tmp_path / "site" / "local" / "default.yaml").write_text(
        "# @package _global_\nslurm:\n  partition: mine\n  setup: [module load cuda]\n"
        "  extra: {qos: long}\n"
    )
    command("squeue", "")
    words = (
        "-m",
        "hydra/launcher=slurm",
        "slurm.submit=false",
        "--config-dir",
        str(tmp_path / "site"),
    )
    assert train(*words).code == OK
    (script,) = (tmp_path / "outputs").glob("sweeps/*/slurm/1/job.sbatch")
    text = script.read_text()
    assert "#SBATCH --partition=mine\n" in text
    assert "#SBATCH --qos=long\n" in text
    assert "\nmodule load cuda\n" in text


@pytest.mark.parametrize(
    ("env", "job"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "7"}, ""),  # a shell in an allocation: nobody means to end that
        ({"SLURM_JOB_ID": "7", "ENVIRONMENT": "BATCH"}, "7"),
        (
            {
                "SLURM_JOB_ID": "9",
                "SLURM_ARRAY_JOB_ID": "7",
                "SLURM_ARRAY_TASK_ID": "2",
                "ENVIRONMENT": "BATCH",
            },
            "7_2",
        ),
    ],
)
def test_the_job_of_a_process(
    env: dict[str, str], job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert slurm_job() == job


def test_cancel_ends_no_job_that_trains_something_else_too(
    plan: Plan, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "BATCH")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    command("squeue", "echo '7|RUNNING|n1|None|/mine.sh'")
    command("scancel", "")
    called = Path(os.environ["PATH"].partition(":")[0]) / "scancel.calls"
    with Leases(plan.outputs, "mine"):
        with Leases(plan.outputs, "another"), pytest.raises(UserError, match="none of its jobs"):
            slurm_submit.cancel(plan.folder)
        assert not called.exists()
        slurm_submit.cancel(plan.folder)
    assert called.read_text() == "7\n"


def test_with_fail_fast_a_pack_that_has_begun_goes_on(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A requeued job that only answered that it was preempted would be queued again for ever."""
    first, second = plan.runs.values()
    plan = plan.with_configs(sweep=SweepConfig(fail_fast=True))
    plan.write()
    for member, state in ((first, "failed"), (second, "preempted")):
        member.dir.path.mkdir(parents=True, exist_ok=True)
        by = {"sweep": "mine", "attempt": 1}
        run_dir.write_status(member.dir, state, step=1, epoch=0.1, **by)
    trained = []

    def run_pack(members: Any, *_: Any) -> list[dict[str, Any]]:
        trained.extend(member.run_id for member in members)
        return [{**member.describe(), "state": "complete"} for member in members]

    monkeypatch.setattr("actsweep.train.pack.run_pack", run_pack)
    train_members = job_module.train_members
    train_members(plan.folder, [second.run_id], Process(), alone=True)
    assert trained == [second.run_id]
    second.dir.status.unlink()
    (result,) = train_members(plan.folder, [second.run_id], Process(), alone=True)
    assert trained == [second.run_id]
    assert result["cause"] == results.NOT_STARTED
