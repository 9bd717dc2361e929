"""One cohort: the members that train at once, from their folders to their results."""

import contextlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import jax

from actsweep.callbacks import Callback
from actsweep.config import resolve
from actsweep.config.schema import RunConfig
from actsweep.loggers.base import Writer, Writers
from actsweep.loggers.console import Console
from actsweep.loggers.wandb_writer import WandbWriter
from actsweep.nn.network import Task
from actsweep.runs import run_dir
from actsweep.runs.leases import Leases
from actsweep.runs.members import Member, Pack, stack_hparams
from actsweep.runs.metrics_file import MetricsFile
from actsweep.runs.rows import MemberInfo, MetricsError
from actsweep.runtime.distributed import ProcessGroup
from actsweep.runtime.process import Process
from actsweep.runtime.signals import StopRequest
from actsweep.train import loop
from actsweep.train.checkpointing import Checkpointer, NoCheckpoints
from actsweep.train.outcome import (
    busy,
    cause_of,
    failed,
    reached,
    record,
    report,
    write_status,
)
from actsweep.train.setup import PreparedPack
from actsweep.train.types import Cohort, Result, Results, SweepContext, TrainResult
from actsweep.utils.errors import UserError

log = logging.getLogger(__name__)


def train(
    prepared: PreparedPack, cohort: Cohort, context: SweepContext, leases: Leases, process: Process
) -> Results:
    """Train some members of a pack to their end; return their summaries by run id.

    Raises:
        Interrupted: a signal asked for it; the members are saved.
        UserError: a writer refuses to start; nothing has been trained.
    """
    unfit = _prepare_folders(cohort, context)
    if unfit:
        fit = [i for i, member in enumerate(cohort.members) if member.run_id not in unfit]
        if not fit:
            return unfit
        cohort = cohort.part(fit)
    return unfit | _train(prepared, cohort, context, leases, process)


def _prepare_folders(cohort: Cohort, context: SweepContext) -> Results:
    """Make every member's folder ready; return the results of those for which that failed."""
    by = {"sweep": context.sweep, "attempt": context.attempt}
    unfit: Results = {}
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
            unfit[member.run_id] = failed(member, error)
            with contextlib.suppress(OSError):
                cause = cause_of(error)
                run_dir.write_status(member.dir, "failed", step=0, epoch=0, cause=cause, **by)
    return unfit


def _train(
    prepared: PreparedPack, cohort: Cohort, context: SweepContext, leases: Leases, process: Process
) -> Results:
    folders = [member.dir for member in cohort.members]
    trainer = prepared.pack.static.trainer
    metrics = MetricsFile(leases.lost)
    loggers = _loggers(prepared.pack.static, context)
    writers = Writers([metrics, *loggers])
    about = {"task": asdict(prepared.task)}
    stop = process.stop
    checkpointer = Checkpointer(folders, metrics, about, cohort.seconds, trainer, stop)
    try:
        with stop.patience():
            writers.open([_info(m, cohort, context) for m in cohort.members])
            trained = _run_loop(prepared, cohort, writers, checkpointer, process.group)
            ended = _close_all(prepared, cohort, trained, checkpointer, writers, leases, stop)
            _end(writers, loggers, stop, trainer.grace_s)
            return _write_statuses(cohort, ended, leases)
    except UserError:  # refused before anything was trained
        for folder in folders:
            if cohort.start is None:
                shutil.rmtree(folder.path, ignore_errors=True)
            else:
                write_status(folder, "preempted", *reached(folder), "refused")
        raise
    except BaseException as error:
        lost = leases.lost()
        record([folder for folder in folders if folder.run_id not in lost], error)
        raise
    finally:
        _end(writers, loggers, stop, trainer.grace_s)


def _end(writers: Writers, loggers: Sequence[Writer], stop: StopRequest, grace_s: float) -> None:
    for logger in loggers:
        if isinstance(logger, WandbWriter):  # which may wait for a server
            logger.close_seconds = min(logger.close_seconds, stop.left(grace_s) / 2)
    try:
        writers.close()
    except MetricsError as error:  # how the training has ended stands
        log.error("%s: %s", error.run_id, error)


def _run_loop(
    prepared: PreparedPack,
    cohort: Cohort,
    writers: Writers,
    checkpointer: Checkpointer,
    group: ProcessGroup,
) -> TrainResult:
    if not group.alone:
        step = cohort.start.step if cohort.start else 0
        group.send({"cohort": [m.run_id for m in cohort.members], "step": step})
    try:
        return _call_loop(prepared, cohort, writers, checkpointer, prepared.callbacks, group)
    except Exception as error:  # the others can't know
        if group.alone:
            raise
        raise group.declare_lost(error) from error


def train_as_worker(prepared: PreparedPack, cohort: Cohort, group: ProcessGroup) -> None:
    """Make the calls of a cohort that the coordinator trains; nothing is written, no hook runs."""
    callbacks = {name: replace(each, hook=None) for name, each in prepared.callbacks.items()}
    _call_loop(prepared, cohort, Writers([]), NoCheckpoints(), callbacks, group)


def _call_loop(
    prepared: PreparedPack,
    cohort: Cohort,
    writers: Writers,
    checkpointer: Checkpointer | NoCheckpoints,
    callbacks: Mapping[str, Callback],
    group: ProcessGroup,
) -> TrainResult:
    pack = Pack(prepared.pack.static, tuple(cohort.members))
    return loop.train(
        prepared.memory.population.refill(stack_hparams(pack)),
        prepared.memory.sets,
        prepared.data,
        pack.static.trainer,
        pack.seeds,
        callbacks,
        writers,
        cohort.start,
        checkpointer,
        group,
    )


def _loggers(config: RunConfig, context: SweepContext) -> list[Writer]:
    loggers: list[Writer] = []
    if config.logger.mode != "disabled":
        loggers.append(
            WandbWriter(
                mode=config.logger.mode,
                project=config.logger.project,
                entity=config.logger.entity,
                tags=config.logger.tags,
                require_online=config.logger.require_online,
            )
        )
    if config.logger.console:
        loggers.append(Console(run_offset=context.offset, total_runs=context.total))
    return loggers


def _info(member: Member, cohort: Cohort, context: SweepContext) -> MemberInfo:
    config = member.config
    return MemberInfo(
        run_id=member.run_id,
        run_dir=member.dir.path,
        config=resolve.to_dict(config),
        act=config.act["name"],
        depth=len(config.widths),
        init=config.init.name,
        seed=config.seed,
        model=config.model.name,
        data=config.data.name,
        lr=config.optim.lr,
        sweep=context.sweep,
        total_epochs=config.trainer.epochs,
        resumed_at=cohort.start.step if cohort.start else None,
    )


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
        stop.check()  # those that are left go on from their checkpoints
        if member.run_id not in leases.lost():
            close = _close(index, member, prepared.task, trained, checkpointer, writers)
            ended[member.run_id] = close
    return ended


def _close(
    index: int,
    member: Member,
    task: Task,
    trained: TrainResult,
    checkpointer: Checkpointer,
    writers: Writers,
) -> _Ended:
    """Save one member's last state, then its summary; its status comes when all is written."""
    failure = trained.failures.get(index)
    state = "failed" if failure else "diverged" if trained.diverged[index] else "complete"
    cause = failure or ("the loss is not finite" if state == "diverged" else None)
    summary = _summary(index, member, state, trained, task, checkpointer.seconds(index))
    step, epoch = trained.steps[index], trained.epochs[index]
    try:
        if not failure:  # its last good checkpoint is where it can go on
            last_state = jax.tree.map(lambda leaf: leaf[index], trained.state)
            checkpointer.save_last(index, trained.last_step, epoch, last_state)
        writers.finish(index, state, summary)
    except Exception as error:
        state, cause = "failed", failure or cause_of(error)
        log.error("%s: %s", member.run_id, cause)
    return _Ended(summary, state, cause, step, epoch)


def _write_statuses(cohort: Cohort, ended: Mapping[str, _Ended], leases: Leases) -> Results:
    """Write how each run has ended, once all writers are done: one that says complete is."""
    results: Results = {}
    for member in cohort.members:
        if member.run_id not in ended or member.run_id in leases.lost():
            continue
        summary, state, cause, step, epoch = ended[member.run_id]
        try:
            run_dir.write_status(member.dir, state, step=step, epoch=epoch, cause=cause)
        except OSError as error:
            state, cause = "failed", cause or cause_of(error)
            log.error("%s: %s", member.run_id, cause)
            write_status(member.dir, state, step, epoch, cause)
        failure = {"state": state, "cause": cause} if state == "failed" else {}
        results[member.run_id] = summary | failure
    return results | busy([m for m in cohort.members if m.run_id not in results])


def _summary(
    index: int, member: Member, state: str, trained: TrainResult, task: Task, seconds: float
) -> Result:
    """The final numbers; `seconds` is the member's equal share of its pack's wall-clock time."""
    scalars = trained.final[index]
    score = trained.best_score[index] if trained.best_epoch[index] else None
    classify = task.classes is not None
    return {
        **member.describe(),
        "state": state,
        "epochs": trained.epochs[index],
        "best_epoch": trained.best_epoch[index],
        "best_val_accuracy": score if classify else None,
        "best_val_loss": None if classify or score is None else -score,
        "test_accuracy": scalars.get("test/accuracy"),
        "test_loss": scalars.get("test/loss"),
        "train_loss": scalars.get("train/loss"),
        "dead_frac": scalars.get("exact_dead_frac/all"),
        "seconds": round(seconds, 3),
    }
