"""A sweep, or one of its jobs, from its plan to its exit code. No jax before training starts."""

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from actsweep.config.identity import why_apart
from actsweep.config.schema import RunConfig
from actsweep.launch.finish import finish
from actsweep.runs import run_dir
from actsweep.runs.leases import Leases, owners
from actsweep.runs.members import Member, check_stored
from actsweep.runs.run_dir import is_of, read_record
from actsweep.runtime.distributed import process_index
from actsweep.runtime.process import Process
from actsweep.runtime.signals import Interrupted
from actsweep.sweeps import find
from actsweep.sweeps.exit_codes import OK, PREEMPTED, SOME_FAILED
from actsweep.sweeps.judging import judges_in
from actsweep.sweeps.plan import Plan, is_search, read_plan
from actsweep.sweeps.results import (
    Result,
    ended_results,
    failed_run,
    interrupted_result,
    read_records,
    result_on_disk,
    show_part,
)
from actsweep.utils.errors import UserError, first_line

log = logging.getLogger(__name__)

Jobs = Sequence[Sequence[str]]  # run ids
Ends = Sequence[list[Result] | Exception]
POLL_SECONDS = 1.0
FRUITLESS_S = 600.0
"""A job that took no step in so long, or in half its time, isn't queued again."""


def check_before(plan: Plan) -> None:
    """Check what a sweep's loggers need, and its name, before anything is written.

    Raises:
        UserError: a logger's package isn't installed, or it refuses its options; or the name is
            that of another sweep's folder.
    """
    config = plan.config
    if config.logger.writers:
        # It needs NumPy, which bad input is answered without.
        from actsweep.loggers import tools

        tools.check(config.logger.writers)
    find.tell_if_taken(plan.outputs, plan.folder, config.sweep.name)


def show_plan(packs: Sequence[Sequence[Member]]) -> None:
    """Print the packs that would be trained, and the memory that each would need.

    Raises:
        UserError: bad input that only shows once data and devices are there.
    """
    from actsweep.train.pack import preview

    for index, pack in enumerate(packs):
        needs, complete = preview(pack)
        print(f"pack {index}: {count(len(pack), 'run')}{needs}", flush=True)
        for member in pack:
            print(f"  {member.run_id}{'  (complete already)' * (member.run_id in complete)}")
        if pack[0].config.pack.mix and (why := why_apart(pack[0].config)):
            print(f"  not mixed with other activations: {why}")
    print(f"{count(sum(map(len, packs)), 'run')} in {count(len(packs), 'pack')}")


def count(number: int, what: str) -> str:
    """Return a number with its noun, such as `3 runs`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


End = Callable[[Plan, Sequence[Result], signal.Signals | None], int]
"""What is done once all jobs have ended, such as `finish`: from the results to an exit code."""


def train_all(
    plan: Plan, launch: Callable[[Jobs], Ends], process: Process, end: End = finish
) -> int:
    """Train the runs that a sweep has left, one job per pack; return the exit code.

    Args:
        plan: the sweep.
        launch: trains jobs, given as run ids; returns each one's results, or its error.
        process: the process that waits for the jobs.
        end: gets the results of all runs, in order.

    Raises:
        UserError: every run was refused: nothing has started.
    """
    results = _train_jobs(plan, plan.jobs, launch, process)
    return end(plan, [results[run_id] for run_id in plan.runs], process.stop.asked)


def train_job(plan: Plan, run_ids: Sequence[str], process: Process) -> int:
    """Train some runs of a sweep, as one of its jobs; return the exit code.

    The job that ends last writes the sweep's table.

    Raises:
        UserError: every run was refused: nothing has started.
    """
    if not is_coordinator(plan.config):
        return run_worker(plan.config, process)
    began, before = time.monotonic(), _progress(plan, run_ids)

    def launch(jobs: Jobs) -> Ends:
        ends = [train_members(plan.folder, job, process, alone=True) for job in jobs]
        _record_refused(plan, [result for end in ends for result in end])
        return ends

    results = _train_jobs(plan, [run_ids], launch, process)
    code = show_part(plan, [results[run_id] for run_id in run_ids], process.stop.asked)
    if not is_search(plan.folder) and len(ended_results(plan, read_records(plan))) == len(
        plan.runs
    ):
        results_of_all = [interrupted_result(plan, member) for member in plan.runs.values()]
        finish(plan, results_of_all, process.stop.asked)
    patience = min(FRUITLESS_S, 1800 * plan.config.slurm.hours)
    took = time.monotonic() - began
    if code == PREEMPTED and took > patience and _progress(plan, run_ids) == before:
        log.error("no training step in %.0f s: this job isn't queued again", took)
        return SOME_FAILED
    return code


def _record_refused(plan: Plan, results: Sequence[Result]) -> None:
    """Write on disk what was refused: whoever follows the job has nothing else to go by."""
    by = {"sweep": plan.folder.name, "attempt": plan.attempt}
    for result in results:
        if "refused" in result:
            from actsweep.train.outcome import record_unstarted

            with contextlib.suppress(OSError):
                member = plan.runs[result["run_id"]]
                record_unstarted(member, UserError(result["refused"]), by)


def is_coordinator(config: RunConfig) -> bool:
    """Return whether this process plans and writes; the others of its group are workers.

    Raises:
        UserError: the config asks for SLURM, but srun didn't start this process.
    """
    return process_index(config.trainer)[0] == 0


def run_worker(config: RunConfig, process: Process) -> int:
    """Train what the coordinator names, until it has finished; return the exit code."""
    logging.disable()
    process.stop.quiet = True
    with process.stop.patience():  # the coordinator gets the signal, too, and decides
        process.group.join(config.trainer)
        from actsweep.train import pack

        pack.run_worker(process.group)
        process.group.leave()
    return OK


def _progress(plan: Plan, run_ids: Sequence[str]) -> list[tuple[Any, Any]]:
    """Return values that change when runs make progress."""
    statuses = [run_dir.read_status(plan.runs[run_id].dir) or {} for run_id in run_ids]
    return [(status.get("state") in run_dir.ENDED, status.get("step")) for status in statuses]


def _train_jobs(
    plan: Plan, jobs: Jobs, launch: Callable[[Jobs], Ends], process: Process
) -> dict[str, Result]:
    """Train the runs of some jobs that haven't ended; return the results of all.

    Runs that other processes were training and have left are trained, too.
    """
    with process.group.coordinating(plan.config.trainer):
        wanted = [run_id for job in jobs for run_id in job]
        records = {run_id: read_record(plan.runs[run_id].dir) for run_id in wanted}
        results = ended_results(plan, records)
        for run_id in results:
            check_stored(plan.runs[run_id])
        jobs = without_runs(results, jobs)
        try:
            # While jobs are queued, the owner file shows `actsweep status` that a process waits.
            with Leases(plan.outputs, plan.folder.name) if jobs else contextlib.nullcontext():
                while jobs:
                    for job, end in zip(jobs, launch(jobs), strict=True):
                        results |= {r["run_id"]: r for r in _results(plan, job, end)}
                    jobs = _after_others(plan, jobs, results)
        except KeyboardInterrupt:
            left = [plan.runs[run_id] for run_id in wanted if run_id not in results]
            results |= {member.run_id: interrupted_result(plan, member) for member in left}
        return results


def _results(plan: Plan, job: Sequence[str], end: list[Result] | Exception) -> list[Result]:
    if not isinstance(end, Exception):
        return end
    why = {"state": "failed", "cause": first_line(end)}
    return [result_on_disk(plan, plan.runs[run_id], why) for run_id in job]


def without_runs(run_ids: Collection[str], jobs: Jobs) -> list[list[str]]:
    """Return the jobs without some runs; jobs that become empty are left out."""
    left = [[run_id for run_id in job if run_id not in run_ids] for job in jobs]
    return [job for job in left if job]


def _after_others(plan: Plan, jobs: Jobs, results: dict[str, Result]) -> Jobs:
    """Wait for the runs that other processes are training; return jobs of what they leave."""
    elsewhere = [run_id for run_id, result in results.items() if "busy" in result]
    if not elsewhere:
        return []
    waits = plan.config.pack.wait
    if waits:
        who = dict.fromkeys(results[run_id]["busy"] for run_id in elsewhere)
        log.warning("waiting for %s, trained by %s", count(len(elsewhere), "run"), "; ".join(who))
        while owners(plan.outputs, elsewhere):
            time.sleep(POLL_SECONDS)
    results |= ended_results(plan, {i: read_record(plan.runs[i].dir) for i in elsewhere})
    if not waits:
        return []
    return without_runs({i for i, result in results.items() if "busy" not in result}, jobs)


def train_members(
    folder: Path, run_ids: Sequence[str], process: Process, *, alone: bool
) -> list[dict[str, Any]]:
    """Train the members of one job; return their results, errors included.

    Args:
        folder: the sweep's folder.
        run_ids: the runs to train.
        process: this process.
        alone: whether this process trains nothing but the job and only returns its results.

    Returns:
        A result of each run. Bad input that only shows here leaves `refused` in it.

    Raises:
        Interrupted: a signal asked for the end, and the process isn't `alone`.
    """
    from actsweep.train.outcome import failed, report
    from actsweep.train.pack import run_pack
    from actsweep.train.types import SweepContext

    plan = read_plan(folder)
    records = {run_id: read_record(plan.runs[run_id].dir) for run_id in run_ids}
    # A job that was queued again doesn't retry what has failed in it before.
    done = ended_results(plan, records)
    left = [plan.runs[run_id] for run_id in run_ids if run_id not in done]
    begun = any(is_of(records[m.run_id].status or {}, folder.name, plan.attempt) for m in left)
    if not begun and failed_run(plan):  # one that has begun goes on: 75 would queue it for ever
        return [*done.values(), *(interrupted_result(plan, member) for member in left)]
    before = next(i for i, run_id in enumerate(plan.runs) if run_id == run_ids[0])
    offset = before + len(done)
    try:
        judges = judges_in(folder)
        about = (plan.attempt, plan.differing, judges, judges.token if judges else "")
        context = SweepContext(folder.name, offset, len(plan.runs), *about)
        return [*done.values(), *(run_pack(left, context, process, records) if left else [])]
    except UserError as error:
        refused = [{**failed(member, error), "refused": str(error)} for member in left]
        return [*done.values(), *refused]
    except Interrupted:
        if not alone:
            raise
        process.stop.hand_on()
        return [*done.values(), *(interrupted_result(plan, member) for member in left)]
    except Exception as error:
        report(error, run_ids)
        # Those that ended before the error are what they are on disk.
        ended = [result_on_disk(plan, member, failed(member, error)) for member in left]
        return [*done.values(), *ended]
