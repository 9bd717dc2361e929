"""The only training loop: chunks of steps on the devices, with decisions on the host between."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from actsweep.callbacks.base import Callback
from actsweep.config.schema import RunConfig, TrainerConfig
from actsweep.data import Dataset
from actsweep.loggers.base import Writers
from actsweep.runtime.distributed import ProcessGroup
from actsweep.runtime.signals import Interrupted
from actsweep.train.active_set import ActiveSet
from actsweep.train.checkpointing import Checkpointer, NoCheckpoints
from actsweep.train.evaluation import expected, finish, untrained
from actsweep.train.metric_log import MetricLog
from actsweep.train.population import Population, Sets
from actsweep.train.schedule import Chunk, longest_call, plan
from actsweep.train.types import (
    ACTIVE,
    STOPPED,
    ChunkReadings,
    Pruning,
    ResumePoint,
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
    checkpointer: Checkpointer | NoCheckpoints | None = None,
    group: ProcessGroup | None = None,
    configs: Sequence[RunConfig] = (),
    pruning: Pruning | None = None,
) -> TrainResult:
    """Train the members of a population to their end, and return the result.

    Args:
        population: the members' compiled functions.
        sets: the examples on the devices (`Population.place_sets`).
        data: the same examples, on the host.
        trainer: length, batches, chunks.
        seeds: one per member, of its order of examples.
        callbacks: the observers that the population was built with.
        writers: receive every member's rows.
        start: the states to go on from; None to begin.
        checkpointer: saves states during training; it changes no result.
        group: the processes that train distributed; None for this one alone.
        configs: one per member, for callbacks that predict from it.
        pruning: decides after an epoch which members go on; None if all do.

    Returns:
        The final state and every member's outcome. A member whose loss or weights stop being finite
        has diverged; one whose hook or metrics file raises has failed. The others go on.

    Raises:
        Interrupted: a signal has asked for the end; the members are saved.
    """
    checkpointer, group = checkpointer or NoCheckpoints(), group or ProcessGroup()
    chunks, steps_per_epoch = plan(trainer, len(data.train_x), callbacks), _epoch(trainer, data)
    log = MetricLog(population.size, callbacks, writers, pruning)
    streamed, rows = sets.train is None, population.padded
    longest = longest_call(chunks, data, trainer.batch_size, rows, streamed=streamed)
    active = ActiveSet(population, sets, data, trainer, seeds, longest, group)
    stop_if_asked = functools.partial(_stop_if_asked, checkpointer, group)
    save_if_due = functools.partial(
        _save_if_due, checkpointer, group, active, log, steps_per_epoch, stop_if_asked
    )
    try:
        if start is None:
            readings = untrained(population, active.state, sets, data, callbacks, stop_if_asked)
            readings.append(expected(population, data, trainer, callbacks, configs))
            log.put(ChunkReadings(0, 0.0, readings, active.rows))
        else:
            _resume(start, chunks, active, log, group)
        done = start.step if start else 0
        for chunk in chunks:
            if chunk.end <= done:
                continue
            for step in active.advance(chunk, done):
                save_if_due(step, midway=True)
            epoch = chunk.end / steps_per_epoch
            log.put(ChunkReadings(chunk.end, epoch, active.measure(chunk), active.rows))
            stopping, ended = group.broadcast([log.stopping(chunk.end), log.ended(chunk.end)])
            active.stop(stopping)
            if len(ended) == population.size:
                break
            active.repack(ended)
            save_if_due(chunk.end)
    finally:
        active.close()
    log.catch_up()
    last = chunks[-1].end
    between = functools.partial(save_if_due, last)
    return finish(population, active.everyone(), sets, data, callbacks, log, last, between)


def _epoch(trainer: TrainerConfig, data: Dataset) -> int:
    """Return the number of steps in an epoch."""
    return len(data.train_x) // trainer.batch_size


def _resume(
    start: ResumePoint,
    chunks: Sequence[Chunk],
    active: ActiveSet,
    log: MetricLog,
    group: ProcessGroup,
) -> None:
    """Restore all members as they were after `start.step`, including those that have ended."""
    for member, rows in enumerate(start.rows):
        log.replay(member, rows, active=bool(start.states.outcome[member] == ACTIVE))
    states = start.states
    if log.pruned:  # they were saved so that any other sweep goes on with them
        outcome: Any = np.array(states.outcome)
        outcome[list(log.pruned)] = STOPPED
        states = states._replace(outcome=outcome)
    past = [chunk.end for chunk in chunks if chunk.end <= start.step]
    active.resume(states, group.broadcast([log.ended(step) for step in past]))


def _save_if_due(
    checkpointer: Checkpointer | NoCheckpoints,
    group: ProcessGroup,
    active: ActiveSet,
    log: MetricLog,
    steps_per_epoch: int,
    stop_if_asked: functools.partial[None],
    step: int,
    *,
    midway: bool = False,
) -> None:
    """Save the members if it is time or a signal has come; then obey the signal."""
    if group.broadcast(checkpointer.due(midway)):
        log.catch_up()
        checkpointer.save(step, step / steps_per_epoch, active.states(), log)
        stop_if_asked()


def _stop_if_asked(checkpointer: Checkpointer | NoCheckpoints, group: ProcessGroup) -> None:
    """End the training if a signal has asked the coordinator for it."""
    if number := group.broadcast(checkpointer.asked()):
        raise Interrupted(number)
