"""The report's figures, each with the numbers that it draws. No jax."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
from altair.utils.schemapi import debug_mode

from actsweep.report import layer_charts
from actsweep.report.chart import (
    TABLE,
    Chart,
    Row,
    Styles,
    group_colour,
    group_dash,
    label_text,
    scales,
    zoom,
)
from actsweep.report.colours import group_styles
from actsweep.report.compare import Comparison
from actsweep.report.curve_charts import LEAST_FOR_INTERVAL, curves
from actsweep.report.design import Design, Label
from actsweep.report.prediction_chart import predictions
from actsweep.report.series import Series
from actsweep.report.values import clipped, possible_values
from actsweep.stats import paired


def charts(
    design: Design, styles: Styles, comparison: Comparison | None, series: Series
) -> list[Chart]:
    """Return all figures that there are numbers for.

    Args:
        design: how the runs are laid out.
        styles: how each group is drawn, by its label, in order.
        comparison: the comparison, if any run is complete.
        series: what the groups logged.
    """
    made: list[Chart | None] = []
    with debug_mode(False):  # the suite validates the specifications, which takes a second
        if comparison:
            made += [_scores(comparison, styles)]
        made += [curves(series.curves, design, styles)]
        for quantity, layers in series.layers.items():
            drawn = {label: layers[label] for label in styles if label in layers}
            made += [layer_charts.heat(quantity, drawn)]
        beside = {label: series.untrained[label] for label in styles if label in series.untrained}
        made += [predictions(beside, styles)]
        for layer, ridges in series.ridges.items():
            known = {label: ridges[label] for label in styles if label in ridges}
            made += [layer_charts.ridges(layer, known, styles)]
    return [chart for chart in made if chart]


def styles_of(labels: Sequence[Label]) -> Styles:
    """Return the style of each group, by its label."""
    styles = group_styles([label_text(label) for label in labels])
    return {label: styles[label_text(label)] for label in labels}


def _score_title(comparison: Comparison) -> str:
    return f"{comparison.measure.metric}{', %' if comparison.measure.scale == 100 else ''}"


def _possible(comparison: Comparison) -> tuple[float | None, float | None]:
    return possible_values(comparison.measure.metric.rpartition("/")[2])


def _scores(comparison: Comparison, styles: Styles) -> Chart:
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
    drawn = [row for label in labels for row in _score_rows(comparison, label)]
    ends = [row[key] for row in drawn for key in ("low", "high")]
    kinds = scales([row["value"] for row in drawn], ends, _possible(comparison), log=False)
    of_means = "The bar is the mean, the line its 95 % interval (Student t) from three seeds on."
    title = f"{comparison.measure.metric} by {comparison.by[0]}"
    chart = _score_chart(comparison, {label: styles[label] for label in labels}, kinds["auto"])
    axes = [{"path": ["encoding", "x", "scale"], "scales": kinds}]
    return Chart(
        "scores",
        title,
        "",
        chart.to_dict(validate=False),
        drawn,
        rows,
        axes=axes,
        panel=(700, 130),
        of_runs="A dot a seed.",
        of_means=of_means,
        names={"value": _score_title(comparison)},
    )


def _score_rows(comparison: Comparison, label: Label) -> Iterator[dict[str, Any]]:
    """Yield a group's mean, then its values, one a seed, in the unit that is shown."""
    scale = comparison.measure.scale
    summary, design = comparison.groups[label], comparison.design
    values = paired.seed_means(comparison.cells[label])
    group: dict[str, Any] = {"group": label_text(label)}
    if values:
        mean: dict[str, Any] = {"run_id": None, "seed": None, "seeds": summary.n}
        mean["value"] = scale * summary.mean
        mean |= {"low": None, "high": None, "interval": None}
        if summary.low is not None and summary.high is not None and summary.n >= LEAST_FOR_INTERVAL:
            low, high = scale * summary.low, scale * summary.high
            mean |= {"low": low, "high": high, "interval": f"{low:.5g} to {high:.5g}"}
        yield group | mean
    runs: dict[Any, list[str]] = {}
    for entry in design.entries:
        if entry.run.run_id in comparison.kept and design.labels[entry.run.run_id] == label:
            runs.setdefault(design.cell(entry.run.run_id)[0], []).append(entry.run.run_id)
    none = dict.fromkeys(("seeds", "low", "high", "interval"))
    for seed, value in values.items():
        run_id = ", ".join(runs.get(seed, ()))
        yield group | {"run_id": run_id, "seed": seed, "value": scale * value} | none


def _score_chart(
    comparison: Comparison, styles: Styles, scale: Mapping[str, Any]
) -> alt.LayerChart:
    names = [label_text(label) for label in styles]
    ticks = alt.Axis(tickCount=8, labelOverlap=True, labelSeparation=8)
    shown = alt.Scale.from_dict({**scale})
    x = alt.X("value:Q", title=_score_title(comparison), scale=shown, axis=ticks)
    y = alt.Y("group:N", sort=names, title=None, scale=alt.Scale(padding=0.3))
    colour = group_colour(styles, legend=False)
    base = alt.Chart().encode(y=y, color=colour)
    dots, means = (base.transform_filter(f"{no}isValid(datum.run_id)") for no in ("", "!"))
    of_run = ["group:N", alt.Tooltip("run_id:N", title="run"), "seed:N"]
    value = alt.Tooltip("value:Q", format=".5~g")
    of_mean = [alt.Tooltip("value:Q", title="mean", format=".5~g")]
    of_mean += [alt.Tooltip("interval:N", title="95 %"), alt.Tooltip("seeds:Q")]
    layers = alt.layer(
        means.mark_rule(strokeWidth=2.5, clip=True).encode(x=alt.X("low:Q"), x2="high:Q"),
        dots.mark_circle(size=55, opacity=0.5, clip=True)
        .encode(tooltip=[*of_run, value])
        .add_params(zoom("zoom", ["x"])),
        means.mark_tick(thickness=3, size=18, clip=True).encode(tooltip=["group:N", *of_mean]),
        data=alt.NamedData(TABLE),
    )
    return layers.encode(x=x, y=y).properties(width=460, height=alt.Step(30))


def _score_table(comparison: Comparison, rows: Sequence[Row]) -> Chart:
    scale = comparison.measure.scale
    firsts = list(dict.fromkeys(a for a, _ in comparison.groups))
    seconds = list(dict.fromkeys(b for _, b in comparison.groups))
    drawn: list[dict[str, Any]] = [
        {"group": label_text(label), "first": label[0], "second": label[1], "run_id": None}
        | {"value": scale * summary.mean, "seeds": summary.n}
        for label, summary in comparison.groups.items()
        if math.isfinite(summary.mean)
    ]
    values = [scale * summary.mean for summary in comparison.groups.values()]
    ends = [float(np.nanmin(values)), float(np.nanmax(values))]
    middle = np.mean(ends)
    colours = alt.Scale(scheme="viridis", domain=ends)  # whichever groups are selected
    form = ".1f" if scale == 100 else ".3~g"
    cell = alt.Chart(alt.NamedData(TABLE)).encode(
        x=alt.X("second:N", sort=seconds, title=comparison.by[1], axis=alt.Axis(labelAngle=0)),
        y=alt.Y("first:N", sort=firsts, title=comparison.by[0]),
        tooltip=[
            alt.Tooltip("first:N", title=comparison.by[0]),
            alt.Tooltip("second:N", title=comparison.by[1]),
            alt.Tooltip("value:Q", title="mean", format=".5~g"),
            "seeds:Q",
        ],
    )
    legend = alt.Legend(title=_score_title(comparison), orient="top", format=form)
    ink = alt.condition(f"datum.value > {middle}", alt.value("black"), alt.value("white"))
    chart = alt.layer(
        cell.mark_rect().encode(color=alt.Color("value:Q", scale=colours, legend=legend)),
        cell.mark_text(fontSize=12).encode(text=alt.Text("value:Q", format=form), color=ink),
    ).properties(width=max(220, 60 * len(seconds)), height=alt.Step(28))
    title = f"{_score_title(comparison)} by {' and '.join(comparison.by)}"
    caption = "Blank where no run counts."
    if comparison.interaction is not None:
        caption += f" Interaction of the two, over all groups: p = {comparison.interaction:.2g}."
    return Chart(
        "scores",
        title,
        caption,
        chart.to_dict(validate=False),
        drawn,
        rows,
        panel=(600, 160),
        of_means="Means over seeds.",
        names={
            **dict(zip(("first", "second"), comparison.by, strict=True)),
            "value": f"{_score_title(comparison)}: mean",
        },
    )


def sensitivity(comparison: Comparison, styles: Styles) -> Chart | None:
    """Return the score along a factor that is a swept number; None if no factor is one.

    With two factors there is a curve for each value of the other, in the style of that group if it
    is one.
    """
    swept = [place for place, title in enumerate(comparison.by) if title in comparison.optima]
    place = next(iter(swept), None)
    if place is None:
        return None
    title = comparison.by[place]
    rests = list(dict.fromkeys(label[:place] + label[place + 1 :] for label in comparison.groups))
    planned = (label[:place] + label[place + 1 :] for label in comparison.design.labels.values())
    own = styles_of(list(dict.fromkeys(other or ("all",) for other in planned)))
    own = {k: styles.get(k, own[k]) for k in (other or ("all",) for other in rests)}
    drawn: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for other in rests:
        name = label_text(other) or "all"
        points = _along(comparison, place, other)
        rows += [{title: x, "group": name, **values} for x, values in points.items()]
        drawn += _sensitivity_rows(comparison, name, points)
        if best := comparison.optima[title].get(other):
            drawn.append({"group": name, "best_low": best.low, "best_high": best.high})
    caption = f"{comparison.measure.metric} along {title}."
    of_means = (
        "Means over seeds with 95 % intervals from three seeds on; shaded from top to bottom: "
        "where the best value lies in 95 % of resamples of the seeds."
    )
    kinds = scales([row["mean"] for row in rows], [], _possible(comparison), log=False)
    log = all(row[title] > 0 for row in rows)
    chart = _sensitivity_chart(_score_title(comparison), title, own, kinds["auto"], log=log)
    axes = [{"path": ["encoding", "y", "scale"], "scales": kinds}]
    name, heading = f"sensitivity-{title}", f"Sensitivity to {title}"
    return Chart(
        name,
        heading,
        caption,
        chart.to_dict(validate=False),
        drawn,
        rows,
        axes=axes,
        panel=(700, 130),
        of_means=of_means,
        names={"number": title, "value": f"{_score_title(comparison)}: mean"},
    )


def _sensitivity_rows(
    comparison: Comparison, name: str, points: Mapping[float, Mapping[str, float]]
) -> Iterator[dict[str, Any]]:
    possible = _possible(comparison)
    for number, point in points.items():
        row = {"group": name, "run_id": None, "number": number, "value": point["mean"]}
        row |= {"low": None, "high": None, "interval": None}
        if math.isfinite(point["low"]) and point["seeds"] >= LEAST_FOR_INTERVAL:
            low, high = (clipped(point[end], possible) for end in ("low", "high"))
            row |= {"low": low, "high": high, "interval": f"{low:.5g} to {high:.5g}"}
        yield row


def _sensitivity_chart(
    score: str, title: str, styles: Styles, scale: Mapping[str, Any], *, log: bool
) -> alt.LayerChart:
    along = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=False, nice=False)
    axis = alt.Axis(format="~g", labelOverlap=True)
    x = alt.X("number:Q", title=title, scale=along, axis=axis)
    y = alt.Y("value:Q", title=score, scale=alt.Scale.from_dict({**scale}))
    colour, dash = group_colour(styles, legend=True), group_dash(styles)
    base = alt.Chart().encode(color=colour)
    tooltip = [
        *("group:N", alt.Tooltip("number:Q", title=title, format="~g")),
        alt.Tooltip("value:Q", title="mean", format=".5~g"),
        alt.Tooltip("interval:N", title="95 %"),
    ]
    best = alt.Chart().transform_filter("isValid(datum.best_low)").mark_rect(opacity=0.08)
    points = base.transform_filter("isValid(datum.number)")
    layers = alt.layer(
        best.encode(
            x=alt.X("best_low:Q"),
            x2="best_high:Q",
            y=alt.value(0),
            y2=alt.value("height"),
            color=colour,
        ),
        points.mark_area(opacity=0.15, clip=True).encode(y=alt.Y("low:Q"), y2="high:Q"),
        points.mark_line(strokeWidth=2, clip=True).encode(strokeDash=dash),
        points.mark_circle(size=50, clip=True).encode(tooltip=tooltip).add_params(zoom("zoom")),
        data=alt.NamedData(TABLE),
    )
    return layers.encode(x=x, y=y).properties(width=460, height=260)


def _or_nan(value: float | None, scale: float) -> float:
    return math.nan if value is None else scale * value


def _along(comparison: Comparison, place: int, other: Label) -> dict[float, dict[str, float]]:
    """Return mean, low and high, as shown, by the factor's number."""
    numbers, scale = comparison.design.numbers(comparison.by[place]), comparison.measure.scale
    points = {
        numbers[label[place]]: {
            "mean": scale * summary.mean,
            "low": _or_nan(summary.low, scale),
            "high": _or_nan(summary.high, scale),
            "seeds": summary.n,
        }
        for label, summary in comparison.groups.items()
        if label[:place] + label[place + 1 :] == other
    }
    return dict(sorted(points.items()))
