"""One cohort: the members that train at once, from their folders to their results."""

import contextlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import jax
import numpy as np

from actsweep.callbacks import Callback
from actsweep.config import resolve
from actsweep.config.identity import lent_numbers
from actsweep.config.schema import RunConfig
from actsweep.data import Dataset
from actsweep.data.dataset import chance as chance_of
from actsweep.loggers import tools
from actsweep.loggers.base import Writer, Writers
from actsweep.loggers.console import Console
from actsweep.loggers.tool_writer import ToolWriter
from actsweep.loggers.wandb_support import init_options, mode_of
from actsweep.loggers.wandb_writer import WandbWriter
from actsweep.runs import checkpoint, run_dir
from actsweep.runs.leases import Leases
from actsweep.runs.members import Member, Pack, stack_hparams
from actsweep.runs.metrics_file import MetricsFile
from actsweep.runs.rows import MemberInfo, MetricsError
from actsweep.runtime.distributed import ProcessGroup
from actsweep.runtime.process import Process
from actsweep.runtime.signals import StopRequest
from actsweep.stats.scores import SCORES, TASKS
from actsweep.train import loop
from actsweep.train.checkpointing import Checkpointer, NoCheckpoints
from actsweep.train.evaluation import ACT_PARAM
from actsweep.train.outcome import (
    busy,
    failed,
    record,
    report,
    write_status,
)
from actsweep.train.setup import PreparedPack
from actsweep.train.types import Cohort, Pruning, Result, Results, SweepContext, TrainResult
from actsweep.utils.errors import cause_of

log = logging.getLogger(__name__)


def loggers_of(prepared: PreparedPack, cohort: Cohort, context: SweepContext) -> list[Writer]:
    """Return the loggers of a cohort that will start. Nothing is touched.

    Raises:
        UserError: a logger refuses to start.
    """
    loggers = _loggers(prepared.pack.static, context)
    Writers(loggers).check(_infos(cohort, context))
    return loggers


def train(
    prepared: PreparedPack,
    cohort: Cohort,
    loggers: Sequence[Writer],
    context: SweepContext,
    leases: Leases,
    process: Process,
) -> Results:
    """Train some members of a pack to their end; return their summaries by run id.

    From here on an error is a failure of the runs: their folders stay, with the state `failed`.

    Raises:
        Interrupted: a signal asked for it; the members are saved.
        Exception: what ended the training.
    """
    broken = _prepare_folders(cohort, context)
    if broken:
        usable = [i for i, member in enumerate(cohort.members) if member.run_id not in broken]
        if not usable:
            return broken
        cohort = cohort.part(usable)
    folders = [member.dir for member in cohort.members]
    trainer = prepared.pack.static.trainer
    metrics = MetricsFile(leases.lost)
    writers = Writers([metrics, *loggers])
    about = {"task": asdict(prepared.task)}
    stop = process.stop
    lent = [lent_numbers(member.config, prepared.pack.static) for member in cohort.members]
    checkpointer = Checkpointer(folders, metrics, about, cohort.seconds, trainer, stop, lent)
    try:
        with stop.patience():
            writers.open(_infos(cohort, context))
            pruning = pruning_of(context, cohort.members, prepared.data.task)
            trained = _run_loop(prepared, cohort, writers, checkpointer, process.group, pruning)
            ended = _close_all(prepared, cohort, trained, checkpointer, writers, leases, stop)
            _end(writers, loggers, stop, trainer.grace_s)
            return broken | _write_statuses(cohort, ended, leases, context.search)
    except BaseException as error:
        _say_how_it_ended(loggers, error)
        lost = leases.lost()
        record([folder for folder in folders if folder.run_id not in lost], error)
        raise
    finally:
        _end(writers, loggers, stop, trainer.grace_s)


def _prepare_folders(cohort: Cohort, context: SweepContext) -> Results:
    """Prepare every member's folder; return the results of those for which that failed."""
    by = {"sweep": context.sweep, "attempt": context.attempt}
    broken: Results = {}
    for index, member in enumerate(cohort.members):
        try:
            if cohort.start is None:
                run_dir.prepare(member.dir, resolve.to_dict(member.config), **by)
            else:
                rows = cohort.start.rows[index]
                epoch = rows[-1].epoch if rows else 0.0
                run_dir.reopen(member.dir, cohort.start.step, epoch, **by)
        except OSError as error:
            report(error, [member.run_id])
            broken[member.run_id] = failed(member, error)
            with contextlib.suppress(OSError):
                cause = cause_of(error)
                run_dir.write_status(member.dir, "failed", step=0, epoch=0, cause=cause, **by)
    return broken


def _say_how_it_ended(loggers: Sequence[Writer], error: BaseException) -> None:
    interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
    for logger in loggers:
        if isinstance(logger, WandbWriter | ToolWriter):
            logger.cut_short = "preempted" if interrupted else "failed"


def _end(writers: Writers, loggers: Sequence[Writer], stop: StopRequest, grace_s: float) -> None:
    for logger in loggers:
        if isinstance(logger, WandbWriter | ToolWriter):  # it may wait for a server
            logger.close_seconds = min(logger.close_seconds, stop.left(grace_s) / 2)
    try:
        writers.close()
    except MetricsError as error:  # the outcome of training stays as it is
        log.error("%s: %s", error.run_id, error)


def _run_loop(
    prepared: PreparedPack,
    cohort: Cohort,
    writers: Writers,
    checkpointer: Checkpointer,
    group: ProcessGroup,
    pruning: Pruning | None,
) -> TrainResult:
    if not group.alone:
        step = cohort.start.step if cohort.start else 0
        group.send({"cohort": [m.run_id for m in cohort.members], "step": step})
    try:
        callbacks = prepared.callbacks
        return _call_loop(prepared, cohort, writers, checkpointer, callbacks, group, pruning)
    except Exception as error:  # the other processes can't know
        if group.alone:
            raise
        raise group.declare_lost(error) from error


def train_as_worker(prepared: PreparedPack, cohort: Cohort, group: ProcessGroup) -> None:
    """Train a cohort as a worker: nothing is written, and no hook runs."""
    callbacks = {
        name: replace(each, hook=None, before=None) for name, each in prepared.callbacks.items()
    }
    _call_loop(prepared, cohort, Writers([]), NoCheckpoints(), callbacks, group)


def _call_loop(
    prepared: PreparedPack,
    cohort: Cohort,
    writers: Writers,
    checkpointer: Checkpointer | NoCheckpoints,
    callbacks: Mapping[str, Callback],
    group: ProcessGroup,
    pruning: Pruning | None = None,
) -> TrainResult:
    pack = Pack(prepared.pack.static, tuple(cohort.members))
    return loop.train(
        prepared.memory.population.refill(stack_hparams(pack)),
        prepared.memory.sets,
        prepared.data,
        pack.static.trainer,
        pack.order_seeds,
        callbacks,
        writers,
        cohort.start,
        checkpointer,
        group,
        [member.config for member in cohort.members],
        pruning,
    )


def pruning_of(context: SweepContext, members: Sequence[Member], task: str) -> Pruning | None:
    """Return who decides which members of a search are pruned; None if none may be.

    Args:
        context: the sweep.
        members: of one cohort, or of several.
        task: what they learn, one of `stats.scores.TASKS`.
    """
    if context.judges is None:
        return None
    own = TASKS[task].own
    judges = [context.judges(member.run_id, SCORES[own].sign) for member in members]
    return Pruning(f"val/{own}", judges) if any(judges) else None


def _loggers(config: RunConfig, context: SweepContext) -> list[Writer]:
    loggers: list[Writer] = []
    mode = mode_of(config.logger)
    if mode != "disabled":
        options = init_options(config, context.sweep, context.total or 1)
        loggers.append(WandbWriter(mode, options, config.logger.require_online))
    loggers += tools.build(config.logger.writers)
    if config.logger.console:
        loggers.append(Console(context.offset, context.total, differing=context.differing))
    return loggers


def _infos(cohort: Cohort, context: SweepContext) -> list[MemberInfo]:
    step = cohort.start.step if cohort.start else None
    return [m.info(m.config.sweep.name or context.sweep, step) for m in cohort.members]


class _Ended(NamedTuple):
    summary: Result
    state: str
    cause: str | None
    step: int
    epoch: float


def _close_all(
    prepared: PreparedPack,
    cohort: Cohort,
    trained: TrainResult,
    checkpointer: Checkpointer,
    writers: Writers,
    leases: Leases,
    stop: StopRequest,
) -> dict[str, _Ended]:
    ended = {}
    for index, member in enumerate(cohort.members):
        stop.check()  # the remaining members go on from their checkpoints
        if member.run_id not in leases.lost():
            close = _close(index, member, prepared, trained, checkpointer, writers)
            ended[member.run_id] = close
    return ended


def _close(
    index: int,
    member: Member,
    prepared: PreparedPack,
    trained: TrainResult,
    checkpointer: Checkpointer,
    writers: Writers,
) -> _Ended:
    """Save one member's last state and summary; its status follows when all is written."""
    failure, pruned = trained.failures.get(index), trained.pruned.get(index)
    state = "failed" if failure else "diverged" if trained.diverged[index] else "complete"
    cause = failure or (_why_diverged(index, trained) if state == "diverged" else None)
    if pruned and not failure:
        state, cause = "pruned", f"at epoch {pruned.epoch:g} of {member.config.trainer.epochs}"
    summary = _summary(index, member, state, trained, prepared.data, checkpointer.seconds(index))
    step, epoch = trained.steps[index], trained.epochs[index]
    try:
        if not failure:  # a failed member goes on from its last good checkpoint
            last_state = jax.tree.map(lambda leaf: leaf[index], trained.state)
            if pruned:
                checkpointer.save_pruned(index, pruned, last_state)
            else:
                checkpointer.save_last(index, trained.last_step, epoch, last_state)
        writers.finish(index, state, summary)
    except Exception as error:
        state, cause = "failed", failure or cause_of(error)
        log.error("%s: %s", member.run_id, cause)
    return _Ended(summary, state, cause, step, epoch)


def _why_diverged(index: int, trained: TrainResult) -> str:
    """Return what stopped being finite: the loss, or else the weights of some layers."""
    scalars = trained.final[index]
    if all(math.isfinite(scalars.get(f"{part}/loss", 0.0)) for part in ("train", "val")):
        params = checkpoint.flatten(jax.tree.map(lambda leaf: leaf[index], trained.state.params))
        broken = [name for name, leaf in params.items() if not np.isfinite(leaf).all()]
        if broken:
            more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
            return f"the weights are not finite: {broken[0]}{more}"
    return "the loss is not finite"


def _write_statuses(
    cohort: Cohort, ended: Mapping[str, _Ended], leases: Leases, search: str
) -> Results:
    """Write each run's final status, once all writers are done; return the results."""
    results: Results = {}
    for member in cohort.members:
        if member.run_id not in ended or member.run_id in leases.lost():
            continue
        summary, state, cause, step, epoch = ended[member.run_id]
        try:
            by = {"search": search} if state == "pruned" else {}
            run_dir.write_status(member.dir, state, step=step, epoch=epoch, cause=cause, **by)
        except OSError as error:
            state, cause = "failed", cause or cause_of(error)
            log.error("%s: %s", member.run_id, cause)
            write_status(member.dir, state, step, epoch, cause)
        failure = {"state": state, "cause": cause} if state == "failed" else {}
        results[member.run_id] = summary | failure
    return results | busy([m for m in cohort.members if m.run_id not in results])


def _is_at_chance(score: float | None, sign: int, chance: float) -> bool:
    """Return whether a test score is no better than chance."""
    return score is not None and sign * score <= sign * chance


def _summary(
    index: int, member: Member, state: str, trained: TrainResult, data: Dataset, seconds: float
) -> Result:
    """Return the final numbers; `seconds` is an equal share of the pack's wall-clock time."""
    scalars = trained.final[index]
    score = trained.best_score[index] if trained.best_epoch[index] else None
    task, chance = TASKS[data.task], chance_of(data)
    own, sign = task.own, SCORES[task.own].sign
    best = {own: None if score is None else sign * score}
    tested = {name: scalars.get(f"test/{name}") for name in ("accuracy", *task.names)}
    return {
        **member.describe(),
        "state": state,
        "epochs": trained.epochs[index],
        "best_epoch": trained.best_epoch[index],
        "task": data.task,
        **{f"best_val_{name}": best.get(name) for name in dict.fromkeys(("accuracy", "loss", own))},
        **{f"test_{name}": value for name, value in tested.items()},
        "chance": chance,
        "at_chance": state == "complete" and _is_at_chance(tested[own], sign, chance),
        "train_loss": scalars.get("train/loss"),
        "dead_frac": scalars.get("exact_dead_frac/all"),
        "seconds": round(seconds, 3),
        **{name: value for name, value in scalars.items() if name.startswith(ACT_PARAM)},
        **({"pruned_epoch": round(trained.pruned[index].epoch)} if state == "pruned" else {}),
    }
