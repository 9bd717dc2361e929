"""The only training loop: chunks on the device; between them the host looks, writes, decides."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from actsweep.callbacks.base import Callback
from actsweep.config.schema import TrainerConfig
from actsweep.data import Dataset
from actsweep.loggers.base import Writers
from actsweep.runtime.distributed import together
from actsweep.runtime.signals import Interrupted
from actsweep.train.active_set import ActiveSet
from actsweep.train.checkpointing import CheckpointerProtocol
from actsweep.train.metric_log import MetricLog, row_of
from actsweep.train.population import SHARED, Population, Sets
from actsweep.train.schedule import Chunk, due_at, plan
from actsweep.train.types import (
    ACTIVE,
    COUNT_SLICE,
    DIVERGED,
    ChunkReadings,
    ResumePoint,
    State,
    TrainResult,
)


def train(
    population: Population,
    sets: Sets,
    data: Dataset,
    trainer: TrainerConfig,
    seeds: Sequence[int],
    callbacks: Mapping[str, Callback],
    writers: Writers,
    start: ResumePoint | None = None,
    checkpointer: CheckpointerProtocol | None = None,
) -> TrainResult:
    """Train a pack to its end.

    Args:
        population: the pack's compiled functions.
        sets: the examples on the devices (`Population.place_sets`).
        data: the same examples, on the host.
        trainer: length, batches, chunks.
        seeds: one a member; they decide the order of examples.
        callbacks: the observers that the population was built with.
        writers: receive every member's rows.
        start: where to go on; None to begin.
        checkpointer: saves states on the way; it changes no result.

    Returns:
        The final state and every member's outcome. A member whose loss stops being finite is
        diverged, one whose hook or metrics file raises has failed; the others go on.
    """
    chunks = plan(trainer, len(data.train_x), callbacks)
    steps_per_epoch = len(data.train_x) // trainer.batch_size
    log = MetricLog(population.size, callbacks, writers)
    longest = max(chunk.n for chunk in chunks)
    active_set = ActiveSet(population, sets, data, trainer, seeds, longest)
    try:
        if start is None:
            check = functools.partial(_obey, checkpointer)
            before = [*_before(population, active_set.state, sets, data, callbacks, check)]
            before = [population.shared(part) for part in before]
            log.put(ChunkReadings(0, 0.0, before, active_set.rows))
        else:
            _go_on(start, chunks, active_set, log)
        for chunk in chunks:
            if start is not None and chunk.end <= start.step:
                continue
            for step in active_set.advance(chunk, start.step if start else 0):
                _keep(checkpointer, step, steps_per_epoch, active_set, log, midway=True)
            epoch = chunk.end / steps_per_epoch
            log.put(ChunkReadings(chunk.end, epoch, active_set.look(chunk), active_set.rows))
            said = [sorted(log.stopping(chunk.end)), sorted(log.ended(chunk.end))]
            stopping, ended = together.agree(said)
            active_set.stop(stopping)
            if len(ended) == population.size:
                break
            active_set.repack(ended)
            _keep(checkpointer, chunk.end, steps_per_epoch, active_set, log)
    finally:
        active_set.close()
    log.catch_up()
    last, everyone = chunks[-1].end, active_set.everyone()
    pause = functools.partial(_keep, checkpointer, last, steps_per_epoch, active_set, log)
    return _finish(population, everyone, sets, data, callbacks, log, last, pause)


def _go_on(
    start: ResumePoint, chunks: Sequence[Chunk], active_set: ActiveSet, log: MetricLog
) -> None:
    """Seat the members as they stood after `start.step`, those who have left included."""
    for member, rows in enumerate(start.rows):
        log.replay(member, rows, active=bool(start.states.outcome[member] == ACTIVE))
    past = [chunk.end for chunk in chunks if chunk.end <= start.step]
    active_set.resume(start.states, together.agree([sorted(log.ended(step)) for step in past]))


def _keep(
    checkpointer: CheckpointerProtocol | None,
    step: int,
    steps_per_epoch: int,
    active_set: ActiveSet,
    log: MetricLog,
    *,
    midway: bool = False,
) -> None:
    if checkpointer is not None and together.agree(checkpointer.due(midway)):
        log.catch_up()
        checkpointer.save(step, step / steps_per_epoch, active_set.states(), log)
        _obey(checkpointer)


def _obey(checkpointer: CheckpointerProtocol | None) -> None:
    """End the training if a signal has asked for it, of the process that leads."""
    if checkpointer is not None and (number := together.agree(checkpointer.asked())):
        raise Interrupted(number)


def _before(
    population: Population,
    state: State,
    sets: Sets,
    data: Dataset,
    callbacks: Mapping[str, Callback],
    pause: Callable[[], None] | None,
) -> Iterator[Any]:
    """Readings of the untrained members, for the row of step 0."""
    yield _named("val", population.score(state.params, state.act_hparams, sets.val), data)
    due = due_at(callbacks, 0, 1)
    if due:
        yield population.probe(state, sets.probed, np.int32(0), due)
    yield train_set_statistics(population, state.params, state.act_hparams, data, callbacks, pause)


def _finish(
    population: Population,
    state: State,
    sets: Sets,
    data: Dataset,
    callbacks: Mapping[str, Callback],
    log: MetricLog,
    last_step: int,
    pause: Callable[[], None],
) -> TrainResult:
    """Test the best parameters once, count over the whole training set, write the last rows."""
    parts = [
        _named("test", population.score(state.best, state.act_hparams, sets.test), data),
        train_set_statistics(population, state.best, state.act_hparams, data, callbacks, pause),
    ]
    parts = jax.device_get([population.shared(part) for part in parts])
    ended = population.fetch(state)
    best_epoch = ended.best_epoch
    final: list[dict[str, float]] = []
    for member in range(population.size):
        row = row_of(population.rows[member], 0, 0.0, parts)
        numbers = {} if row is None or not best_epoch[member] else row.scalars
        log.finish(member, numbers)
        final.append(log.last[member].scalars | numbers)
    return TrainResult(
        state=ended,
        diverged=[bool(ended.outcome[m] == DIVERGED) for m in range(population.size)],
        failures=log.failures,
        epochs=[row.epoch for row in log.last],
        steps=[row.step for row in log.last],
        last_step=last_step,
        best_epoch=[int(best_epoch[m]) for m in range(population.size)],
        best_score=[float(ended.best_score[m]) for m in range(population.size)],
        final=final,
    )


def train_set_statistics(
    population: Population,
    params: Any,
    act_hparams: Any,
    data: Dataset,
    callbacks: Mapping[str, Callback],
    pause: Callable[[], None] | None = None,
) -> Mapping[str, Any]:
    """What the callbacks count over the whole training set, slice by slice, until it is settled;
    `pause` is called between two slices, and may raise."""
    if not any(callback.count for callback in callbacks.values()):
        return {}
    sums: Any = None
    for low in range(0, len(data.train_x), COUNT_SLICE):
        x = population.place(data.train_x[low : low + COUNT_SLICE], SHARED)
        if sums is None:
            sums = population.no_counts(params, act_hparams, x)
        sums, settled = population.count(params, act_hparams, sums, x)
        if np.asarray(population.shared(settled)).all():
            break
        if pause is not None:
            pause()
    return population.conclude(sums, len(data.train_x))


def _named(prefix: str, score: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    keys = ("loss",) if data.classes is None else ("loss", "accuracy")
    return {f"{prefix}/{key}": score[key] for key in keys}
