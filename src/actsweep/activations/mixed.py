"""One activation made of several, of which each member of a pack has its own: `pack.mix`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from actsweep.activations.base import Activation, Params, abs_derivative

CHOICE = "choice"
"""The parameter that says which of the activations a member has, counted from 0."""


@dataclass(frozen=True)
class Part:
    """One of the activations of a mixed one: its static parameters, and its numbers' names."""

    spec: Activation
    static: Params
    numbers: tuple[str, ...]


def mixed(parts: Sequence[Part]) -> Activation:
    """Return the elementwise activation whose parameter `choice` says which of several it is.

    Numbers of the same name, such as the `alpha` of elu and celu, are one parameter of it: of a
    member, that of its own activation. Under `lax.map` only the chosen one is computed.

    Args:
        parts: elementwise activations that train no parameters.
    """
    names = ", ".join(part.spec.name for part in parts)
    numbers = dict.fromkeys((CHOICE, *(key for part in parts for key in part.numbers)), 0.0)

    def value(spec: Activation, params: Params, z: Array) -> Array:
        return spec.fn(z, **params)

    def derivative(spec: Activation, params: Params, z: Array) -> Array:
        return abs_derivative(spec, z, **params)

    return Activation(
        name=names,
        fn=lambda z, **params: _choose(parts, value, params, z),
        formula=f"one of {names}",
        paper="that of the chosen part",
        range="that of the chosen part",
        zero="that of the chosen part",
        monotone=False,
        params=numbers,
        abs_derivative=lambda z, **params: _choose(parts, derivative, params, z),
    )


def _choose(
    parts: Sequence[Part], of: Callable[..., Array], params: Params, *arguments: Array
) -> Array:
    """Return `of(activation, its parameters, *arguments)` of the chosen part."""

    def branch(part: Part) -> Callable[..., Array]:
        def run(params: Params, *arguments: Array) -> Array:
            own = {key: params[key] for key in part.numbers}
            return of(part.spec, {**part.static, **own}, *arguments)

        return run

    place = jnp.asarray(params[CHOICE]).astype(jnp.int32)
    return jax.lax.switch(place, [branch(part) for part in parts], dict(params), *arguments)
