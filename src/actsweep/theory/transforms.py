"""Activations that are rescaled for the depth of their network: `act.transform=dks` and `tat`."""

import functools
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import brentq, root

from actsweep.config.schema import RunConfig
from actsweep.formulas.rescaling import (
    IDENTITY,
    SCALES,
    TARGET,
    found_by_transform,
    transform_of,
    untransformed,
)
from actsweep.theory.units import Elementwise, unit_of
from actsweep.utils.errors import UserError

SLOPE = 1.5
"""zeta of DKS: C'(1) of the whole network."""
CORRELATION = 0.9
"""eta of TAT for leaky ReLU: C(0) of the whole network."""
CURVATURE = 0.3
"""tau of TAT for smooth activations: C''(1) of the whole network."""
DIGITS = 12
"""Significant digits of what is found."""
SAME = 1e-5
STEEPEST = 2.0
"""TAT's solutions that are steeper anywhere have unstable length maps, says their code."""
_EXACT = 1e-9
_STARTS = {"input_scale": (1.0, 0.1, 0.3), "shift": (0.0, 1.0, -1.0, 2.0, -2.0)}
Numbers = dict[str, float]


def with_transform(run: RunConfig) -> tuple[RunConfig, str]:
    """Return a run with the numbers that its `act.transform` finds.

    A run without a transform, and one that has these numbers already, stays as it is.

    Args:
        run: a checked run.

    Returns:
        The run, and a line that says what was found; empty where nothing was changed.

    Raises:
        UserError: as `transform_numbers`; or it has other numbers.
    """
    act, name = run.act, transform_of(run.act)
    if not name:
        return run, ""
    given = {key: act[key] for key in found_by_transform(act) if key in act}
    usual = {**IDENTITY, "slope": 0.01}
    typed = {key: value for key, value in given.items() if value != usual[key]}
    numbers = transform_numbers(act, len(run.widths))
    for key, value in typed.items():
        if not math.isclose(value, numbers[key], rel_tol=SAME, abs_tol=SAME):
            raise UserError(
                f"act.{key}={value}: act.transform={name} finds {numbers[key]:.6g} for "
                f"{len(run.widths)} layers; leave it out, or the transform"
            )
    if set(given) == set(found_by_transform(act)) and typed:
        return run, ""
    shown = " ".join(f"{key}={numbers[key]:.6g}" for key in found_by_transform(act))
    line = f"act={act['name']} act.transform={name}: {shown}, for {len(run.widths)} layers"
    return replace(run, act={**act, **numbers}), line


def transform_numbers(act: dict[str, Any], depth: int) -> Numbers:
    """Return what rescales an activation so that a plain network of that depth has given maps.

    The activation becomes output_scale (f(input_scale z + input_shift) + output_shift). Weights
    have the variance 1 / fan_in and biases are 0, inputs the mean square 1, so that q = 1 in every
    layer; Q and C are the maps of one layer, C_f those of the network.

    - dks: C(0) = 0, Q(1) = Q'(1) = 1, C_f'(1) = C'(1)^depth = zeta (1.5): Martens et al. 2021,
      "Rapid training of deep neural networks without skip connections or normalization layers using
      deep kernel shaping". Of a leaky ReLU it finds the slope in place of the input's numbers.
    - tat, leaky ReLU: the slope such that C_f(0) = eta (0.9), output_scale^2 = 2 / (1 + slope^2):
      Zhang et al. 2022, "Deep learning without shortcuts: shaping the kernel with tailored
      rectifiers".
    - tat, smooth activations: Q(1) = Q'(1) = C'(1) = 1, C_f''(1) = depth C''(1) = tau (0.3): same.

    Args:
        act: a run's, with its `transform`, and `transform_target` in place of zeta, eta or tau.
        depth: how many layers have the activation.

    Returns:
        The numbers by the names of `act`'s keys.

    Raises:
        UserError: the transform isn't made for this activation, no numbers do it, or as
            `units.unit_of`.
    """
    return dict(
        _solve(
            json.dumps(untransformed(act), sort_keys=True),
            transform_of(act),
            act.get(TARGET),
            depth,
        )
    )


@functools.lru_cache(maxsize=256)
def _solve(act_json: str, name: str, target: float | None, depth: int) -> tuple[Any, ...]:
    act = json.loads(act_json)
    what = f"act.transform={name}: act={act['name']}"
    if act["name"] == "leaky_relu" and "_target_" not in act:
        numbers = _leaky_relu(name, target, depth, what)
    else:
        numbers = _of_unit(name, act, target, depth, what)
    return tuple((key, float(f"{value:.{DIGITS}g}")) for key, value in numbers.items())


def _leaky_relu(name: str, target: float | None, depth: int, what: str) -> Numbers:
    """Return the slope s. DKS without input shift has Q'(1) = 1 whatever the slope."""
    if name == "tat":
        target = CORRELATION if target is None else target
        if not target < 1:
            raise _bad_target(target, "from 0 to below 1, the correlation C(0) of the network", 0.9)
        if leaky_relu_correlation(0.0, depth) < target:
            most = leaky_relu_correlation(0.0, depth)
            raise UserError(
                f"{what}: in {depth} layers C(0) is at most {most:.4g}, that of ReLU, and the "
                f"target is {target:g}; type more layers, or act.{TARGET}={most * 0.9:.2g}"
            )
        slope = brentq(lambda s: leaky_relu_correlation(s, depth) - target, 0.0, 1.0, xtol=1e-15)
        scale = math.sqrt(2 / (1 + slope**2))
        return {TARGET: target, "slope": slope, **IDENTITY, "output_scale": scale}
    target = SLOPE if target is None else target
    local = _local_slope(target, depth)
    variance = lambda s: (1 + s * s) / 2 - (1 - s) ** 2 / (2 * math.pi)  # noqa: E731
    excess = lambda s: (1 + s * s) / 2 / variance(s) - local  # noqa: E731
    if excess(0.0) < 0:
        raise _no_solution(what, depth)
    slope = brentq(excess, 0.0, 1.0, xtol=1e-15)
    mean = (1 - slope) / math.sqrt(2 * math.pi)
    return {
        TARGET: target,
        "slope": slope,
        **IDENTITY,
        "output_scale": variance(slope) ** -0.5,
        "output_shift": -mean,
    }


def network_maps(unit: Elementwise, depth: int) -> Numbers:
    """Return C(0), C'(1), C''(1) and Q'(1) of a plain network of that depth, each layer at q = 1.

    C''(1) is infinite where f' jumps. By the chain rule C_f'(1) is the product of the layers'
    slopes s, and C_f''(1) = C''(1) s^(depth - 1) (1 + s + … + s^(depth - 1)).

    Args:
        unit: of the rescaled activation, with E[f^2] = 1 at q = 1.
        depth: how many layers have it.
    """
    moments, c = unit.quick_moments(1.0), 0.0
    for _ in range(depth):
        c = min(unit.pair(1.0, c)[0], 1.0) if abs(c) > _EXACT else unit.pair(1.0, 0.0)[0]
    slope = moments.derivative
    powers = sum(slope**k for k in range(depth))
    return {
        "correlation": c,
        "slope": slope**depth,
        "curvature": unit.second_derivative(1.0) * slope ** (depth - 1) * powers,
        "length_slope": moments.slope**depth,
    }


def leaky_relu_correlation(slope: float, depth: int) -> float:
    """Return C_f(0) of a plain network of leaky ReLUs: the layers' maps, one after the other.

    C(c) = c + (1 - s)^2 / (pi (1 + s^2)) (sqrt(1 - c^2) - c arccos c): Zhang et al. 2022, eq. 8.
    """
    c, factor = 0.0, (1 - slope) ** 2 / (math.pi * (1 + slope**2))
    for _ in range(depth):
        c = min(c + factor * (math.sqrt(1 - c * c) - c * math.acos(c)), 1.0)
    return c


def _of_unit(
    name: str, act: dict[str, Any], target: float | None, depth: int, what: str
) -> Numbers:
    unit = unit_of(act)
    if not isinstance(unit, Elementwise):
        raise UserError(
            f"{what}: a unit has several inputs, and a transform rescales one; type for example "
            "act=tanh"
        )
    if _is_homogeneous(unit):
        raise UserError(
            f"{what}: to scale the input of a rectifier or a line changes nothing but its size; "
            "type act=leaky_relu, whose slope is found"
        )
    if name == "dks":
        target = SLOPE if target is None else target
        local = _local_slope(target, depth)
        return {TARGET: target, **_search(unit, dks_residual(local), what, depth)}
    target = CURVATURE if target is None else target
    if math.isinf(unit.second_derivative(1.0)):
        raise UserError(
            f"{what}: TAT is made for smooth activations and for leaky ReLU, and its derivative "
            "jumps; type act.transform=dks, or act=leaky_relu"
        )
    return {TARGET: target, **_search(unit, tat_residual(target / depth), what, depth)}


def _local_slope(target: float, depth: int) -> float:
    """Return C'(1) of a layer, of which the network's is the product."""
    if target <= 1:
        raise _bad_target(target, "above 1, the slope C'(1) of the network", SLOPE)
    return float(target ** (1 / depth))


def _bad_target(target: float, allowed: str, usual: float) -> UserError:
    return UserError(
        f"act.{TARGET}={target:g}: must be {allowed}; type for example act.{TARGET}={usual}"
    )


def _no_solution(what: str, depth: int) -> UserError:
    return UserError(
        f"{what}: no scale and shift of input and output have the maps that it asks for in "
        f"{depth} layers; type more layers, another act.{TARGET}, or another activation"
    )


def _is_homogeneous(unit: Elementwise) -> bool:
    """Return whether f(k z) = k f(z) for k > 0, as of ReLU and the identity."""
    z = np.array([-3.0, -0.7, 0.4, 2.0])
    (once, _), (twice, _) = unit.evaluate(z), unit.evaluate(2 * z)
    return bool(np.allclose(twice, 2 * once, rtol=1e-12, atol=1e-12))


Residual = Callable[[Elementwise, np.ndarray], tuple[Numbers, list[float]]]


def dks_residual(slope: float) -> Residual:
    """Return what is 0 where Q'(1) = 1 and C'(1) is the slope; C(0) = 0 and Q(1) = 1 hold."""

    def residual(unit: Elementwise, p: np.ndarray) -> tuple[Numbers, list[float]]:
        mean = unit.rescaled(p[0], p[1], 1.0, 0.0).quick_moments(1.0).mean
        numbers, moments, _ = _normalised(unit, p[0], p[1], -mean)
        return numbers, [moments.slope - 1, moments.derivative - slope]

    return residual


def tat_residual(curvature: float) -> Residual:
    """Return what is 0 where Q'(1) = C'(1) = 1 and C''(1) is the curvature; Q(1) = 1 holds."""

    def residual(unit: Elementwise, p: np.ndarray) -> tuple[Numbers, list[float]]:
        numbers, moments, whole = _normalised(unit, *p)
        bend = whole.second_derivative(1.0)
        return numbers, [moments.slope - 1, moments.derivative - 1, bend - curvature]

    return residual


def _normalised(unit: Elementwise, scale: float, shift: float, output_shift: float) -> Any:
    """Return the numbers with Q(1) = 1, the moments of the rescaled unit, and that unit."""
    shifted = unit.rescaled(scale, shift, 1.0, output_shift)
    output_scale = float(1 / np.sqrt(shifted.quick_moments(1.0).second))
    whole = unit.rescaled(scale, shift, output_scale, output_shift)
    values = map(float, (scale, shift, output_scale, output_shift))
    numbers = dict(zip(SCALES, values, strict=True))
    return numbers, whole.quick_moments(1.0), whole


def solve_scales(unit: Elementwise, residual: Residual, unknowns: int) -> Numbers | None:
    """Return the first solution from a list of starts, None if none leads to one.

    Args:
        unit: of the activation as it is.
        residual: of `dks_residual` or `tat_residual`.
        unknowns: 2, the input's scale and shift, or 3, the output's shift too.
    """

    def errors(p: np.ndarray) -> Sequence[float]:
        if not 1e-9 < abs(p[0]) < 1e3:
            return [1e3] * unknowns
        with np.errstate(all="ignore"):
            values = residual(unit, p)[1]
        return [value if math.isfinite(value) else 1e3 for value in values]

    steepest = float(np.abs(unit.evaluate(np.linspace(-8, 8, 1001))[1]).max())
    shifts = [_STARTS["shift"]] * (unknowns - 1)
    for scale, *rest in itertools.product(_STARTS["input_scale"], *shifts):
        answer = root(errors, np.array([scale, *rest]), options={"xtol": 1e-13})
        if max(map(abs, errors(answer.x))) > _EXACT:
            continue
        numbers, _ = residual(unit, answer.x)
        if (
            unknowns == 2
            or steepest * abs(numbers["input_scale"] * numbers["output_scale"]) < STEEPEST
        ):
            return numbers
    return None


def _search(unit: Elementwise, residual: Residual, what: str, depth: int) -> Numbers:
    numbers = solve_scales(unit, residual, 2 if "dks" in what else 3)
    if numbers is None:
        raise _no_solution(what, depth)
    return numbers
