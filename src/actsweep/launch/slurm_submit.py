"""Sweeps as SLURM jobs: how they are submitted, watched, cancelled and run. No jax."""

import logging
import os
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from actsweep.config.schema import DataConfig
from actsweep.launch.finish import finish
from actsweep.launch.job import End, count, train_job, without_runs
from actsweep.runs import run_dir
from actsweep.runs.leases import living_owners
from actsweep.runtime.process import Process
from actsweep.runtime.signals import Interrupted
from actsweep.sweeps import results, slurm_commands, slurm_jobs
from actsweep.sweeps.exit_codes import OK
from actsweep.sweeps.plan import SUBMITTING, Plan, name_of, outputs_dir, read_frozen, reopen
from actsweep.sweeps.results import Result
from actsweep.sweeps.slurm_commands import SlurmError
from actsweep.sweeps.slurm_jobs import Batch, Job
from actsweep.utils import files
from actsweep.utils.errors import UserError

POLL_S = 2.0
"""Seconds between two queries to SLURM, or ten times as long as the answer took."""
ENDING_S = 120.0
"""Seconds that a job may take to end after a signal."""
SEEN_S = 10.0
"""Seconds until other machines see what a job has written, at the latest."""

log = logging.getLogger(__name__)


def train(plan: Plan, process: Process, end: End = finish) -> int:
    """Submit the runs that a sweep has left, and watch them to their end; return the exit code.

    Runs that are queued already aren't submitted again. Depending on the config it returns at once.
    `end` gets the results of all runs, in order.

    Raises:
        UserError: SLURM refuses the jobs, or the data can't be prepared; nothing is submitted.
    """
    asked = plan.config.slurm
    name = name_of(plan.folder)
    try:
        with FileLock(plan.folder / SUBMITTING):  # of two commands at once, one submits
            jobs, queued = _left(plan)
            if queued:
                print(f"{count(queued, 'run')} in jobs that are queued or running already")
            written = _submit(plan, jobs) if jobs else []
    except SlurmError as error:
        raise UserError(f"hydra/launcher=slurm: {error}{_advice(str(error))}") from error
    if jobs and not asked.submit:
        for batch in written:
            script = shlex.quote(str(batch.script))
            print(f"{_counted(batch.jobs)}, written only; submit:  sbatch {script}")
        print(f"follow: actsweep status {name}")
        return OK
    if (jobs or queued) and not asked.wait:
        print(f"follow: actsweep status {name}")
        print(f"stop:   actsweep cancel {name}")
        return OK
    return follow(plan, process, end)


def _left(plan: Plan) -> tuple[list[list[str]], int]:
    """Return the jobs to submit, and how many runs are in jobs that are queued or running."""
    done = results.ended_results(plan, results.read_records(plan)).keys()
    states = _lasting_states(plan.folder)
    queued = {run_id for run_id, job in states.items() if job.live} - done
    return without_runs(done | queued, plan.jobs), len(queued)


def _lasting_states(folder: Path) -> Mapping[str, Job]:
    """Return the states of a sweep's jobs, once none of them is about to end.

    A job that is about to end may have been cancelled, or will be queued again.
    """
    end = time.monotonic() + ENDING_S
    while True:
        states = slurm_jobs.states(slurm_jobs.batches(folder))
        ending = {job.name for job in states.values() if job.state == "COMPLETING"}
        if not ending or time.monotonic() > end:
            return states
        log.warning("waiting for %s to end", ", ".join(f"job {name}" for name in sorted(ending)))
        time.sleep(POLL_S)


def _counted(jobs: Sequence[Sequence[str]]) -> str:
    return f"{count(sum(map(len, jobs)), 'run')} in {count(len(jobs), 'job')}"


def _submit(plan: Plan, jobs: Sequence[Sequence[str]]) -> list[Batch]:
    """Write the scripts of some jobs, and submit them; return the submissions.

    They are several arrays where one would be larger than the cluster allows. If it takes only the
    first ones, a line says so.

    Raises:
        SlurmError: SLURM refuses the first; nothing is left.
    """
    asked = plan.config.slurm
    _prepare_data([plan.runs[run_id].config.data for job in jobs for run_id in job])
    largest = slurm_commands.largest_array()
    parts = [jobs[start : start + largest] for start in range(0, len(jobs), largest)]
    if asked.max_parallel:  # for each array
        asked = replace(asked, max_parallel=max(1, asked.max_parallel // len(parts)))
    batches: list[Batch] = []
    for part in parts:
        batch = slurm_jobs.write(plan.folder, part, asked, plan.config.trainer.grace_s)
        try:
            batch = slurm_jobs.submit(batch, plan.cwd) if asked.submit else batch
        except SlurmError as error:
            files.remove(batch.folder)
            if not batches:
                raise
            rest = sum(len(each) for each in parts[len(batches) :])
            log.warning(
                "%s: SLURM takes no more: %s; once it does, type: actsweep resume %s",
                *(count(rest, "job"), error, name_of(plan.folder)),
            )
            break
        batches.append(batch)
        if asked.submit:
            print(f"{_counted(part)}: array {batch.array} of SLURM; logs: {batch.folder}/")
    return batches


def _prepare_data(wanted: Sequence[DataConfig]) -> None:
    """Prepare the data here, once: nodes may lack a network, and jobs would wait for each other."""
    from actsweep.data import image_sets
    from actsweep.data.images import IMAGES
    from actsweep.data.prepare import prepare

    log_line = lambda line: print(line, file=sys.stderr)  # noqa: E731
    built_in = {(d.name, d.dir) for d in wanted if d._target_ is None and d.kind in IMAGES}
    for name, folder in sorted(built_in, key=str):
        prepare(name, Path(folder) if folder else None, log_line)
    named = {repr(d): d for d in wanted if d.source is not None}
    for data in named.values():
        image_sets.arrays(replace(data, stream="disk"), log_line)


def _advice(refusal: str) -> str:
    """Return what to type after one of SLURM's most frequent refusals."""
    for sign, advice in (
        ("gres", "slurm.gpus=0 where nodes have no GPUs"),
        ("node configuration", "fewer slurm.cpus, slurm.gpus or slurm.mem_gb"),
        ("invalid account", "slurm.account=<one that sacctmgr show associations lists>"),
        ("partition", "slurm.partition=<one that sinfo lists>"),
        ("array", "a larger pack.size, for fewer jobs"),
        ("no such command", "hydra/launcher=basic to train here"),
    ):
        if sign in refusal.lower():
            return f"; type for example {advice}"
    return ""


def follow(plan: Plan, process: Process, end: End = finish) -> int:
    """Watch a sweep's jobs until none is left; return the exit code. Ctrl-C doesn't end them."""
    batches = slurm_jobs.batches(plan.folder)
    states: Mapping[str, Job] = {}
    shown = _Progress(plan)
    try:
        while True:
            began = time.monotonic()
            try:
                states = slurm_jobs.states(batches)
            except SlurmError as error:  # probably for a moment
                log.warning("%s; asking again", error)
                time.sleep(POLL_S)
                continue
            shown.show(states)
            if not any(job.live for job in states.values()):
                break
            time.sleep(max(POLL_S, 10 * (time.monotonic() - began)))
    except Interrupted:
        shown.end()
        name = name_of(plan.folder)
        print(f"the jobs go on: actsweep status {name}   to stop them: actsweep cancel {name}")
        return results.exit_code(["running"], process.stop.asked)
    shown.end()
    return end(plan, _results(plan, states), process.stop.asked)


def _results(plan: Plan, states: Mapping[str, Job]) -> list[Result]:
    """Return the result of every run; for one that hasn't ended, how its job ended."""
    end = time.monotonic() + SEEN_S
    while True:
        ended = results.ended_results(plan, results.read_records(plan))
        late = [job for i, job in states.items() if i not in ended and job.state == "COMPLETED"]
        if not late or time.monotonic() > end:
            break
        time.sleep(1.0)
    skips = results.failed_run(plan) is not None
    for run_id, member in plan.runs.items():
        if run_id not in ended:
            ended[run_id] = results.interrupted_result(plan, member)
            skipped = skips and ended[run_id]["cause"] == results.NOT_STARTED
            if run_id in states and not skipped:
                ended[run_id]["cause"] = states[run_id].describe_end()
    return [ended[run_id] for run_id in plan.runs]


class _Progress:
    """Progress of a sweep: on a terminal one line, rewritten; in a file a line per change."""

    def __init__(self, plan: Plan) -> None:
        self._folders = {run_id: member.dir for run_id, member in plan.runs.items()}
        self._done: set[str] = set()
        self._last = ""
        self._tty = sys.stdout.isatty()

    def show(self, states: Mapping[str, Job]) -> None:
        """Print the progress if it has changed."""
        for run_id, folder in self._folders.items():
            if run_id not in self._done:
                state = (run_dir.read_status(folder) or {}).get("state")
                live = run_id in states and states[run_id].live
                if state in run_dir.ENDED and not live:
                    self._done.add(run_id)
        jobs = {job.name: job for job in states.values() if job.live}
        counts = Counter("queued" if job.queued else "running" for job in jobs.values())
        why = Counter(job.reason for job in jobs.values() if job.queued and job.has_reason)
        parts = [f"{count(n, 'job')} {what}" for what, n in sorted(counts.items(), reverse=True)]
        if why:  # the most frequent reason; actsweep status names each job's
            parts.append(f"SLURM: {why.most_common(1)[0][0]}")
        text = f"[{len(self._done)}/{len(self._folders)} runs] {', '.join(parts) or 'no jobs left'}"
        if text != self._last:
            print(f"\r\x1b[2K{text}" if self._tty else text, end="" if self._tty else "\n")
            sys.stdout.flush()
        self._last = text

    def end(self) -> None:
        """End the line that was rewritten."""
        if self._tty and self._last:
            print()


def cancel(folder: Path) -> None:
    """Cancel a sweep's jobs that are queued or running; what they train is saved.

    Jobs count that `hydra/launcher=slurm` has submitted, that came from its script, or from
    slurm/array.sbatch or slurm/sweep.sbatch, and batch jobs in which a process trains this sweep,
    and none another one.

    Raises:
        UserError: none of its jobs is in SLURM, or SLURM doesn't answer.
    """
    named = re.fullmatch(r"slurm-(\d+)", folder.name)  # as slurm/*.sbatch name a sweep
    owners = living_owners(outputs_dir(folder, read_frozen(folder)))
    others = {owner.job for owner in owners if owner.sweep != folder.name}
    ours = {owner.job for owner in owners if owner.sweep == folder.name} - others - {""}
    try:
        jobs = {job.name for job, _ in slurm_jobs.jobs(slurm_jobs.batches(folder)) if job.live}
        jobs |= slurm_commands.jobs_named(ours)
        if named:  # the number may be another job's by now
            jobs |= slurm_commands.jobs_named([named[1]], scripts=("array.sbatch", "sweep.sbatch"))
        if jobs:
            slurm_commands.cancel(sorted(jobs))
    except SlurmError as error:
        raise UserError(f"{folder.name}: {error}") from error
    if not jobs:
        raise UserError(
            f"{folder.name}: none of its jobs is queued or running in SLURM; see actsweep status "
            f"{name_of(folder)}. If a process in a terminal trains it, type Ctrl-C there"
        )
    print(f"cancelled {count(len(jobs), 'job')}; go on:  actsweep resume {name_of(folder)}")


def job(folder: Path, number: int, task: int, process: Process) -> int:
    """Train the runs of one job of a submission; return the exit code.

    Raises:
        UserError: there is no such job.
    """
    batch = _batch(folder, number)
    if not 0 <= task < len(batch.jobs):
        raise UserError(f"{batch.folder}: has no job {task}; it has 0 to {len(batch.jobs) - 1}")
    slurm_jobs.note_array(batch, os.environ)
    _log_plainly()
    plan = reopen(folder)
    return train_job(plan, batch.jobs[task], process)


def _batch(folder: Path, number: int) -> Batch:
    for batch in slurm_jobs.batches(folder):
        if batch.folder.name == str(number):
            return batch
    raise UserError(f"{folder}/slurm: has no submission {number}")


def _log_plainly() -> None:
    """Log everything to the job's log, including tracebacks."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("actsweep").setLevel(logging.INFO)
