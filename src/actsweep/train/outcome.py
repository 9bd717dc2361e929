"""Outcomes of runs: their results in a sweep, and the states written to their folders."""

import logging
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actsweep.config import resolve
from actsweep.runs import run_dir
from actsweep.runs.leases import owners
from actsweep.runs.members import Member
from actsweep.runs.metrics_file import read_metrics
from actsweep.runs.run_dir import RunDir
from actsweep.runtime.signals import Interrupted
from actsweep.train.types import Result, Results
from actsweep.utils.errors import UserError, cause_of

log = logging.getLogger(__name__)
details = logging.getLogger("actsweep.traceback")  # goes only to the job's log file


def report(error: Exception, run_ids: Sequence[str]) -> None:
    """Log an error that ended runs: a line for the user, the traceback for the job's log file."""
    details.error("%s", "".join(traceback.format_exception(error)))
    log.error("%s: %s", ", ".join(run_ids), cause_of(error).partition("\n")[0])


def failed(member: Member, error: BaseException) -> Result:
    """Return the result of a run that an error ended."""
    return {**member.describe(), "state": "failed", "cause": cause_of(error), "reused": False}


def busy(members: Sequence[Member]) -> Results:
    """Return the results of runs that other processes are training."""
    if not members:
        return {}
    owner_by_run = owners(Path(members[0].config.paths.outputs), [m.run_id for m in members])
    results = {}
    for member in members:
        owner = owner_by_run.get(member.run_id)
        who = "another process"
        if owner:
            who = f"{owner.host}, process {owner.pid} (sweep {owner.sweep})"
        state = {"state": "running", "busy": who, "cause": f"being trained by {who}"}
        results[member.run_id] = {**member.describe(), **state}
    return results


def record(folders: Sequence[RunDir], error: BaseException) -> None:
    """Write into the status of each unfinished run what ended it."""
    interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
    cause = cause_of(error)
    if interrupted:
        cause = str(error) if isinstance(error, Interrupted) else "interrupted"
    for folder in folders:
        if (run_dir.read_status(folder) or {}).get("state") == "running":
            state = "preempted" if interrupted else "failed"
            write_status(folder, state, *reached(folder), cause)


def reached(folder: RunDir) -> tuple[int, float]:
    """Return step and epoch of the last row that is on disk."""
    try:
        columns = read_metrics(folder.metrics)
        return int(columns["step"][-1]), float(columns["epoch"][-1])
    except (OSError, KeyError, IndexError, UserError):
        return 0, 0.0


def write_status(folder: RunDir, state: str, step: int, epoch: float, cause: str | None) -> None:
    """Write a run's status; if that fails, log it."""
    try:
        run_dir.write_status(folder, state, step=step, epoch=epoch, cause=cause)
    except OSError as error:
        log.error("%s: can't write its status: %s", folder.run_id, error)


def record_unstarted(member: Member, error: Exception, by: Mapping[str, Any]) -> None:
    """Write into the status of a run that it couldn't start; results of an earlier training stay.

    Args:
        member: the run.
        error: why.
        by: the sweep and its attempt.
    """
    status = run_dir.read_status(member.dir)
    if status is None:
        run_dir.prepare(member.dir, resolve.to_dict(member.config), **by)
        record([member.dir], error)
    elif status["state"] not in ("complete", "diverged"):
        cause = failed(member, error)["cause"]
        step, epoch = status["step"], status["epoch"]
        run_dir.write_status(member.dir, "failed", step=step, epoch=epoch, cause=cause, **by)
