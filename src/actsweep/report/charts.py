"""The report's figures, each with the numbers that it draws. No jax."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from actsweep.report import layer_charts, plotting
from actsweep.report.chart import TITLES, Chart, drawing
from actsweep.report.compare import Comparison
from actsweep.report.design import Design, Label
from actsweep.report.series import CURVES, Curve, Series
from actsweep.stats import paired
from actsweep.stats.factorial import Optimum
from actsweep.stats.scores import SCORES, tasks_in

DASHES = ("-", "--", ":", "-.")


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
            made += [
                layer_charts.heat(quantity, {k: layers[k] for k in labels if k in layers}, styles)
            ]
        for layer, ridges in series.ridges.items():
            made += [
                layer_charts.ridges(layer, {k: ridges[k] for k in labels if k in ridges}, styles)
            ]
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
    learn_tokens = tasks_in(entry.summary for entry in design.entries) == ["next_token"]
    scores = ("val/loss",) if learn_tokens else tuple(m for m in CURVES if m.startswith("val/"))
    score = next((metric for metric in scores if metric in curves), "")
    shown = [metric for metric in (score, "train/loss") if metric in curves]
    if not shown:
        return None
    figure, panels = plotting.panels(len(shown), 2, width=4.2, height=3.4, share=False)
    rows: list[dict[str, Any]] = []
    for metric, axes in zip(shown, panels, strict=True):
        scale = SCORES[metric.partition("/")[2]].scale
        for label, style in styles.items():
            if label in curves[metric]:
                curve = curves[metric][label]
                _curve(axes, curve, scale, style)
                rows += _curve_rows(metric, label, curve, design)
        axes.set_xlabel("epoch")
        axes.set_title(TITLES[metric])
        means = [curve.mean for curve in curves[metric].values()]
        if scale == 1 and min(mean.min() for mean in means) > 0:
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
