"""What a callback is: a probe on the device, a hook on the host, or both."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
from jaxtyping import Array, Bool, Float

from actsweep.stats.histogram import Histogram

Readings = Mapping[str, Any]  # metric name -> Float[""] or Histogram


@dataclass(frozen=True)
class StepView:
    """One optimiser step of one member, by layer name, as seen inside the compiled chunk."""

    weights: Mapping[str, Float[Array, "..."]]
    grads: Mapping[str, Float[Array, "..."]]


def _renamed(old: str, new: str) -> Any:
    """An attribute of version 0.1, which warns of its new name."""

    def read(view: Any) -> Any:
        warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=2)
        return getattr(view, new)

    return property(read)


@dataclass(frozen=True)
class ProbeView:
    """One member's network on the probe batch of n training examples, by layer name.

    `preact` is z, `act` is f(z), `abs_derivative` is |f'(z)| of each unit, and `gate_input` decides
    whether a unit is active; each [n, ..., units] for the layers that have an activation. `logits`
    are [n, outputs]. `weights` and `grads` (of the mean loss) are the kernels of every layer, the
    head's included. `preact_grads` are those of each example's own loss with respect to z.
    `updates` is what the optimiser would add to the weights if this batch came next.
    """

    preact: Mapping[str, Float[Array, "n ..."]]
    act: Mapping[str, Float[Array, "n ..."]]
    abs_derivative: Mapping[str, Float[Array, "n ..."]]
    gate_input: Mapping[str, Float[Array, "n ..."]]
    logits: Float[Array, "n outputs"]
    weights: Mapping[str, Float[Array, "..."]]
    grads: Mapping[str, Float[Array, "..."]]
    preact_grads: Mapping[str, Float[Array, "n ..."]]
    updates: Mapping[str, Float[Array, "..."]]

    slope = _renamed("slope", "abs_derivative")
    drive = _renamed("drive", "gate_input")


@dataclass(frozen=True)
class CountView:
    """Like `ProbeView`, for a slice of the whole training set: the forward pass alone."""

    preact: Mapping[str, Float[Array, "n ..."]]
    act: Mapping[str, Float[Array, "n ..."]]
    abs_derivative: Mapping[str, Float[Array, "n ..."]]
    gate_input: Mapping[str, Float[Array, "n ..."]]

    slope = _renamed("slope", "abs_derivative")
    drive = _renamed("drive", "gate_input")


jax.tree_util.register_dataclass(Histogram, data_fields=["counts"], meta_fields=["edges"])


@dataclass(frozen=True)
class LogMessage:
    """A host hook's message: shown, and kept with the run."""

    text: str


@dataclass(frozen=True)
class EarlyStop:
    """A host hook's wish to end this member's training, and why."""

    text: str


class Hook(Protocol):
    """Called for one member's rows in order; may keep what it needs in a closure."""

    def __call__(
        self, step: int, epoch: float, readings: Mapping[str, float]
    ) -> LogMessage | EarlyStop | None:
        """Look at one row. `readings` holds the row's scalars by metric name."""


@dataclass(frozen=True)
class Callback:
    """One observer of training. With or without it, the parameters are bitwise the same.

    Attributes:
        on_step: device, at every optimiser step. A reading `family/layer` is logged as its mean
            over the chunk, and as `family_max/layer`, its maximum.
        probe: device, on the probe batch, before training and then whenever it is due.
        count: device, on slices of the whole training set, before training and at the end (best
            parameters); returns integer counts, which are summed over the slices.
        settled: device; whether no further slice can change what `conclude` makes of these sums:
            the rest of the training set is then left out.
        conclude: device, turns the sums and the number of examples into readings.
        hook: host; makes the function that receives each row of one member.
        every: epochs between probes.
        every_steps: optimiser steps between probes, instead of epochs.

    Raises:
        ValueError: a cadence below 1.
    """

    on_step: Callable[[StepView], Readings] | None = None
    probe: Callable[[ProbeView], Readings] | None = None
    count: Callable[[CountView], Mapping[str, Array]] | None = None
    settled: Callable[[Mapping[str, Array]], Bool[Array, ""]] | None = None
    conclude: Callable[[Mapping[str, Array], int], Readings] | None = None
    hook: Callable[[], Hook] | None = None
    every: int = 1
    every_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("every", "every_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1")

    def due(self, step: int, epoch: float) -> bool:
        """Whether the probe is to run after so many steps and epochs, both 0 before training."""
        if self.probe is None:
            return False
        if self.every_steps is not None:
            return step % self.every_steps == 0
        return epoch % self.every == 0
