"""Figures of `actsweep theory`: maps with their cobwebs, the edge of chaos, layers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from numpy import ndarray

from actsweep.config.schema import RunConfig
from actsweep.report import colours, plotting
from actsweep.theory import mean_field
from actsweep.theory.depth_scales import DepthScaleMap, depth_scale_map
from actsweep.theory.mean_field import Layer, Unit
from actsweep.theory.networks import network_of
from actsweep.theory.units import Elementwise

POINTS, STEPS = 40, 30
LEAST_COSINE = 1e-12
"""Less is rounding."""
Card = Mapping[str, Any]


def draw(card: Card, run: RunConfig, path: Path) -> None:
    """Draw a card's figure into a PNG file.

    Args:
        card: from `theory.card`.
        run: what the card is of.
        path: the file, with its ending.
    """
    network = network_of(run, card["widths"][0])
    unit, layer, act = network.unit, network.repeated, run.act["name"]
    panels: list[Callable[[Axes], None]] = []
    if network.plain:
        panels.append(lambda axes: _length_map(axes, unit, layer, card))
        panels.append(lambda axes: _correlation_map(axes, unit, layer, card))
        panels.append(lambda axes: _edge(axes, unit, layer, card))
    panels.append(lambda axes: _layers(axes, card, act))
    title = f"{act}: {card['verdict'].partition(';')[0]}"
    with plotting.use_style():
        figure, flat = plotting.panels(
            len(panels),
            2,
            width=4.2,
            height=3.2,
            share=False,
            title=title,
        )
        for axes, panel in zip(flat, panels, strict=True):
            panel(axes)
    plotting.save_figure(figure, path.with_suffix(""), kinds=("png",))


def _length_map(axes: Axes, unit: Unit, layer: Layer, card: Card) -> None:
    start = card["layers"]["second"][0]
    point = card["fixed_point"]
    top = 1.5 * max(start, point["q"] if point else 4 * start, 1e-3)
    q = np.linspace(top / POINTS, top, POINTS)
    lengths = [mean_field.length_map(unit, layer, value) for value in q]
    axes.plot(q, lengths, color=colours.BLUE)
    _cobweb(axes, lambda value: mean_field.length_map(unit, layer, value), start, top)
    for fixed in card["fixed_points"]:
        if fixed["q"] <= top:
            filled = "full" if fixed["stable"] else "none"
            axes.plot(fixed["q"], fixed["q"], "o", color=colours.RED, fillstyle=filled)
    axes.set_ylim(0, 1.2 * top)
    _label(axes, "length map; filled: stable", "q", "Q(q)")


def _correlation_map(axes: Axes, unit: Unit, layer: Layer, card: Card) -> None:
    point = card["fixed_point"]
    q = point["q"] if point else card["layers"]["second"][0]
    c = np.linspace(0, 1, POINTS // 2 + 1)
    values = [mean_field.correlation_map(unit, layer, q, value) for value in c]
    axes.plot(c, values, color=colours.BLUE)
    start = float(np.clip(card["layers"]["correlation"][0], 0, 1))
    _cobweb(axes, lambda value: float(np.interp(value, c, values)), start, 1.0)
    if point:
        axes.plot(point["c"], point["c"], "o", color=colours.RED)
    _label(axes, f"correlation map at q = {q:.4g}", "c", "C(c)")


def _cobweb(axes: Axes, step: Callable[[float], float], start: float, top: float) -> None:
    """Draw the diagonal, and the steps from layer to layer while they stay inside."""
    axes.plot([0, top], [0, top], color="0.6", linewidth=0.8)
    x, y = [start], [0.0]
    for _ in range(STEPS):
        value = step(x[-1])
        x += [x[-1], value]
        y += [value, value]
        if not value <= top:
            break
    axes.plot(x, y, color=colours.ORANGE, linewidth=0.9)


def _edge(axes: Axes, unit: Unit, layer: Layer, card: Card) -> None:
    point = card["fixed_point"]
    around, right = max(layer.sigma_b2, 0.1), max(4.0, 1.3 * layer.sigma_w2)
    if isinstance(unit, Elementwise):
        biases, weights = np.linspace(0, 2.5 * around, 30), np.linspace(0, right, 160)
        scales = depth_scale_map(unit, np.geomspace(1e-3, 30, 120), biases)
        depths = [_at(weights, scales, column) for column in range(len(biases))]
        depth = np.log10(np.clip(6 * np.array(depths), 1, 1e3))
        mesh = axes.pcolormesh(weights, biases, depth, vmin=0, vmax=3, cmap="cividis")
        axes.figure.colorbar(mesh, ax=axes, label="log10 of 6 xi_c, layers")
    curve = card["edge"]["curve"]
    for stable, dash, label in ((True, "-", "edge of chaos"), (False, ":", "chi_1 = 1, unstable")):
        points = [p for p in curve if p["stable"] is stable]
        if points:
            sigma_w2, sigma_b2 = ([p[key] for p in points] for key in ("sigma_w2", "sigma_b2"))
            mark = "o" if len({*np.round(sigma_w2, 9)}) == 1 else ""
            axes.plot(sigma_w2, sigma_b2, dash, marker=mark, color=colours.RED, label=label)
    colour = colours.BLACK if point else colours.RED
    axes.plot(layer.sigma_w2, layer.sigma_b2, "*", color=colour, markersize=10, label="here")
    axes.set_xlim(0, right)
    axes.set_ylim(-0.05 * around, 2.5 * around)
    axes.legend(fontsize=7, loc="upper left", frameon=True)
    _label(axes, "depth scales", "sigma_w²", "sigma_b²")


def _at(weights: Float64[ndarray, " n"], scales: DepthScaleMap, column: int) -> ndarray:
    """Return the depth scales at these variances of the weights, for one variance of the biases.

    Between neighbouring fixed points that are both stable; NaN elsewhere.
    """
    sigma_w2, xi_c = scales.sigma_w2[:, column], scales.xi_c[:, column]
    depths = np.full(len(weights), np.nan)
    known = scales.stable[:, column] & ~np.isnan(sigma_w2)
    for i in np.flatnonzero(known[:-1] & known[1:]):
        low, high = sorted((i, i + 1), key=sigma_w2.__getitem__)
        inside = (weights >= sigma_w2[low]) & (weights <= sigma_w2[high])
        ends = np.minimum(xi_c[[low, high]], 1e6)
        depths[inside] = np.interp(weights[inside], sigma_w2[[low, high]], ends)
    return depths


def _layers(axes: Axes, card: Card, act: str) -> None:
    columns = card["layers"]
    layer = np.arange(1, card["depth"] + 1)
    second = np.array(columns["second"], float)
    axes.plot(layer, second, color=plotting.colour(act), label="E[z²]")
    if None not in columns["band"]:
        band = 2 * np.array(columns["band"], float)
        low = np.maximum(second - band, 0.02 * second)
        axes.fill_between(layer, low, second + band, alpha=0.2, color=plotting.colour(act))
    gradient = np.array(columns["gradient"], float)
    axes.plot(layer, gradient, "--", color=colours.BLACK, label="|dL/dW|, last = 1")
    cosine = np.array(columns["act_cosine"], float)
    cosine = np.where(np.abs(cosine) > LEAST_COSINE, cosine, np.nan)
    axes.plot(layer, cosine, ":", color=colours.RED, label="cosine of f(z)")
    axes.set_yscale("log")
    axes.legend(fontsize=7)
    _label(axes, "layer by layer; band: 95 % of networks", "hidden layer", "")


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
