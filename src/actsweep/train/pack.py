"""One pack, from resolved configs to finished run folders: the runs that are due, its cohorts."""

import contextlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jax

from actsweep.config import by_layer, resolve
from actsweep.config.identity import lent_numbers, program_key
from actsweep.runs import checkpoint
from actsweep.runs.leases import Leases
from actsweep.runs.members import Member, Pack, make_member, make_pack
from actsweep.runs.run_dir import RunRecord, read_record
from actsweep.runtime.devices import set_up_devices
from actsweep.runtime.distributed import ProcessGroup
from actsweep.runtime.process import Process
from actsweep.runtime.signals import Interrupted
from actsweep.train import cohort as cohorts
from actsweep.train.checkpointing import ResumeGroup, load_resume_point, resume_groups
from actsweep.train.extend import extend
from actsweep.train.memory import GIB, MemoryPlan
from actsweep.train.outcome import busy, failed, record_unstarted, report
from actsweep.train.population import choose_batching
from actsweep.train.setup import PreparedPack, set_up
from actsweep.train.types import Cohort, Result, Results, SweepContext
from actsweep.utils.errors import UserError

log = logging.getLogger(__name__)

Records = Mapping[str, RunRecord]  # by run id

KEPT = 4
"""Programs that stay compiled for further packs of a sweep: of jobs alike, of a race's rounds."""
SMALL = 0.02
"""Share of a device's memory that the data of such a program may take."""
_programs_kept: dict[tuple[str, int, str], PreparedPack] = {}  # by sweep, attempt, program


def run_pack(
    members: Sequence[Member],
    context: SweepContext,
    process: Process | None = None,
    records: Records | None = None,
) -> list[Result]:
    """Train the members that aren't complete yet; record and return the summaries of all.

    Args:
        members: of one program (`identity.pack_key`).
        context: for the progress display, W&B's group, and `rerun`.
        process: its signals and its process group.
        records: the members' folders as they are now, if the caller has read them.

    Returns:
        A summary of each run, in order, with `state` and `reused`; for a run that another process
        is training also `busy`, the name of that process.

    Raises:
        Interrupted: a signal asked for it; what was training is saved.
        UserError: bad input that only shows once data and devices are there.
    """
    process = process or Process()
    reused, due = _divide(members, context, records or _read(members))
    fresh: Results = {}
    process.stop.check()  # a signal may have come while the pack before was closed
    if due:
        with Leases(Path(members[0].config.paths.outputs), context.sweep) as leases:
            taken = leases.take([m.run_id for m in due])
            fresh = busy([m for m in due if m.run_id not in taken])
            leased = [m for m in due if m.run_id in taken]
            now = _read(leased)  # another process may have completed some since
            completed, due = _divide(leased, context, now)
            reused |= completed
            offset = context.offset + len(reused)
            for part in _programs(due):
                ahead = replace(context, offset=offset)
                fresh |= _train(part, ahead, leases, process, now)
                offset += len(part)
    if not _programs_kept:
        jax.clear_caches()  # else a long sweep would keep the programs of every pack
    return [
        {**(reused.get(m.run_id) or fresh[m.run_id]), "reused": m.run_id in reused} for m in members
    ]


def preview(members: Sequence[Member]) -> tuple[str, Collection[str]]:
    """Return how much memory training a pack needs, in words, and the ids of complete runs.

    Raises:
        UserError: as `run_pack`.
    """
    reused, due = _divide(members, SweepContext(""), _read(members))
    if not due:
        return "", reused.keys()
    needs = [_needs(part) for part in _programs(due)]
    return ", " + "; ".join(needs), reused.keys()


def _needs(members: Sequence[Member]) -> str:
    """Return how many members of one program train at once, and the memory of that, in words."""
    memory = set_up(make_pack(members), estimate=True).memory
    count = len(memory.parts(len(members)))
    how = f"{memory.population.size} at once" + (f" in {count} cohorts" if count > 1 else "")
    about = "about " if count > 1 else ""  # compiled for more members, and estimated for these
    needs = (
        f"{about}{memory.need / GIB:.2f} GiB of the {memory.room / GIB:.2f} GiB that may be used"
    )
    return f"{how}; each of {_devices(memory)} needs {needs}"


def _programs(members: Sequence[Member]) -> list[Sequence[Member]]:
    """Divide a pack into members of one program: under `vmap` activations aren't mixed.

    There all would be computed for every member, and a member's own be chosen afterwards.
    """
    if not members or not members[0].config.pack.mix:
        return [members] if members else []
    set_up_devices()  # before JAX is asked what there is
    if choose_batching(members[0].config.pack.batching) == "map":
        return [members]
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(program_key(member.config), []).append(member)
    return [*groups.values()]


def _devices(memory: MemoryPlan) -> str:
    mesh = memory.population.mesh
    kind = "GPU" if mesh.devices.flat[0].platform == "gpu" else "CPU device"
    return f"{mesh.size} {kind}{'s' if mesh.size > 1 else ''}"


def _read(members: Sequence[Member]) -> dict[str, RunRecord]:
    return {member.run_id: read_record(member.dir) for member in members}


def _divide(
    members: Sequence[Member], context: SweepContext, records: Records
) -> tuple[dict[str, Result], tuple[Member, ...]]:
    """Return summaries of the runs that are on disk, and the members to train, each once."""
    reused: dict[str, Result] = {}
    due: dict[str, Member] = {}
    for member in members:
        which = (member.config.rerun, context.sweep, context.attempt, context.search)
        summary = records[member.run_id].reusable(*which)
        if summary is None:
            due[member.run_id] = member
        else:
            reused[member.run_id] = {**member.describe(), **summary}
    return reused, tuple(due.values())


def _train(
    due: Sequence[Member],
    context: SweepContext,
    leases: Leases,
    process: Process,
    records: Records,
) -> Results:
    """Train members of one program in cohorts; return the results.

    A cohort that fails doesn't end the others.
    """
    if not process.group.alone:
        process.group.send({"runs": [resolve.to_dict(m.config) for m in due]})
    prepared = _prepare(make_pack(due), context, process)
    results = _unreadable(due)
    due = [member for member in due if member.run_id not in results]
    records = {**records, **extend(prepared, due, records)}
    waiting = [*_cohorts(prepared, due, context, records)] if due else []
    if len(waiting) > 1:
        log.info("%s", explain_cohorts(prepared))
    while waiting:
        process.stop.check()
        cohort, exhausted = waiting.pop(0), False
        ahead = replace(context, offset=context.offset + len(results))
        try:
            loggers = cohorts.loggers_of(prepared, cohort, ahead)
        except UserError as error:
            if not results:
                raise
            report(error, [m.run_id for m in cohort.members])
            results |= {m.run_id: failed(m, error) for m in cohort.members}
            continue
        try:
            results |= cohorts.train(prepared, cohort, loggers, ahead, leases, process)
        except Exception as error:
            several = len(cohort.members) > 1 and process.group.alone
            exhausted = _out_of_memory(error) and several
            if not exhausted:
                report(error, [m.run_id for m in cohort.members])
                results |= {m.run_id: failed(m, error) for m in cohort.members}
        if exhausted:  # here the error is gone, and with it the device arrays of its frames
            prepared, waiting = _halve(prepared, cohort, waiting, context)
    return results


def _unreadable(members: Sequence[Member]) -> Results:
    """Return the results of the members whose folders mustn't be read: they alone fail."""
    results: Results = {}
    for member in members:
        try:
            for folder in (member.dir.path, member.dir.checkpoints):
                if folder.is_dir():
                    os.listdir(folder)
        except PermissionError as error:
            report(error, [member.run_id])
            results[member.run_id] = failed(member, error)
    return results


def run_worker(group: ProcessGroup) -> None:
    """Train the cohorts that the coordinator names, until it has finished.

    Raises:
        ProcessLost: the coordinator is gone, or this process can't go on.
    """
    due: dict[str, Member] = {}
    prepared: PreparedPack | None = None
    trouble: Exception | None = None
    while (message := group.receive()) is not None:
        if "runs" in message:
            configs = [resolve.from_dict(dict(plain)) for plain in message["runs"]]
            due = {m.run_id: m for m in map(make_member, configs)}
            prepared, trouble = None, None
            try:
                prepared = set_up(make_pack([*due.values()]), group=group)
            except Exception as error:  # the coordinator mostly meets it, too, and reports it
                trouble = error
        elif prepared is None:
            raise group.declare_lost(trouble or RuntimeError("out of step")) from trouble
        else:
            chosen = [due[run_id] for run_id in message["cohort"]]
            _work(prepared, chosen, message["step"], group)


def _work(prepared: PreparedPack, chosen: Sequence[Member], step: int, group: ProcessGroup) -> None:
    try:
        like = prepared.memory.population.member_state()
        start = load_resume_point([m.dir for m in chosen], step, like)
        cohorts.train_as_worker(prepared, Cohort(chosen, start, [0.0] * len(chosen)), group)
    except Interrupted:
        pass  # the coordinator has decided to stop
    except Exception as error:
        raise group.declare_lost(error) from error


def _prepare(pack: Pack, context: SweepContext, process: Process) -> PreparedPack:
    """Return a pack with a program: that of an earlier pack of this sweep, or a new one.

    A program takes any members of its config, as many as it was compiled for. Under `map` fewer do
    as well, since rows without a member cost nothing there. In another sweep that this process
    trains the user's code and data may be others.
    """
    sweep = (context.sweep, context.attempt)
    if any(of[:2] != sweep for of in _programs_kept):
        forget_programs()
    key = (*sweep, program_key(pack.static))
    known = _programs_kept.get(key)
    if known is not None and process.group.alone:
        size, largest = len(pack.members), len(known.pack.members)
        if size == largest or (size < largest and known.memory.population.how == "map"):
            return replace(known, pack=pack)
    _programs_kept.pop(key, None)
    if len(_programs_kept) == KEPT:
        forget_programs()
    prepared = _set_up_recorded(pack, context, process)
    memory = prepared.memory
    data = sum(leaf.nbytes for leaf in jax.tree.leaves(memory.sets)) / memory.population.mesh.size
    if process.group.alone and data <= SMALL * memory.room:
        _programs_kept[key] = prepared
    else:
        _programs_kept.clear()
    return prepared


def forget_programs() -> None:
    """Drop the programs of earlier packs."""
    _programs_kept.clear()
    jax.clear_caches()


def _set_up_recorded(pack: Pack, context: SweepContext, process: Process) -> PreparedPack:
    """Call `set_up`; if that fails, write the failure into the status of every run.

    What a run has on disk stays: checkpoints to go on from, and results of an earlier training.
    """
    try:
        return set_up(pack, group=process.group, keep=not process.called)
    except UserError:
        raise
    except Exception as error:
        process.stop.check()  # code that a signal interrupts may raise another error
        by = {"sweep": context.sweep, "attempt": context.attempt}
        for member in pack.members:
            with contextlib.suppress(OSError):
                record_unstarted(member, error, by)
        raise


def _cohorts(
    prepared: PreparedPack, due: Sequence[Member], context: SweepContext, records: Records
) -> Iterator[Cohort]:
    """Yield the cohorts: members that start from the same step, as many as fit."""
    fresh = []
    for member in due:
        on_disk = records[member.run_id]
        fresh.append(not on_disk.resumes(member.config.rerun, context.sweep, context.attempt))
        saved = checkpoint.steps(member.dir.checkpoints)
        if on_disk.status is None and saved:
            log.warning("%s: its status.json can't be read; begins again", member.run_id)
        if on_disk.status and on_disk.status["step"] and not saved:
            log.warning("%s: has no checkpoint; begins again", member.run_id)
    like = prepared.memory.population.member_state()
    lent = [lent_numbers(member.config, prepared.pack.static) for member in due]
    pruning = cohorts.pruning_of(context, due, prepared.data.task)
    for group in resume_groups([member.dir for member in due], like, fresh, lent, pruning):
        if group.start:
            log.info("%s", explain_start(prepared, group))
        whole = Cohort([due[place] for place in group.members], group.start, group.seconds)
        for part in prepared.memory.parts(len(group.members)):
            yield whole.part(range(len(group.members))[part])


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _halve(
    prepared: PreparedPack, cohort: Cohort, waiting: Sequence[Cohort], context: SweepContext
) -> tuple[PreparedPack, list[Cohort]]:
    """Compile for fewer members at once; return the program and the cohorts that are left."""
    size = -(-len(cohort.members) // 2)
    log.warning("a device ran out of memory: going on with at most %d runs at once", size)
    left = [*cohort.members, *(m for other in waiting for m in other.members)]
    forget_programs()
    smaller = set_up(prepared.pack, size)
    return smaller, [*_cohorts(smaller, left, context, _read(left))]


def explain_start(prepared: PreparedPack, group: ResumeGroup) -> str:
    """Return a line that says from which step runs go on."""
    assert group.start is not None
    count, step = len(group.members), group.start.step
    steps = prepared.task.total_steps
    runs = "1 run goes" if count == 1 else f"{count} runs go"
    epoch = round(step * prepared.pack.static.trainer.epochs / steps, 2)
    name = by_layer.label(prepared.pack.static.act)
    return f"{name}: {runs} on from step {step} of {steps} (epoch {epoch:g})"


def explain_cohorts(prepared: PreparedPack) -> str:
    """Return a line that says why a pack is trained in several cohorts."""
    memory, members = prepared.memory, len(prepared.pack.members)
    return (
        f"{by_layer.label(prepared.pack.static.act)}: {members} runs are trained in "
        f"{len(memory.parts(members))} cohorts of at most {memory.population.size}, since "
        f"{memory.limit}"
    )
