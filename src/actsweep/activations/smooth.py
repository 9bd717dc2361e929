"""Smooth activations of float32 arrays, with derivatives, to a few units in the last place.

The textbook formulas lose digits in float32: `1 - tanh(z)**2` is 0 from z = 9 on, `sigmoid(z)` is
flushed to 0 while `z * sigmoid(z)` is still representable, and `x * Phi(x)` computed from `erf` has
no correct digit below x = -6. Every function here has a separate formula for its derivative
(`jax.custom_jvp`), made of operations that JAX can differentiate again.

Three techniques recur. `_exp` returns a product `m * c`, so that a factor can be multiplied in
before the result leaves float32's range. A sum `hi + lo` carries the rounding error of an exponent.
And near the zero r of a derivative, `1 + u + exp(u)` is rewritten in `d = u - r`, which is exact,
as `d + exp(r) * expm1(d)`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772
_TINY = math.exp(-16)


def _with_derivative(
    value: Callable[[Array], Array], derivative: Callable[[Array], Array]
) -> jax.custom_jvp:
    """Return `value` as a function whose derivative is the formula `derivative`."""
    fn = jax.custom_jvp(value)
    fn.defjvps(lambda t, ans, z: t * derivative(z))
    return fn


def _exp(t: Array, lo: Array | float = 0.0) -> tuple[Array, Array]:
    """Return exp(t + lo) for t <= 0 and a tiny lo, as (m, c) whose product is the value."""
    low = t < -64
    m = jnp.exp(jnp.where(low, t + 16, t))
    return m + m * lo, jnp.where(low, _TINY, 1.0).astype(t.dtype)


def _near(z: Array, root: tuple[float, float], width: float) -> tuple[Array, Array]:
    """Return whether z is within `width` of a root, a sum of two floats, and z - root (else 0)."""
    # Scaled, because XLA merges the constants of (z - a) - b into z - (a + b).
    d = ((z - root[0]) * 32 - root[1] * 32) / 32
    near = jnp.abs(d) < width
    return near, jnp.where(near, d, 0.0)


def _horner(x: Array, *coefficients: float) -> Array:
    """Return coefficients[0] + coefficients[1] * x + ..."""
    total = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total


def _expm1(z: Array) -> Array:
    small = jnp.abs(z) < 0.7
    x = jnp.where(small, z, 0.0)
    tail = _horner(
        x, 0.5, 0.1666667, 0.041666675, 0.00833275, 0.0013888056, 0.00020078931, 2.5073063e-05
    )
    return jnp.where(small, x + x * x * tail, jnp.exp(jnp.where(small, 0.0, z)) - 1)


expm1 = _with_derivative(_expm1, jnp.exp)


def _selu(z: Array) -> Array:
    below = expm1(jnp.where(z > 0, 0, z)) * (SELU_SCALE * SELU_ALPHA)
    return jnp.where(z > 0, z * SELU_SCALE, below)


def _selu_derivative(z: Array) -> Array:
    m, c = _exp(jnp.where(z > 0, 0, z))
    return jnp.where(z > 0, SELU_SCALE, (c * (SELU_SCALE * SELU_ALPHA)) * m)


selu = _with_derivative(_selu, _selu_derivative)


def _sigmoid(z: Array) -> Array:
    e = jnp.exp(-jnp.abs(z))
    return jnp.where(z >= 0, 1.0, e) / (1 + e)


sigmoid: jax.custom_jvp = _with_derivative(_sigmoid, lambda z: sigmoid(z) * sigmoid(-z))
softplus = _with_derivative(lambda z: jnp.maximum(z, 0) + jnp.log1p(jnp.exp(-jnp.abs(z))), sigmoid)


def _tanh(z: Array) -> Array:
    m = expm1(-2 * jnp.abs(z))
    t = -m / (2 + m)
    return jnp.where(z < 0, -t, t)


def _tanh_derivative(z: Array) -> Array:
    m, c = _exp(-2 * jnp.minimum(jnp.abs(z), 100))
    return (4 * c / (1 + m * c) ** 2) * m


tanh = _with_derivative(_tanh, _tanh_derivative)
softsign = _with_derivative(
    lambda z: jnp.where(jnp.isinf(z), jnp.sign(z), z / (1 + jnp.abs(z))),
    lambda z: (1 / (1 + jnp.abs(z))) * (1 / (1 + jnp.abs(z))),
)
hard_swish = _with_derivative(
    lambda z: jnp.where(z <= -3, 0.0, z * (jnp.clip(z + 3, 0, 6) / 6)),
    lambda z: jnp.where(z > 3, 1.0, jnp.where(z <= -3, 0.0, (2 * z + 3) / 6)),
)


def _gate(u: Array, lo: Array | float, z: Array) -> Array:
    """Return z * sigmoid(u + lo), correct even where sigmoid(u) alone is below float32's range."""
    m, c = _exp(-jnp.abs(u), jnp.where(u > 0, -lo, lo))
    closed = (u <= -200) & jnp.isinf(z)
    return jnp.where(closed, 0.0, jnp.where(u >= 0, z, (z * c) * m) / (1 + m * c))


def _gate_derivative(u: Array, lo: Array | float, w: Array, near: Array, numerator: Array) -> Array:
    """Return s(u) * (1 + w * s(-u)), s the sigmoid: the derivative of z * s(u(z)), w = z * u'(z).

    `numerator` is 1 + w + exp(u) where `near` holds, close to its zero.
    """
    m, c = _exp(-jnp.abs(u), jnp.where(u > 0, -lo, lo))
    e = m * c
    left = c * jnp.where(near, numerator, (1 + w) + e) / (1 + e) ** 2
    right = (1 + e) + w * e
    return jnp.where(u >= 0, right / (1 + e) ** 2, left * m)


_SWISH_ROOT = (-1.2784645557403564, 1.297928265020314e-08)
_SWISH_EXP = 0.27846454276107380


def _swish_derivative(z: Array, beta: Array) -> Array:
    u = jnp.clip(beta * z, -200, 200)
    near, d = _near(u, _SWISH_ROOT, 0.5)
    return _gate_derivative(u, 0.0, u, near, d + _SWISH_EXP * expm1(d))


@jax.custom_jvp
def swish(z: Array, beta: Array) -> Array:
    """Return z * sigmoid(beta * z), elementwise."""
    return _gate(jnp.clip(beta * z, -200, 200), 0.0, z)


swish.defjvps(
    lambda t, ans, z, beta: t * _swish_derivative(z, beta),
    lambda t, ans, z, beta: t * (swish(z, beta) * swish(z, -beta)),
)


_MISH_ROOT = (-1.1924312114715576, -3.043937594950088e-09)
_R = sum(_MISH_ROOT)
_ER = math.exp(_R)


def _mish(z: Array) -> Array:
    m, c = _exp(-jnp.abs(z))
    e = m * c
    left = (z * c * (2 + e) / (2 + 2 * e + e * e)) * m
    right = z * ((1 + 2 * e) / (1 + 2 * e + 2 * e * e))
    return jnp.where(jnp.isneginf(z), 0.0, jnp.where(z >= 0, right, left))


def _mish_derivative(z: Array) -> Array:
    z = jnp.clip(z, -200, 200)
    m, c = _exp(-jnp.abs(z))
    e = m * c
    near, d = _near(z, _MISH_ROOT, 0.5)
    b = _ER * expm1(d)
    close = b * (_horner(b, 3 * _ER**2 + 8 * _ER + 6 + 4 * _R, 3 * _ER + 4, 1.0))
    close += 4 * d * (_ER + 1 + b)
    far = (2 + e) * (2 + 2 * e + e * e) + 4 * z * (1 + e)
    left = (c * jnp.where(near, close, far) / (2 + 2 * e + e * e) ** 2) * m
    q = 1 + 2 * e + 2 * e * e
    right = (1 + 2 * e) / q + (4 * e * (1 + e)) * (e * z) / (q * q)
    return jnp.where(z >= 0, right, left)


mish = _with_derivative(_mish, _mish_derivative)

_PHI0 = 0.3989422804014327
_GELU_ROOT = (-0.7517915368080139, 1.211444945855772e-08)


def _normal_tail(z: Array) -> tuple[Array, Array, Array, Array]:
    """Return (a, Q, m, c): a = min(|z|, 15); Phi(-a) = Q * m * c; exp(-a**2 / 2) = m * c."""
    a = jnp.minimum(jnp.where(z > 0, z, -z), 15)
    h = jnp.round(a * 16) / 16
    coarse, fine = -h * h / 2, -(a - h) * (a + h) / 2
    m, c = _exp(coarse + fine, (coarse - (coarse + fine)) + fine)
    q = (a - 3) / (a + 3)
    ratio = _horner(
        q, 0.48605579, -0.09652678, -0.016432391, 0.045164563, -0.022726312, 0.0011557752,
        0.0029900996, -0.00034266041, -0.00046927627, 1.4786314e-05, 4.7774218e-05,
    )  # fmt: skip
    return a, ratio / (1 + a), m, c


def _gelu(z: Array) -> Array:
    a, ratio, m, c = _normal_tail(z)
    return jnp.where(z > 0, z - jnp.minimum(z, 15) * (ratio * (m * c)), (-a * ratio * c) * m)


def _gelu_derivative(z: Array) -> Array:
    a, ratio, m, c = _normal_tail(z)
    tail = ((ratio - _PHI0 * a) * c) * m
    near, d = _near(z, _GELU_ROOT, 0.25)
    close = d * _horner(
        d, 0.431493992, 0.388284983, -0.0181996764, -0.114008233, -0.0147715222, 0.0194216798,
        0.00453922838, -0.00223953807, -0.00074482684,
    )  # fmt: skip
    return jnp.where(z > 0, 1 - tail, jnp.where(near, close, tail))


gelu = _with_derivative(_gelu, _gelu_derivative)

_K1, _K3 = 2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715
_K1_HI, _K3_HI = 1634 / 1024, 73 / 1024
_TANH_ROOT = (-0.7524614334106445, 1.1339628272762046e-08)
_RT = sum(_TANH_ROOT)
_ERT = math.exp(_K1 * _RT + _K3 * _RT**3)


def _gelu_exponent(z: Array) -> tuple[Array, Array]:
    """Return K1 * z + K3 * z**3 as hi + lo, for |z| <= 11; the part in `h` is exact."""
    h = jnp.round(z * 4) / 4
    coarse = h * (_K1_HI + _K3_HI * (h * h))
    fine = h * ((_K1 - _K1_HI) + (_K3 - _K3_HI) * (h * h))
    fine += (z - h) * (_K1 + _K3 * (z * z + z * h + h * h))
    return coarse + fine, (coarse - (coarse + fine)) + fine


def _gelu_tanh(z: Array) -> Array:
    hi, lo = _gelu_exponent(jnp.clip(z, -11, 11))
    return _gate(hi, lo, jnp.maximum(z, -11))


def _gelu_tanh_derivative(z: Array) -> Array:
    x = jnp.clip(z, -11, 11)
    hi, lo = _gelu_exponent(x)
    near, d = _near(x, _TANH_ROOT, 0.3)
    cubes = d * (x * x + x * _RT + _RT * _RT)
    numerator = _ERT * expm1(_K1 * d + _K3 * cubes) + (_K1 * d + 3 * _K3 * cubes)
    return _gate_derivative(hi, lo, x * (_K1 + 3 * _K3 * (x * x)), near, numerator)


gelu_tanh = _with_derivative(_gelu_tanh, _gelu_tanh_derivative)
