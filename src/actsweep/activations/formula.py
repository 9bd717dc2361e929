"""An activation from a formula: the tree that `formulas.grammar` reads, as a function of arrays.

Functions that lose digits in float32 are those of `smooth`. `formulas.values` is the same in
float64; at kinks the two take the same side.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from actsweep.activations import smooth
from actsweep.activations.base import Activation, Params, in_float32, keep_nan
from actsweep.formulas.grammar import Node, parameters, parse

MOST_MULTIPLIED = 16
"""Largest whole exponent that is a product rather than a power."""


def _power(base: Array, exponent: Array | float) -> Array:
    if isinstance(exponent, float):
        if exponent == int(exponent) and abs(exponent) <= MOST_MULTIPLIED:
            return jax.lax.integer_pow(base, int(exponent))
        if exponent == 0.5:
            return jnp.sqrt(base)
    return jnp.power(base, jnp.asarray(exponent, base.dtype))


FUNCTIONS: dict[str, Callable[..., Array]] = {
    "+": lambda a, b: a + b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "neg": lambda a: -a,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    # Where both are equal the second counts, which the normal form has made the constant.
    "max": lambda a, b: jnp.where(a > b, a, b),
    "min": lambda a, b: jnp.where(a < b, a, b),
    "where": jnp.where,
    "exp": jnp.exp,
    "expm1": smooth.expm1,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "sqrt": jnp.sqrt,
    "abs": lambda a: jnp.where(a > 0, a, jnp.where(a < 0, -a, 0 * a)),  # JAX's has slope 1 at 0
    "sign": jnp.sign,
    "erf": jax.lax.erf,
    "erfc": jax.lax.erfc,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "atan": jnp.arctan,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "asinh": jnp.arcsinh,
    "tanh": smooth.tanh,
    "sigmoid": smooth.sigmoid,
    "softplus": smooth.softplus,
    "gelu": smooth.gelu,
    "silu": lambda a: smooth.swish(a, jnp.ones_like(a)),
    "mish": smooth.mish,
}


@functools.cache
def from_formula(formula: str, name: str) -> Activation:
    """Return the activation that a formula describes.

    Args:
        formula: its normal form, from `formulas.grammar.normal_form`.
        name: as it was typed.

    Returns:
        An elementwise activation. Its parameters default to 1; `learnable` names those that the
        layer trains, `per_channel` gives each unit its own.
    """
    tree = parse(formula)
    names = parameters(tree)

    def fn(z: Array, *, learnable: Any = (), per_channel: bool = False, **params: Any) -> Array:
        del learnable, per_channel  # used by the layer alone
        values = {key: jnp.broadcast_to(params.get(key, 1.0), z.shape) for key in names}
        return keep_nan(z, jnp.broadcast_to(_evaluate(tree, z, values), z.shape))

    return Activation(
        name=name,
        fn=jax.jit(in_float32(fn), static_argnames=("learnable", "per_channel")),
        formula=name,
        paper="typed as a formula",
        range="unknown",
        zero="of each part; a constant's side at the kinks of max and min",
        monotone=False,
        params={**dict.fromkeys(names, 1.0), "learnable": (), "per_channel": False},
        learnable=_learned,
    )


def _learned(params: Params) -> tuple[str, ...]:
    return tuple(params.get("learnable") or ())


def bind_formula(act: Mapping[str, Any]) -> tuple[Activation, dict[str, Any]]:
    """Return the activation of a run's `act` that has a formula, with all its parameters."""
    activation = from_formula(act["formula"], act["name"])
    given = {key: act[key] for key in activation.params if act.get(key) is not None}
    learned = tuple(given.get("learnable") or ())
    return activation, {**activation.params, **given, "learnable": learned}


def _evaluate(node: Node, z: Array, params: Mapping[str, Array]) -> Any:
    """Return a part's values; of a constant a Python float, so that a power sees it."""
    if node.kind == "number":
        return node.value
    if node.kind == "x":
        return z
    if node.kind == "parameter":
        return params[node.name]
    args = [_evaluate(arg, z, params) for arg in node.args]
    if node.kind == "**":
        return _power(jnp.asarray(args[0], z.dtype), args[1])
    return FUNCTIONS[node.kind](
        *(jnp.asarray(arg, z.dtype) if isinstance(arg, float) else arg for arg in args)
    )
