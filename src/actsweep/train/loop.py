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
from actsweep.train.active_set import Roster
from actsweep.train.checkpointing import Keeper
from actsweep.train.metric_log import RowLog, row_of
from actsweep.train.population import SHARED, Population, Sets
from actsweep.train.schedule import Chunk, due_at, plan
from actsweep.train.types import (
    ACTIVE,
    COUNT_SLICE,
    DIVERGED,
    ChunkReadings,
    Finished,
    Start,
    State,
)


def train(
    population: Population,
    sets: Sets,
    data: Dataset,
    trainer: TrainerConfig,
    seeds: Sequence[int],
    callbacks: Mapping[str, Callback],
    writers: Writers,
    start: Start | None = None,
    keeper: Keeper | None = None,
) -> Finished:
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
        keeper: saves states on the way; it changes no result.

    Returns:
        The final state and every member's outcome. A member whose loss stops being finite is
        diverged, one whose hook or metrics file raises has failed; the others go on.
    """
    chunks = plan(trainer, len(data.train_x), callbacks)
    steps_per_epoch = len(data.train_x) // trainer.batch_size
    log = RowLog(population.size, callbacks, writers)
    longest = max(chunk.n for chunk in chunks)
    roster = Roster(population, sets, data, trainer, seeds, longest)
    try:
        if start is None:
            check = functools.partial(_obey, keeper)
            before = [*_before(population, roster.state, sets, data, callbacks, check)]
            before = [population.shared(part) for part in before]
            log.put(ChunkReadings(0, 0.0, before, roster.rows))
        else:
            _go_on(start, chunks, roster, log)
        for chunk in chunks:
            if start is not None and chunk.end <= start.step:
                continue
            for step in roster.advance(chunk, start.step if start else 0):
                _keep(keeper, step, steps_per_epoch, roster, log, midway=True)
            epoch = chunk.end / steps_per_epoch
            log.put(ChunkReadings(chunk.end, epoch, roster.look(chunk), roster.rows))
            said = [sorted(log.stopping(chunk.end)), sorted(log.ended(chunk.end))]
            stopping, ended = together.agree(said)
            roster.stop(stopping)
            if len(ended) == population.size:
                break
            roster.repack(ended)
            _keep(keeper, chunk.end, steps_per_epoch, roster, log)
    finally:
        roster.close()
    log.catch_up()
    last, everyone = chunks[-1].end, roster.everyone()
    pause = functools.partial(_keep, keeper, last, steps_per_epoch, roster, log)
    return _finish(population, everyone, sets, data, callbacks, log, last, pause)


def _go_on(start: Start, chunks: Sequence[Chunk], roster: Roster, log: RowLog) -> None:
    """Seat the members as they stood after `start.step`, those who have left included."""
    for member, rows in enumerate(start.rows):
        log.replay(member, rows, active=bool(start.states.outcome[member] == ACTIVE))
    past = [chunk.end for chunk in chunks if chunk.end <= start.step]
    roster.resume(start.states, together.agree([sorted(log.ended(step)) for step in past]))


def _keep(
    keeper: Keeper | None,
    step: int,
    steps_per_epoch: int,
    roster: Roster,
    log: RowLog,
    *,
    midway: bool = False,
) -> None:
    if keeper is not None and together.agree(keeper.due(midway)):
        log.catch_up()
        keeper.save(step, step / steps_per_epoch, roster.states(), log)
        _obey(keeper)


def _obey(keeper: Keeper | None) -> None:
    """End the training if a signal has asked for it, of the process that leads."""
    if keeper is not None and (number := together.agree(keeper.asked())):
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
    yield _named("val", population.score(state.params, state.hypers, sets.val), data)
    due = due_at(callbacks, 0, 1)
    if due:
        yield population.probe(state, sets.probed, np.int32(0), due)
    yield exact(population, state.params, state.hypers, data, callbacks, pause)


def _finish(
    population: Population,
    state: State,
    sets: Sets,
    data: Dataset,
    callbacks: Mapping[str, Callback],
    log: RowLog,
    last_step: int,
    pause: Callable[[], None],
) -> Finished:
    """Test the best parameters once, count over the whole training set, write the last rows."""
    parts = [
        _named("test", population.score(state.best, state.hypers, sets.test), data),
        exact(population, state.best, state.hypers, data, callbacks, pause),
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
    return Finished(
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


def exact(
    population: Population,
    params: Any,
    hypers: Any,
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
            sums = population.no_counts(params, hypers, x)
        sums, settled = population.count(params, hypers, sums, x)
        if np.asarray(population.shared(settled)).all():
            break
        if pause is not None:
            pause()
    return population.conclude(sums, len(data.train_x))


def _named(prefix: str, score: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    keys = ("loss",) if data.classes is None else ("loss", "accuracy")
    return {f"{prefix}/{key}": score[key] for key in keys}
