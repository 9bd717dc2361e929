"""Activations whose units depend on several inputs: softmax, maxout and the gated linear units."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from actsweep.activations import smooth
from actsweep.activations.base import in_float32, pieces_of
from actsweep.activations.elementwise import relu


@in_float32
def softmax(z: Float[Array, "*batch units"]) -> Float[Array, "*batch units"]:
    """Return exp(z_j) / sum_k exp(z_k), with sums over the last axis (Bridle 1990)."""
    return jax.nn.softmax(z, axis=-1)


@in_float32
def log_softmax(z: Float[Array, "*batch units"]) -> Float[Array, "*batch units"]:
    """Return z_j - log(sum_k exp(z_k)), to full precision even for a dominant unit."""
    top = _is_top(z)
    shifted = z - jnp.sum(jnp.where(top, z, 0), axis=-1, keepdims=True)
    others = jnp.sum(jnp.where(top, 0, jnp.exp(shifted)), axis=-1, keepdims=True)
    return shifted - jnp.log1p(others)


@in_float32
def softmax_abs_derivative(z: Float[Array, "*batch units"]) -> Float[Array, "*batch units"]:
    """Return |row j| of softmax's Jacobian: a_j sqrt((1 - a_j)^2 + sum over k != j of a_k^2)."""
    return softmax(z) * log_softmax_abs_derivative(z)


@in_float32
def log_softmax_abs_derivative(z: Float[Array, "*batch units"]) -> Float[Array, "*batch units"]:
    """Return |row j| of log-softmax's Jacobian: sqrt((1 - a_j)^2 + sum over k != j of a_k^2)."""
    a = jax.nn.softmax(z, axis=-1)
    return jnp.sqrt(jnp.square(_sum_others(a)) + _sum_others(jnp.square(a)))


def _is_top(z: Array) -> Array:
    """Return a mask of one unit that has the largest value; the first of several."""
    unit = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1)
    return unit == jnp.argmax(z, axis=-1, keepdims=True)


def _sum_others(a: Array) -> Array:
    """Return the sum over k != j of a_k, exact even where a_j is nearly all of the total."""
    top = _is_top(a)
    others = jnp.sum(jnp.where(top, 0, a), axis=-1, keepdims=True)
    largest = jnp.sum(jnp.where(top, a, 0), axis=-1, keepdims=True)
    return jnp.where(top, others, (others - a) + largest)


def maxout(z: Float[Array, "*batch inputs"], pieces: int = 2) -> Float[Array, "*batch units"]:
    """Return the maximum over the pieces of each unit; where n tie, each has derivative 1/n."""
    return jnp.max(pieces_of(z, pieces), axis=-2)


@in_float32
def glu(z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
    """Return v * sigmoid(g), where v and g are the halves of z's last axis."""
    v, g = jnp.split(z, 2, axis=-1)
    return v * smooth.sigmoid(g)


@in_float32
def swiglu(z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
    """Return v * swish(g), where v and g are the halves of z's last axis."""
    v, g = jnp.split(z, 2, axis=-1)
    return v * smooth.swish(g, jnp.ones_like(g))


@in_float32
def geglu(z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
    """Return v * gelu(g), where v and g are the halves of z's last axis."""
    v, g = jnp.split(z, 2, axis=-1)
    return v * smooth.gelu(g)


@in_float32
def reglu(z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
    """Return v * relu(g), where v and g are the halves of z's last axis."""
    v, g = jnp.split(z, 2, axis=-1)
    return v * relu(g)
