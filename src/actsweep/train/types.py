"""Values that the modules of `train` pass to each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from actsweep.nn.network import Held, Params
from actsweep.runs.members import Member
from actsweep.runs.rows import Row

COUNT_SLICE = 2_000
ACTIVE, STOPPED, DIVERGED = 0, 1, 2  # State.outcome

Judge = Callable[[int, float], bool]
"""What a run's score in validation after an epoch decides: whether it is pruned there."""
Judges = Callable[[str, int], Judge | None]
"""From a run id, and 1 or -1 as more or less is better, to a judge; None where there is none."""
Result = dict[str, Any]
Results = dict[str, Result]


class Examples(NamedTuple):
    """Examples as they are stored: x [n, ...] uint8 or float32, y [n] int32 or [n, outputs]."""

    x: Array
    y: Array


class Tally(NamedTuple):
    """Sums and maxima of what the steps of a row have measured so far, by name."""

    total: Mapping[str, Float[Array, ""]]
    most: Mapping[str, Float[Array, ""]]


class State(NamedTuple):
    """Everything that training changes, and the network of the best epoch.

    `model_state` is what a model holds besides parameters and changes, such as running averages;
    `best_model_state` belongs to the parameters `best`.
    """

    params: Params
    act_hparams: Params
    model_state: Any
    opt_state: optax.OptState
    best: Params
    best_model_state: Any
    best_score: Float[Array, ""]
    best_epoch: Int[Array, ""]
    bad_epochs: Int[Array, ""]
    outcome: Int[Array, ""]
    tally: Tally

    @property
    def held(self) -> Held:
        """Return what the model holds besides its parameters."""
        return self.act_hparams, self.model_state

    @property
    def best_held(self) -> Held:
        """Return what the model held in its best epoch."""
        return self.act_hparams, self.best_model_state


class Span(NamedTuple):
    """Steps `first … first + n - 1`, of the steps `begin … end - 1` that make one row.

    Each is an int32.
    """

    first: Any
    n: Any
    begin: Any
    end: Any


@dataclass(frozen=True)
class Pruned:
    """Where a member was pruned; `stored` if it had been saved so before this process began."""

    step: int
    epoch: float
    stored: bool


@dataclass(frozen=True)
class Pruning:
    """Judges of a cohort's members, and the metric that they are shown after each epoch."""

    metric: str
    judges: Sequence[Judge | None]


@dataclass
class TrainResult:
    """Result of training: every member's state [M, ...] on the host, outcome, final numbers.

    `pruned` are the members, by index, that their search has ended.
    """

    state: State
    diverged: list[bool]
    failures: dict[int, str]
    epochs: list[float]
    steps: list[int]
    last_step: int
    best_epoch: list[int]
    best_score: list[float]
    final: list[dict[str, float]]
    pruned: "Mapping[int, Pruned]"


@dataclass(frozen=True)
class ResumePoint:
    """Point from which members go on: after `step`, from `states` [M, ...] on the host.

    `rows` are the rows of each member that are on disk already.
    """

    step: int
    states: State
    rows: Sequence[Sequence[Row]]

    def part(self, members: Sequence[int]) -> "ResumePoint":
        """Return only some of the members, by index."""
        states = jax.tree.map(lambda leaf: leaf[np.asarray(members)], self.states)
        return ResumePoint(self.step, states, [self.rows[member] for member in members])


class ChunkReadings(NamedTuple):
    """Readings of a chunk, still on the devices, and each member's row."""

    step: int
    epoch: float
    parts: Sequence[Mapping[str, Any]]
    rows: Mapping[int, int]


@dataclass(frozen=True)
class SweepContext:
    """Place of a pack in its sweep.

    Attributes:
        sweep: the sweep's name.
        offset: runs before this pack.
        total: runs in all.
        attempt: number of the sweep's attempt, from 1 on; each retry adds one.
        differing: by run id, the overrides that aren't the same for all of its runs.
        judges: of a search that prunes, who decides it; each call makes a new judge.
        search: of a search that prunes, its token: what it has pruned has ended for it alone.
    """

    sweep: str
    offset: int = 0
    total: int | None = None
    attempt: int = 1
    differing: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    judges: Judges | None = None
    search: str = ""


@dataclass(frozen=True)
class Cohort:
    """Members that train at once, where they start, and the seconds each was trained before."""

    members: Sequence[Member]
    start: ResumePoint | None
    seconds: Sequence[float]

    def part(self, members: Sequence[int]) -> "Cohort":
        """Return only some of the members, by index."""
        chosen, seconds = zip(*[(self.members[m], self.seconds[m]) for m in members], strict=True)
        return Cohort(chosen, self.start and self.start.part(members), seconds)
