"""SLURM through its commands: batch scripts, arrays of jobs, and their states. No jax."""

import json
import math
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actsweep.config.schema import SLURM_REQUEUE_S, SlurmConfig
from actsweep.sweeps import slurm_commands
from actsweep.utils import files
from actsweep.utils.errors import UserError

SCRIPT_FILE, JOBS_FILE = "job.sbatch", "jobs.json"
LAST_LINES = 3  # of a log, to show why a job ended
QUEUED_STATES = (
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "SPECIAL_EXIT",
)

_JOB_VARIABLES = ("SLURM_", "SRUN_", "SLURMD_")

SCRIPT = """\
#!/bin/bash
# Written by actsweep for {what}. To submit it by hand: sbatch {path}
{options}
{setup}
trap : TERM  # the job steps get the signal too: they save, and end with 75
[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
srun --kill-on-bad-exit=1 {command} "$SLURM_ARRAY_TASK_ID"
code=$?
# Preempted, or out of time: queue this job again. If it was cancelled, it isn't RUNNING.
# 143: srun ended a task that was about to end with 75, since another task had.
job="${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
state=$(squeue --noheader --job "$job" --format %T)
if [[ $code == 75 || $code == 143 ]] && [ "$state" = RUNNING ]; then
    scontrol requeue "$job"
fi
exit $code
"""


@dataclass(frozen=True)
class Batch:
    """One submission of a sweep: an array of jobs.

    Attributes:
        folder: `<sweep>/slurm/<number>`, with the script, and a log for each job.
        jobs: the run ids of each job.
        array: SLURM's id of the array; None if it was only written, or is submitted by hand.
    """

    folder: Path
    jobs: Sequence[Sequence[str]]
    array: str | None = None

    def log(self, task: int) -> Path:
        """Return the file with what a job has printed."""
        return self.folder / f"{task}.log"

    @property
    def script(self) -> Path:
        """Return the script for sbatch."""
        return self.folder / SCRIPT_FILE


@dataclass(frozen=True)
class Job:
    """A job as SLURM reports it.

    Attributes:
        name: as scancel takes it, such as `12_3`.
        state: SLURM's name of the state, such as RUNNING; GONE if SLURM no longer knows the job.
        live: whether it is queued or running.
        node: the node on which it runs or ran.
        reason: why it isn't running yet.
        log: the file with what it has printed.
    """

    name: str
    state: str
    live: bool
    node: str
    reason: str
    log: Path

    @property
    def queued(self) -> bool:
        """Return whether it is queued, for the first time or again."""
        return self.live and self.state in QUEUED_STATES

    @property
    def has_reason(self) -> bool:
        """Return whether SLURM has said why it isn't running."""
        return self.reason not in ("", "None")

    def where(self) -> str:
        """Return its name and node, such as `job 12_3 on n0`, or why it is queued."""
        if self.queued:
            reason = f" ({self.reason})" if self.has_reason else ""
            return f"job {self.name}{reason}"
        return f"job {self.name}{' on ' + self.node if self.node else ''}"

    def describe_end(self) -> str:
        """Return how it ended, with the last lines of its log."""
        lines = last_lines(self.log)
        tail = f"; last lines of {self.log}: {' | '.join(lines)}" if lines else ""
        return f"{self.where()}: {self.state}{tail}"


def last_lines(log: Path, count: int = LAST_LINES) -> list[str]:
    """Return the last lines of a log that aren't empty; none if it can't be read."""
    try:
        with open(log, "rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - 4096))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = [line.rpartition("\r")[2].strip() for line in text.splitlines()]
    return [line for line in lines if line][-count:]


def options(slurm: SlurmConfig, grace_s: float, jobs: int, log: str) -> dict[str, Any]:
    """Return the options of sbatch by their long names; True marks an option without a value.

    Args:
        slurm: the configuration; its `extra` overrides everything else, and null there removes an
            option.
        grace_s: seconds that a job may take to save.
        jobs: the number of jobs.
        log: the file to which a job prints, with sbatch's `%a` for its index.
    """
    limit = f"%{slurm.max_parallel}" if slurm.max_parallel else ""
    chosen: dict[str, Any] = {
        "job-name": "actsweep",
        "array": f"0-{jobs - 1}{limit}",
        "output": log,
        "open-mode": "append",
        "requeue": True,
        "signal": f"USR2@{math.ceil(grace_s + SLURM_REQUEUE_S)}",
        "time": max(1, math.ceil(slurm.hours * 60)),
        "nodes": slurm.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": slurm.cpus,
        "gpus-per-node": slurm.gpus or None,
        "mem": None if slurm.mem_gb is None else f"{math.ceil(slurm.mem_gb * 1024)}M",
        "partition": slurm.partition,
        "account": slurm.account,
    }
    chosen |= {key.replace("_", "-"): value for key, value in slurm.extra.items()}
    return {key: value for key, value in chosen.items() if value is not None and value is not False}


def write(sweep: Path, jobs: Sequence[Sequence[str]], slurm: SlurmConfig, grace_s: float) -> Batch:
    """Write the script of a sweep's next submission, and the list of which job trains which runs.

    Args:
        sweep: the folder of a frozen sweep.
        jobs: the run ids of each job.
        slurm, grace_s: as for `options`.

    Returns:
        The submission, not yet submitted.
    """
    sweep = sweep.absolute()
    earlier = [int(path.name) for path in (sweep / "slurm").glob("*/") if path.name.isdecimal()]
    number = max(earlier, default=0) + 1
    batch = Batch(sweep / "slurm" / str(number), jobs)
    batch.folder.mkdir(parents=True)
    log = str(batch.folder).replace("%", "%%") + "/%a.log"
    chosen = options(slurm, grace_s, len(jobs), log)
    command = [sys.executable, "-u", "-m", "actsweep", "job", str(sweep), str(number)]
    text = SCRIPT.format(
        what=sweep.name,
        path=shlex.quote(str(batch.script)),
        options="\n".join(_option(key, value) for key, value in chosen.items()),
        setup="\n".join(["", *slurm.setup, ""] if slurm.setup else [""]),
        command=shlex.join(command),
    )
    files.write_atomic(batch.script, text)
    _write_jobs(batch)
    return batch


def _option(key: str, value: Any) -> str:
    return f"#SBATCH --{key}" + ("" if value is True else f"={shlex.quote(str(value))}")


def _write_jobs(batch: Batch) -> None:
    plain = {"array": batch.array, "jobs": [list(job) for job in batch.jobs]}
    files.write_json(batch.folder / JOBS_FILE, plain)


def submit(batch: Batch, cwd: str) -> Batch:
    """Submit a written batch, and return it with the id of its array.

    Args:
        batch: the result of `write`.
        cwd: the working folder of its jobs.

    Raises:
        SlurmError: SLURM refuses it.
    """
    # A job that is submitted from within another must not inherit that one's allocation.
    env = {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or not name.startswith(_JOB_VARIABLES)
    }
    answer = slurm_commands.ask(
        "sbatch", "--parsable", f"--chdir={cwd}", str(batch.script), env=env
    )
    submitted = replace(batch, array=answer.strip().partition(";")[0])
    _write_jobs(submitted)
    return submitted


def note_array(batch: Batch, env: Mapping[str, str]) -> None:
    """Record the id of an array that was submitted by hand; called in each of its jobs."""
    array = env.get("SLURM_ARRAY_JOB_ID")
    if array and batch.array is None:
        _write_jobs(replace(batch, array=array))


def batches(sweep: Path) -> list[Batch]:
    """Return a sweep's submissions, the oldest first.

    Raises:
        UserError: the record of a submission can't be read.
    """
    folders = [path.parent for path in (sweep / "slurm").glob(f"[0-9]*/{JOBS_FILE}")]
    return [_read(folder) for folder in sorted(folders, key=lambda folder: int(folder.name))]


def _read(folder: Path) -> Batch:
    try:
        plain = json.loads((folder / JOBS_FILE).read_text())
        return Batch(folder, plain["jobs"], plain["array"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder / JOBS_FILE}: can't be read ({error})") from error


def states(submissions: Iterable[Batch]) -> dict[str, Job]:
    """Return the job of each run, by run id.

    It is the job that is still queued or running, or else the last one in which the run was
    submitted.

    Raises:
        SlurmError: squeue is missing, fails, or doesn't answer.
    """
    latest: dict[str, Job] = {}
    for job, run_ids in jobs(submissions):
        for run_id in run_ids:
            if job.live or run_id not in latest or not latest[run_id].live:
                latest[run_id] = job
    return latest


def jobs(submissions: Iterable[Batch]) -> list[tuple[Job, Sequence[str]]]:
    """Return every job of some submissions with its run ids, the oldest first.

    Raises:
        SlurmError: as `states`.
    """
    submissions = list(submissions)
    if not submissions:
        return []
    live, arrays = slurm_commands.queue()
    by_hand = {batch.folder: arrays.get(str(batch.script.absolute())) for batch in submissions}
    known = [replace(batch, array=batch.array or by_hand[batch.folder]) for batch in submissions]
    submitted = [batch for batch in known if batch.array]
    if not submitted:
        return []
    names = {f"{batch.array}_{task}" for batch in submitted for task in range(len(batch.jobs))}
    past = slurm_commands.history(sorted({name.partition("_")[0] for name in names - live.keys()}))
    listed: list[tuple[Job, Sequence[str]]] = []
    for batch in submitted:
        for task, run_ids in enumerate(batch.jobs):
            name = f"{batch.array}_{task}"
            answer = live.get(name) or past.get(name) or past.get(str(batch.array))
            state, node, reason = answer or ("GONE", "", "")
            job = Job(name, state, name in live, node, reason, batch.log(task))
            listed.append((job, run_ids))
    return listed
