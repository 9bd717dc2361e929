"""The elementwise activations of the catalogue and their derivatives in float64, without jax.

The catalogue's own functions are exact to float32; a quadrature of ten digits needs more.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy.special import erf, expit, ndtr

Pair = tuple[ndarray, ndarray]
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
TWO_BY_ROOT_PI = 2 / math.sqrt(math.pi)


class ClosedForm(NamedTuple):
    """An activation in float64.

    Attributes:
        evaluate: takes z and the parameters; returns f(z) and f'(z), of z's shape.
        kinks: where f' jumps.
    """

    evaluate: Callable[..., Pair]
    kinks: tuple[float, ...] = ()


def _identity(z: ndarray) -> Pair:
    return z, np.ones_like(z)


def _sigmoid(z: ndarray) -> Pair:
    return expit(z), expit(z) * expit(-z)


def _hard_sigmoid(z: ndarray) -> Pair:
    return np.clip(z + 3, 0, 6) / 6, np.where(np.abs(z) < 3, 1 / 6, 0.0)


def _log_sigmoid(z: ndarray) -> Pair:
    return -np.logaddexp(0, -z), expit(-z)


def _tanh(z: ndarray) -> Pair:
    e = np.exp(-2 * np.abs(z))
    return np.tanh(z), 4 * e / (1 + e) ** 2


def _hard_tanh(z: ndarray) -> Pair:
    return np.clip(z, -1, 1), np.where(np.abs(z) < 1, 1.0, 0.0)


def _softsign(z: ndarray) -> Pair:
    return z / (1 + np.abs(z)), 1 / (1 + np.abs(z)) ** 2


def _softplus(z: ndarray, beta: float = 1.0) -> Pair:
    return np.logaddexp(0, beta * z) / beta, expit(beta * z)


def _relu6(z: ndarray) -> Pair:
    return np.clip(z, 0, 6), np.where((z > 0) & (z < 6), 1.0, 0.0)


def _squared_relu(z: ndarray) -> Pair:
    positive = np.maximum(z, 0)
    return positive**2, 2 * positive


def _relu(z: ndarray) -> Pair:
    return np.maximum(z, 0), np.where(z > 0, 1.0, 0.0)


def _leaky_relu(z: ndarray, slope: float = 0.01) -> Pair:
    return np.where(z > 0, z, slope * z), np.where(z > 0, 1.0, slope)


def _prelu(z: ndarray, slope: float = 0.25, per_channel: bool = False) -> Pair:
    return _leaky_relu(z, slope)


def _rrelu(z: ndarray, lower: float = 1 / 8, upper: float = 1 / 3) -> Pair:
    return _leaky_relu(z, (lower + upper) / 2)


def _elu(z: ndarray, alpha: float = 1.0, *, scale: float = 1.0, width: float = 1.0) -> Pair:
    """scale * z where z > 0, scale * alpha * (exp(z / width) - 1) elsewhere."""
    below = np.minimum(z, 0) / width
    value = scale * np.where(z > 0, z, alpha * np.expm1(below))
    return value, scale * np.where(z > 0, 1.0, alpha / width * np.exp(below))


def _celu(z: ndarray, alpha: float = 1.0) -> Pair:
    return _elu(z, alpha, width=alpha)


def _selu(z: ndarray) -> Pair:
    return _elu(z, SELU_ALPHA, scale=SELU_SCALE)


def _gelu(z: ndarray, approximate: bool = False) -> Pair:
    if not approximate:
        return z * ndtr(z), ndtr(z) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    root = 2 * math.sqrt(2 / math.pi)
    gate = expit(root * (z + 0.044715 * z**3))
    return z * gate, gate + z * gate * (1 - gate) * root * (1 + 3 * 0.044715 * z**2)


def _swish(z: ndarray, beta: float = 1.0, learnable: bool = False) -> Pair:
    gate = expit(beta * z)
    return z * gate, gate + beta * z * gate * expit(-beta * z)


def _hard_swish(z: ndarray) -> Pair:
    inside = np.abs(z) < 3
    return z * np.clip(z + 3, 0, 6) / 6, np.where(inside, (2 * z + 3) / 6, (z > 0) * 1.0)


def _mish(z: ndarray) -> Pair:
    t = np.tanh(np.logaddexp(0, z))
    return z * t, t + z * expit(z) * (1 - t * t)


def _hard_shrink(z: ndarray, threshold: float = 0.5) -> Pair:
    kept = np.abs(z) > threshold
    return np.where(kept, z, 0.0), kept * 1.0


def _soft_shrink(z: ndarray, threshold: float = 0.5) -> Pair:
    left = np.maximum(np.abs(z) - threshold, 0)
    return np.sign(z) * left, (left > 0) * 1.0


def _tanh_shrink(z: ndarray) -> Pair:
    return z - np.tanh(z), np.tanh(z) ** 2


def _threshold(z: ndarray, threshold: float = 1.0, value: float = 0.0) -> Pair:
    return np.where(z > threshold, z, value), (z > threshold) * 1.0


def _squareplus(z: ndarray, b: float = 4.0) -> Pair:
    root = np.hypot(z, math.sqrt(b))
    from_left = (b / 2) / (root + np.abs(z))  # (root - |z|) / 2
    slope = from_left / root
    return np.where(z < 0, from_left, from_left + z), np.where(z < 0, slope, 1 - slope)


def _sparse_plus(z: ndarray) -> Pair:
    inside = np.clip(z, -1, 1) + 1
    return np.where(z >= 1, z, inside**2 / 4), inside / 2


def _sparse_sigmoid(z: ndarray) -> Pair:
    return (np.clip(z, -1, 1) + 1) / 2, np.where(np.abs(z) < 1, 0.5, 0.0)


def _golu(z: ndarray) -> Pair:
    e = np.exp(-np.maximum(z, -20))
    return z * np.exp(-e), np.exp(-e) * (1 + z * e)


def _telu(z: ndarray) -> Pair:
    e = np.exp(np.minimum(z, 30))
    value, slope = _tanh(e)
    return z * value, value + z * e * slope


def _colu(z: ndarray) -> Pair:
    low, high = np.minimum(z, 0), np.maximum(z, 0)
    e, t = np.exp(low + np.exp(low)), np.exp(-high - np.exp(np.minimum(high, 30)))
    gap = e - low
    left = e / gap + low * e * (1 - low * (1 + np.exp(low))) / gap**2
    grown = t * (1 - high * (1 + np.exp(np.minimum(high, 30))))
    right = 1 / (1 - high * t) + high * grown / (1 - high * t) ** 2
    value = np.where(z < 0, low * e / gap, high / (1 - high * t))
    return value, np.where(z < 0, left, right)


def _smish(z: ndarray) -> Pair:
    s = expit(z)
    w = 1 + s
    gate = s * (2 + s) / (1 + w * w)
    return z * gate, gate + z * 4 * w / (1 + w * w) ** 2 * s * expit(-z)


def _serf(z: ndarray) -> Pair:
    u = np.logaddexp(0, z)
    return z * erf(u), erf(u) + z * TWO_BY_ROOT_PI * np.exp(-u * u) * expit(z)


def _erf_act(z: ndarray, alpha: float = 0.75, beta: float = 0.75, learnable: bool = True) -> Pair:
    u = alpha * np.exp(np.minimum(beta * z, 30))
    return z * erf(u), erf(u) + z * TWO_BY_ROOT_PI * np.exp(-u * u) * u * beta


def _star_relu(
    z: ndarray, scale: float = 0.8944, shift: float = -0.4472, learnable: bool = True
) -> Pair:
    positive = np.maximum(z, 0)
    return scale * positive**2 + shift, 2 * scale * positive


def _snake(z: ndarray, frequency: float = 1.0, learnable: bool = False) -> Pair:
    return z + np.sin(frequency * z) ** 2 / frequency, 1 + np.sin(2 * frequency * z)


def _penalized_tanh(z: ndarray, slope: float = 0.25) -> Pair:
    factor = np.where(z > 0, 1.0, slope)
    value, derivative = _tanh(z)
    return factor * value, factor * derivative


def _xielu(
    z: ndarray,
    rho_p: float = 0.2033823,
    rho_n: float = -1.0502256,
    beta: float = 0.5,
    learnable: bool = True,
) -> Pair:
    a, c = np.logaddexp(0, rho_p), beta + np.logaddexp(0, rho_n)
    low = np.minimum(z, 0)
    value = np.where(z > 0, a * z * z, c * (np.expm1(low) - low)) + beta * z
    return value, np.where(z > 0, 2 * a * z, c * np.expm1(low)) + beta


RATIONAL_P = (0.02996348, 0.61690165, 2.37539147, 3.06608078, 1.52474449, 0.25281987)
RATIONAL_Q = (1.19160814, 4.40811795, 0.91111034, 0.34885983)


def _rational(z: ndarray, learnable: bool = True, **given: float) -> Pair:
    p = [given.get(f"p{i}", value) for i, value in enumerate(RATIONAL_P)]
    q = [0.0, *(given.get(f"q{i}", value) for i, value in enumerate(RATIONAL_Q, 1))]
    above, below = np.polynomial.Polynomial(p), np.polynomial.Polynomial(q)
    inner = below(z)
    divisor = 1 + np.abs(inner)
    value = above(z) / divisor
    return value, (
        above.deriv()(z) - value * np.where(inner > 0, 1, -1) * below.deriv()(z)
    ) / divisor


CLOSED_FORMS = {
    "identity": ClosedForm(_identity),
    "sigmoid": ClosedForm(_sigmoid),
    "hard_sigmoid": ClosedForm(_hard_sigmoid, (-3.0, 3.0)),
    "log_sigmoid": ClosedForm(_log_sigmoid),
    "tanh": ClosedForm(_tanh),
    "hard_tanh": ClosedForm(_hard_tanh, (-1.0, 1.0)),
    "softsign": ClosedForm(_softsign),
    "softplus": ClosedForm(_softplus),
    "relu": ClosedForm(_relu, (0.0,)),
    "relu6": ClosedForm(_relu6, (0.0, 6.0)),
    "squared_relu": ClosedForm(_squared_relu),
    "leaky_relu": ClosedForm(_leaky_relu, (0.0,)),
    "prelu": ClosedForm(_prelu, (0.0,)),
    "rrelu": ClosedForm(_rrelu, (0.0,)),
    "elu": ClosedForm(_elu),
    "celu": ClosedForm(_celu),
    "selu": ClosedForm(_selu, (0.0,)),
    "gelu": ClosedForm(_gelu),
    "swish": ClosedForm(_swish),
    "silu": ClosedForm(_swish),
    "hard_swish": ClosedForm(_hard_swish, (-3.0, 3.0)),
    "mish": ClosedForm(_mish),
    "hard_shrink": ClosedForm(_hard_shrink, (-0.5, 0.5)),
    "soft_shrink": ClosedForm(_soft_shrink, (-0.5, 0.5)),
    "tanh_shrink": ClosedForm(_tanh_shrink),
    "threshold": ClosedForm(_threshold, (1.0,)),
    "squareplus": ClosedForm(_squareplus),
    "sparse_plus": ClosedForm(_sparse_plus),
    "sparse_sigmoid": ClosedForm(_sparse_sigmoid, (-1.0, 1.0)),
    "golu": ClosedForm(_golu),
    "telu": ClosedForm(_telu),
    "colu": ClosedForm(_colu),
    "smish": ClosedForm(_smish),
    "serf": ClosedForm(_serf),
    "erf_act": ClosedForm(_erf_act),
    "star_relu": ClosedForm(_star_relu),
    "snake": ClosedForm(_snake),
    "penalized_tanh": ClosedForm(_penalized_tanh, (0.0,)),
    "xielu": ClosedForm(_xielu),
    "rational": ClosedForm(_rational, (-0.2853079538, 0.0)),
}
