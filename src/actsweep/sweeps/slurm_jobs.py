"""SLURM through its own commands: batch scripts, arrays of jobs, what became of them. No jax."""

import json
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actsweep.config.schema import SLURM_REQUEUE_S, SlurmConfig
from actsweep.utils import files
from actsweep.utils.errors import UserError

SCRIPT_FILE, JOBS_FILE = "job.sbatch", "jobs.json"
LAST_LINES = 3  # of a log, to say why a job has died
NOT_YET = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")

_OF_A_JOB = ("SLURM_", "SRUN_", "SLURMD_")

SCRIPT = """\
#!/bin/bash
# Written by actsweep for {what}. By hand: sbatch {path}
{options}
{setup}
trap : TERM  # the steps are told, too: they save, and end with 75
[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
srun --kill-on-bad-exit=1 {command} "$SLURM_ARRAY_TASK_ID"
code=$?
# Preempted, or the time is up: queue this job again. If somebody cancelled it, it isn't RUNNING.
job="${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
if [ $code = 75 ] && [ "$(squeue --noheader --job "$job" --format %T)" = RUNNING ]; then
    scontrol requeue "$job"
fi
exit $code
"""


class SlurmError(Exception):
    """One of SLURM's commands is missing, or says no."""


@dataclass(frozen=True)
class Batch:
    """One submission of a sweep: an array of jobs.

    Attributes:
        folder: `<sweep>/slurm/<number>`, with the script, and a log a job.
        jobs: the ids of each job's runs.
        array: SLURM's number; None if it was only written, or is submitted by hand.
    """

    folder: Path
    jobs: Sequence[Sequence[str]]
    array: str | None = None

    def log(self, task: int) -> Path:
        """What a job has printed."""
        return self.folder / f"{task}.log"

    @property
    def script(self) -> Path:
        """What sbatch gets."""
        return self.folder / SCRIPT_FILE


@dataclass(frozen=True)
class Job:
    """A job as SLURM sees it.

    Attributes:
        name: as scancel takes it, such as `12_3`.
        state: SLURM's word, such as RUNNING; GONE where it has forgotten.
        live: whether it is queued or runs.
        node: where it is or was.
        reason: why it isn't running yet.
        log: what it has printed.
    """

    name: str
    state: str
    live: bool
    node: str
    reason: str
    log: Path

    @property
    def queued(self) -> bool:
        """Whether it waits for its turn, for the first time or again."""
        return self.live and self.state in NOT_YET

    def where(self) -> str:
        """Itself and its place, such as `job 12_3 on n0`."""
        if self.queued:
            why = f" ({self.reason})" if self.reason not in ("", "None") else ""
            return f"job {self.name}{why}"
        return f"job {self.name}{' on ' + self.node if self.node else ''}"

    def death(self) -> str:
        """What became of it, with the last lines of its log."""
        said = last_lines(self.log)
        tail = f"; the last of {self.log}: {' | '.join(said)}" if said else ""
        return f"{self.where()}: {self.state}{tail}"


def last_lines(log: Path, count: int = LAST_LINES) -> list[str]:
    """The last lines of a log in which something stands."""
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
    """What sbatch is asked for, by its long options; True stands for one without a value.

    Args:
        slurm: what was configured; what `extra` says counts, null there takes an option away.
        grace_s: seconds that a job may take to save.
        jobs: how many there are.
        log: where they print to, with sbatch's own `%a`.
    """
    most = f"%{slurm.max_parallel}" if slurm.max_parallel else ""
    asked: dict[str, Any] = {
        "job-name": "actsweep",
        "array": f"0-{jobs - 1}{most}",
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
    asked |= {key.replace("_", "-"): value for key, value in slurm.extra.items()}
    return {k: v for k, v in asked.items() if v is not None and v is not False}


def write(sweep: Path, jobs: Sequence[Sequence[str]], slurm: SlurmConfig, grace_s: float) -> Batch:
    """Write the script of a sweep's next submission, and which runs each of its jobs trains.

    Args:
        sweep: the folder of a frozen sweep.
        jobs: run ids.
        slurm, grace_s: as for `options`.
    """
    sweep = sweep.absolute()
    before = [int(path.name) for path in (sweep / "slurm").glob("*/") if path.name.isdecimal()]
    number = max(before, default=0) + 1
    batch = Batch(sweep / "slurm" / str(number), jobs)
    batch.folder.mkdir(parents=True)
    log = str(batch.folder).replace("%", "%%") + "/%a.log"
    asked = options(slurm, grace_s, len(jobs), log)
    command = [sys.executable, "-u", "-m", "actsweep", "job", str(sweep), str(number)]
    text = SCRIPT.format(
        what=sweep.name,
        path=shlex.quote(str(batch.script)),
        options="\n".join(_option(key, value) for key, value in asked.items()),
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
    """Give a written submission to SLURM; the same with its number.

    Raises:
        SlurmError: SLURM doesn't take it.
    """
    # Submitted from within a job, another one must not inherit what that one was given.
    own = {k: v for k, v in os.environ.items() if k == "SLURM_CONF" or not k.startswith(_OF_A_JOB)}
    said = _ask("sbatch", "--parsable", f"--chdir={cwd}", str(batch.script), env=own)
    submitted = replace(batch, array=said.strip().partition(";")[0])
    _write_jobs(submitted)
    return submitted


def note_array(batch: Batch, env: Mapping[str, str]) -> None:
    """Called in a job: keep the number of an array that was submitted by hand."""
    array = env.get("SLURM_ARRAY_JOB_ID")
    if array and batch.array is None:
        _write_jobs(replace(batch, array=array))


def batches(sweep: Path) -> list[Batch]:
    """A sweep's submissions, the oldest first.

    Raises:
        UserError: one can't be read.
    """
    folders = [path.parent for path in (sweep / "slurm").glob(f"[0-9]*/{JOBS_FILE}")]
    return [_read(folder) for folder in sorted(folders, key=lambda folder: int(folder.name))]


def _read(folder: Path) -> Batch:
    try:
        plain = json.loads((folder / JOBS_FILE).read_text())
        return Batch(folder, plain["jobs"], plain["array"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder / JOBS_FILE}: can't be read ({error})") from error


def states(of: Iterable[Batch]) -> dict[str, Job]:
    """What SLURM knows of the job that each run was last submitted in, or of the one that is still
    queued or runs, by run id.

    Raises:
        SlurmError: squeue isn't there, or doesn't answer.
    """
    found: dict[str, Job] = {}
    for job, run_ids in jobs(of):
        found |= {i: job for i in run_ids if job.live or i not in found or not found[i].live}
    return found


def jobs(of: Iterable[Batch]) -> list[tuple[Job, Sequence[str]]]:
    """Every job of some submissions, with the ids of its runs, the oldest first.

    Raises:
        SlurmError: as `states`.
    """
    submitted = [batch for batch in of if batch.array]
    if not submitted:
        return []
    live = _queue()
    names = {f"{batch.array}_{task}" for batch in submitted for task in range(len(batch.jobs))}
    past = _history(sorted({name.partition("_")[0] for name in names - live.keys()}))
    found: list[tuple[Job, Sequence[str]]] = []
    for batch in submitted:
        for task, run_ids in enumerate(batch.jobs):
            name = f"{batch.array}_{task}"
            known = live.get(name) or past.get(name) or past.get(str(batch.array))
            state, node, reason = known or ("GONE", "", "")
            job = Job(name, state, name in live, node, reason, batch.log(task))
            found.append((job, run_ids))
    return found


def _queue() -> dict[str, tuple[str, str, str]]:
    """State, node and reason of this user's jobs that are queued or run."""
    said = _ask("squeue", "--me", "--noheader", "--array", "--format=%i|%T|%N|%r")
    rows = [line.split("|") for line in said.splitlines() if line.count("|") == 3]
    return {row[0].strip(): (row[1], row[2], row[3]) for row in rows}


def _history(arrays: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """The same of jobs that are over, as far as the cluster keeps accounts; an array of which no
    job has begun stands there as one."""
    if not arrays:
        return {}
    words = ("--allocations", "--noheader", "--parsable2", "--format=JobID,State,NodeList")
    try:
        said = _ask("sacct", *words, f"--jobs={','.join(arrays)}")
    except SlurmError:
        return {}
    rows = [line.split("|") for line in said.splitlines() if line.count("|") == 2]
    return {
        name: (state.partition(" ")[0], "" if node == "None assigned" else node, "")
        for names, state, node in rows
        for name in _each(names)
    }


def _each(names: str) -> list[str]:
    """The jobs that `12_[0-2,5%2]` stands for: sacct puts those together that never began."""
    found = re.fullmatch(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]", names)
    if found is None:
        return [names]
    spans = [part.partition("-") for part in found[2].split(",")]
    tasks = [task for low, _, high in spans for task in range(int(low), int(high or low) + 1)]
    return [f"{found[1]}_{task}" for task in tasks]


def cancel(jobs: Iterable[str]) -> None:
    """End jobs: what they train is saved.

    Raises:
        SlurmError: scancel isn't there, or doesn't want to.
    """
    _ask("scancel", *jobs)


def _ask(*command: str, env: Mapping[str, str] | None = None) -> str:
    """What one of SLURM's commands prints."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            start_new_session=True,  # Ctrl-C is ours
            env=env,
        )
    except FileNotFoundError as error:
        raise SlurmError(f"{command[0]}: no such command; is this a machine with SLURM?") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]}: no answer within {error.timeout:g} s") from error
    if done.returncode:
        raise SlurmError(f"{command[0]}: {_complaint(done.stderr or done.stdout, done.returncode)}")
    return done.stdout


def _complaint(said: str, code: int) -> str:
    """What a command that has failed says, in one line."""
    lines = [re.sub(r"^\w+: (error: )?", "", line) for line in said.strip().splitlines()]
    kept = dict.fromkeys(line for line in lines if line and not line.startswith("Try "))
    return "; ".join(kept) or f"exit code {code}"
