"""What happens where activations act: recorded, perturbed, and through time as one."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from actsweep.utils.errors import UserError

if TYPE_CHECKING:
    from actsweep.nn.models.layers import Act


@dataclass
class Intermediates:
    """A record of z, f(z), |f'(z)| and the gate input wherever an activation acts, by its name.

    `perturbation[name]`, where given, is added to z: the gradient of the loss with respect to it
    is the gradient with respect to z.
    """

    perturbation: Mapping[str, Array] = field(default_factory=dict)
    preact: dict[str, Array] = field(default_factory=dict)
    act: dict[str, Array] = field(default_factory=dict)
    abs_derivative: dict[str, Array] = field(default_factory=dict)
    gate_input: dict[str, Array] = field(default_factory=dict)

    def __call__(self, name: str, z: Array, act: "Act") -> Array:
        """Record an activation; return f(z).

        Raises:
            UserError: the activation has acted before in this forward pass.
        """
        if name in self.preact:
            raise UserError(
                f"model: the activation {name} acts twice in one forward pass, so that its metrics "
                "would be of either; make one for each place, with make.act"
            )
        if name in self.perturbation:
            z = z + self.perturbation[name].astype(z.dtype)
        return self.record(name, z, act)

    def record(self, name: str, z: Array, act: "Act") -> Array:
        """Record an activation whose perturbation is in z already; return f(z)."""
        a = act.apply(z)
        self.preact[name], self.act[name] = z, a
        self.abs_derivative[name] = act.abs_derivative(z)
        self.gate_input[name] = act.gate_input(z)
        return a


Recorder = Callable[[str, Array, Any], Array]
_RECORDER: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def current() -> Recorder | None:
    """Return who records now, if anybody does."""
    return _RECORDER.get()


@contextlib.contextmanager
def recording(recorder: Recorder | None) -> Iterator[None]:
    """Have every activation that is called call `recorder(name, z, act)` instead."""
    before = _RECORDER.set(recorder)
    try:
        yield
    finally:
        _RECORDER.reset(before)


def scan(
    cell: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, acts: Sequence["Act"]
) -> tuple[Any, Any]:
    """Call `cell(carry, x)` for every step of time, as `jax.lax.scan` does.

    Each of `acts` acts once a step inside of it, and is recorded over all steps as one activation,
    [batch, time, ...].

    Args:
        cell: returns the next carry and the output of a step.
        carry: the first one.
        xs: the inputs, time first.
        acts: all activations that `cell` calls.

    Raises:
        UserError: one of them is random in training.
    """
    if drawn := [act for act in acts if act.spec.drawn is not None]:
        raise UserError(
            f"act={drawn[0].spec.name}: is random in training, and {drawn[0].name or 'it'} acts at "
            "every step of time; type for example act=leaky_relu"
        )
    recorder = _RECORDER.get()
    if not isinstance(recorder, Intermediates):
        return jax.lax.scan(cell, carry, xs)
    known = recorder.perturbation
    shifts = {a.name: jnp.moveaxis(known[a.name], 1, 0) for a in acts if a.name in known}

    def step(carry: Any, inputs: Any) -> tuple[Any, Any]:
        x, shift = inputs
        now = Intermediates(shift)
        with recording(now):
            carry, y = cell(carry, x)
        return carry, (y, now.preact)

    carry, (ys, preacts) = jax.lax.scan(step, carry, (xs, shifts))
    for act in acts:
        recorder.record(act.name, jnp.moveaxis(preacts[act.name], 0, 1), act)
    return carry, ys
