"""The values that the modules of `train` pass to each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from actsweep.nn.network import Params
from actsweep.runs.members import Member
from actsweep.runs.rows import Row

COUNT_SLICE = 2_000
ACTIVE, STOPPED, DIVERGED = 0, 1, 2  # State.outcome

Result = dict[str, Any]
Results = dict[str, Result]


class Examples(NamedTuple):
    """Examples as they are stored: x [n, ...] uint8 or float32, y [n] int32 or [n, outputs]."""

    x: Array
    y: Array


class Tally(NamedTuple):
    """What the steps of a row have measured so far, by name: sums and maxima."""

    total: Mapping[str, Float[Array, ""]]
    most: Mapping[str, Float[Array, ""]]


class State(NamedTuple):
    """Everything that training changes, and what the best epoch left behind."""

    params: Params
    act_hparams: Params
    opt_state: optax.OptState
    best: Params
    best_score: Float[Array, ""]
    best_epoch: Int[Array, ""]
    bad_epochs: Int[Array, ""]
    outcome: Int[Array, ""]
    tally: Tally


class Span(NamedTuple):
    """Steps `first … first + n - 1`, of those from `begin` up to `end` that make one row; each
    an int32."""

    first: Any
    n: Any
    begin: Any
    end: Any


@dataclass
class TrainResult:
    """What training left: every member's state [M, ...] on the host, outcome and final numbers."""

    state: State
    diverged: list[bool]
    failures: dict[int, str]
    epochs: list[float]
    steps: list[int]
    last_step: int
    best_epoch: list[int]
    best_score: list[float]
    final: list[dict[str, float]]


@dataclass(frozen=True)
class ResumePoint:
    """Where members go on that have been trained before: after `step`, from `states` [M, ...] on
    the host; `rows` are those of each member that are written already."""

    step: int
    states: State
    rows: Sequence[Sequence[Row]]

    def part(self, members: Sequence[int]) -> "ResumePoint":
        """Only some of the members, by place."""
        own = jax.tree.map(lambda leaf: leaf[np.asarray(members)], self.states)
        return ResumePoint(self.step, own, [self.rows[member] for member in members])


class ChunkReadings(NamedTuple):
    """What the devices said after a chunk, and which member stood in which row."""

    step: int
    epoch: float
    parts: Sequence[Mapping[str, Any]]
    rows: Mapping[int, int]


@dataclass(frozen=True)
class SweepContext:
    """Where a pack stands in its sweep: the sweep's name, runs before this pack, runs in all, and
    how many times the sweep was told to retry, from 1 on."""

    sweep: str
    offset: int = 0
    total: int | None = None
    attempt: int = 1


@dataclass(frozen=True)
class Cohort:
    """Members that train at once; where they go on, and the seconds that each has had before."""

    members: Sequence[Member]
    start: ResumePoint | None
    seconds: Sequence[float]

    def part(self, members: Sequence[int]) -> "Cohort":
        """Only some of the members, by place."""
        own, seconds = zip(*[(self.members[m], self.seconds[m]) for m in members], strict=True)
        return Cohort(own, self.start and self.start.part(members), seconds)
