"""Activations that act on each unit separately, as functions of float arrays of any shape.

At a kink the derivative is that of the flat side if there is one, and of the left side otherwise.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PRNGKeyArray

from actsweep.activations import smooth
from actsweep.activations.base import in_float32, keep_nan


def identity(z: Array) -> Array:
    """Return z."""
    return keep_nan(z, z)


sigmoid = in_float32(smooth.sigmoid)
tanh = in_float32(smooth.tanh)
softsign = in_float32(smooth.softsign)
mish = in_float32(smooth.mish)
selu = in_float32(smooth.selu)
hard_swish = in_float32(smooth.hard_swish)


@in_float32
def softplus(z: Array, beta: float | Array = 1.0) -> Array:
    """Return log(1 + exp(beta * z)) / beta."""
    return smooth.softplus(beta * z) / beta


@in_float32
def log_sigmoid(z: Array) -> Array:
    """Return -softplus(-z), which is log(sigmoid(z))."""
    return -smooth.softplus(-z)


def relu(z: Array) -> Array:
    """Return max(z, 0)."""
    return keep_nan(z, jnp.where(z > 0, z, 0))


def relu6(z: Array) -> Array:
    """Return min(max(z, 0), 6)."""
    return keep_nan(z, jnp.where(z < 6, jnp.where(z > 0, z, 0), 6))


def squared_relu(z: Array) -> Array:
    """Return max(z, 0)^2."""
    return keep_nan(z, jnp.square(jnp.where(z > 0, z, 0)))


def hard_tanh(z: Array) -> Array:
    """Return min(max(z, -1), 1)."""
    ends = jnp.where(z > 0, 1, -1).astype(z.dtype)
    return keep_nan(z, jnp.where(jnp.abs(z) < 1, z, ends))


@in_float32
def hard_sigmoid(z: Array) -> Array:
    """Return min(max(z + 3, 0), 6) / 6."""
    return keep_nan(z, jnp.where(jnp.abs(z) < 3, (z + 3) / 6, jnp.where(z > 0, 1.0, 0.0)))


@in_float32
def leaky_relu(z: Array, slope: float | Array = 0.01) -> Array:
    """Return z where z > 0, and slope * z elsewhere."""
    return keep_nan(z, jnp.where(z > 0, z, slope * z))


def prelu(z: Array, slope: float | Array = 0.25, per_channel: bool = False) -> Array:
    """Return `leaky_relu` with a learned slope: one per layer, or one per unit (`per_channel`)."""
    del per_channel  # used by the layer alone, which decides the shape of `slope`
    return leaky_relu(z, slope=slope)


def rrelu(z: Array, lower: float | Array = 1 / 8, upper: float | Array = 1 / 3) -> Array:
    """Return `leaky_relu` with the mean of the two slopes, as a trained network uses it."""
    return leaky_relu(z, slope=(lower + upper) / 2)


def rrelu_drawn(
    z: Array, key: PRNGKeyArray, lower: float | Array = 1 / 8, upper: float | Array = 1 / 3
) -> Array:
    """Return `leaky_relu` with a slope for each number in z, uniform on [lower, upper)."""
    low, high = (jnp.full(z.shape, bound, jnp.float32) for bound in (lower, upper))
    return leaky_relu(z, slope=low + jax.random.uniform(key, z.shape, jnp.float32) * (high - low))


@in_float32
def elu(z: Array, alpha: float | Array = 1.0) -> Array:
    """Return z where z > 0, and alpha * expm1(z) elsewhere."""
    return jnp.where(z > 0, z, alpha * smooth.expm1(jnp.where(z > 0, 0, z)))


@in_float32
def celu(z: Array, alpha: float | Array = 1.0) -> Array:
    """Return z where z > 0, and alpha * expm1(z / alpha) elsewhere."""
    # Below -110 * alpha, expm1 is -1; a larger quotient could overflow in the derivatives.
    floor = -110 * alpha
    x = jnp.where(z > 0, 0, jnp.where(z < floor, floor, z))
    return jnp.where(z > 0, z, alpha * smooth.expm1(x / alpha))


@in_float32
def gelu(z: Array, approximate: bool = False) -> Array:
    """Return z * Phi(z), or its tanh approximation with `approximate`."""
    return smooth.gelu_tanh(z) if approximate else smooth.gelu(z)


@in_float32
def swish(z: Array, beta: float | Array = 1.0, learnable: bool = False) -> Array:
    """Return z * sigmoid(beta * z)."""
    del learnable  # used by the layer alone, which holds `beta` as a parameter
    return smooth.swish(z, beta)
