"""Formulas in float64 with their derivatives, by NumPy: what is checked before anything starts.

Derivatives are carried forward through each part (dual numbers). At a kink they are those of the
flat side if one of the two values is a constant: of max and min a constant counts where both are
equal; of abs the derivative at 0 is 0. `activations.formula` does the same.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy.special import erf, erfc, expit, ndtr

from actsweep.formulas.grammar import Node, parse, wrong

FARTHEST = 20.0
"""How far from 0 a formula must be finite, as pre-activations are."""
LARGEST = float(np.finfo(np.float32).max)
_TWO_BY_ROOT_PI = 2 / np.sqrt(np.pi)

Pair = tuple[ndarray, ndarray]


def _tanh_slope(z: ndarray) -> ndarray:
    e = np.exp(-2 * np.abs(z))
    return 4 * e / (1 + e) ** 2


def _normal(z: ndarray) -> ndarray:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def _mish_slope(z: ndarray) -> ndarray:
    t = np.tanh(np.logaddexp(0, z))
    return t + z * expit(z) * _tanh_slope(np.logaddexp(0, z))


_Function = Callable[[ndarray], ndarray]
VALUES: dict[str, tuple[_Function, _Function]] = {
    "exp": (np.exp, np.exp),
    "expm1": (np.expm1, np.exp),
    "log": (np.log, lambda z: 1 / z),
    "log1p": (np.log1p, lambda z: 1 / (1 + z)),
    "sqrt": (np.sqrt, lambda z: 0.5 / np.sqrt(z)),
    "abs": (np.abs, np.sign),
    "sign": (np.sign, np.zeros_like),
    "erf": (erf, lambda z: _TWO_BY_ROOT_PI * np.exp(-(z**2))),
    "erfc": (erfc, lambda z: -_TWO_BY_ROOT_PI * np.exp(-(z**2))),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda z: -np.sin(z)),
    "atan": (np.arctan, lambda z: 1 / (1 + z**2)),
    "sinh": (np.sinh, np.cosh),
    "cosh": (np.cosh, np.sinh),
    "asinh": (np.arcsinh, lambda z: 1 / np.sqrt(1 + z**2)),
    "tanh": (np.tanh, _tanh_slope),
    "sigmoid": (expit, lambda z: expit(z) * expit(-z)),
    "softplus": (lambda z: np.logaddexp(0, z), expit),
    "gelu": (lambda z: z * ndtr(z), lambda z: ndtr(z) + z * _normal(z)),
    "silu": (lambda z: z * expit(z), lambda z: expit(z) * (1 + z * expit(-z))),
    "mish": (lambda z: z * np.tanh(np.logaddexp(0, z)), _mish_slope),
}
"""Each function of one argument and its derivative."""


class NotFinite(NamedTuple):
    """A part of a formula that isn't finite although its own parts are, and the first such x."""

    part: Node
    x: float
    derivative: bool


def evaluate(formula: str, z: ndarray, by: str = "x", **params: float) -> Pair:
    """Return a formula's values and derivatives.

    Args:
        formula: as typed, or its normal form.
        z: x, of any shape, float64.
        by: what the derivative is taken by: x, or the name of a parameter.
        params: the parameters.

    Returns:
        Values and derivatives, of z's shape.
    """
    with np.errstate(all="ignore"):
        return _Evaluation(np.asarray(z, float), params, by)(parse(formula))


class _Evaluation:
    """One evaluation; notes the first part that isn't finite."""

    def __init__(self, z: ndarray, params: Mapping[str, float], by: str) -> None:
        self.z, self.params, self.by = z, params, by
        self.bad: NotFinite | None = None

    def __call__(self, node: Node) -> Pair:
        zeros, ones = np.zeros_like(self.z), np.ones_like(self.z)
        if node.kind == "number":
            return ones * node.value, zeros
        if node.kind == "x":
            return self.z, ones if self.by == "x" else zeros
        if node.kind == "parameter":
            return ones * self.params[node.name], ones if self.by == node.name else zeros
        if node.kind == "where":
            pair = self._where(node)
        else:
            pair = _OPERATIONS[node.kind](*(self(arg) for arg in node.args))
        for derivative, values in enumerate(pair):
            unfit = ~(np.abs(values) <= LARGEST)
            if self.bad is None and unfit.any():
                nearest = np.argmin(np.where(unfit, np.abs(self.z), np.inf))
                self.bad = NotFinite(node, float(self.z.flat[nearest]), bool(derivative))
        return pair

    def _where(self, node: Node) -> Pair:
        condition, (a, da), (b, db) = node.args[0], self(node.args[1]), self(node.args[2])
        left, right = (self(arg)[0] for arg in condition.args)
        holds = _COMPARE[condition.kind](left, right)
        return np.where(holds, a, b), np.where(holds, da, db)


_COMPARE = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}


def _power(base: Pair, exponent: Pair) -> Pair:
    (a, da), (b, db) = base, exponent
    value = a**b
    slope = np.where(b == 0, 0.0, b * a ** (b - 1)) * da if np.any(da) else np.zeros_like(a)
    if np.any(db):
        slope = slope + np.where(a == 0, 0.0, np.log(a) * value) * db
    return value, slope


def _choose(larger: Callable[..., ndarray], first: Pair, second: Pair) -> Pair:
    chosen = larger(first[0], second[0])
    return np.where(chosen, first[0], second[0]), np.where(chosen, first[1], second[1])


def _apply(name: str, inner: Pair) -> Pair:
    value, slope = VALUES[name]
    if not inner[1].any():  # a part without x, or sign
        return value(inner[0]), inner[1]
    return value(inner[0]), slope(inner[0]) * inner[1]


_OPERATIONS: dict[str, Callable[..., Pair]] = {
    "+": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "*": lambda a, b: (a[0] * b[0], a[1] * b[0] + a[0] * b[1]),
    "/": lambda a, b: (a[0] / b[0], (a[1] - a[0] / b[0] * b[1]) / b[0]),
    "**": _power,
    "neg": lambda a: (-a[0], -a[1]),
    "max": functools.partial(_choose, np.greater),
    "min": functools.partial(_choose, np.less),
    **{name: functools.partial(_apply, name) for name in VALUES},
}


@functools.lru_cache(maxsize=4096)
def check_finite(
    text: str, params: tuple[tuple[str, float], ...], learned: tuple[str, ...], path: str
) -> None:
    """Check that a formula and its derivatives are finite for |x| up to `FARTHEST`, in every part.

    A part that isn't finite makes the derivative NaN even where the formula's value is finite.

    Args:
        text: as typed.
        params: the parameters' values.
        learned: those that are trained.
        path: the config path, for the message.

    Raises:
        UserError: it isn't; the caret is under the part.
    """
    tree = parse(text, path)
    z = np.linspace(-FARTHEST, FARTHEST, 4001)
    z[2000] = 0.0
    for by in ("x", *learned):
        evaluation = _Evaluation(z, dict(params), by)
        with np.errstate(all="ignore"):
            evaluation(tree)
        if (bad := evaluation.bad) is not None:
            raise wrong(text, bad.part.place, _why(bad, by, z, dict(params)), path)


def _why(bad: NotFinite, by: str, z: ndarray, params: Mapping[str, float]) -> str:
    where = f"at x={bad.x:g}"
    if bad.derivative:
        return f"the derivative by {by} isn't finite {where}; type a formula that is smooth there"
    if bad.part.kind == "/":
        with np.errstate(all="ignore"):
            divisor = _Evaluation(np.array([bad.x]), params, by)(bad.part.args[1])[0]
        if divisor[0] == 0:
            return f"divides by 0 {where}; type a divisor that isn't 0, such as 1+abs(x)"
    with np.errstate(all="ignore"):
        value = _Evaluation(np.array([bad.x]), params, by)(bad.part)[0][0]
    if np.isnan(value) or bad.part.kind in ("log", "log1p"):
        return f"isn't a finite number {where}; keep its argument in bounds, such as max(x,1e-6)"
    rewrite = " (softplus(x) is log(1+exp(x)) without overflow)" if "exp" in bad.part.kind else ""
    return f"overflows float32 {where}; type a bound, such as min(x,10){rewrite}"
