"""Schedule of training: its chunks, what is due after each, and the steps that a call takes."""

import itertools
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from actsweep.callbacks.base import Callback
from actsweep.config.schema import TrainerConfig
from actsweep.data import Dataset

FIRST_STEPS = 4
STREAMED_BYTES = 2**28
"""Bytes of examples that one call gets at most, of a training set that is streamed."""


@dataclass(frozen=True)
class Chunk:
    """Steps `first … first + n - 1`, and what is due after them."""

    first: int
    n: int
    epoch: int
    ends_epoch: bool
    due: tuple[str, ...]

    @property
    def end(self) -> int:
        """Return the number of steps done after this chunk."""
        return self.first + self.n


class Pace:
    """Number of steps that one call on the devices may take, so that it ends in some seconds.

    A running call can't be interrupted. Once the first calls have shown how long a step takes,
    short chunks, as most are, are neither divided nor waited for.

    Args:
        seconds: longest time that a call should take.
        longest: steps that a call may take at most.
    """

    def __init__(self, seconds: float, longest: float = math.inf) -> None:
        self._seconds, self._longest = seconds, longest
        self._a_step: float | None = None
        self._called = 0.0

    def steps(self, left: int) -> int:
        """Return how many of the steps that are left the next call takes."""
        most = FIRST_STEPS if self._a_step is None else self._seconds / self._a_step
        most = min(most, self._longest)
        return math.ceil(left / math.ceil(left / max(1, int(most))))

    def called(self, n: int, readings: Any, *, whole: bool) -> None:
        """Measure a call of n steps; one that was only part of a chunk is waited for."""
        if not whole:
            jax.block_until_ready(readings)
        now, before = time.monotonic(), self._called
        self._called = now
        if before:
            self._a_step = (now - before) / n


def plan(trainer: TrainerConfig, examples: int, callbacks: Mapping[str, Callback]) -> list[Chunk]:
    """Return every chunk of the training.

    A chunk ends where something is due: at a multiple of a callback's `every_steps`, or of an
    epoch. The steps between are divided evenly, into chunks of at most `chunk_steps`.
    """
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


def longest_call(
    chunks: Iterable[Chunk], data: Dataset, batch_size: int, rows: int, *, streamed: bool
) -> int:
    """Return how many steps a call may take: a chunk, or what `STREAMED_BYTES` hold.

    Args:
        chunks: all of the training.
        data: the examples.
        batch_size: examples of one step of one member.
        rows: of the population.
        streamed: whether each call gets its examples from the host.
    """
    longest = max(chunk.n for chunk in chunks)
    if not streamed:
        return longest
    example = sum(math.prod(a.shape[1:]) * a.dtype.itemsize for a in (data.train_x, data.train_y))
    return max(1, min(longest, STREAMED_BYTES // (example * batch_size * rows)))


def due_at(callbacks: Mapping[str, Callback], step: int, steps_per_epoch: int) -> tuple[str, ...]:
    """Return the callbacks whose probe is due after so many steps."""
    epoch = step / steps_per_epoch
    return tuple(name for name, callback in callbacks.items() if callback.due(step, epoch))
