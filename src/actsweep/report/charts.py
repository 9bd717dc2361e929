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
"""Text and axes: on the page they get the text's colour."""
INKED: Any = dict.fromkeys(
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
    """Figures drawn inside look as all of ours do, in the ink that the page replaces."""
    with plotting.look(), matplotlib.rc_context(INKED):
        yield


@dataclass(frozen=True)
class Chart:
    """A figure: its file name, what it shows in a sentence, the numbers that it draws."""

    name: str
    title: str
    caption: str
    figure: Figure
    rows: Sequence[Mapping[str, Any]]


def charts(
    design: Design, labels: Sequence[Label], found: Comparison | None, series: Series
) -> list[Chart]:
    """All figures that there are numbers for.

    Args:
        design: how the runs are laid out.
        labels: the groups that are drawn, in order.
        found: the comparison, if anything is complete.
        series: what the groups went through.
    """
    looks = {label: _look(label, design, place) for place, label in enumerate(labels)}
    made: list[Chart | None] = []
    with drawing():
        if found:
            made += [_scores(found, looks)]
        made += [_curves(series.curves, design, looks)]
        for quantity, layers in series.layers.items():
            made += [_heat(quantity, {k: layers[k] for k in labels if k in layers}, looks)]
        for layer, ridges in series.ridges.items():
            made += [_ridges(layer, {k: ridges[k] for k in labels if k in ridges}, looks)]
    return [one for one in made if one]


def _or_nan(value: float | None, scale: float) -> float:
    return math.nan if value is None else scale * value


def _look(label: Label, design: Design, place: int) -> dict[str, Any]:
    """An activation's own colour; of two factors the second decides the line."""
    look = _style(" ".join(label), place)
    if len(label) == 2 and label[0].split()[0] in plotting.STYLES:
        dashes = list(dict.fromkeys(one[1] for one in design.labels.values()))
        look["linestyle"] = DASHES[dashes.index(label[1]) % len(DASHES)]
    return look


def _style(named: str, place: int) -> dict[str, Any]:
    """Of an activation its own; else the next of a cycle."""
    act = named.split()[0]
    if act in plotting.STYLES:
        return {**plotting.line(act), "label": named}
    colours = (
        plotting.BLUE,
        plotting.ORANGE,
        plotting.GREEN,
        plotting.RED,
        plotting.SKY,
        plotting.PINK,
    )
    dash = DASHES[place // len(colours) % len(DASHES)]
    return {"color": colours[place % len(colours)], "linestyle": dash, "label": named}


def _score_title(found: Comparison) -> str:
    return f"{found.measure.metric}{', %' if found.measure.scale == 100 else ''}"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Limits that hold all values, with room."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.08 * abs(high) or 1.0
    return low - room, high + room


def _scores(found: Comparison, looks: Mapping[Label, Mapping[str, Any]]) -> Chart:
    drawn = [label for label in found.groups if label in looks]
    rows = [
        {**dict(zip(found.by, label, strict=True)), "seed": seed, found.measure.metric: value}
        for label in drawn
        for seed, value in paired.by_seed(found.cells[label]).items()
    ]
    if len(found.by) == 2:
        return _score_table(found, rows)
    figure, (axes,) = plotting.panels(1, 1, width=6.5, height=0.9 + 0.32 * len(drawn))
    scale = found.measure.scale
    for place, label in enumerate(drawn):
        one, look = found.groups[label], looks[label]
        values = [scale * v for v in paired.by_seed(found.cells[label]).values()]
        axes.plot(values, [place] * len(values), "o", color=look["color"], alpha=0.45, markersize=5)
        if one.low is not None and one.high is not None:
            axes.plot([scale * one.low, scale * one.high], [place, place], color=look["color"])
        axes.plot([scale * one.mean], [place], "|", color=look["color"], markersize=14, mew=2)
    axes.set_yticks(range(len(drawn)), [" ".join(label) for label in drawn])
    axes.set_ylim(len(drawn) - 0.5, -0.5)
    axes.set_xlabel(_score_title(found))
    caption = "A dot a seed; the bar is the mean, the line its 95 % interval (Student t)."
    return Chart("scores", f"{found.measure.metric} by {found.by[0]}", caption, figure, rows)


def _score_table(found: Comparison, rows: Sequence[Mapping[str, Any]]) -> Chart:
    firsts = list(dict.fromkeys(a for a, _ in found.groups))
    seconds = list(dict.fromkeys(b for _, b in found.groups))
    scale = found.measure.scale
    grid = [
        [scale * found.groups[a, b].mean if (a, b) in found.groups else math.nan for b in seconds]
        for a in firsts
    ]
    width, height = 1.6 + 0.8 * len(seconds), 0.9 + 0.32 * len(firsts)
    figure, (axes,) = plotting.panels(1, 1, width=width, height=height)
    plotting.heat(axes, grid, firsts, seconds, form="{:.1f}" if scale == 100 else "{:.3g}")
    axes.set_xlabel(found.by[1])
    axes.set_ylabel(found.by[0])
    title = f"{_score_title(found)} by {' and '.join(found.by)}"
    caption = "Means over seeds; blank where no run counts."
    if found.interaction is not None:
        caption += f" Interaction of the two: p = {found.interaction:.2g}."
    return Chart("scores", title, caption, figure, rows)


def sensitivity(found: Comparison) -> Chart | None:
    """The score along a factor that is a swept number; with two factors, a curve for each value of
    the other."""
    place = next((at for at, title in enumerate(found.by) if title in found.optima), None)
    if place is None:
        return None
    title = found.by[place]
    rests = list(dict.fromkeys(label[:place] + label[place + 1 :] for label in found.groups))
    rows: list[dict[str, Any]] = []
    with drawing():
        figure, (axes,) = plotting.panels(1, 1, width=6.5, height=3.4)
        for at, rest in enumerate(rests):
            named = " ".join(rest) or "all"
            own = _along(found, place, rest)
            _sensitivity_curve(axes, own, _style(named, at), found.optima[title].get(rest))
            rows += [{title: x, "group": named, **values} for x, values in own.items()]
        if all(row[title] > 0 for row in rows):
            axes.set_xscale("log")
            _plain(axes.xaxis)
        axes.set_xlabel(title)
        axes.set_ylabel(_score_title(found))
        axes.set_ylim(*_ends([row["mean"] for row in rows]))
        axes.legend(fontsize=8)
    caption = (
        f"{found.measure.metric} along {title}: means over seeds with 95 % intervals; shaded from "
        "top to bottom: where the best value lies in 95 % of resamples of the seeds."
    )
    return Chart(f"sensitivity-{title}", f"Sensitivity to {title}", caption, figure, rows)


def _along(found: Comparison, place: int, rest: Label) -> dict[float, dict[str, float]]:
    """Mean, low and high, as shown, by a factor's number."""
    numbers, scale = found.design.numbers(found.by[place]), found.measure.scale
    ends = lambda one: {"low": _or_nan(one.low, scale), "high": _or_nan(one.high, scale)}  # noqa: E731
    own = {
        numbers[label[place]]: {"mean": scale * one.mean, **ends(one)}
        for label, one in found.groups.items()
        if label[:place] + label[place + 1 :] == rest
    }
    return dict(sorted(own.items()))


def _sensitivity_curve(
    axes: Axes,
    own: Mapping[float, Mapping[str, float]],
    look: Mapping[str, Any],
    best: Optimum | None,
) -> None:
    mean, low, high = ([one[key] for one in own.values()] for key in ("mean", "low", "high"))
    axes.plot([*own], mean, **{**look, "marker": "o"})
    axes.fill_between([*own], low, high, color=look["color"], alpha=0.15, linewidth=0)
    if best:
        axes.axvspan(best.low, best.high, color=look["color"], alpha=0.08, linewidth=0)


def _curves(
    curves: Mapping[str, Mapping[Label, Curve]],
    design: Design,
    looks: Mapping[Label, Mapping[str, Any]],
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
        for label, look in looks.items():
            if label in curves[metric]:
                one = curves[metric][label]
                _curve(axes, one, scale, look)
                rows += _curve_rows(metric, label, one, design)
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
    """Numbers such as 0.02 on a logarithmic axis that spans few decades."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _curve(axes: Axes, one: Curve, scale: float, look: Mapping[str, Any]) -> None:
    axes.plot(one.epochs, scale * one.mean, **{**look, "linewidth": 1.4})
    if one.runs > 1:
        low, high = scale * one.low, scale * one.high
        axes.fill_between(one.epochs, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _curve_rows(metric: str, label: Label, one: Curve, design: Design) -> list[dict[str, Any]]:
    group = dict(zip(design.factors, label, strict=True))
    return [
        {"metric": metric, **group, "epoch": e, "mean": m, "low": lo, "high": hi, "runs": one.runs}
        for e, m, lo, hi in zip(one.epochs, one.mean, one.low, one.high, strict=True)
    ]


def _heat(
    quantity: str, layers: Mapping[Label, Layers], looks: Mapping[Label, Mapping[str, Any]]
) -> Chart | None:
    if not layers:
        return None
    columns = 3
    most = max(len(one.names) for one in layers.values())
    figure, panels = plotting.panels(
        len(layers), columns, width=2.9, height=min(1.1 + 0.17 * most, 3.0), share=False
    )
    norm = _norm(quantity, [one.values for one in layers.values()])
    rows: list[dict[str, Any]] = []
    for (label, one), axes in zip(layers.items(), panels, strict=True):
        _heat_panel(axes, one, norm)
        axes.set_title(looks[label]["label"])
        rows += [
            {"group": " ".join(label), "layer": name, "epoch": epoch, quantity: value}
            for name, values in zip(one.names, one.values, strict=True)
            for epoch, value in zip(one.epochs, values, strict=True)
        ]
    for axes in panels[-columns:]:
        axes.set_xlabel("epoch")
    scale = ScalarMappable(norm, "viridis")
    figure.colorbar(scale, ax=panels, shrink=0.8, aspect=30)
    title = f"{TITLES[quantity]}, layer by epoch"
    caption = f"{HINTS[quantity]} Input at the bottom. Means over seeds."
    return Chart(quantity, title, caption, figure, rows)


def _heat_panel(axes: Axes, one: Layers, norm: Normalize) -> None:
    edges = np.append(one.epochs, one.epochs[-1] + _step(one.epochs))
    rows = np.arange(len(one.names) + 1)
    axes.pcolormesh(edges, rows, one.values, norm=norm, cmap="viridis", rasterized=True)
    every = math.ceil(len(one.names) / 8)
    names = [name.replace("hidden_", "") for name in one.names]
    axes.set_yticks(rows[:-1:every] + 0.5, names[::every], fontsize=8)
    axes.grid(visible=False)


def _step(epochs: np.ndarray) -> float:
    return float(np.median(np.diff(epochs))) if len(epochs) > 1 else 1.0


def _norm(quantity: str, values: Sequence[np.ndarray]) -> Normalize:
    """Shares from 0 to 1; norms on a logarithmic scale."""
    flat = np.concatenate([one.ravel() for one in values])
    positive = flat[np.isfinite(flat) & (flat > 0)]
    if quantity != "grad_norm" or not len(positive):
        return Normalize(0.0, 1.0)
    low, high = np.quantile(positive, [0.01, 1.0])
    return LogNorm(low, max(high, low * 1.01), clip=True)


def _ridges(
    layer: str, ridges: Mapping[Label, Ridges], looks: Mapping[Label, Mapping[str, Any]]
) -> Chart | None:
    if not ridges:
        return None
    figure, panels = plotting.panels(len(ridges), 3, width=2.9, height=2.2, share=False)
    rows: list[dict[str, Any]] = []
    for (label, one), axes in zip(ridges.items(), panels, strict=True):
        picked = np.unique(np.linspace(0, len(one.epochs) - 1, RIDGES).round().astype(int))
        _ridge_panel(axes, one, picked, looks[label])
        rows += [
            {
                "group": " ".join(label),
                "run": one.run_id,
                "epoch": one.epochs[at],
                "from": low,
                "to": high,
                "density": density,
            }
            for at in picked
            for low, high, density in zip(
                one.edges[:-1], one.edges[1:], one.densities[at], strict=True
            )
        ]
    _zoom(panels, list(ridges.values()))
    for axes in panels[-3:]:
        axes.set_xlabel("activation")
    outside = max(one.outside for one in ridges.values())
    caption = (
        f"Output of {layer} in each group's first run, epochs from top to bottom; the height is "
        f"the square root of the density. At most {100 * outside:.1f} % lie beyond the edges."
    )
    title = f"Distribution of activations, {layer.replace('_', ' ')}"
    return Chart(f"activations-{layer}", title, caption, figure, rows)


def _ridge_panel(axes: Axes, one: Ridges, picked: np.ndarray, look: Mapping[str, Any]) -> None:
    middles = (one.edges[1:] + one.edges[:-1]) / 2
    for place, at in enumerate(picked):
        base, height = -float(place), 1.6 * np.sqrt(one.densities[at])
        colour = look["color"]
        axes.fill_between(middles, base, base + height, color=colour, alpha=0.35, linewidth=0)
        axes.plot(middles, base + height, color=colour, linewidth=0.9)
    ends = [f"epoch {one.epochs[at]:g}" for at in (picked[0], picked[-1])]
    axes.set_yticks([0.0, 1.0 - len(picked)], ends, fontsize=8)
    axes.set_title(look["label"])
    axes.grid(visible=False)


def _zoom(panels: Sequence[Axes], ridges: Sequence[Ridges]) -> None:
    """Leave out bins at both ends that hold next to nothing anywhere."""
    edges: list[float] = []
    for one in ridges:
        used = np.flatnonzero((one.densities > 0.002).any(0))
        edges += [*one.edges[used], *one.edges[used + 1]]
    if edges:  # there are none where everything lies beyond them
        for axes in panels:
            axes.set_xlim(min(edges), max(edges))
