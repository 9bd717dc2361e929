"""The report's figures of layers: heat maps over epochs, distributions of activations. No jax."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize

from actsweep.report import plotting
from actsweep.report.chart import HINTS, TITLES, Chart
from actsweep.report.design import Label
from actsweep.report.series import Layers, Ridges

RIDGES = 8


def heat(
    quantity: str, layers: Mapping[Label, Layers], styles: Mapping[Label, Mapping[str, Any]]
) -> Chart | None:
    """Return a heat map of a quantity by layer and epoch, a panel a group; None without any."""
    if not layers:
        return None
    columns = 3
    most = max(len(group_layers.names) for group_layers in layers.values())
    figure, panels = plotting.panels(
        len(layers), columns, width=2.9, height=min(1.1 + 0.17 * most, 3.0), share=False
    )
    norm = _norm(quantity, [group_layers.values for group_layers in layers.values()])
    rows: list[dict[str, Any]] = []
    for (label, group_layers), axes in zip(layers.items(), panels, strict=True):
        _heat_panel(axes, group_layers, norm)
        axes.set_title(styles[label]["label"])
        rows += [
            {"group": " ".join(label), "layer": name, "epoch": epoch, quantity: value}
            for name, values in zip(group_layers.names, group_layers.values, strict=True)
            for epoch, value in zip(group_layers.epochs, values, strict=True)
        ]
    for axes in panels[-columns:]:
        axes.set_xlabel("epoch")
    scale = ScalarMappable(norm, "viridis")
    figure.colorbar(scale, ax=panels, shrink=0.8, aspect=30)
    title = f"{TITLES[quantity]}, layer by epoch"
    caption = f"{HINTS[quantity]} Input at the bottom. Means over seeds."
    return Chart(quantity, title, caption, figure, rows)


def _heat_panel(axes: Axes, layers: Layers, norm: Normalize) -> None:
    edges = np.append(layers.epochs, layers.epochs[-1] + _step(layers.epochs))
    rows = np.arange(len(layers.names) + 1)
    axes.pcolormesh(edges, rows, layers.values, norm=norm, cmap="viridis", rasterized=True)
    every = math.ceil(len(layers.names) / 8)
    names = [name.replace("hidden_", "") for name in layers.names]
    axes.set_yticks(rows[:-1:every] + 0.5, names[::every], fontsize=8)
    axes.grid(visible=False)


def _step(epochs: np.ndarray) -> float:
    return float(np.median(np.diff(epochs))) if len(epochs) > 1 else 1.0


def _norm(quantity: str, values: Sequence[np.ndarray]) -> Normalize:
    """Return a scale from 0 to 1 for shares, a logarithmic one for norms."""
    flat = np.concatenate([matrix.ravel() for matrix in values])
    positive = flat[np.isfinite(flat) & (flat > 0)]
    if quantity != "grad_norm" or not len(positive):
        return Normalize(0.0, 1.0)
    low, high = np.quantile(positive, [0.01, 1.0])
    return LogNorm(low, max(high, low * 1.01), clip=True)


def ridges(
    layer: str, by_group: Mapping[Label, Ridges], styles: Mapping[Label, Mapping[str, Any]]
) -> Chart | None:
    """Return the distribution of a layer's activations over epochs, a panel a group; None without
    any."""
    if not by_group:
        return None
    figure, panels = plotting.panels(len(by_group), 3, width=2.9, height=2.2, share=False)
    rows: list[dict[str, Any]] = []
    for (label, ridge), axes in zip(by_group.items(), panels, strict=True):
        picked = np.unique(np.linspace(0, len(ridge.epochs) - 1, RIDGES).round().astype(int))
        _ridge_panel(axes, ridge, picked, styles[label])
        rows += [
            {
                "group": " ".join(label),
                "run": ridge.run_id,
                "epoch": ridge.epochs[at],
                "from": low,
                "to": high,
                "density": density,
            }
            for at in picked
            for low, high, density in zip(
                ridge.edges[:-1], ridge.edges[1:], ridge.densities[at], strict=True
            )
        ]
    _zoom(panels, list(by_group.values()))
    for axes in panels[-3:]:
        axes.set_xlabel("activation")
    outside = max(ridge.outside for ridge in by_group.values())
    caption = (
        f"Output of {layer} in each group's first run, epochs from top to bottom; the height is "
        f"the square root of the density. At most {100 * outside:.1f} % lie beyond the edges."
    )
    title = f"Distribution of activations, {layer.replace('_', ' ')}"
    return Chart(f"activations-{layer}", title, caption, figure, rows)


def _ridge_panel(axes: Axes, ridge: Ridges, picked: np.ndarray, style: Mapping[str, Any]) -> None:
    middles = (ridge.edges[1:] + ridge.edges[:-1]) / 2
    for place, at in enumerate(picked):
        base, height = -float(place), 1.6 * np.sqrt(ridge.densities[at])
        colour = style["color"]
        axes.fill_between(middles, base, base + height, color=colour, alpha=0.35, linewidth=0)
        axes.plot(middles, base + height, color=colour, linewidth=0.9)
    ends = [f"epoch {ridge.epochs[at]:g}" for at in (picked[0], picked[-1])]
    axes.set_yticks([0.0, 1.0 - len(picked)], ends, fontsize=8)
    axes.set_title(style["label"])
    axes.grid(visible=False)


def _zoom(panels: Sequence[Axes], ridges: Sequence[Ridges]) -> None:
    """Leave out bins at both ends that hold next to nothing anywhere."""
    edges: list[float] = []
    for ridge in ridges:
        used = np.flatnonzero((ridge.densities > 0.002).any(0))
        edges += [*ridge.edges[used], *ridge.edges[used + 1]]
    if edges:  # there are none where everything lies beyond them
        for axes in panels:
            axes.set_xlim(min(edges), max(edges))
