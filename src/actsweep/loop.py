"""The only training loop: chunks on the device; between them the host looks, writes, decides.

Readings are fetched one chunk late, so that the host never makes the device wait.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from actsweep.callbacks.base import Binned, Callback, Hook, Say, Stop
from actsweep.config import TrainerConfig
from actsweep.data import Dataset
from actsweep.data.feed import ResidentFeed, StreamingFeed
from actsweep.population import SHARED, Population
from actsweep.step import ACTIVE, DIVERGED, Examples, State
from actsweep.writers import Histogram, MetricsError, Row, Writers

COUNT_SLICE = 5_000
NOT_LOGGED = ("active", "outcome")


@dataclass(frozen=True)
class Chunk:
    """Steps `first … first + n - 1`; the last of an epoch ends it."""

    first: int
    n: int
    epoch: int
    ends_epoch: bool


@dataclass
class Finished:
    """What training left: the population's state, and per member the outcome and final numbers."""

    state: State
    diverged: list[bool]
    failures: dict[int, str]
    epochs: list[float]
    steps: list[int]
    best_epoch: list[int]
    best_score: list[float]
    final: list[dict[str, float]]


class Feed(Protocol):
    """Where a chunk's batches come from."""

    def chunk(self, start_step: int, n: int) -> Any:
        """Batches of n steps from `start_step` on, [M, K, B, ...]."""

    def close(self) -> None:
        """End what reads ahead."""


def plan(trainer: TrainerConfig, examples: int) -> list[Chunk]:
    """Every chunk of the training; an epoch is divided evenly, no chunk above `chunk_steps`."""
    steps = examples // trainer.batch_size
    parts = math.ceil(steps / trainer.chunk_steps)
    edges = [steps * i // parts for i in range(parts + 1)]
    return [
        Chunk(epoch * steps + low, high - low, epoch + 1, high == steps)
        for epoch in range(trainer.epochs)
        for low, high in itertools.pairwise(edges)
    ]


def train(
    population: Population,
    data: Dataset,
    trainer: TrainerConfig,
    seeds: Sequence[int],
    callbacks: Mapping[str, Callback],
    writers: Writers,
    *,
    stream: bool = False,
) -> Finished:
    """Train a pack to its end.

    Args:
        population: the pack's compiled functions.
        data: the examples, on the host.
        trainer: length, batches, chunks.
        seeds: one a member; they decide the order of examples.
        callbacks: the observers that the population was built with.
        writers: receive every member's rows.
        stream: keep the training set on the host and send each chunk its examples.

    Returns:
        The final state and every member's outcome. A member whose loss stops being finite is
        diverged, one whose hook or metrics file raises has failed; the others go on.
    """
    chunks = plan(trainer, len(data.train_x))
    steps_per_epoch = len(data.train_x) // trainer.batch_size
    longest = max(chunk.n for chunk in chunks)
    kind = StreamingFeed if stream else ResidentFeed
    feed: Feed = kind(data, seeds, trainer.batch_size, longest)
    train_set = None if stream else _examples(population, data.train_x, data.train_y)
    val = _examples(population, data.val_x, data.val_y)
    size = min(trainer.probe_examples, len(data.train_x))
    probed = _examples(population, data.train_x[:size], data.train_y[:size])
    state = population.init()
    log = RowLog(population.size, callbacks, writers)
    log.put(0, 0.0, [*_before(population, state, data, val, probed, callbacks)])
    try:
        for chunk in chunks:
            batches = population.place_batches(_as_examples(feed.chunk(chunk.first, chunk.n)))
            end = chunk.first + chunk.n
            state, readings = population.train_chunk(
                state,
                population.hparams,
                batches,
                train_set,
                np.int32(chunk.first),
                np.int32(chunk.n),
            )
            parts = [readings]
            if chunk.ends_epoch:
                state, readings = population.evaluate(state, val, np.int32(chunk.epoch))
                parts.append(readings)
                due = due_at(callbacks, chunk.epoch)
                if due:
                    parts.append(population.probe(state, probed, np.int32(end), due))
            log.put(end, end / steps_per_epoch, parts)
            if log.stopping:
                state = population.stop(state, log.stopping)
            if log.all_done:
                break
    finally:
        feed.close()
    log.catch_up()
    return _finish(population, state, data, callbacks, log)


def due_at(callbacks: Mapping[str, Callback], epoch: int) -> tuple[str, ...]:
    """The callbacks whose probe is due after an epoch."""
    return tuple(n for n, c in callbacks.items() if c.probe is not None and epoch % c.every == 0)


class RowLog:
    """Turns readings of the pack into rows of members, runs the hooks, and writes one row late.

    The last row of a member is held back until its final numbers can join it, so that its metrics
    file has every step once.
    """

    def __init__(self, size: int, callbacks: Mapping[str, Callback], writers: Writers) -> None:
        self.writers = writers
        self.hooks: list[list[tuple[str, Hook]]] = [
            [(name, c.hook()) for name, c in callbacks.items() if c.hook] for _ in range(size)
        ]
        self.held: list[Row | None] = [None] * size
        self.stopping: set[int] = set()
        self.failures: dict[int, str] = {}
        self.ended: set[int] = set()
        self._pending: tuple[int, float, list[Any]] | None = None

    @property
    def all_done(self) -> bool:
        """No member is active any more, as far as the host knows."""
        return len(self.ended) == len(self.held)

    def put(self, step: int, epoch: float, parts: list[Any]) -> None:
        """Queue this chunk's readings; handle those of the chunk before."""
        before, self._pending = self._pending, (step, epoch, parts)
        if before is not None:
            self._handle(*before)

    def catch_up(self) -> None:
        """Handle what is still queued."""
        if self._pending is not None:
            self._handle(*self._pending)
            self._pending = None

    def finish(self, member: int, scalars: Mapping[str, float]) -> None:
        """Write a member's last row, with its final numbers."""
        row = self.held[member] or Row(0, 0.0)
        self._write(member, Row(row.step, row.epoch, row.scalars | dict(scalars), row.histograms))

    def _handle(self, step: int, epoch: float, parts: list[Any]) -> None:
        parts = jax.device_get(parts)
        for member in range(len(self.held)):
            outcomes = [part["outcome"][member] for part in parts if "outcome" in part]
            row = _row(member, step, epoch, parts)
            if row is None or member in self.failures:
                self.ended.add(member)
                continue
            if outcomes and outcomes[-1] != ACTIVE:
                self.ended.add(member)
            self._keep(member, row)
            self._look(member, row)

    def _keep(self, member: int, row: Row) -> None:
        before, self.held[member] = self.held[member], row
        if before is not None:
            self._write(member, before)

    def _write(self, member: int, row: Row) -> None:
        try:
            self.writers.row(member, row)
        except MetricsError as error:
            self.fail(error.member, str(error))

    def _look(self, member: int, row: Row) -> None:
        if member in self.stopping:
            return  # its last row was on its way when it was told to stop
        for name, hook in self.hooks[member]:
            try:
                said = hook(row.step, row.epoch, row.scalars)
            except Exception as error:
                self.fail(member, f"callbacks.{name}: {type(error).__name__}: {error}")
                return
            if isinstance(said, Say | Stop):
                self.writers.message(member, said.text)
            if isinstance(said, Stop):
                self.stopping.add(member)

    def fail(self, member: int, cause: str) -> None:
        """A member's own hook or record broke: it ends here; the others go on."""
        self.failures.setdefault(member, cause)
        self.stopping.add(member)
        self.ended.add(member)


def _before(
    population: Population,
    state: State,
    data: Dataset,
    val: Examples,
    probed: Examples,
    callbacks: Mapping[str, Callback],
) -> Iterator[Any]:
    """Readings of the untrained members, for the row of step 0."""
    yield _named("val", population.score(state.params, state.hypers, val), data)
    due = due_at(callbacks, 0)
    if due:
        yield population.probe(state, probed, np.int32(0), due)
    exact = _exact(population, state.params, state.hypers, data, callbacks)
    if exact:
        yield exact


def _finish(
    population: Population,
    state: State,
    data: Dataset,
    callbacks: Mapping[str, Callback],
    log: RowLog,
) -> Finished:
    """Test the best parameters once, count over the whole training set, write the last rows."""
    test = _examples(population, data.test_x, data.test_y)
    parts = [_named("test", population.score(state.best, state.hypers, test), data)]
    parts.append(_exact(population, state.best, state.hypers, data, callbacks))
    parts = jax.device_get(parts)
    outcome, best_epoch, best_score = jax.device_get(
        (state.outcome, state.best_epoch, state.best_score)
    )
    final: list[dict[str, float]] = []
    for member in range(population.size):
        row = _row(member, 0, 0.0, parts)
        last = log.held[member] or Row(0, 0.0)
        numbers = {} if row is None or not best_epoch[member] else row.scalars
        log.finish(member, numbers)
        final.append(last.scalars | numbers)
    held = [row or Row(0, 0.0) for row in log.held]
    return Finished(
        state=state,
        diverged=[bool(outcome[m] == DIVERGED) for m in range(population.size)],
        failures=log.failures,
        epochs=[row.epoch for row in held],
        steps=[row.step for row in held],
        best_epoch=[int(best_epoch[m]) for m in range(population.size)],
        best_score=[float(best_score[m]) for m in range(population.size)],
        final=final,
    )


def _exact(
    population: Population,
    params: Any,
    hypers: Any,
    data: Dataset,
    callbacks: Mapping[str, Callback],
) -> dict[str, Any]:
    """What the callbacks count over the whole training set, slice by slice."""
    if not any(callback.count for callback in callbacks.values()):
        return {}
    sums: Any = None
    for low in range(0, len(data.train_x), COUNT_SLICE):
        x = population.place(data.train_x[low : low + COUNT_SLICE], SHARED)
        counts = population.count(params, hypers, x)
        sums = counts if sums is None else population.add(sums, counts)
    return population.conclude(sums, len(data.train_x))


def _examples(population: Population, x: Any, y: Any) -> Examples:
    return population.place(Examples(x, y), SHARED)


def _as_examples(batches: Any) -> Any:
    return Examples(*batches) if isinstance(batches, tuple) else batches


def _named(prefix: str, score: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    keys = ("loss",) if data.classes is None else ("loss", "accuracy")
    return {f"{prefix}/{key}": score[key] for key in keys}


def _row(member: int, step: int, epoch: float, parts: Sequence[Mapping[str, Any]]) -> Row | None:
    """One member's share of the readings; None if it was active in none of the parts."""
    row = Row(step, epoch)
    alive = [part for part in parts if "active" not in part or part["active"][member]]
    if not alive:
        return None
    for part in reversed(alive):  # of two readings of one name, the chunk's own stands
        for name, value in part.items():
            if isinstance(value, Binned):
                counts = np.asarray(value.counts[member], np.int64)
                row.histograms[name] = Histogram(counts, np.asarray(value.edges))
            elif name not in NOT_LOGGED:
                row.scalars[name] = float(value[member])
    return row
