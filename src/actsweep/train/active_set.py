"""The members of a pack that still train, their rows and their state."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from actsweep.config.schema import TrainerConfig
from actsweep.data import Dataset
from actsweep.data.feed import ResidentFeed, StreamingFeed
from actsweep.runtime.distributed import ProcessGroup
from actsweep.train.population import Population, Sets
from actsweep.train.schedule import Chunk, Pace
from actsweep.train.types import Examples, Span, State


class Feed(Protocol):
    """Source of a chunk's batches."""

    def chunk(self, start_step: int, n: int) -> Any:
        """Return batches of n steps from `start_step` on, [M, K, B, ...]."""

    def close(self) -> None:
        """Stop reading ahead."""


class ActiveSet:
    """The members of a pack in the rows of a population.

    Attributes:
        whole: the population of all members.
        population: the population of the members in the active set; at first the same.
        members: the members in `population`, in its order.
    """

    def __init__(
        self,
        population: Population,
        sets: Sets,
        data: Dataset,
        trainer: TrainerConfig,
        seeds: Sequence[int],
        longest: int,
        group: ProcessGroup,
    ) -> None:
        self.whole = self.population = population
        self.sets, self.members = sets, list(range(population.size))
        self.state = population.init(sets)
        self._made_of = (data, trainer, seeds, longest)
        self._group = group
        self._feed = self._open_feed()
        self._parked: dict[int, Any] = {}
        self._pace = Pace(trainer.grace_s / 8, longest)
        self._readings: Mapping[str, Any] = {}

    @property
    def rows(self) -> dict[int, int]:
        """Return each member's row."""
        return dict(zip(self.members, self.population.rows.tolist(), strict=True))

    def advance(self, chunk: Chunk, done: int) -> Iterator[int]:
        """Train to the end of a chunk; `done` is the number of steps done so far.

        If that is too long for one call on the devices, yield the step between two calls, where
        states can be saved.
        """
        step = max(done, chunk.first)
        while step < chunk.end:
            population, n = (
                self.population,
                self._group.broadcast(self._pace.steps(chunk.end - step)),
            )
            batches = population.place_batches(_as_examples(self._feed.chunk(step, n)))
            span = Span(*map(np.int32, (step, n, chunk.first, chunk.end)))
            self.state, self._readings = population.train_chunk(
                self.state, population.hparams, batches, self.sets.train, span
            )
            whole = (step, step + n) == (chunk.first, chunk.end)
            self._pace.called(n, self._readings, whole=whole)
            step += n
            if step < chunk.end:
                yield step

    def measure(self, chunk: Chunk) -> list[Mapping[str, Any]]:
        """Validate and probe as is due after a chunk; return all its readings.

        They are still on the devices, placed so that this process can read them. Probes come before
        validation, so that a member that stops there is probed once more.
        """
        population, probed = self.population, list[Mapping[str, Any]]()
        if chunk.due:
            now = np.int32(chunk.end)
            probed = [population.probe(self.state, self.sets.probed, now, chunk.due)]
        parts = [self._readings]
        if chunk.ends_epoch:
            self.state, readings = population.evaluate(
                self.state, self.sets.val, np.int32(chunk.epoch)
            )
            parts.append(readings)
        return [population.shared(part) for part in (*parts, *probed)]

    def stop(self, members: Collection[int]) -> None:
        """End the training of some members from the host."""
        places = {place for place, member in enumerate(self.members) if member in members}
        if places:
            self.state = self.population.stop(self.state, places)

    def repack(self, ended: Collection[int]) -> bool:
        """Compact the active set once half of it has ended; return whether that was so.

        The others go on in fewer rows (`Population.compact`); the states of those that leave are
        kept on the host.
        """
        staying = _staying(self.members, ended)
        if staying == self.members:
            return False
        self._compact(staying)
        return True

    def resume(self, states: State, ended: Sequence[Collection[int]]) -> None:
        """Restore all members' states; `ended` are the members that had ended after each chunk."""
        self.state = self.whole.place_states(states)
        staying = self.members
        for ended_by_then in ended:
            staying = _staying(staying, ended_by_then)
        if staying != self.members:
            self._compact(staying)

    def _compact(self, staying: list[int]) -> None:
        states = self.population.fetch(self.state)
        self._park(states)
        places = [self.members.index(member) for member in staying]
        compact = self.population.compact(places)
        if compact.mesh != self.population.mesh:
            data, trainer, *_ = self._made_of
            self.sets = compact.place_sets(data, trainer, stream=self.sets.train is None)
        self.population, self.members = compact, staying
        self.state = compact.place_states(jax.tree.map(lambda leaf: leaf[places], states))
        self.close()
        self._feed = self._open_feed()

    def states(self) -> State:
        """Return the states of all members [M, ...], on the host."""
        now = self.population.fetch(self.state)
        if self.population is self.whole:
            return now
        self._park(now)
        states = [self._parked[member] for member in sorted(self._parked)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *states)

    def everyone(self) -> State:
        """Return the states of all members, in the rows of `whole`."""
        return (
            self.state if self.population is self.whole else self.whole.place_states(self.states())
        )

    def close(self) -> None:
        """Stop reading ahead."""
        self._feed.close()

    def _park(self, states: Any) -> None:
        for place, member in enumerate(self.members):
            self._parked[member] = jax.tree.map(lambda leaf: leaf[place], states)  # noqa: B023

    def _open_feed(self) -> Feed:
        data, trainer, seeds, longest = self._made_of
        kind = StreamingFeed if self.sets.train is None else ResidentFeed
        return kind(data, [seeds[m] for m in self.members], trainer.batch_size, longest)


def _staying(members: list[int], ended: Collection[int]) -> list[int]:
    """Return the members that keep a row: all, until half of them have ended."""
    active = [member for member in members if member not in ended]
    return active if active and 2 * len(active) <= len(members) else members


def _as_examples(batches: Any) -> Any:
    return Examples(*batches) if isinstance(batches, tuple) else batches
