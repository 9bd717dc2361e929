"""Activations whose units look at several inputs: softmax, maxout and the gated linear units."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from actsweep.activations import smooth
from actsweep.activations.base import in_float32, pieces_of
from actsweep.activations.elementwise import relu


@in_float32
def softmax(z: Float[Array, "*batch units"]) -> Float[Array, "*batch units"]:
    """exp(z_j) / sum_k exp(z_k)"""
    return jax.nn.softmax(z, axis=-1)


@in_float32
def log_softmax(z: Float[Array, "*batch units"]) -> Float[Array, "*batch units"]:
    """z_j - log(sum_k exp(z_k)), to full precision also for the unit that dominates"""
    top = _is_top(z)
    shifted = z - jnp.sum(jnp.where(top, z, 0), axis=-1, keepdims=True)
    others = jnp.sum(jnp.where(top, 0, jnp.exp(shifted)), axis=-1, keepdims=True)
    return shifted - jnp.log1p(others)


@in_float32
def softmax_abs_derivative(z: Float[Array, "*batch units"]) -> Float[Array, "*batch units"]:
    """a_j * sqrt((1 - a_j)^2 + sum over k != j of a_k^2)"""
    return softmax(z) * log_softmax_abs_derivative(z)


@in_float32
def log_softmax_abs_derivative(z: Float[Array, "*batch units"]) -> Float[Array, "*batch units"]:
    """sqrt((1 - a_j)^2 + sum over k != j of a_k^2)"""
    a = jax.nn.softmax(z, axis=-1)
    return jnp.sqrt(jnp.square(_sum_others(a)) + _sum_others(jnp.square(a)))


def _is_top(z: Array) -> Array:
    """One unit of the largest value, as a mask."""
    unit = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1)
    return unit == jnp.argmax(z, axis=-1, keepdims=True)


def _sum_others(a: Array) -> Array:
    """The sum over k != j of a_k, exact also where unit j is nearly all of the total."""
    top = _is_top(a)
    rest = jnp.sum(jnp.where(top, 0, a), axis=-1, keepdims=True)
    largest = jnp.sum(jnp.where(top, a, 0), axis=-1, keepdims=True)
    return jnp.where(top, rest, (rest - a) + largest)


def maxout(z: Float[Array, "*batch inputs"], pieces: int = 2) -> Float[Array, "*batch units"]:
    """max over the pieces; where n tie, each has derivative 1/n"""
    return jnp.max(pieces_of(z, pieces), axis=-2)


@in_float32
def glu(z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
    """v * sigmoid(g), [v, g] = z"""
    v, g = jnp.split(z, 2, axis=-1)
    return v * smooth.sigmoid(g)


@in_float32
def swiglu(z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
    """v * swish(g), [v, g] = z"""
    v, g = jnp.split(z, 2, axis=-1)
    return v * smooth.swish(g, jnp.ones_like(g))


@in_float32
def geglu(z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
    """v * gelu(g), [v, g] = z"""
    v, g = jnp.split(z, 2, axis=-1)
    return v * smooth.gelu(g)


@in_float32
def reglu(z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
    """v * relu(g), [v, g] = z"""
    v, g = jnp.split(z, 2, axis=-1)
    return v * relu(g)
