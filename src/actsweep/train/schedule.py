"""Which steps make a chunk, what is due after it, and how many steps one call may take."""

import itertools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from actsweep.callbacks.base import Callback
from actsweep.config.schema import TrainerConfig

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
