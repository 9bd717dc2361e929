"""Runs one pack from resolved configs to finished run folders: everything around the loop."""

import contextlib
import functools
import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax

from actsweep import callbacks as observers
from actsweep import data
from actsweep.config import identity, resolve
from actsweep.config.identity import Member, Pack
from actsweep.config.schema import DataConfig, RunConfig
from actsweep.data import Dataset
from actsweep.loggers import wandb_support as support
from actsweep.nn.network import Task
from actsweep.runs import checkpoint, run_dir
from actsweep.runs.leases import Leases
from actsweep.runs.run_dir import folder_of
from actsweep.runtime.devices import set_up_devices
from actsweep.runtime.distributed import together
from actsweep.runtime.signals import Interrupted, stop_request
from actsweep.train.checkpointing import ResumeGroup, load_resume_point, resume_groups
from actsweep.train.cohort import PreparedPack, busy, failed, record, report, train
from actsweep.train.cohort import follow as follow_cohort
from actsweep.train.memory import GIB, MemoryPlan, plan_memory
from actsweep.train.types import Cohort, Result, Results, SweepContext
from actsweep.utils.errors import UserError, bad_value

log = logging.getLogger(__name__)


def run_pack(runs: Sequence[RunConfig], place: SweepContext) -> list[Result]:
    """Train the members that aren't complete yet; record and return the summaries of all.

    Args:
        runs: resolved configs of one program (`members.pack_key`).
        place: for the progress display, W&B's group, and `rerun`.

    Returns:
        A summary for each run, in order, with `state` and `reused`; of a run that another process
        is training, with `busy`, which says who.

    Raises:
        Interrupted: a signal asked for it; what was training is saved.
        UserError: bad input that only shows once data and devices are there.
    """
    everyone = [identity.member(run) for run in runs]
    reused, due = _sort_out(everyone, place)
    fresh: Results = {}
    stop_request.check()  # it may have come while the pack before was closed
    if due:
        with Leases(Path(runs[0].paths.outputs), place.sweep) as leases:
            ours = leases.take([m.run_id for m in due])
            fresh = busy([m for m in due if m.run_id not in ours])
            late, due = _sort_out([m for m in due if m.run_id in ours], place)
            reused |= late  # another process has completed them since
            ahead = replace(place, offset=place.offset + len(reused))
            fresh |= _train(due, ahead, leases) if due else {}
    jax.clear_caches()  # a long sweep would keep the programs of every pack that has ended
    return [
        {**(reused.get(m.run_id) or fresh[m.run_id]), "reused": m.run_id in reused}
        for m in everyone
    ]


def preview(runs: Sequence[RunConfig]) -> tuple[str, Collection[str]]:
    """What training a pack would take, in words, and the ids of runs that are complete already.

    Raises:
        UserError: as `run_pack`.
    """
    reused, due = _sort_out([identity.member(run) for run in runs], SweepContext(""))
    if not due:
        return "", reused.keys()
    fitted = set_up(identity.expand(due)).fitted
    cohorts = len(fitted.parts(len(due)))
    how = f"{fitted.population.size} at once" + (f" in {cohorts} cohorts" if cohorts > 1 else "")
    memory = f"{fitted.need / GIB:.2f} GiB of the {fitted.room / GIB:.2f} GiB that may be used"
    return f", {how}; each of {_devices(fitted)} needs {memory}", reused.keys()


def _devices(fitted: MemoryPlan) -> str:
    mesh = fitted.population.mesh
    kind = "GPU" if mesh.devices.flat[0].platform == "gpu" else "CPU device"
    return f"{mesh.size} {kind}{'s' if mesh.size > 1 else ''}"


def _sort_out(
    everyone: Sequence[Member], place: SweepContext
) -> tuple[dict[str, Result], tuple[Member, ...]]:
    """Summaries of the runs that are on disk, and the members that are to be trained, each once."""
    reused = {
        m.run_id: done for m in everyone if (done := reusable_summary(m.config, place)) is not None
    }
    due = {m.run_id: m for m in everyone if m.run_id not in reused}
    return reused, tuple(due.values())


def reusable_summary(one: RunConfig, place: SweepContext) -> Result | None:
    """The summary of a run that is on disk and needn't be trained again (`ledger.reusable`)."""
    return run_dir.reusable(folder_of(one), one.rerun, place.sweep, place.attempt)


def set_up(pack: Pack, most: int | None = None) -> PreparedPack:
    """Load the data; compile the pack for as many members as the memory takes, and `most` allows.

    Raises:
        UserError: bad input that only shows once data and devices are there.
    """
    set_up_devices()
    shared = pack.static
    examples = _load(json.dumps(asdict(shared.data)))
    _check_batch(shared, len(examples.train_x))
    callbacks = observers.build(shared.callbacks)
    task = task_of(shared, examples)
    logged = shared.logger.mode != "disabled"
    files = support.runs_that_fit(len(pack.members), 1 + support.FILES_A_RUN * logged)
    most = max(1, min(files, most or files))
    fitted = plan_memory(shared, task, identity.stack(pack), callbacks, examples, most)
    return PreparedPack(pack, task, callbacks, examples, fitted)


@functools.lru_cache(maxsize=1)
def _load(config: str) -> Dataset:
    """The data of a `DataConfig` in JSON: the packs of a sweep mostly share them."""
    return data.load(DataConfig(**json.loads(config)), log.info)


def _train(due: Sequence[Member], place: SweepContext, leases: Leases) -> Results:
    """Train members of one program, in cohorts; a cohort that breaks doesn't end the others."""
    if not together.alone:
        together.say({"runs": [resolve.to_dict(m.config) for m in due]})
    job = _set_up_recorded(identity.expand(due), place)
    results: Results = {}
    waiting = [*_cohorts(job, due, place)]
    if len(waiting) > 1:
        log.info("%s", explain_cohorts(job))
    while waiting:
        stop_request.check()
        cohort, exhausted = waiting.pop(0), False
        try:
            results |= train(
                job, cohort, replace(place, offset=place.offset + len(results)), leases
            )
        except Exception as error:
            exhausted = _out_of_memory(error) and len(cohort.members) > 1 and together.alone
            if isinstance(error, UserError) and not results:
                raise
            if not exhausted:
                report(error, [m.run_id for m in cohort.members])
                results |= {m.run_id: failed(m.config, error) for m in cohort.members}
        if exhausted:  # the error is gone, and with it what its frames held on the device
            job, waiting = _in_halves(job, cohort, waiting, place)
    return results


def follow() -> None:
    """Train what the process that leads says, as it says, until it is done.

    Raises:
        Lost: the process that leads is gone, or this one can't go on.
    """
    due: dict[str, Member] = {}
    job: PreparedPack | None = None
    trouble: Exception | None = None
    while (said := together.hear()) is not None:
        if "runs" in said:
            runs = [resolve.from_dict(dict(plain)) for plain in said["runs"]]
            due = {m.run_id: m for m in map(identity.member, runs)}
            job, trouble = None, None
            try:
                job = set_up(identity.expand([*due.values()]))
            except Exception as error:  # the process that leads mostly meets it, too, and tells
                trouble = error
        elif job is None:
            raise together.lose(trouble or RuntimeError("out of step")) from trouble
        else:
            _follow_cohort(job, [due[run_id] for run_id in said["cohort"]], said["step"])


def _follow_cohort(job: PreparedPack, chosen: Sequence[Member], step: int) -> None:
    try:
        like = job.fitted.population.one_state()
        start = load_resume_point([folder_of(m.config) for m in chosen], step, like)
        follow_cohort(job, Cohort(chosen, start, [0.0] * len(chosen)))
    except Interrupted:
        pass  # as the process that leads has said
    except Exception as error:
        raise together.lose(error) from error


def _set_up_recorded(pack: Pack, place: SweepContext) -> PreparedPack:
    """`set_up`, whose failure is also told in the status of every run. What a run has on disk
    stays: its checkpoints, to go on from, and results that were to be made anew."""
    try:
        return set_up(pack)
    except UserError:
        raise
    except Exception as error:
        stop_request.check()  # what a signal came in the way of may raise on its own account
        for member in pack.members:
            with contextlib.suppress(OSError):
                _record_unstarted(member, error, {"sweep": place.sweep, "attempt": place.attempt})
        raise


def _record_unstarted(member: Member, error: Exception, by: Mapping[str, Any]) -> None:
    folder = folder_of(member.config)
    status = run_dir.read_status(folder)
    if status is None:
        run_dir.prepare(folder, resolve.to_dict(member.config), **by)
        record([folder], error)
    elif status["state"] not in ("complete", "diverged"):
        cause = failed(member.config, error)["cause"]
        step, epoch = status["step"], status["epoch"]
        run_dir.write_status(folder, "failed", step=step, epoch=epoch, cause=cause, **by)


def _cohorts(job: PreparedPack, due: Sequence[Member], place: SweepContext) -> Iterator[Cohort]:
    """Who trains with whom, and from where: those that go on from one step, as many as fit."""
    folders = [folder_of(m.config) for m in due]
    fresh = [
        not run_dir.goes_on(folder, m.config.rerun, place.sweep, place.attempt)
        for folder, m in zip(folders, due, strict=True)
    ]
    for folder in folders:
        status, saved = run_dir.read_status(folder), checkpoint.steps(folder.checkpoints)
        if status is None and saved:
            log.warning("%s: its status.json can't be read; begins anew", folder.run_id)
        if status and status["step"] and not saved:
            log.warning("%s: has no checkpoint; begins anew", folder.run_id)
    for point in resume_groups(folders, job.fitted.population.one_state(), fresh):
        if point.start:
            log.info("%s", explain_start(job, point))
        whole = Cohort([due[place] for place in point.members], point.start, point.seconds)
        for part in job.fitted.parts(len(point.members)):
            yield whole.part(range(len(point.members))[part])


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _in_halves(
    job: PreparedPack, cohort: Cohort, waiting: Sequence[Cohort], place: SweepContext
) -> tuple[PreparedPack, list[Cohort]]:
    """A smaller program for the rest of a pack, since a device ran out of memory."""
    size = -(-len(cohort.members) // 2)
    log.warning("a device ran out of memory: going on with at most %d runs at once", size)
    left = [*cohort.members, *(m for other in waiting for m in other.members)]
    smaller = set_up(job.pack, size)
    return smaller, [*_cohorts(smaller, left, place)]


def explain_start(job: PreparedPack, point: ResumeGroup) -> str:
    """From where some runs go on, in one line."""
    assert point.start is not None
    count, step = len(point.members), point.start.step
    steps = job.task.total_steps
    runs = "1 run goes" if count == 1 else f"{count} runs go"
    epoch = round(step * job.pack.static.trainer.epochs / steps, 2)
    return f"{job.pack.static.act['name']}: {runs} on from step {step} of {steps} (epoch {epoch:g})"


def explain_cohorts(job: PreparedPack) -> str:
    """Why a pack is trained in cohorts, in one line."""
    fitted, members = job.fitted, len(job.pack.members)
    most = fitted.population.size
    return (
        f"{job.pack.static.act['name']}: {members} runs are trained in "
        f"{len(fitted.parts(members))} cohorts of at most {most}, since {fitted.limit}"
    )


def task_of(run: RunConfig, examples: Dataset) -> Task:
    """What the network has to do on this data for so many steps."""
    outputs = examples.train_y.shape[-1] if examples.classes is None else examples.classes
    steps = len(examples.train_x) // run.trainer.batch_size
    return Task(
        input_shape=examples.train_x.shape[1:],
        classes=examples.classes,
        outputs=outputs,
        scale=examples.scale,
        offset=examples.offset,
        total_steps=steps * run.trainer.epochs,
    )


def _check_batch(run: RunConfig, examples: int) -> None:
    if run.trainer.batch_size > examples:
        raise bad_value(
            "trainer.batch_size",
            run.trainer.batch_size,
            f"at most {examples}, the number of training examples of data={run.data.name}",
            f"trainer.batch_size={min(256, max(1, examples // 10))}",
        )
