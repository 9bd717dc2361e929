"""Everything that theory says of one configuration, as plain values."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from actsweep.config.schema import RunConfig
from actsweep.theory import mean_field
from actsweep.theory.jacobian import born_dead, born_dead_on_line, jacobian_spectrum
from actsweep.theory.mean_field import EdgePoint, FixedPoint, Layer, Unit
from actsweep.theory.networks import Network, describe_layers, network_of, predict
from actsweep.theory.transforms import network_maps
from actsweep.theory.units import Elementwise

AT_EDGE = 1e-6
"""How close to 1 chi_1 is called an edge of chaos."""
TRAINABLE = 6
"""Layers in units of xi_c through which a signal still trains: Schoenholz et al. 2017."""

NARROW = 16
"""Units of a layer; wider ones are born dead less often than can be drawn."""


def card(run: RunConfig, q_0: float, c_0: float, inputs: int | None = None) -> dict[str, Any]:
    """Return what theory says of a run's network before training.

    Args:
        run: a resolved run.
        q_0: mean square of an input's features.
        c_0: cosine of two inputs.
        inputs: the width of an example; by default that of the first hidden layer.

    Returns:
        Plain values: `moments` at q*, `fixed_points`, `fixed_point` (q*, c*, chi_1, depth scales),
        `edge`, `jacobian`, `born_dead`, `layers` (a list a quantity), `verdict` and `notes`; with
        `act.transform` also `network_maps`.

    Raises:
        UserError: as `networks.network_of` and `networks.predict`.
    """
    network = network_of(run, inputs)
    layers = predict(network, q_0, c_0)
    unit, layer = network.unit, network.repeated
    second = [prediction.second - network.bias**2 for prediction in layers]
    dead = born_dead(unit, second, network.widths[1:]) if network.plain else None
    content: dict[str, Any] = {
        "act": dict(run.act),
        "init": vars(run.init) | {"sigma_w2": layer.sigma_w2, "sigma_b2": layer.sigma_b2},
        "depth": len(layers),
        "widths": list(network.widths),
        "q_0": q_0,
        "c_0": c_0,
        "born_dead": dead,
        "born_dead_everywhere": _dead_everywhere(network) if network.plain else None,
        "layers": describe_layers(layers),
    }
    if any(network.skips):
        content |= {
            "verdict": "skips: second moments grow from layer to layer",
            "notes": _notes(network),
        }
        return content | dict.fromkeys(
            ("moments", "fixed_points", "fixed_point", "edge", "jacobian")
        )
    if network.normalised:
        layer = _normalised(unit, layer)
    return content | _at_fixed_point(network, unit, layer, second[0])


def _dead_everywhere(network: Network) -> dict[str, float] | None:
    """Return the share of networks that are 0 for all inputs, where it can be drawn: of ReLUs, one
    input and no biases, and narrow enough to be born dead at all."""
    inputs, *widths = network.widths
    biases = network.bias or any(layer.sigma_b2 for layer in network.layers)
    if network.name != "relu" or inputs > 1 or biases or max(widths) > NARROW:
        return None
    share, error = born_dead_on_line(widths)
    return {"share": share, "error": error}


def _normalised(unit: Unit, layer: Layer) -> Layer:
    """Return the variances with which a layer keeps q = 1, as a normalisation makes it do."""
    q = mean_field.length_map(unit, layer, 1.0)
    return Layer(layer.sigma_w2 / q, layer.sigma_b2 / q)


def _at_fixed_point(network: Network, unit: Unit, layer: Layer, start: float) -> dict[str, Any]:
    """Return the parts of a card that the fixed points of the maps decide."""
    if network.normalised:
        point: FixedPoint | None = FixedPoint(1.0, 0.0)
        points = [FixedPoint(1.0, 0.0)]
    elif network.transform:
        point = FixedPoint(1.0, 1.0)  # where Q' is 1 by design, which no search finds
        points = [point]
    else:
        points = mean_field.fixed_points(unit, layer)
        point = mean_field.attractor(unit, layer, start, points)
    edge = None if network.normalised else _edge(unit, layer)
    found = None if point is None else describe_fixed_point(unit, layer, point)
    moments = None
    if point is not None:
        at_point = unit.moments(max(point.q, mean_field.TINY))
        moments = vars(at_point) | {"curvature": at_point.curvature}
    jacobian = None
    if point is not None and unit.inputs == 1 and not network.normalised:
        jacobian = _jacobian(network, unit, layer, point.q)
    return {
        "moments": moments,
        "fixed_points": [vars(p) | {"stable": p.stable} for p in points],
        "fixed_point": found,
        "edge": edge,
        "jacobian": jacobian,
        "verdict": _verdict(found, edge, math.sqrt(layer.sigma_b2)),
        "notes": _notes(network),
        **_transformed(network),
    }


def _transformed(network: Network) -> dict[str, Any]:
    """Return the maps of the whole network, and a verdict, where `act.transform` made them."""
    if not network.transform or not isinstance(network.unit, Elementwise):
        return {}
    depth = len(network.layers)
    maps = network_maps(network.unit, depth)
    zero_if_rounding = maps["correlation"] if maps["correlation"] > 1e-12 else 0.0
    shown = f"C(0) = {zero_if_rounding:.4g}, C'(1) = {maps['slope']:.4g}"
    if math.isfinite(maps["curvature"]):
        shown += f", C''(1) = {maps['curvature']:.4g}"
    verdict = f"rescaled by {network.transform}: the maps of all {depth} layers have {shown}"
    return {"network_maps": maps, "verdict": verdict}


def describe_fixed_point(unit: Unit, layer: Layer, point: FixedPoint) -> dict[str, Any]:
    """Return q*, Q'(q*), c*, chi_1 and the depth scales; an infinite scale is None."""
    q = point.q
    c = mean_field.fixed_correlation(unit, layer, q)
    xi_c = mean_field.depth_scale(mean_field.correlation_slope(unit, layer, q, c))
    scales = {
        "xi_q": mean_field.depth_scale(point.slope),
        "xi_c": xi_c,
        "trainable_depth": TRAINABLE * xi_c,
    }
    return {
        "q": q,
        "slope": point.slope,
        "stable": point.stable,
        "chi_1": mean_field.gradient_factor(unit, layer, q),
        "c": c,
        **{name: scale if math.isfinite(scale) else None for name, scale in scales.items()},
    }


def _edge(unit: Unit, layer: Layer) -> dict[str, Any]:
    """Return the edge of chaos: the points at this sigma_b^2, and the curve of them all."""
    curve = mean_field.edge_of_chaos(unit)
    return {
        "here": [_edge_values(point) for point in mean_field.edge_at(unit, layer.sigma_b2, curve)],
        "stable_from": _first_stable(curve),
        "curve": [_edge_values(point) for point in curve],
    }


def _first_stable(curve: Sequence[EdgePoint]) -> dict[str, Any] | None:
    """Return where the curve becomes stable; None if it is so from its beginning, or never."""
    turns = (b for a, b in itertools.pairwise(curve) if b.stable and not a.stable)
    return next((_edge_values(point) for point in turns), None)


def _edge_values(point: EdgePoint) -> dict[str, Any]:
    return vars(point) | {"stable": point.stable}


def _jacobian(network: Network, unit: Unit, layer: Layer, q: float) -> dict[str, float | None]:
    depth = len(network.layers)
    mean, variance = jacobian_spectrum(unit, layer, q, depth, orthogonal=network.orthogonal)
    numbers = {"mean": mean, "variance": variance}
    return {key: value if math.isfinite(value) else None for key, value in numbers.items()}


def _verdict(found: dict[str, Any] | None, edge: Any, sigma_b: float) -> str:
    """Return in one line whether signals live, and how deep a network may be."""
    if found is None:
        grows = "unstable: no fixed point attracts q, which grows without bound"
        return f"{grows}{_not_an_edge(edge, sigma_b)}"
    if not found["stable"]:
        return (
            f"unstable: at the fixed point q* = {found['q']:.4g} Q' = {found['slope']:.4g} > 1"
            f"{_not_an_edge(edge, sigma_b)}"
        )
    chi = found["chi_1"]
    if abs(chi - 1) <= AT_EDGE:
        return "edge of chaos: chi_1 = 1; signals and gradients go through at any depth"
    depth = found["trainable_depth"]
    reach = f"trains to about {depth:.0f} layers" if depth is not None else "any depth"
    if chi < 1:
        return f"ordered: chi_1 = {chi:.4g} < 1, gradients vanish and inputs become alike; {reach}"
    return f"chaotic: chi_1 = {chi:.4g} > 1, gradients explode; {reach}"


def _not_an_edge(edge: Any, sigma_b: float) -> str:
    """Name the points with chi_1 = 1 at this sigma_b that are no edge of chaos."""
    unstable = [point for point in (edge or {}).get("here", ()) if not point["stable"]]
    return "".join(
        f"; at sigma_b = {sigma_b:.4g} chi_1 is 1 at sigma_w = {math.sqrt(point['sigma_w2']):.4g}, "
        f"q = {point['q']:.4g}, where Q' = {point['slope']:.4g} > 1: no edge of chaos"
        for point in unstable
    )


def _notes(network: Network) -> list[str]:
    """Return what the card leaves out, and why."""
    notes = []
    if network.unit.inputs > 1:
        notes.append(
            "moments by Monte Carlo, with their standard error; no theory here for the Jacobian"
        )
    if network.normalised:
        notes.append("the normalisation makes q = 1 in every layer; no edge, no band")
    if any(network.skips):
        notes.append("no theory here for fixed points, the Jacobian and the band with skips")
    return notes
