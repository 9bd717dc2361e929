"""Further elementwise activations: shrinkages, algebraic ones, gates of erf and Gompertz, learned.

Derivatives are JAX's of the expressions here, which are written so that no part overflows. Compared
with those of `smooth`, values may be 0 where the exact ones are below 1e-36, and near a zero of the
derivative its error is relative to 1, not to the derivative.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from actsweep.activations import smooth
from actsweep.activations.base import in_float32, keep_nan

RATIONAL_P = (0.02996348, 0.61690165, 2.37539147, 3.06608078, 1.52474449, 0.25281987)
RATIONAL_Q = (1.19160814, 4.40811795, 0.91111034, 0.34885983)
"""Coefficients of Molina et al.'s safe Padé unit that imitates leaky ReLU."""
_TANH_SERIES = (
    *(1 / 3, -2 / 15, 17 / 315, -62 / 2835, 1382 / 155925, -21844 / 6081075, 929569 / 638512875),
    *(-6404582 / 10854718875, 443861162 / 1856156927625, -18888466084 / 194896477400625),
)


FAR = 1e15
"""Beyond it a function is its asymptote: in reverse mode z times a derivative of 0 may overflow."""


def _gated(gate: Callable[[Array], Array], z: Array) -> Array:
    """Return z * gate(z), beyond `FAR` with the gate's limit."""
    x = jnp.clip(z, -FAR, FAR)
    limit = jax.lax.stop_gradient(gate(x))
    far = jnp.where(limit == 0, 0.0, z) * limit
    return jnp.where(jnp.abs(z) >= FAR, far, x * gate(x))


def _with_ends(fn: Callable[[Array], Array], z: Array, left: Array, right: Array) -> Array:
    """Return fn(z), and beyond `FAR` the given asymptotes."""
    inside = fn(jnp.clip(z, -FAR, FAR))
    return jnp.where(z >= FAR, right, jnp.where(z <= -FAR, left, inside))


@in_float32
def hard_shrink(z: Array, threshold: float | Array = 0.5) -> Array:
    """Return z where |z| > threshold, and 0 elsewhere."""
    return keep_nan(z, jnp.where(jnp.abs(z) > threshold, z, 0.0))


@in_float32
def soft_shrink(z: Array, threshold: float | Array = 0.5) -> Array:
    """Return z moved towards 0 by the threshold, and 0 between the two thresholds."""
    shrunk = jnp.where(z > 0, z - threshold, z + threshold)
    return keep_nan(z, jnp.where(jnp.abs(z) > threshold, shrunk, 0.0))


@jax.custom_jvp
def _tanh_shrink(z: Array) -> Array:
    small = jnp.abs(z) < 0.6
    x = jnp.where(small, z, 0.0)
    series = jnp.zeros_like(x)
    for coefficient in reversed(_TANH_SERIES):
        series = series * (x * x) + coefficient
    return jnp.where(small, x * (x * x) * series, z - smooth.tanh(z))


_tanh_shrink.defjvps(lambda t, ans, z: t * jnp.square(smooth.tanh(z)))


@in_float32
def tanh_shrink(z: Array) -> Array:
    """Return z - tanh(z), near 0 by its series."""
    return _tanh_shrink(z)


@in_float32
def threshold(z: Array, threshold: float | Array = 1.0, value: float | Array = 0.0) -> Array:
    """Return z where z > threshold, and value elsewhere."""
    return keep_nan(z, jnp.where(z > threshold, z, value))


@in_float32
def squareplus(z: Array, b: float | Array = 4.0) -> Array:
    """Return (z + sqrt(z^2 + b)) / 2, without cancellation for negative z."""
    x = jnp.clip(z, -1e9, 1e9)
    root = jnp.sqrt(x * x + b)
    left = (b / 2) / (root - jnp.where(x < 0, x, 0.0))
    right = (jnp.where(x < 0, 0.0, x) + root) / 2
    inside = jnp.where(x < 0, left, right)
    far = jnp.where(z > 0, z, -(b / 4) / jnp.where(z < -1e9, z, -1.0))
    return keep_nan(z, jnp.where(jnp.abs(z) < 1e9, inside, far))


@in_float32
def sparse_plus(z: Array) -> Array:
    """Return 0 up to -1, (z + 1)^2 / 4 up to 1, z beyond."""
    inside = jnp.square(jnp.clip(z, -1, 1) + 1) / 4
    return keep_nan(z, jnp.where(z >= 1, z, jnp.where(z <= -1, 0.0, inside)))


@in_float32
def sparse_sigmoid(z: Array) -> Array:
    """Return min(max((z + 1) / 2, 0), 1)."""
    return keep_nan(z, jnp.where(jnp.abs(z) < 1, (z + 1) / 2, jnp.where(z > 0, 1.0, 0.0)))


@in_float32
def golu(z: Array) -> Array:
    """Return z * exp(-exp(-z))."""
    return _gated(lambda x: jnp.exp(-jnp.exp(-jnp.clip(x, -5, 100))), z)


@in_float32
def telu(z: Array) -> Array:
    """Return z * tanh(exp(z))."""
    return _gated(lambda x: smooth.tanh(jnp.exp(jnp.clip(x, -120, 20))), z)


@in_float32
def colu(z: Array) -> Array:
    """Return z / (1 - z * exp(-(z + exp(z))))."""

    def value(x: Array) -> Array:
        below = jnp.where(x < 0, x, 0.0)
        low, high = jnp.maximum(below, -120), jnp.minimum(jnp.where(x < 0, 0.0, x), 5)
        e = jnp.exp(low + jnp.exp(low))
        left = below * e / (e - below)
        right = x / (1 - high * jnp.exp(-(high + jnp.exp(high))))
        return jnp.where(x < 0, left, right)

    return _with_ends(value, z, jnp.zeros_like(z), z)


@in_float32
def smish(z: Array) -> Array:
    """Return z * tanh(log(1 + sigmoid(z)))."""

    def gate(x: Array) -> Array:
        s = smooth.sigmoid(jnp.clip(x, -120, 120))
        return s * (2 + s) / (2 + s * (2 + s))

    return _gated(gate, z)


@in_float32
def serf(z: Array) -> Array:
    """Return z * erf(log(1 + exp(z)))."""
    return _gated(lambda x: jax.lax.erf(smooth.softplus(jnp.clip(x, -120, 120))), z)


@in_float32
def erf_act(
    z: Array, alpha: float | Array = 0.75, beta: float | Array = 0.75, learnable: bool = True
) -> Array:
    """Return z * erf(alpha * exp(beta * z))."""
    del learnable  # used by the layer alone
    return _gated(lambda x: jax.lax.erf(alpha * jnp.exp(jnp.clip(beta * x, -120, 20))), z)


@in_float32
def star_relu(
    z: Array, scale: float | Array = 0.8944, shift: float | Array = -0.4472, learnable: bool = True
) -> Array:
    """Return scale * max(z, 0)^2 + shift."""
    del learnable
    positive = jnp.where(z > 0, z, 0.0)
    return keep_nan(z, (scale * positive) * positive + shift)


@in_float32
def snake(z: Array, frequency: float | Array = 1.0, learnable: bool = False) -> Array:
    """Return z + sin(frequency * z)^2 / frequency; at infinity its mean slope, 1."""
    del learnable
    x = jnp.where(jnp.isinf(z), 0.0, z)
    inside = x + jnp.square(jnp.sin(frequency * x)) / frequency
    return jnp.where(jnp.isinf(z), z, inside)


@in_float32
def penalized_tanh(z: Array, slope: float | Array = 0.25) -> Array:
    """Return tanh(z) where z > 0, and slope * tanh(z) elsewhere."""
    t = smooth.tanh(z)
    return jnp.where(z > 0, t, slope * t)


@in_float32
def xielu(
    z: Array,
    rho_p: float | Array = 0.2033823,
    rho_n: float | Array = -1.0502256,
    beta: float | Array = 0.5,
    learnable: bool = True,
) -> Array:
    """Return a * z^2 + beta * z where z > 0, and c * (exp(z) - 1 - z) + beta * z elsewhere.

    a = softplus(rho_p) and c = beta + softplus(rho_n) are 0.8 at first.
    """
    del learnable
    a, c = smooth.softplus(rho_p), beta + smooth.softplus(rho_n)
    low, high = jnp.where(z > 0, 0.0, z), jnp.where(z > 0, z, 0.0)
    left = c * smooth.expm1(low) - (c - beta) * low
    right = (a * high) * high + beta * high
    return keep_nan(z, jnp.where(z > 0, right, left))


@in_float32
def rational(
    z: Array,
    p0: float | Array = RATIONAL_P[0],
    p1: float | Array = RATIONAL_P[1],
    p2: float | Array = RATIONAL_P[2],
    p3: float | Array = RATIONAL_P[3],
    p4: float | Array = RATIONAL_P[4],
    p5: float | Array = RATIONAL_P[5],
    q1: float | Array = RATIONAL_Q[0],
    q2: float | Array = RATIONAL_Q[1],
    q3: float | Array = RATIONAL_Q[2],
    q4: float | Array = RATIONAL_Q[3],
    learnable: bool = True,
) -> Array:
    """Return (p0 + p1 z + … + p5 z^5) / (1 + |q1 z + … + q4 z^4|).

    Beyond |z| = 1 both are divided by z^4, so that no power overflows.
    """
    del learnable
    slope = p5 / jnp.abs(q4)
    value = lambda x: _rational(x, (p0, p1, p2, p3, p4, p5), (q1, q2, q3, q4))  # noqa: E731
    return _with_ends(value, z, slope * z, slope * z)


def _rational(z: Array, p: tuple[float | Array, ...], q: tuple[float | Array, ...]) -> Array:
    near = jnp.abs(z) <= 1
    x = jnp.where(near, z, 0.0)
    t = 1 / jnp.where(near, 1.0, z)
    inside = _polynomial(x, *p) / (1 + _abs(x * _polynomial(x, *q)))
    above = p[-1] * jnp.where(near, 1.0, z) + _polynomial(t, *p[-2::-1])
    outside = above / (t * t * t * t + _abs(_polynomial(t, *q[::-1])))
    return keep_nan(z, jnp.where(near, inside, outside))


def _abs(u: Array) -> Array:
    """Return |u|, at 0 with the derivative of the left side."""
    return jnp.where(u > 0, u, -u)


def _polynomial(x: Array, *coefficients: float | Array) -> Array:
    """Return coefficients[0] + coefficients[1] * x + ..."""
    total = jnp.broadcast_to(jnp.asarray(coefficients[-1], x.dtype), x.shape)
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total
