"""The maps of mean-field theory, their fixed points, and the edge of chaos.

Weights N(0, sigma_w^2 / fan_in), biases N(0, sigma_b^2); q is the second moment of a layer's
pre-activations, c their correlation for two inputs. Poole et al. 2016, "Exponential expressivity in
deep neural networks through transient chaos"; Schoenholz et al. 2017, "Deep information
propagation".
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from actsweep.theory.units import Elementwise, SeveralInputs
from actsweep.utils.errors import UserError

Unit = Elementwise | SeveralInputs
TINY = 1e-30
"""A second moment that stands for 0, where the maps are those of the tangents at 0."""
CLOSE = 1e-9
_JUST_ABOVE = 1e-4
_DIP = 1 - 1e-9  # less is rounding, as where f(k u) = k f(u)
_DECADES = (-12, 12)


@dataclass(frozen=True)
class Layer:
    """The variances that one layer is drawn with: sigma_w^2, fan_in times a weight's, and
    sigma_b^2, a bias's."""

    sigma_w2: float
    sigma_b2: float = 0.0


@dataclass(frozen=True)
class FixedPoint:
    """A second moment that a layer returns: Q(q) = q; stable where |Q'(q)| <= 1."""

    q: float
    slope: float

    @property
    def stable(self) -> bool:
        """Return whether second moments near it don't go away from it."""
        return abs(self.slope) <= 1 + CLOSE


def length_map(unit: Unit, layer: Layer, q: float) -> float:
    """Return Q(q) = sigma_w^2 E[f(√q z)^2] + sigma_b^2; infinite where that doesn't exist."""
    return layer.sigma_w2 * unit.quick_moments(max(q, TINY)).second + layer.sigma_b2


def length_slope(unit: Unit, layer: Layer, q: float) -> float:
    """Return Q'(q) = sigma_w^2 E[f'(√q z)^2 + f(√q z) f''(√q z)]."""
    return layer.sigma_w2 * unit.quick_moments(max(q, TINY)).slope


def gradient_factor(unit: Unit, layer: Layer, q: float) -> float:
    """Return chi(q) = sigma_w^2 E[f'(√q z)^2]: how a layer multiplies |dL/dz|^2; at q* chi_1."""
    return layer.sigma_w2 * unit.quick_moments(max(q, TINY)).derivative


def correlation_map(unit: Unit, layer: Layer, q: float, c: float) -> float:
    """Return C(c) = (sigma_w^2 E[f(u1) f(u2)] + sigma_b^2) / Q(q), u1, u2 of correlation c.

    It is 1 where Q(q) = 0: two zeros are alike.
    """
    product, _ = unit.pair(max(q, TINY), c)
    length = length_map(unit, layer, q)
    return (layer.sigma_w2 * product + layer.sigma_b2) / length if length else 1.0


def correlation_slope(unit: Unit, layer: Layer, q: float, c: float) -> float:
    """Return sigma_w^2 E[f'(u1) f'(u2)], at a fixed point of q the slope C'(c)."""
    return layer.sigma_w2 * unit.pair(max(q, TINY), c)[1]


def fixed_points(unit: Unit, layer: Layer) -> list[FixedPoint]:
    """Return every fixed point of the length map from 0 to 1e12, in ascending order.

    Where every q is one (ReLU at sigma_w^2 = 2), that is q = 1 with slope 1 alone; see
    `keeps_every_length`.

    >>> from actsweep.theory.units import unit_of
    >>> [round(point.q, 3) for point in fixed_points(unit_of({"name": "tanh"}), Layer(1.5, 0.05))]
    [0.418]
    """
    if keeps_every_length(unit, layer):
        return [FixedPoint(1.0, 1.0)]
    points = [0.0] if length_map(unit, layer, 0) <= 2 * TINY * max(1, layer.sigma_w2) else []
    points += _roots(lambda t: _excess(unit, layer, t), _grid(unit))
    return [FixedPoint(q, length_slope(unit, layer, q)) for q in points]


def keeps_every_length(unit: Unit, layer: Layer) -> bool:
    """Return whether Q(q) = q for every q."""
    grid = np.log([1e-6, 1e-2, 0.5, 1.0, 3.0, 1e2, 1e6])
    return max(abs(_excess(unit, layer, t)) for t in grid) < CLOSE


def attractor(
    unit: Unit, layer: Layer, start: float, points: Sequence[FixedPoint] | None = None
) -> FixedPoint | None:
    """Return the fixed point that second moments go to; None if they grow without bound.

    The length map rises with q, so it is the next one in the direction of the first step.

    Args:
        unit, layer: as in `length_map`.
        start: the second moment of the first layer's pre-activations.
        points: all `fixed_points`, where they are known.
    """
    if keeps_every_length(unit, layer):
        return FixedPoint(start, 1.0)
    points = fixed_points(unit, layer) if points is None else points
    step = length_map(unit, layer, start) - start
    if abs(step) <= CLOSE * start:
        return min(points, key=lambda point: abs(point.q - start), default=None)
    if step > 0:
        return next((point for point in points if point.q >= start), None)
    below = (point for point in reversed(points) if point.q <= start)
    return next(below, FixedPoint(0.0, length_slope(unit, layer, 0)))


def _grid(unit: Unit) -> np.ndarray:
    """Return values of log q between which the length map is followed."""
    per_decade = 20 if unit.inputs == 1 else 2  # a Monte Carlo estimate takes long
    low, high = _DECADES
    return np.linspace(low, high, (high - low) * per_decade + 1) * math.log(10)


def _excess(unit: Unit, layer: Layer, t: float) -> float:
    """Return Q(q) / q - 1 at q = exp(t), at most 1e3."""
    q = math.exp(t)
    return min(length_map(unit, layer, q) / q - 1, 1e3)


def _roots(excess: Callable[[float], float], grid: np.ndarray) -> list[float]:
    """Return every q where the excess is 0, those where it only touches 0 included."""
    values = np.array([excess(t) for t in grid])
    knots, heights = [*grid], [*values]
    size = np.abs(values)
    for i in range(1, len(grid) - 1):
        same_sign = values[i - 1] * values[i] > 0 and values[i] * values[i + 1] > 0
        if same_sign and size[i] < min(size[i - 1], size[i + 1]) * _DIP and size[i] < 0.1:
            sign = math.copysign(1, values[i])
            bounds = (grid[i - 1], grid[i + 1])
            options = {"xatol": 1e-10}
            turn = minimize_scalar(
                lambda t, sign=sign: sign * excess(t), bounds=bounds, options=options
            ).x
            knots.append(turn)
            heights.append(excess(turn))
    order = np.argsort(knots)
    t, h = np.array(knots)[order], np.array(heights)[order]
    h[np.abs(h) < 1e-13] = 0
    crossings = [
        brentq(excess, t[i], t[i + 1], xtol=1e-14) for i in range(len(t) - 1) if h[i] * h[i + 1] < 0
    ]
    touching = [
        t[i] for i in range(1, len(t) - 1) if h[i] == 0 and abs(h[i - 1]) > 0 and abs(h[i + 1]) > 0
    ]
    return [math.exp(root) for root in sorted([*crossings, *touching])]


def fixed_correlation(unit: Unit, layer: Layer, q: float) -> float:
    """Return c*, the correlation that two inputs go to, at a fixed point q of the length map.

    It is 1 where chi_1 <= 1. Otherwise it is the one solution of C(c) = c in [0, 1): C is a power
    series in c without negative terms.
    """
    if gradient_factor(unit, layer, q) <= 1 + CLOSE:
        return 1.0
    excess = lambda c: correlation_map(unit, layer, q, c) - c  # noqa: E731
    if excess(0.0) <= 1e-13:
        return 0.0
    gap = 1e-2
    while excess(1 - gap) >= 0:
        gap /= 10
        if gap < 1e-7:
            return 1.0
    return float(brentq(excess, 0.0, 1 - gap, xtol=1e-13))


def depth_scale(slope: float) -> float:
    """Return xi, the number of layers in which a deviation shrinks by e: 1 / xi = -ln(slope).

    Infinite where it doesn't shrink; 0 where it is gone after one layer.
    """
    slope = abs(slope)
    if slope >= 1 - CLOSE:
        return math.inf
    return -1 / math.log(slope) if slope > 0 else 0.0


@dataclass(frozen=True)
class EdgePoint:
    """Where chi_1 = 1 at a fixed point q; an edge of chaos only where the point is stable."""

    q: float
    sigma_w2: float
    sigma_b2: float
    slope: float

    @property
    def stable(self) -> bool:
        """Return whether the length map's slope at q is at most 1."""
        return self.slope <= 1 + CLOSE


def edge_point(unit: Unit, q: float) -> EdgePoint | None:
    """Return the point at which q is a fixed point with chi_1 = 1; None if sigma_b^2 would be
    negative, or the derivative is 0 everywhere."""
    moments = unit.quick_moments(q)
    if not 0 < moments.derivative < math.inf:
        return None
    sigma_w2 = 1 / moments.derivative
    sigma_b2 = q - sigma_w2 * moments.second
    if abs(sigma_b2) < 1e-12 * q:
        sigma_b2 = 0.0
    if sigma_b2 < 0:
        return None
    return EdgePoint(q, sigma_w2, sigma_b2, sigma_w2 * moments.slope)


def edge_of_chaos(unit: Unit, low: float = 1e-8, high: float = 1e3) -> list[EdgePoint]:
    """Return the curve of `edge_point` over q, with the points where it becomes stable or ceases
    to be.

    For ReLU and other units with f(k u) = k f(u) it is one point, whatever q.
    """
    grid = np.linspace(math.log(low), math.log(high), 201 if unit.inputs == 1 else 31)
    points = [edge_point(unit, math.exp(t)) for t in grid]
    curve = [point for point in points if point]
    turns = []
    excess = lambda t: _slope_above_one(unit, t) - CLOSE  # noqa: E731
    for before, after in itertools.pairwise(curve):
        ends = math.log(before.q), math.log(after.q)
        if excess(ends[0]) * excess(ends[1]) < 0:
            turn = edge_point(unit, math.exp(brentq(excess, *ends, xtol=1e-13)))
            if turn:
                turns.append(EdgePoint(turn.q, turn.sigma_w2, turn.sigma_b2, 1.0))
    return sorted([*curve, *turns], key=lambda point: point.q)


def _slope_above_one(unit: Unit, t: float) -> float:
    moments = unit.quick_moments(math.exp(t))
    return moments.slope / moments.derivative - 1


def edge_at(
    unit: Unit, sigma_b2: float, curve: Sequence[EdgePoint] | None = None
) -> list[EdgePoint]:
    """Return the points of the edge at a variance of the biases, in ascending order of q.

    Without biases q = 0 is one where f(0) = 0, with sigma_w^2 = 1 / f'(0)^2. Its slope is 1, so
    that of a q just above tells whether it is stable.

    Args:
        unit: of the layers.
        sigma_b2: the variance of the biases.
        curve: `edge_of_chaos`, where it is known.

    Raises:
        UserError: sigma_b2 is negative.
    """
    if sigma_b2 < 0:
        raise UserError(
            f"init.sigma_b={-math.sqrt(-sigma_b2):g}: must be a number of at least 0; type for "
            "example init.sigma_b=0.0"
        )
    curve = edge_of_chaos(unit) if curve is None else curve
    if len({round(point.sigma_w2, 9) for point in curve}) == 1:  # the same point for every q
        return [curve[0]] if curve[0].sigma_b2 == sigma_b2 else []
    points = [point for point in _where_bias(unit, sigma_b2, curve) if point]
    at_zero = unit.quick_moments(TINY)
    if sigma_b2 == 0 and at_zero.second <= 2 * TINY * at_zero.derivative and at_zero.derivative:
        sigma_w2 = 1 / at_zero.derivative
        slope = sigma_w2 * unit.quick_moments(_JUST_ABOVE).slope
        points = [EdgePoint(0.0, sigma_w2, 0.0, slope), *points]
    return points


def _where_bias(unit: Unit, sigma_b2: float, curve: Sequence[EdgePoint]) -> list[EdgePoint | None]:
    def distance(t: float) -> float:
        moments = unit.quick_moments(math.exp(t))
        return math.exp(t) - moments.second / moments.derivative - sigma_b2

    found = []
    for before, after in itertools.pairwise(curve):
        ends = math.log(before.q), math.log(after.q)
        if distance(ends[0]) * distance(ends[1]) < 0:
            found.append(edge_point(unit, math.exp(brentq(distance, *ends, xtol=1e-14))))
    return found
