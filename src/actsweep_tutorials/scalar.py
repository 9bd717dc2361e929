"""Activations of single Python floats, as one writes them from scratch: f and f'.

The from-scratch tutorial's algorithms compute with these, in float64 and in a fixed order, so that
their numbers don't depend on NumPy or JAX. As there, `gelu` is the tanh form with the derivative
of the exact one. At a kink the derivative is the one that `actsweep.activations` takes.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from actsweep.utils.errors import UserError

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


class Scalar(NamedTuple):
    """An activation and its derivative."""

    f: Callable[[float], float]
    slope: Callable[[float], float]


def sigmoid(z: float) -> float:
    """1 / (1 + exp(-z)); 0 where exp(-z) is beyond float64."""
    return 1 / (1 + math.exp(-z)) if z > -709 else 0.0


def gelu(z: float) -> float:
    """z / 2 * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 * z^3)))"""
    return 0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def gelu_slope(z: float) -> float:
    """Phi(z) + z * phi(z)"""
    cdf = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    return cdf + z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _sigmoid_slope(z: float) -> float:
    s = sigmoid(z)
    return s * (1 - s)


def _tanh_slope(z: float) -> float:
    t = math.tanh(z)
    return 1 - t * t


def softplus(z: float) -> float:
    """log(1 + exp(z))"""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def swish(z: float) -> float:
    """z * sigmoid(z)"""
    return z * sigmoid(z)


def _swish_slope(z: float) -> float:
    s = sigmoid(z)
    return s + z * s * (1 - s)


def _mish_slope(z: float) -> float:
    t = math.tanh(softplus(z))
    return t + z * sigmoid(z) * (1 - t * t)


def _hard_swish_slope(z: float) -> float:
    return 0.0 if z <= -3 else 1.0 if z > 3 else (2 * z + 3) / 6


def leaky(slope: float) -> Scalar:
    """Leaky ReLU of that slope."""
    return Scalar(lambda z: z if z > 0 else slope * z, lambda z: 1.0 if z > 0 else slope)


def _elu(scale: float, alpha: float) -> Scalar:
    return Scalar(
        lambda z: scale * z if z > 0 else scale * alpha * (math.exp(z) - 1),
        lambda z: scale if z > 0 else scale * alpha * math.exp(z),
    )


SCALARS: dict[str, Scalar] = {
    "identity": Scalar(lambda z: z, lambda z: 1.0),
    "sigmoid": Scalar(sigmoid, _sigmoid_slope),
    "hard_sigmoid": Scalar(
        lambda z: min(max(z + 3, 0.0), 6.0) / 6, lambda z: 1 / 6 if -3 < z < 3 else 0.0
    ),
    "log_sigmoid": Scalar(lambda z: -softplus(-z), lambda z: sigmoid(-z)),
    "tanh": Scalar(math.tanh, _tanh_slope),
    "hard_tanh": Scalar(lambda z: min(max(z, -1.0), 1.0), lambda z: 1.0 if -1 < z < 1 else 0.0),
    "softsign": Scalar(lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),
    "softplus": Scalar(softplus, sigmoid),
    "relu": Scalar(lambda z: max(0.0, z), lambda z: 1.0 if z > 0 else 0.0),
    "relu6": Scalar(lambda z: min(max(z, 0.0), 6.0), lambda z: 1.0 if 0 < z < 6 else 0.0),
    "squared_relu": Scalar(lambda z: max(0.0, z) ** 2, lambda z: 2 * max(0.0, z)),
    "leaky_relu": leaky(0.01),
    "prelu": leaky(0.25),
    "elu": _elu(1.0, 1.0),
    "celu": _elu(1.0, 1.0),
    "selu": _elu(SELU_SCALE, SELU_ALPHA),
    "gelu": Scalar(gelu, gelu_slope),
    "swish": Scalar(swish, _swish_slope),
    "silu": Scalar(swish, _swish_slope),
    "hard_swish": Scalar(lambda z: z * min(max(z + 3, 0.0), 6.0) / 6, _hard_swish_slope),
    "mish": Scalar(lambda z: z * math.tanh(softplus(z)), _mish_slope),
}


def scalars(names: Iterable[str]) -> dict[str, Scalar]:
    """The scalar form of each activation.

    Raises:
        UserError: one of them looks at several units at once.
    """
    names = list(names)
    for name in names:
        if name not in SCALARS:
            raise UserError(
                f"act={name}: looks at several units at once, and this experiment at one; "
                f"type for example act={','.join(n for n in names if n in SCALARS) or 'relu'}"
            )
    return {name: SCALARS[name] for name in names}
