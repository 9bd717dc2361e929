"""One cohort: the members that train at once, from their folders to their results."""

import contextlib
import logging
import shutil
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax

from actsweep.callbacks import Callback
from actsweep.config import identity, resolve
from actsweep.config.identity import Member, Pack
from actsweep.config.schema import RunConfig
from actsweep.data import Dataset
from actsweep.loggers.base import Writer, Writers
from actsweep.loggers.console import Console
from actsweep.loggers.wandb_writer import WandbWriter
from actsweep.nn.network import Task
from actsweep.runs import run_dir
from actsweep.runs.leases import Leases, owners
from actsweep.runs.metrics_file import MetricsFile, read_metrics
from actsweep.runs.rows import MemberInfo, MetricsError
from actsweep.runs.run_dir import RunDir, folder_of
from actsweep.runtime.distributed import together
from actsweep.runtime.signals import Interrupted, stop_request
from actsweep.train import loop
from actsweep.train.checkpointing import Checkpointer, CheckpointerProtocol
from actsweep.train.memory import MemoryPlan
from actsweep.train.metric_log import MetricLog
from actsweep.train.types import Cohort, Result, Results, State, SweepContext, TrainResult
from actsweep.utils.errors import UserError

log = logging.getLogger(__name__)
details = logging.getLogger("actsweep.traceback")  # to the job's log file alone


@dataclass(frozen=True)
class PreparedPack:
    """What the members of a pack have in common, once data and devices are there."""

    pack: Pack
    task: Task
    callbacks: Mapping[str, Callback]
    data: Dataset
    fitted: MemoryPlan


def train(job: PreparedPack, cohort: Cohort, place: SweepContext, leases: Leases) -> Results:
    """Train some members of a pack to their end; their summaries by run id.

    Raises:
        Interrupted: a signal asked for it; the members are saved.
        UserError: a writer refuses to start; nothing has been trained.
    """
    unfit = _prepare(cohort, place)
    if unfit:
        fit = [at for at, one in enumerate(cohort.members) if one.run_id not in unfit]
        return unfit | (_train(job, cohort.part(fit), place, leases) if fit else {})
    return _train(job, cohort, place, leases)


def _prepare(cohort: Cohort, place: SweepContext) -> Results:
    """Make every member's folder ready; the results of those for which that failed."""
    by = {"sweep": place.sweep, "attempt": place.attempt}
    unfit: Results = {}
    for index, member in enumerate(cohort.members):
        folder = folder_of(member.config)
        try:
            if cohort.start is None:
                run_dir.prepare(folder, resolve.to_dict(member.config), **by)
            else:
                rows = cohort.start.rows[index]
                run_dir.reopen(folder, cohort.start.step, rows[-1].epoch if rows else 0.0, **by)
        except OSError as error:
            report(error, [member.run_id])
            unfit[member.run_id] = failed(member.config, error)
            with contextlib.suppress(OSError):
                run_dir.write_status(folder, "failed", step=0, epoch=0, cause=_cause(error), **by)
    return unfit


def _train(job: PreparedPack, cohort: Cohort, place: SweepContext, leases: Leases) -> Results:
    folders = [folder_of(member.config) for member in cohort.members]
    metrics = MetricsFile(leases.lost)
    others = _writers(job.pack.static, place)
    writers = Writers([metrics, *others])
    about = {"task": asdict(job.task)}
    trainer = job.pack.static.trainer
    checkpointer = Checkpointer(folders, metrics, about, cohort.seconds, trainer, stop_request)
    try:
        with stop_request.patience():
            writers.open([_info(m, cohort, place) for m in cohort.members])
            finished = _loop(job, cohort, writers, checkpointer)
            ended = _close_all(job, cohort, finished, checkpointer, writers, leases)
            _end(writers, others, trainer.grace_s)
            return _write_statuses(cohort, ended, leases)
    except UserError:  # refused before anything was trained
        for folder in folders:
            if cohort.start is None:
                shutil.rmtree(folder.path, ignore_errors=True)
            else:
                _write_status(folder, "preempted", *_reached(folder), "refused")
        raise
    except BaseException as error:
        lost = leases.lost()
        record([folder for folder in folders if folder.run_id not in lost], error)
        raise
    finally:
        _end(writers, others, trainer.grace_s)


def _end(writers: Writers, others: Sequence[Writer], grace_s: float) -> None:
    for writer in others:
        if isinstance(writer, WandbWriter):  # which may wait for a server
            writer.close_seconds = min(writer.close_seconds, stop_request.left(grace_s) / 2)
    try:
        writers.close()
    except MetricsError as error:  # how the training has ended stands
        log.error("%s: %s", error.run_id, error)


def _loop(
    job: PreparedPack, cohort: Cohort, writers: Writers, checkpointer: Checkpointer
) -> TrainResult:
    if not together.alone:
        step = cohort.start.step if cohort.start else 0
        together.say({"cohort": [m.run_id for m in cohort.members], "step": step})
    try:
        return _call_loop(job, cohort, writers, checkpointer, job.callbacks)
    except Exception as error:  # the others can't know
        if together.alone:
            raise
        raise together.lose(error) from error


def _call_loop(
    job: PreparedPack,
    cohort: Cohort,
    writers: Writers,
    checkpointer: CheckpointerProtocol,
    callbacks: Mapping[str, Callback],
) -> TrainResult:
    own = Pack(job.pack.static, tuple(cohort.members))
    return loop.train(
        job.fitted.population.refill(identity.stack(own)),
        job.fitted.sets,
        job.data,
        job.pack.static.trainer,
        own.seeds,
        callbacks,
        writers,
        cohort.start,
        checkpointer,
    )


class _Follower:
    """A checkpointer that leaves everything to the process that leads."""

    def due(self, midway: bool) -> bool:
        return False

    def asked(self) -> int | None:
        return None

    def save(self, step: int, epoch: float, states: State, log: MetricLog) -> None:
        return None


def follow(job: PreparedPack, cohort: Cohort) -> None:
    """Make the calls of a cohort that another process leads; nothing is written, no hook runs."""
    callbacks = {name: replace(look, hook=None) for name, look in job.callbacks.items()}
    _call_loop(job, cohort, Writers([]), _Follower(), callbacks)


def _writers(run: RunConfig, place: SweepContext) -> list[Writer]:
    found: list[Writer] = []
    if run.logger.mode != "disabled":
        found.append(
            WandbWriter(
                mode=run.logger.mode,
                project=run.logger.project,
                entity=run.logger.entity,
                tags=run.logger.tags,
                require_online=run.logger.require_online,
            )
        )
    if run.logger.console:
        found.append(Console(run_offset=place.offset, total_runs=place.total))
    return found


def _info(member: Member, cohort: Cohort, place: SweepContext) -> MemberInfo:
    run = member.config
    return MemberInfo(
        run_id=member.run_id,
        run_dir=folder_of(run).path,
        config=resolve.to_dict(run),
        act=run.act["name"],
        depth=len(run.widths),
        init=run.init.name,
        seed=run.seed,
        model=run.model.name,
        data=run.data.name,
        lr=run.optim.lr,
        sweep=place.sweep,
        total_epochs=run.trainer.epochs,
        resumed_at=cohort.start.step if cohort.start else None,
    )


class _Ended(NamedTuple):
    summary: Result
    state: str
    cause: str | None
    step: int
    epoch: float


def _close_all(
    job: PreparedPack,
    cohort: Cohort,
    finished: TrainResult,
    checkpointer: Checkpointer,
    writers: Writers,
    leases: Leases,
) -> dict[str, _Ended]:
    ended = {}
    for index, member in enumerate(cohort.members):
        stop_request.check()  # those that are left go on from their checkpoints
        if member.run_id not in leases.lost():
            ended[member.run_id] = _close(index, member, job.task, finished, checkpointer, writers)
    return ended


def _write_statuses(cohort: Cohort, ended: Mapping[str, _Ended], leases: Leases) -> Results:
    """Write how each run has ended, once all writers are done: one that says complete is."""
    results: Results = {}
    for member in cohort.members:
        if member.run_id not in ended or member.run_id in leases.lost():
            continue
        summary, state, cause, step, epoch = ended[member.run_id]
        folder = folder_of(member.config)
        try:
            run_dir.write_status(folder, state, step=step, epoch=epoch, cause=cause)
        except OSError as error:
            state, cause = "failed", cause or _cause(error)
            log.error("%s: %s", member.run_id, cause)
            _write_status(folder, state, step, epoch, cause)
        failure = {"state": state, "cause": cause} if state == "failed" else {}
        results[member.run_id] = summary | failure
    return results | busy([m for m in cohort.members if m.run_id not in results])


def busy(taken: Sequence[Member]) -> Results:
    """The results of runs that other processes are training."""
    if not taken:
        return {}
    found = owners(Path(taken[0].config.paths.outputs), [m.run_id for m in taken])
    results = {}
    for member in taken:
        by = found.get(member.run_id)
        who = f"{by.host}, process {by.pid} (sweep {by.sweep})" if by else "another process"
        about = {"state": "running", "busy": who, "cause": f"in training by {who}"}
        results[member.run_id] = {**identity.describe(member.config), **about}
    return results


def report(error: Exception, run_ids: Sequence[str]) -> None:
    """What broke some runs: a line for the user, the traceback for the job's log file."""
    details.error("%s", "".join(traceback.format_exception(error)))
    log.error("%s: %s", ", ".join(run_ids), _cause(error).partition("\n")[0])


def failed(run: RunConfig, error: BaseException) -> Result:
    """The result of a run whose pack broke."""
    return {**identity.describe(run), "state": "failed", "cause": _cause(error), "reused": False}


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _close(
    index: int,
    member: Member,
    task: Task,
    finished: TrainResult,
    checkpointer: Checkpointer,
    writers: Writers,
) -> _Ended:
    """Save one member's last state, then its summary; its status comes when all is written."""
    failure = finished.failures.get(index)
    state = "failed" if failure else "diverged" if finished.diverged[index] else "complete"
    cause = failure or ("the loss is not finite" if state == "diverged" else None)
    summary = _summary(index, member, state, finished, task, checkpointer.seconds(index))
    step, epoch = finished.steps[index], finished.epochs[index]
    try:
        if not failure:  # its last good checkpoint is where it can go on
            own = jax.tree.map(lambda leaf: leaf[index], finished.state)
            checkpointer.save_last(index, finished.last_step, epoch, own)
        writers.finish(index, state, summary)
    except Exception as error:
        state, cause = "failed", failure or _cause(error)
        log.error("%s: %s", member.run_id, cause)
    return _Ended(summary, state, cause, step, epoch)


def _summary(
    index: int, member: Member, state: str, finished: TrainResult, task: Task, seconds: float
) -> Result:
    """The final numbers; `seconds` is the member's equal share of its pack's wall-clock time."""
    numbers = finished.final[index]
    score = finished.best_score[index] if finished.best_epoch[index] else None
    classify = task.classes is not None
    return {
        **identity.describe(member.config),
        "state": state,
        "epochs": finished.epochs[index],
        "best_epoch": finished.best_epoch[index],
        "best_val_accuracy": score if classify else None,
        "best_val_loss": None if classify or score is None else -score,
        "test_accuracy": numbers.get("test/accuracy"),
        "test_loss": numbers.get("test/loss"),
        "train_loss": numbers.get("train/loss"),
        "dead_frac": numbers.get("exact_dead_frac/all"),
        "seconds": round(seconds, 3),
    }


def record(folders: Sequence[RunDir], error: BaseException) -> None:
    """Say in each unfinished run's status what ended it."""
    interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
    cause = _cause(error)
    if interrupted:
        cause = str(error) if isinstance(error, Interrupted) else "interrupted"
    for folder in folders:
        if (run_dir.read_status(folder) or {}).get("state") == "running":
            state = "preempted" if interrupted else "failed"
            _write_status(folder, state, *_reached(folder), cause)


def _reached(folder: RunDir) -> tuple[int, float]:
    """Step and epoch of the last row that is on disk."""
    try:
        columns = read_metrics(folder.metrics)
        return int(columns["step"][-1]), float(columns["epoch"][-1])
    except (OSError, KeyError, IndexError, UserError):
        return 0, 0.0


def _write_status(folder: RunDir, state: str, step: int, epoch: float, cause: str | None) -> None:
    try:
        run_dir.write_status(folder, state, step=step, epoch=epoch, cause=cause)
    except OSError as error:
        log.error("%s: can't write its status: %s", folder.run_id, error)
