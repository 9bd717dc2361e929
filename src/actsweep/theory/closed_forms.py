"""The elementwise activations of the catalogue and their derivatives in float64, without jax.

The catalogue's own functions are exact to float32; a quadrature of ten digits needs more.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy.special import expit, ndtr

Pair = tuple[ndarray, ndarray]
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


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


def _softplus(z: ndarray) -> Pair:
    return np.logaddexp(0, z), expit(z)


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
    "elu": ClosedForm(_elu),
    "celu": ClosedForm(_celu),
    "selu": ClosedForm(_selu, (0.0,)),
    "gelu": ClosedForm(_gelu),
    "swish": ClosedForm(_swish),
    "silu": ClosedForm(_swish),
    "hard_swish": ClosedForm(_hard_swish, (-3.0, 3.0)),
    "mish": ClosedForm(_mish),
}
