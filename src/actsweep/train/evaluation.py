"""Measurements before training starts and after it has ended."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from actsweep.callbacks.base import Callback
from actsweep.config.schema import RunConfig, TrainerConfig
from actsweep.data import Dataset
from actsweep.train.metric_log import MetricLog, row_of
from actsweep.train.population import SHARED, Population, Sets
from actsweep.train.schedule import due_at
from actsweep.train.types import COUNT_SLICE, DIVERGED, State, TrainResult
from actsweep.utils.errors import CallbackError, cause_of

ACT_PARAM = "act_param/"


def untrained(
    population: Population,
    state: State,
    sets: Sets,
    data: Dataset,
    callbacks: Mapping[str, Callback],
    between: Callable[[], None] | None = None,
) -> list[Mapping[str, Any]]:
    """Return what the untrained members measure, for the row of step 0.

    That is validation, probes and exact counts.

    `between` is called between slices of the training set, and may raise.
    """
    readings: list[Mapping[str, Any]] = [
        _named("val", population.score(state.params, state.held, sets.val))
    ]
    due = due_at(callbacks, 0, 1)
    if due:
        readings.append(population.probe(state, sets.probed, np.int32(0), due))
    readings.append(
        train_set_statistics(population, state.params, state.held, data, callbacks, between)
    )
    return [population.shared(part) for part in readings]


def expected(
    population: Population,
    data: Dataset,
    trainer: TrainerConfig,
    callbacks: Mapping[str, Callback],
    configs: Sequence[RunConfig],
) -> dict[str, np.ndarray]:
    """Return what callbacks say on the host before training, one value a row, for step 0.

    Raises:
        CallbackError: one of them has raised.
    """
    parts = {name: c.before for name, c in callbacks.items() if c.before}
    if not parts:
        return {}
    stored = np.asarray(data.train_x[: trainer.probe_examples])
    x = stored if data.vocabulary is not None else stored * data.scale + data.offset
    columns: dict[str, np.ndarray] = {}
    for member, config in enumerate(configs):
        for name, before in parts.items():
            try:
                numbers = before(config, x)
            except Exception as error:
                raise CallbackError(f"callbacks.{name}: {cause_of(error)}") from error
            for key, value in numbers.items():
                column = columns.setdefault(key, np.full(population.size, np.nan, np.float32))
                column[member] = value
    return {key: population.pad(column) for key, column in columns.items()}


def finish(
    population: Population,
    state: State,
    sets: Sets,
    data: Dataset,
    callbacks: Mapping[str, Callback],
    log: MetricLog,
    last_step: int,
    between: Callable[[], None],
) -> TrainResult:
    """Test the best parameters, write the last rows and return the result.

    The test set is used once, here; callbacks count over the whole training set. What activations
    have learned is that of the best parameters in the result, and that of the end in the rows. A
    pruned member isn't tested: its rows stay those of a training that was interrupted.
    """
    parts = [
        _named("test", population.score(state.best, state.best_held, sets.test)),
        train_set_statistics(population, state.best, state.best_held, data, callbacks, between),
    ]
    parts = jax.device_get([population.shared(part) for part in parts])
    ended = population.fetch(state)
    best_epoch = ended.best_epoch
    final: list[dict[str, float]] = []
    for member in range(population.size):
        row = row_of(population.rows[member], 0, 0.0, parts)
        untested = row is None or not best_epoch[member] or member in log.pruned
        scalars = {} if row is None or untested else row.scalars
        log.finish(member, {k: v for k, v in scalars.items() if not k.startswith(ACT_PARAM)})
        final.append(log.last[member].scalars | scalars)
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
        pruned=log.pruned,
    )


def train_set_statistics(
    population: Population,
    params: Any,
    held: Any,
    data: Dataset,
    callbacks: Mapping[str, Callback],
    between: Callable[[], None] | None = None,
) -> Mapping[str, Any]:
    """Return the callbacks' statistics over the whole training set, computed slice by slice.

    The loop ends as soon as no further slice can change the result. `between` is called between
    two slices, and may raise.
    """
    if not any(callback.count for callback in callbacks.values()):
        return {}
    sums: Any = None
    for low in range(0, len(data.train_x), COUNT_SLICE):
        x = population.place(data.train_x[low : low + COUNT_SLICE], SHARED)
        if sums is None:
            sums = population.no_counts(params, held, x)
        sums, final = population.count(params, held, sums, x)
        if np.asarray(population.shared(final)).all():
            break
        if between is not None:
            between()
    return population.conclude(sums, len(data.train_x))


def _named(prefix: str, score: Mapping[str, Any]) -> dict[str, Any]:
    """Return scores by metric name; those of activations have one."""
    return {name if "/" in name else f"{prefix}/{name}": value for name, value in score.items()}
