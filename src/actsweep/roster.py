"""Who trains in which row: the state of a pack, from which members that have ended make room."""

import itertools
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from actsweep.callbacks.base import Callback
from actsweep.config import TrainerConfig
from actsweep.data import Dataset
from actsweep.data.feed import ResidentFeed, StreamingFeed
from actsweep.population import Population, Sets
from actsweep.step import Examples, Span, State
from actsweep.together import together

FIRST_STEPS = 4


@dataclass(frozen=True)
class Chunk:
    """Steps `first … first + n - 1`; what is due after them."""

    first: int
    n: int
    epoch: int
    ends_epoch: bool
    due: tuple[str, ...]

    @property
    def end(self) -> int:
        """Steps done after this chunk."""
        return self.first + self.n


class Pace:
    """How many steps one call on the devices may take, so that it ends within some seconds: what
    has been called can't be interrupted. Once it has learned from the first, short chunks, as most
    are, are neither divided nor waited for.

    Args:
        seconds: what a call should take at most.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._a_step: float | None = None
        self._called = 0.0

    def steps(self, left: int) -> int:
        """How many of the steps that are left the next call takes."""
        most = FIRST_STEPS if self._a_step is None else self._seconds / self._a_step
        return math.ceil(left / math.ceil(left / max(1, int(most))))

    def called(self, n: int, readings: Any, *, whole: bool) -> None:
        """Learn from a call of n steps, which is waited for if it was but part of a chunk."""
        if not whole:
            jax.block_until_ready(readings)
        now, before = time.monotonic(), self._called
        self._called = now
        if before:
            self._a_step = (now - before) / n


class Feed(Protocol):
    """Where a chunk's batches come from."""

    def chunk(self, start_step: int, n: int) -> Any:
        """Batches of n steps from `start_step` on, [M, K, B, ...]."""

    def close(self) -> None:
        """End what reads ahead."""


def plan(trainer: TrainerConfig, examples: int, callbacks: Mapping[str, Callback]) -> list[Chunk]:
    """Every chunk of the training. Each ends where something is due: at a multiple of a callback's
    `every_steps`, or of an epoch; what lies between is divided evenly, no chunk above
    `chunk_steps`."""
    steps = examples // trainer.batch_size
    total = steps * trainer.epochs
    cadences = {c.every_steps for c in callbacks.values() if c.probe and c.every_steps}
    stops = {stop for every in (steps, *cadences) for stop in range(0, total + 1, every)}
    edges: list[int] = []
    for low, high in itertools.pairwise(sorted(stops)):
        parts = math.ceil((high - low) / trainer.chunk_steps)
        edges += [low + (high - low) * i // parts for i in range(parts)]
    return [
        Chunk(low, high - low, low // steps + 1, high % steps == 0, due_at(callbacks, high, steps))
        for low, high in itertools.pairwise([*edges, total])
    ]


def due_at(callbacks: Mapping[str, Callback], step: int, steps_per_epoch: int) -> tuple[str, ...]:
    """The callbacks whose probe is due after so many steps."""
    epoch = step / steps_per_epoch
    return tuple(name for name, callback in callbacks.items() if callback.due(step, epoch))


class Roster:
    """The members of a pack in the rows of a population.

    Attributes:
        whole: the population of all members.
        population: that of those still on the roster; at first the same.
        members: whom `population` holds, in its order.
    """

    def __init__(
        self,
        population: Population,
        sets: Sets,
        data: Dataset,
        trainer: TrainerConfig,
        seeds: Sequence[int],
        longest: int,
    ) -> None:
        self.whole = self.population = population
        self.sets, self.members = sets, list(range(population.size))
        self.state = population.init()
        self._own = (data, trainer, seeds, longest)
        self._feed = self._open_feed()
        self._parked: dict[int, Any] = {}
        self._pace = Pace(trainer.grace_s / 8)
        self._readings: Mapping[str, Any] = {}

    @property
    def rows(self) -> dict[int, int]:
        """Member -> row."""
        return dict(zip(self.members, self.population.rows.tolist(), strict=True))

    def advance(self, chunk: Chunk, done: int) -> Iterator[int]:
        """Train to the end of a chunk of which so many steps are done. Where that is too long for
        one call on the devices, yields the step between two of them: states can be saved there."""
        step = max(done, chunk.first)
        while step < chunk.end:
            lineup, n = self.population, together.agree(self._pace.steps(chunk.end - step))
            batches = lineup.place_batches(_as_examples(self._feed.chunk(step, n)))
            span = Span(*map(np.int32, (step, n, chunk.first, chunk.end)))
            self.state, self._readings = lineup.train_chunk(
                self.state, lineup.hparams, batches, self.sets.train, span
            )
            whole = (step, step + n) == (chunk.first, chunk.end)
            self._pace.called(n, self._readings, whole=whole)
            step += n
            if step < chunk.end:
                yield step

    def look(self, chunk: Chunk) -> list[Mapping[str, Any]]:
        """Validate and probe, as is due after a chunk; all its readings, still on the devices, but
        where this process can read them."""
        lineup, parts = self.population, [self._readings]
        if chunk.ends_epoch:
            self.state, readings = lineup.evaluate(self.state, self.sets.val, np.int32(chunk.epoch))
            parts.append(readings)
        if chunk.due:
            now = np.int32(chunk.end)
            parts.append(lineup.probe(self.state, self.sets.probed, now, chunk.due))
        return [lineup.shared(part) for part in parts]

    def stop(self, members: Collection[int]) -> None:
        """End the training of some members from the host."""
        places = {place for place, member in enumerate(self.members) if member in members}
        if places:
            self.state = self.population.stop(self.state, places)

    def repack(self, ended: Collection[int]) -> bool:
        """Once half of the roster has ended, go on with the others in fewer rows (see
        `Population.narrow`); the state of those that leave waits on the host. True if it was."""
        staying = _staying(self.members, ended)
        if staying == self.members:
            return False
        self._narrow(staying)
        return True

    def resume(self, states: State, ended: Sequence[Collection[int]]) -> None:
        """Take up where training stopped: everyone's state, and who had ended after each chunk."""
        self.state = self.whole.seat(states)
        staying = self.members
        for gone in ended:
            staying = _staying(staying, gone)
        if staying != self.members:
            self._narrow(staying)

    def _narrow(self, staying: list[int]) -> None:
        states = self.population.fetch(self.state)
        self._park(states)
        places = [self.members.index(member) for member in staying]
        narrow = self.population.narrow(places)
        if narrow.mesh != self.population.mesh:
            data, trainer, *_ = self._own
            self.sets = narrow.place_sets(data, trainer, stream=self.sets.train is None)
        self.population, self.members = narrow, staying
        self.state = narrow.seat(jax.tree.map(lambda leaf: leaf[places], states))
        self.close()
        self._feed = self._open_feed()

    def states(self) -> State:
        """The state of all members [M, ...], on the host."""
        now = self.population.fetch(self.state)
        if self.population is self.whole:
            return now
        self._park(now)
        states = [self._parked[member] for member in sorted(self._parked)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *states)

    def everyone(self) -> State:
        """The state of all members, in the rows of `whole`."""
        return self.state if self.population is self.whole else self.whole.seat(self.states())

    def close(self) -> None:
        """End what reads ahead."""
        self._feed.close()

    def _park(self, states: Any) -> None:
        for place, member in enumerate(self.members):
            self._parked[member] = jax.tree.map(lambda leaf: leaf[place], states)  # noqa: B023

    def _open_feed(self) -> Feed:
        data, trainer, seeds, longest = self._own
        kind = StreamingFeed if self.sets.train is None else ResidentFeed
        return kind(data, [seeds[m] for m in self.members], trainer.batch_size, longest)


def _staying(members: list[int], ended: Collection[int]) -> list[int]:
    """Who keeps a row: all, until half of them have ended."""
    active = [member for member in members if member not in ended]
    return active if active and 2 * len(active) <= len(members) else members


def _as_examples(batches: Any) -> Any:
    return Examples(*batches) if isinstance(batches, tuple) else batches
