"""Activations of single Python floats, as written from scratch: f and f'.

The from-scratch tutorial's algorithms compute with these, in float64 and in a fixed order, so that
their numbers don't depend on NumPy or JAX. As there, `gelu` is the tanh form with the derivative
of the exact one. At a kink the derivative is the one that `actsweep.activations` takes.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from actsweep.utils.errors import UserError

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


class ScalarActivation(NamedTuple):
    """An activation and its derivative."""

    f: Callable[[float], float]
    derivative: Callable[[float], float]


def sigmoid(z: float) -> float:
    """Return 1 / (1 + exp(-z)); 0 where exp(-z) is beyond float64."""
    return 1 / (1 + math.exp(-z)) if z > -709 else 0.0


def gelu(z: float) -> float:
    """Return z / 2 * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 * z^3))), GELU's tanh form."""
    return 0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def gelu_derivative(z: float) -> float:
    """Return Phi(z) + z * phi(z), the derivative of the exact GELU."""
    cdf = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    return cdf + z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _sigmoid_derivative(z: float) -> float:
    s = sigmoid(z)
    return s * (1 - s)


def _tanh_derivative(z: float) -> float:
    t = math.tanh(z)
    return 1 - t * t


def softplus(z: float) -> float:
    """Return log(1 + exp(z))."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def swish(z: float) -> float:
    """Return z * sigmoid(z)."""
    return z * sigmoid(z)


def _swish_derivative(z: float) -> float:
    s = sigmoid(z)
    return s + z * s * (1 - s)


def _mish_derivative(z: float) -> float:
    t = math.tanh(softplus(z))
    return t + z * sigmoid(z) * (1 - t * t)


def _hard_swish_derivative(z: float) -> float:
    return 0.0 if z <= -3 else 1.0 if z > 3 else (2 * z + 3) / 6


def leaky_relu(slope: float) -> ScalarActivation:
    """Return leaky ReLU of that slope."""
    return ScalarActivation(lambda z: z if z > 0 else slope * z, lambda z: 1.0 if z > 0 else slope)


def _elu(scale: float, alpha: float) -> ScalarActivation:
    return ScalarActivation(
        lambda z: scale * z if z > 0 else scale * alpha * (math.exp(z) - 1),
        lambda z: scale if z > 0 else scale * alpha * math.exp(z),
    )


SCALARS: dict[str, ScalarActivation] = {
    "identity": ScalarActivation(lambda z: z, lambda z: 1.0),
    "sigmoid": ScalarActivation(sigmoid, _sigmoid_derivative),
    "hard_sigmoid": ScalarActivation(
        lambda z: min(max(z + 3, 0.0), 6.0) / 6, lambda z: 1 / 6 if -3 < z < 3 else 0.0
    ),
    "log_sigmoid": ScalarActivation(lambda z: -softplus(-z), lambda z: sigmoid(-z)),
    "tanh": ScalarActivation(math.tanh, _tanh_derivative),
    "hard_tanh": ScalarActivation(
        lambda z: min(max(z, -1.0), 1.0), lambda z: 1.0 if -1 < z < 1 else 0.0
    ),
    "softsign": ScalarActivation(lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),
    "softplus": ScalarActivation(softplus, sigmoid),
    "relu": ScalarActivation(lambda z: max(0.0, z), lambda z: 1.0 if z > 0 else 0.0),
    "relu6": ScalarActivation(lambda z: min(max(z, 0.0), 6.0), lambda z: 1.0 if 0 < z < 6 else 0.0),
    "squared_relu": ScalarActivation(lambda z: max(0.0, z) ** 2, lambda z: 2 * max(0.0, z)),
    "leaky_relu": leaky_relu(0.01),
    "prelu": leaky_relu(0.25),
    "elu": _elu(1.0, 1.0),
    "celu": _elu(1.0, 1.0),
    "selu": _elu(SELU_SCALE, SELU_ALPHA),
    "gelu": ScalarActivation(gelu, gelu_derivative),
    "swish": ScalarActivation(swish, _swish_derivative),
    "silu": ScalarActivation(swish, _swish_derivative),
    "hard_swish": ScalarActivation(
        lambda z: z * min(max(z + 3, 0.0), 6.0) / 6, _hard_swish_derivative
    ),
    "mish": ScalarActivation(lambda z: z * math.tanh(softplus(z)), _mish_derivative),
}


def scalar_activations(names: Iterable[str]) -> dict[str, ScalarActivation]:
    """Return the scalar form of each activation.

    Raises:
        UserError: one of them acts on several units at once.
    """
    names = list(names)
    for name in names:
        if name not in SCALARS:
            raise UserError(
                f"act={name}: acts on several units at once; this experiment needs "
                "activations of single units; "
                f"type for example act={','.join(n for n in names if n in SCALARS) or 'relu'}"
            )
    return {name: SCALARS[name] for name in names}
