"""The parts of a callback: probes on the device, a hook on the host, and what they receive."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from actsweep.config.schema import RunConfig
from actsweep.stats.histogram import Histogram

Readings = Mapping[str, Any]  # metric name -> Float[""] or Histogram


@dataclass(frozen=True)
class StepView:
    """One optimiser step of one member, inside the compiled chunk; arrays by layer name.

    `weights` are the kernels before the step, `grads` the gradients of the batch's mean loss with
    respect to them.
    """

    weights: Mapping[str, Float[Array, "..."]]
    grads: Mapping[str, Float[Array, "..."]]


def _renamed(old: str, new: str) -> Any:
    """Return a property for an attribute of version 0.1: the new one, with a DeprecationWarning."""

    def read(view: Any) -> Any:
        warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=2)
        return getattr(view, new)

    return property(read)


@dataclass(frozen=True)
class ProbeView:
    """One member's network on the probe batch of n training examples; arrays by layer name.

    Attributes:
        preact: z, for each layer that has an activation.
        act: f(z), [n, ..., units].
        abs_derivative: |f'(z)| of each unit, [n, ..., units]; see `activations.abs_derivative`.
        gate_input: above 0 where the unit is active, [n, ..., units].
        logits: the network's outputs.
        weights: the kernel of every layer, the head's included.
        grads: the gradient of the mean loss with respect to each kernel.
        preact_grads: the gradient of each example's loss with respect to its z.
        updates: what the optimiser would add to each kernel if this batch came next.
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
    """One member's forward pass on a slice of n training examples; fields as in `ProbeView`."""

    preact: Mapping[str, Float[Array, "n ..."]]
    act: Mapping[str, Float[Array, "n ..."]]
    abs_derivative: Mapping[str, Float[Array, "n ..."]]
    gate_input: Mapping[str, Float[Array, "n ..."]]

    slope = _renamed("slope", "abs_derivative")
    drive = _renamed("drive", "gate_input")


jax.tree_util.register_dataclass(Histogram, data_fields=["counts"], meta_fields=["edges"])


@dataclass(frozen=True)
class LogMessage:
    """A message of a host hook: it is shown, and kept with the run."""

    text: str


@dataclass(frozen=True)
class EarlyStop:
    """A host hook's request to end the training of this member; `text` gives the reason."""

    text: str


class Hook(Protocol):
    """A function that receives the rows of one member in order; a closure can hold its state."""

    def __call__(
        self, step: int, epoch: float, readings: Mapping[str, float]
    ) -> LogMessage | EarlyStop | Mapping[str, float] | None:
        """Receive one row, and return a message, a request to stop, numbers to log, or None.

        Numbers, by names of their own, are added to the row. When a run goes on, the rows come
        again, with the numbers that were added to them.

        Args:
            step: optimiser steps done; 0 before training.
            epoch: epochs done, with fractions.
            readings: the row's scalars by metric name.
        """


@dataclass(frozen=True)
class Callback:
    """One observer of training. With or without it, the parameters are bitwise the same.

    >>> def probe(view):
    ...     return {f"weight_norm/{name}": jnp.linalg.norm(w) for name, w in view.weights.items()}
    >>> callback = Callback(probe=probe, every=2)  # doctest: +SKIP

    Attributes:
        on_step: runs on the device at every optimiser step. A reading `family/layer` is logged as
            its mean over the chunk, and as `family_max/layer`, its maximum.
        probe: runs on the device on the probe batch, before training and whenever it is due.
        count: runs on the device on slices of the whole training set, before training and at the
            end (with the best parameters); returns integer counts, which are summed over slices.
        settled: runs on the device after a slice; returns whether no further slice can change what
            `conclude` returns. The rest of the training set is then left out.
        conclude: runs on the device; turns the sums and the number of examples into readings.
        before: runs on the host before training, once for each member; takes its config and the
            probe batch as the network reads it, [n, ...]; returns numbers for the row of step 0.
        hook: runs on the host; returns the function that receives the rows of one member.
        every: epochs between probes.
        every_steps: optimiser steps between probes, instead of epochs.

    Raises:
        ValueError: `every` or `every_steps` is below 1.
    """

    on_step: Callable[[StepView], Readings] | None = None
    probe: Callable[[ProbeView], Readings] | None = None
    count: Callable[[CountView], Mapping[str, Array]] | None = None
    settled: Callable[[Mapping[str, Array]], Bool[Array, ""]] | None = None
    conclude: Callable[[Mapping[str, Array], int], Readings] | None = None
    before: Callable[[RunConfig, np.ndarray], Mapping[str, float]] | None = None
    hook: Callable[[], Hook] | None = None
    every: int = 1
    every_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("every", "every_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1")

    def due(self, step: int, epoch: float) -> bool:
        """Return whether the probe runs after this many steps and epochs (0 before training)."""
        if self.probe is None:
            return False
        if self.every_steps is not None:
            return step % self.every_steps == 0
        return epoch % self.every == 0
