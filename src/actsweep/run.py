"""Runs one pack from resolved configs to finished run folders: everything around the loop."""

import functools
import json
import logging
import shutil
import time
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax

from actsweep import callbacks as observers
from actsweep import checkpoint, config, data, fit, ledger, loop, members
from actsweep.callbacks import Callback
from actsweep.config import DataConfig, RunConfig
from actsweep.data import Dataset
from actsweep.errors import UserError, bad_value
from actsweep.fit import GIB, Fitted
from actsweep.ledger import RunDir
from actsweep.loop import Finished
from actsweep.members import Member, Pack
from actsweep.network import Task
from actsweep.population import set_up_devices
from actsweep.writers import (
    Console,
    MemberInfo,
    MetricsFile,
    WandbWriter,
    Writer,
    Writers,
    read_metrics,
)
from actsweep.writers import wandb_support as support

log = logging.getLogger(__name__)
details = logging.getLogger("actsweep.traceback")  # to the job's log file alone

Result = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a pack stands in its sweep: the sweep's name, runs before this pack, runs in all."""

    sweep: str
    offset: int = 0
    total: int | None = None


def run_pack(runs: Sequence[RunConfig], place: Place) -> list[Result]:
    """Train the members that aren't complete yet; record and return the summaries of all.

    Args:
        runs: resolved configs of one program (`members.pack_key`).
        place: for the progress display and for W&B's group.

    Returns:
        A summary for each run, in order, with `state` and `reused`.

    Raises:
        UserError: bad input that only shows once data and devices are there.
    """
    everyone = [members.member(run) for run in runs]
    reused, due = _sort_out(everyone)
    fresh = _train(members.expand(due), place) if due else {}
    jax.clear_caches()  # a long sweep would keep the programs of every pack that has ended
    for run_id in reused:
        log.info("%s: complete already; rerun=all trains it again", run_id)
    return [
        {**(reused.get(m.run_id) or fresh[m.run_id]), "reused": m.run_id in reused}
        for m in everyone
    ]


def foresee(runs: Sequence[RunConfig]) -> tuple[str, Collection[str]]:
    """What training a pack would take, in words, and the ids of runs that are complete already.

    Raises:
        UserError: as `run_pack`.
    """
    reused, due = _sort_out([members.member(run) for run in runs])
    if not due:
        return "", reused.keys()
    fitted = set_up(members.expand(due)).fitted
    turns = len(fitted.parts(len(due)))
    how = f"{fitted.population.size} at once" + (f" in {turns} turns" if turns > 1 else "")
    memory = f"{fitted.need / GIB:.2f} GiB of the {fitted.room / GIB:.2f} GiB that may be used"
    return f", {how}; each of {_devices(fitted)} needs {memory}", reused.keys()


def _devices(fitted: Fitted) -> str:
    mesh = fitted.population.mesh
    kind = "GPU" if mesh.devices.flat[0].platform == "gpu" else "CPU device"
    return f"{mesh.size} {kind}{'s' if mesh.size > 1 else ''}"


def _sort_out(everyone: Sequence[Member]) -> tuple[dict[str, Result], tuple[Member, ...]]:
    """Summaries of the runs that are on disk, and the members that are to be trained, each once."""
    reused = {m.run_id: done for m in everyone if (done := reusable(m)) is not None}
    due = {m.run_id: m for m in everyone if m.run_id not in reused}
    return reused, tuple(due.values())


def reusable(member: Member) -> Result | None:
    """The summary of a run that is on disk and that `rerun` doesn't ask to train again.

    failed: what failed or was cut short (the default). none: what was cut short. diverged: also
    what diverged. all: everything.
    """
    folder = RunDir(Path(member.config.paths.outputs), member.run_id)
    status, summary = ledger.read_status(folder), ledger.read_summary(folder)
    if status is None or summary is None or member.config.rerun == "all":
        return None
    kept = {
        "none": ("complete", "diverged", "failed"),
        "failed": ("complete", "diverged"),
        "diverged": ("complete",),
    }
    return summary if status["state"] in kept[member.config.rerun] else None


@dataclass(frozen=True)
class Job:
    """What the members of a pack have in common, once data and devices are there."""

    pack: Pack
    task: Task
    looks: Mapping[str, Callback]
    data: Dataset
    fitted: Fitted


def set_up(pack: Pack) -> Job:
    """Load the data; compile the pack for as many members as the memory takes.

    Raises:
        UserError: bad input that only shows once data and devices are there.
    """
    set_up_devices()
    shared = pack.static
    examples = _load(json.dumps(asdict(shared.data)))
    _check_batch(shared, len(examples.train_x))
    looks = observers.build(shared.callbacks)
    task = task_of(shared, examples)
    logged = shared.logger.mode != "disabled"
    files = support.runs_that_fit(len(pack.members), 1 + support.FILES_A_RUN * logged)
    fitted = fit.fit(shared, task, members.stack(pack), looks, examples, max(1, files))
    return Job(pack, task, looks, examples, fitted)


@functools.lru_cache(maxsize=1)
def _load(config: str) -> Dataset:
    """The data of a `DataConfig` in JSON: the packs of a sweep mostly share them."""
    return data.load(DataConfig(**json.loads(config)), log.info)


def _train(pack: Pack, place: Place) -> dict[str, Result]:
    """Train a pack, in turns where it doesn't fit; a turn that breaks doesn't end the others."""
    job = set_up(pack)
    turns = job.fitted.parts(len(pack.members))
    if len(turns) > 1:
        log.info("%s", explain_turns(job))
    results: dict[str, Result] = {}
    for turn in turns:
        own = pack.members[turn]
        try:
            results |= _train_turn(job, own, replace(place, offset=place.offset + turn.start))
        except Exception as error:
            if len(turns) == 1 or (isinstance(error, UserError) and not results):
                raise
            report(error, [m.run_id for m in own])
            results |= {m.run_id: failed(m.config, error) for m in own}
    return results


def explain_turns(job: Job) -> str:
    """Why a pack is trained in turns, in one line."""
    fitted, members = job.fitted, len(job.pack.members)
    most = fitted.population.size
    return (
        f"{job.pack.static.act['name']}: {members} runs are trained in "
        f"{len(fitted.parts(members))} turns of at most {most}, since {fitted.limit}"
    )


def report(error: Exception, run_ids: Sequence[str]) -> None:
    """What broke some runs: a line for the user, the traceback for the job's log file."""
    details.error("%s", "".join(traceback.format_exception(error)))
    log.error("%s: %s: %s", ", ".join(run_ids), type(error).__name__, error)


def _train_turn(job: Job, own: Sequence[Member], place: Place) -> dict[str, Result]:
    began = time.monotonic()
    shared = job.pack.static
    folders = [RunDir(Path(shared.paths.outputs), m.run_id) for m in own]
    for member, folder in zip(own, folders, strict=True):
        ledger.prepare(folder, config.to_dict(member.config))
    writers = Writers(_writers(shared, place))
    try:
        writers.open([_info(m, f, place) for m, f in zip(own, folders, strict=True)])
        finished = loop.train(
            job.fitted.population.refill(members.stack(replace(job.pack, members=tuple(own)))),
            job.fitted.sets,
            job.data,
            shared.trainer,
            [m.config.seed for m in own],
            job.looks,
            writers,
        )
        seconds = (time.monotonic() - began) / len(own)
        results = [
            _close(i, member, folder, finished, job.task, seconds, writers)
            for i, (member, folder) in enumerate(zip(own, folders, strict=True))
        ]
    except UserError:  # refused before anything was trained
        for folder in folders:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    except BaseException as error:
        _record_failure(folders, error)
        raise
    finally:
        writers.close()
    return {m.run_id: result for m, result in zip(own, results, strict=True)}


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


def _writers(run: RunConfig, place: Place) -> list[Writer]:
    found: list[Writer] = [MetricsFile()]
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


def _info(member: Member, folder: RunDir, place: Place) -> MemberInfo:
    run = member.config
    return MemberInfo(
        run_id=member.run_id,
        run_dir=folder.path,
        config=config.to_dict(run),
        act=run.act["name"],
        depth=len(run.widths),
        init=run.init.name,
        seed=run.seed,
        model=run.model.name,
        data=run.data.name,
        lr=run.optim.lr,
        sweep=place.sweep,
        total_epochs=run.trainer.epochs,
    )


def _close(
    index: int,
    member: Member,
    folder: RunDir,
    finished: Finished,
    task: Task,
    seconds: float,
    writers: Writers,
) -> Result:
    """Save one member's checkpoints, then its summary, then its status: complete comes last."""
    failure = finished.failures.get(index)
    state = "failed" if failure else "diverged" if finished.diverged[index] else "complete"
    cause = failure or ("the loss is not finite" if state == "diverged" else None)
    summary = _summary(index, member, state, finished, task, seconds)
    try:
        own = jax.tree.map(lambda leaf: leaf[index], finished.state)
        about = {"task": asdict(task), "epoch": finished.epochs[index]}
        checkpoint.save(folder.checkpoints / "last", checkpoint.flatten(own._asdict()), about)
        writers.finish(index, state, summary)
    except Exception as error:
        log.error("%s: %s", member.run_id, error)
        state, cause = "failed", f"{type(error).__name__}: {error}"
        summary["state"] = state
    _write_status(folder, state, finished.steps[index], finished.epochs[index], cause)
    return summary


def _summary(
    index: int, member: Member, state: str, finished: Finished, task: Task, seconds: float
) -> Result:
    """The final numbers; `seconds` is the member's equal share of its pack's wall-clock time."""
    run, numbers = member.config, finished.final[index]
    score = finished.best_score[index] if finished.best_epoch[index] else None
    classify = task.classes is not None
    return {
        "run_id": member.run_id,
        "act": run.act["name"],
        "depth": len(run.widths),
        "init": run.init.name,
        "seed": run.seed,
        "lr": run.optim.lr,
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


def _record_failure(folders: Sequence[RunDir], error: BaseException) -> None:
    """Say in each unfinished run's status what ended it."""
    interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
    state = "preempted" if interrupted else "failed"
    cause = "interrupted" if interrupted else f"{type(error).__name__}: {error}"
    for folder in folders:
        if (ledger.read_status(folder) or {}).get("state") == "running":
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
        ledger.write_status(folder, state, step=step, epoch=epoch, cause=cause)
    except OSError as error:
        log.error("%s: can't write its status: %s", folder.run_id, error)


def failed(run: RunConfig, error: BaseException) -> Result:
    """The result of a run whose pack broke."""
    known: Mapping[str, Any] = {
        "run_id": members.run_id(run),
        "act": run.act["name"],
        "depth": len(run.widths),
        "init": run.init.name,
        "seed": run.seed,
        "lr": run.optim.lr,
    }
    return {
        **known,
        "state": "failed",
        "cause": f"{type(error).__name__}: {error}",
        "reused": False,
    }
