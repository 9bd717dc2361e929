"""Variances of initial weights and biases on the stable edge of chaos, for `init=critical`."""

import functools
import json
import math
from dataclasses import dataclass, replace
from typing import Any

from actsweep.config import by_layer
from actsweep.config.schema import CRITICAL_INITS, RunConfig
from actsweep.theory.mean_field import EdgePoint, edge_of_chaos, edge_point
from actsweep.theory.units import Elementwise, unit_of
from actsweep.utils.errors import UserError

USUAL_Q = 1.0
WELL_STABLE = 0.99
"""The slope Q' up to which q is chosen where none is given."""
DIGITS = 12
"""Significant digits of sigma_w and sigma_b."""
SAME = 1e-6
PLAIN = ("mlp", "cnn")
"""Models of which the theory of plain networks holds."""


@dataclass(frozen=True)
class CriticalInit:
    """The numbers of `init` on the edge of chaos, and one line that says what was found.

    Attributes:
        q: second moment of every layer's pre-activations, a fixed point of the length map.
        sigma_w: weights have the variance sigma_w^2 / fan_in.
        sigma_b: standard deviation of the biases.
        line: what was found; a warning where the point isn't stable.
    """

    q: float
    sigma_w: float
    sigma_b: float
    line: str


def with_critical(run: RunConfig) -> tuple[RunConfig, str]:
    """Return a run with `init.sigma_w` and `init.sigma_b` on the edge of chaos.

    A run with another `init`, and one that has these numbers already, stays as it is.

    Args:
        run: a checked run.

    Returns:
        The run, and a line that says what was found; empty where nothing was changed.

    Raises:
        UserError: as `critical_init`; or it has other numbers.
    """
    init = run.init
    if init.name not in CRITICAL_INITS:
        return run, ""
    found = critical_init(init.name, run.act, q=init.q, bias=init.bias)
    if (init.sigma_w, init.sigma_b) != (1.0, 0.0):
        pairs = [
            ("sigma_w", init.sigma_w, found.sigma_w),
            ("sigma_b", init.sigma_b, found.sigma_b),
        ]
        for key, value, own in pairs if init.sigma_w != 1.0 else pairs[::-1]:  # what was typed
            if not math.isclose(value, own, rel_tol=SAME, abs_tol=SAME):
                raise UserError(
                    f"init.{key}={value}: init={init.name} takes the edge of chaos of "
                    f"act={run.act['name']}, {own:.6g}; leave it out, or type init=normal "
                    f"init.sigma_w={found.sigma_w:.6g} init.sigma_b={found.sigma_b:.6g}"
                )
        return run, ""
    filled = replace(init, sigma_w=found.sigma_w, sigma_b=found.sigma_b)
    return replace(run, init=filled), found.line + _beyond_plain(run)


def _beyond_plain(run: RunConfig) -> str:
    """Say that a network isn't one of those whose edge of chaos it is."""
    model = run.model
    if model.name in PLAIN and model.norm in (None, "none") and not model.residual:
        return ""
    return "; it is the edge of a plain network, without skips, normalisation and recurrence"


def critical_init(
    name: str, act: dict[str, Any], *, q: float | None = None, bias: float = 0.0
) -> CriticalInit:
    """Return sigma_w and sigma_b with which chi_1 = 1 at a stable fixed point of the length map.

    With q at a fixed point, sigma_w^2 = 1 / E[f'(√q z)^2] and sigma_b^2 = q - sigma_w^2
    E[f(√q z)^2] (Poole et al. 2016; Hayou et al. 2019, "On the impact of the activation function on
    deep neural networks training"). Without a q it is 1, or the nearest at which the edge is well
    stable, Q' <= 0.99; where none is stable, the nearest of all, and the line warns.

    >>> found = critical_init("critical", {"name": "tanh"})
    >>> round(found.q, 6), round(found.sigma_w, 4), round(found.sigma_b, 4)
    (1.0, 1.4674, 0.3885)

    Args:
        name: of the init, for messages.
        act: the config's mapping.
        q: where on the edge; None for the usual place.
        bias: `init.bias`, added to every pre-activation.

    Raises:
        UserError: there is no such point, or E[f^2] is infinite; a unit has several inputs; or as
            `units.unit_of`.
    """
    if by_layer.entries(act):
        raise UserError(
            f"act.by_layer: init={name} takes the edge of chaos of one activation; leave it out, "
            "or type for example init=he_normal"
        )
    return _solve(name, json.dumps(act, sort_keys=True), q, bias)


@functools.lru_cache(maxsize=256)
def _solve(name: str, act_json: str, q: float | None, bias: float) -> CriticalInit:
    act = json.loads(act_json)
    unit, what = unit_of(act), f"init={name}: act={act['name']}"
    if not isinstance(unit, Elementwise):
        raise UserError(
            f"{what}: a unit has several inputs, whose moments by Monte Carlo are too rough to "
            "tell a stable edge of chaos; type for example init=lecun_normal init.gain=auto"
        )
    if bias:
        unit = unit.shifted(bias)
    point = _usual_point(unit, what) if q is None else _point_at(unit, q, what)
    sigma_w, sigma_b = (
        float(f"{math.sqrt(square):.{DIGITS}g}") for square in (point.sigma_w2, point.sigma_b2)
    )
    numbers = f"sigma_w={sigma_w:.6g} sigma_b={sigma_b:.6g} at q={point.q:.6g}"
    if point.stable:
        line = f"{what}: {numbers}, on the edge of chaos"
    else:
        line = (
            f"{what}: {numbers}: there chi_1 = 1, but no edge of chaos, since Q' = "
            f"{point.slope:.4g} > 1: second moments go away from q"
        )
    return CriticalInit(point.q, sigma_w, sigma_b, line)


def _point_at(unit: Elementwise, q: float, what: str) -> EdgePoint:
    point = edge_point(unit, q)
    if point is not None:
        return point
    try:
        other = _usual_point(unit, what).q
    except UserError:
        raise _no_edge(what) from None
    moments = unit.quick_moments(q)
    if math.isinf(moments.second):
        why = f"at q={q:g} E[f²] is infinite"
    elif moments.derivative == 0:
        why = f"at q={q:g} E[f'²] is 0"
    else:
        why = f"at q={q:g} chi_1 = 1 would need biases of negative variance"
    raise UserError(f"init.q={q:g}: {what}: {why}; type for example init.q={other:.4g}")


def _usual_point(unit: Elementwise, what: str) -> EdgePoint:
    """Return the edge at q = 1, or the well stable point nearest to it.

    Where an edge only begins to be stable, Q' is 1: second moments take hundreds of layers to come
    to q, and rounding alone may remove the fixed point. If no point is well stable (ReLU), it is
    the nearest stable one; if none is stable, the nearest of all.
    """
    at_one = edge_point(unit, USUAL_Q)
    if at_one is not None and at_one.slope <= WELL_STABLE:
        return at_one
    curve = [*([at_one] if at_one else []), *edge_of_chaos(unit)]
    if not curve:
        raise _no_edge(what)
    stable = [point for point in curve if point.stable]
    well = [point for point in curve if point.slope <= WELL_STABLE]
    nearest = min(well or stable or curve, key=lambda point: abs(math.log(point.q / USUAL_Q)))
    return edge_point(unit, float(f"{nearest.q:.3g}")) or nearest


def _no_edge(what: str) -> UserError:
    return UserError(
        f"{what}: no q from 1e-8 to 1e3 is a fixed point of the length map with chi_1 = 1, so "
        "there is no edge of chaos; type for example init=lecun_normal init.gain=auto"
    )
