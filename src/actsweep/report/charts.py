"""The report's figures, each with the numbers that it draws. No jax."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from actsweep.report import plotting
from actsweep.report.compare import Comparison
from actsweep.report.design import Design, Label
from actsweep.report.series import Curve, Layers, Ridges, Series
from actsweep.stats import paired
from actsweep.stats.factorial import Optimum

INK = "#1a1b1c"
"""Colour of text and axes, which the page replaces by its own text colour."""
INK_PARAMS: Any = dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
)
RIDGES = 8
DASHES = ("-", "--", ":", "-.")
TITLES = {
    "grad_norm": "Gradient norm",
    "dead_frac": "Share of dead units",
    "saturated_frac": "Share of saturated units",
    "cos_sim": "Cosine similarity between examples",
    "val/accuracy": "Validation accuracy, %",
    "val/loss": "Validation loss",
    "train/loss": "Training loss",
}
HINTS = {
    "grad_norm": "L2 norm of the weights' gradient. Even rows: every layer learns; rows that fade "
    "towards the input: gradients vanish.",
    "dead_frac": "Units with |f'(z)| < 0.001 on every probed example.",
    "saturated_frac": "Share of (example, unit) pairs with |f'(z)| < 0.01.",
    "cos_sim": "Mean cosine similarity between the activations of different examples: at 1, the "
    "layer has forgotten its input.",
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw figures inside in our style, in the ink that the page replaces."""
    with plotting.use_style(), matplotlib.rc_context(INK_PARAMS):
        yield


@dataclass(frozen=True)
class Chart:
    """A figure: its file name, title and caption, and the numbers that it draws."""

    name: str
    title: str
    caption: str
    figure: Figure
    rows: Sequence[Mapping[str, Any]]


def charts(
    design: Design, labels: Sequence[Label], comparison: Comparison | None, series: Series
) -> list[Chart]:
    """Return all figures that there are numbers for.

    Args:
        design: how the runs are laid out.
        labels: the groups that are drawn, in order.
        comparison: the comparison, if any run is complete.
        series: what the groups logged.
    """
    styles = {label: _line_style(label, design, place) for place, label in enumerate(labels)}
    made: list[Chart | None] = []
    with drawing():
        if comparison:
            made += [_scores(comparison, styles)]
        made += [_curves(series.curves, design, styles)]
        for quantity, layers in series.layers.items():
            made += [_heat(quantity, {k: layers[k] for k in labels if k in layers}, styles)]
        for layer, ridges in series.ridges.items():
            made += [_ridges(layer, {k: ridges[k] for k in labels if k in ridges}, styles)]
    return [chart for chart in made if chart]


def _or_nan(value: float | None, scale: float) -> float:
    return math.nan if value is None else scale * value


def _line_style(label: Label, design: Design, index: int) -> dict[str, Any]:
    """Return an activation's style; with two factors, the second decides the dashes."""
    style = _base_style(" ".join(label), index)
    if len(label) == 2 and label[0].split()[0] in plotting.STYLES:
        dashes = list(dict.fromkeys(other[1] for other in design.labels.values()))
        style["linestyle"] = DASHES[dashes.index(label[1]) % len(DASHES)]
    return style


def _base_style(name: str, place: int) -> dict[str, Any]:
    """Return the style of an activation, or the next of a cycle for anything else."""
    act = name.split()[0]
    if act in plotting.STYLES:
        return {**plotting.line_style(act), "label": name}
    colours = (
        plotting.BLUE,
        plotting.ORANGE,
        plotting.GREEN,
        plotting.RED,
        plotting.SKY,
        plotting.PINK,
    )
    dash = DASHES[place // len(colours) % len(DASHES)]
    return {"color": colours[place % len(colours)], "linestyle": dash, "label": name}


def _score_title(comparison: Comparison) -> str:
    return f"{comparison.measure.metric}{', %' if comparison.measure.scale == 100 else ''}"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Return limits that hold all values, with a margin."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.08 * abs(high) or 1.0
    return low - room, high + room


def _scores(comparison: Comparison, styles: Mapping[Label, Mapping[str, Any]]) -> Chart:
    labels = [label for label in comparison.groups if label in styles]
    rows = [
        {
            **dict(zip(comparison.by, label, strict=True)),
            "seed": seed,
            comparison.measure.metric: value,
        }
        for label in labels
        for seed, value in paired.seed_means(comparison.cells[label]).items()
    ]
    if len(comparison.by) == 2:
        return _score_table(comparison, rows)
    figure, (axes,) = plotting.panels(1, 1, width=6.5, height=0.9 + 0.32 * len(labels))
    scale = comparison.measure.scale
    for place, label in enumerate(labels):
        summary, style = comparison.groups[label], styles[label]
        values = [scale * v for v in paired.seed_means(comparison.cells[label]).values()]
        colour = style["color"]
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.45, markersize=5)
        if summary.low is not None and summary.high is not None:
            axes.plot([scale * summary.low, scale * summary.high], [place, place], color=colour)
        axes.plot([scale * summary.mean], [place], "|", color=colour, markersize=14, mew=2)
    axes.set_yticks(range(len(labels)), [" ".join(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel(_score_title(comparison))
    caption = "A dot a seed; the bar is the mean, the line its 95 % interval (Student t)."
    title = f"{comparison.measure.metric} by {comparison.by[0]}"
    return Chart("scores", title, caption, figure, rows)


def _score_table(comparison: Comparison, rows: Sequence[Mapping[str, Any]]) -> Chart:
    firsts = list(dict.fromkeys(a for a, _ in comparison.groups))
    seconds = list(dict.fromkeys(b for _, b in comparison.groups))
    scale = comparison.measure.scale
    means = {label: scale * summary.mean for label, summary in comparison.groups.items()}
    grid = [[means.get((a, b), math.nan) for b in seconds] for a in firsts]
    width, height = 1.6 + 0.8 * len(seconds), 0.9 + 0.32 * len(firsts)
    figure, (axes,) = plotting.panels(1, 1, width=width, height=height)
    plotting.heatmap(axes, grid, firsts, seconds, form="{:.1f}" if scale == 100 else "{:.3g}")
    axes.set_xlabel(comparison.by[1])
    axes.set_ylabel(comparison.by[0])
    title = f"{_score_title(comparison)} by {' and '.join(comparison.by)}"
    caption = "Means over seeds; blank where no run counts."
    if comparison.interaction is not None:
        caption += f" Interaction of the two: p = {comparison.interaction:.2g}."
    return Chart("scores", title, caption, figure, rows)


def sensitivity(comparison: Comparison) -> Chart | None:
    """Return the score along a factor that is a swept number; None if no factor is one.

    With two factors there is a curve for each value of the other.
    """
    swept = [place for place, title in enumerate(comparison.by) if title in comparison.optima]
    place = next(iter(swept), None)
    if place is None:
        return None
    title = comparison.by[place]
    rests = list(dict.fromkeys(label[:place] + label[place + 1 :] for label in comparison.groups))
    rows: list[dict[str, Any]] = []
    with drawing():
        figure, (axes,) = plotting.panels(1, 1, width=6.5, height=3.4)
        for index, other in enumerate(rests):
            name = " ".join(other) or "all"
            points = _along(comparison, place, other)
            best = comparison.optima[title].get(other)
            _sensitivity_curve(axes, points, _base_style(name, index), best)
            rows += [{title: x, "group": name, **values} for x, values in points.items()]
        if all(row[title] > 0 for row in rows):
            axes.set_xscale("log")
            _plain(axes.xaxis)
        axes.set_xlabel(title)
        axes.set_ylabel(_score_title(comparison))
        axes.set_ylim(*_ends([row["mean"] for row in rows]))
        axes.legend(fontsize=8)
    caption = (
        f"{comparison.measure.metric} along {title}: means over seeds with 95 % intervals; shaded "
        "from top to bottom: where the best value lies in 95 % of resamples of the seeds."
    )
    return Chart(f"sensitivity-{title}", f"Sensitivity to {title}", caption, figure, rows)


def _along(comparison: Comparison, place: int, other: Label) -> dict[float, dict[str, float]]:
    """Return mean, low and high, as shown, by the factor's number."""
    numbers, scale = comparison.design.numbers(comparison.by[place]), comparison.measure.scale
    points = {
        numbers[label[place]]: {
            "mean": scale * summary.mean,
            "low": _or_nan(summary.low, scale),
            "high": _or_nan(summary.high, scale),
        }
        for label, summary in comparison.groups.items()
        if label[:place] + label[place + 1 :] == other
    }
    return dict(sorted(points.items()))


def _sensitivity_curve(
    axes: Axes,
    points: Mapping[float, Mapping[str, float]],
    style: Mapping[str, Any],
    best: Optimum | None,
) -> None:
    mean, low, high = ([point[key] for point in points.values()] for key in ("mean", "low", "high"))
    axes.plot([*points], mean, **{**style, "marker": "o"})
    axes.fill_between([*points], low, high, color=style["color"], alpha=0.15, linewidth=0)
    if best:
        axes.axvspan(best.low, best.high, color=style["color"], alpha=0.08, linewidth=0)


def _curves(
    curves: Mapping[str, Mapping[Label, Curve]],
    design: Design,
    styles: Mapping[Label, Mapping[str, Any]],
) -> Chart | None:
    shown = [metric for metric in ("val/accuracy", "train/loss") if metric in curves]
    if "val/accuracy" not in curves and "val/loss" in curves:
        shown.insert(0, "val/loss")
    if not shown:
        return None
    figure, panels = plotting.panels(len(shown), 2, width=4.2, height=3.4, share=False)
    rows: list[dict[str, Any]] = []
    for metric, axes in zip(shown, panels, strict=True):
        scale = 100.0 if metric == "val/accuracy" else 1.0
        for label, style in styles.items():
            if label in curves[metric]:
                curve = curves[metric][label]
                _curve(axes, curve, scale, style)
                rows += _curve_rows(metric, label, curve, design)
        axes.set_xlabel("epoch")
        axes.set_title(TITLES[metric])
        means = [curve.mean for curve in curves[metric].values()]
        if metric != "val/accuracy" and min(mean.min() for mean in means) > 0:
            axes.set_yscale("log")
            _plain(axes.yaxis)
            axes.set_ylim(0.8 * min(m.min() for m in means), 1.25 * max(m.max() for m in means))
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=6, fontsize=8)
    caption = (
        "Means over seeds, shaded their 95 % interval (Student t); a run that has ended keeps its "
        "last value."
    )
    return Chart("curves", "Curves", caption, figure, rows)


def _plain(axis: Axis) -> None:
    """Show numbers such as 0.02 on a logarithmic axis that spans few decades."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _curve(axes: Axes, curve: Curve, scale: float, style: Mapping[str, Any]) -> None:
    axes.plot(curve.epochs, scale * curve.mean, **{**style, "linewidth": 1.4})
    if curve.runs > 1:
        low, high = scale * curve.low, scale * curve.high
        axes.fill_between(curve.epochs, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _curve_rows(metric: str, label: Label, curve: Curve, design: Design) -> list[dict[str, Any]]:
    group = dict(zip(design.factors, label, strict=True))
    return [
        {
            "metric": metric,
            **group,
            "epoch": e,
            "mean": m,
            "low": lo,
            "high": hi,
            "runs": curve.runs,
        }
        for e, m, lo, hi in zip(curve.epochs, curve.mean, curve.low, curve.high, strict=True)
    ]


def _heat(
    quantity: str, layers: Mapping[Label, Layers], styles: Mapping[Label, Mapping[str, Any]]
) -> Chart | None:
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


def _ridges(
    layer: str, ridges: Mapping[Label, Ridges], styles: Mapping[Label, Mapping[str, Any]]
) -> Chart | None:
    if not ridges:
        return None
    figure, panels = plotting.panels(len(ridges), 3, width=2.9, height=2.2, share=False)
    rows: list[dict[str, Any]] = []
    for (label, ridge), axes in zip(ridges.items(), panels, strict=True):
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
    _zoom(panels, list(ridges.values()))
    for axes in panels[-3:]:
        axes.set_xlabel("activation")
    outside = max(ridge.outside for ridge in ridges.values())
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
