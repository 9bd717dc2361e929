"""The report's figures along epochs: scores and losses, over groups and of single runs. No jax."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from actsweep.report.chart import (
    TABLE,
    TITLES,
    Chart,
    Styles,
    group_colour,
    group_dash,
    label_text,
    scales,
    thinned,
    zoom,
)
from actsweep.report.design import Design, Label
from actsweep.report.series import CURVES, Curve
from actsweep.report.values import clipped, possible_values
from actsweep.stats.scores import SCORES, tasks_in

MEAN_POINTS = 300
"""Points of a mean's curve: a panel is about as many pixels wide."""
RUN_POINTS = 6000
"""Points of all single runs' curves of a metric."""
ENDS = ("low", "high")
TINY = 1e-9
"""What stands for 0 where an interval ends, since a logarithmic axis has no 0."""
LEAST_FOR_INTERVAL = 3
"""Runs from which an interval is drawn: that of two is wider than any chart."""


def curves(
    by_metric: Mapping[str, Mapping[Label, Curve]], design: Design, styles: Styles
) -> Chart | None:
    """Return the curves of a score in validation, of validation and of training loss."""
    learn_tokens = tasks_in(entry.summary for entry in design.entries) == ["next_token"]
    scores = ("val/loss",) if learn_tokens else tuple(m for m in CURVES if m.startswith("val/"))
    score = next((metric for metric in scores if metric in by_metric), "")
    shown = list(dict.fromkeys(m for m in (score, "val/loss", "train/loss") if m in by_metric))
    if not shown:
        return None
    runs = max(
        sum(len(by_metric[metric][label].members) for label in styles if label in by_metric[metric])
        for metric in shown
    )
    most = max(8, RUN_POINTS // max(runs, 1))
    drawn: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    axes, panels, is_thinned = [], [], False
    for place, metric in enumerate(shown):
        groups = {label: by_metric[metric][label] for label in styles if label in by_metric[metric]}
        rows += [
            row for label, curve in groups.items() for row in _rows(metric, label, curve, design)
        ]
        own = [r for label, curve in groups.items() for r in _drawn(metric, label, curve, most)]
        is_thinned |= any(len(m.epochs) > most for c in groups.values() for m in c.members)
        of_means = [r for r in own if r["run_id"] is None]
        means, ends = [r["value"] for r in of_means], [r[k] for r in of_means for k in ENDS]
        possible = possible_values(metric.partition("/")[2])
        kinds = scales(means, ends, possible, log=SCORES[metric.partition("/")[2]].scale == 1)
        axes.append({"path": ["concat", place, "encoding", "y", "scale"], "scales": kinds})
        panels.append(_panel(metric, place, kinds["auto"], styles))
        drawn += own
    chart = alt.concat(*panels, columns=3, data=alt.NamedData(TABLE))
    chart = chart.resolve_scale(color="shared", strokeDash="shared")
    on_means = (
        "Means over seeds, shaded their 95 % interval (Student t) from three runs on; a run that "
        "has ended keeps its last value."
    )
    on_runs = "A thin line a run."
    if is_thinned:
        on_runs += f" Of single runs' curves at most {most} points each are drawn."
    shares = [metric for metric in shown if SCORES[metric.partition("/")[2]].scale == 100]
    return Chart(
        "curves",
        "Curves",
        "",
        chart.to_dict(validate=False),
        drawn,
        rows,
        singles="asked",
        axes=axes,
        of_runs=on_runs,
        of_means=on_means,
        names={"value": f"value ({', '.join(shares)}: %)"} if shares else {},
    )


def _panel(metric: str, place: int, scale: Mapping[str, Any], styles: Styles) -> alt.LayerChart:
    x = alt.X("epoch:Q", title="epoch", scale=alt.Scale(nice=False, zero=False))
    y = alt.Y("value:Q", title=None, scale=alt.Scale.from_dict({**scale}))
    base = alt.Chart().transform_filter(f"datum.metric == '{metric}'")
    means = base.transform_filter("!isValid(datum.run_id)")
    single = base.transform_filter("isValid(datum.run_id)")
    colour, dash = group_colour(styles), group_dash(styles)
    nearest = alt.selection_point(
        name=f"nearest{place}", on="pointerover", nearest=True, clear="pointerout"
    )
    tooltip = [
        *("group:N", alt.Tooltip("run_id:N", title="run"), "seed:N"),
        *(alt.Tooltip(name, format=".5~g") for name in ("epoch:Q", "value:Q")),
        *("unsmoothed:N", alt.Tooltip("interval:N", title="95 %"), "runs:N"),
    ]
    band = means.mark_area(opacity=0.15, clip=True)
    thin = single.mark_line(opacity=0.5, strokeWidth=1, clip=True, point=False)
    points = base.mark_point(size=60, opacity=0, clip=True)
    pointed = base.transform_filter({"param": nearest.name, "empty": False})
    layers = alt.layer(
        band.encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour),
        thin.encode(color=colour, strokeDash=dash, detail="run_id:N"),
        means.mark_line(strokeWidth=2, clip=True).encode(color=colour, strokeDash=dash),
        pointed.mark_point(filled=True, size=60, opacity=1, clip=True).encode(color=colour),
        points.encode(tooltip=tooltip).add_params(nearest, zoom(f"zoom{place}")),
    )
    return layers.encode(x=x, y=y).properties(width=260, height=240, title=TITLES[metric])


def _drawn(metric: str, label: Label, curve: Curve, most: int) -> list[dict[str, Any]]:
    """Return the mean's points, then those of single runs, in the unit that is shown."""
    score = metric.partition("/")[2]
    scale, possible = SCORES[score].scale, possible_values(score)
    row: dict[str, Any] = {"metric": metric, "group": label_text(label)}
    drawn: list[dict[str, Any]] = []
    for at in thinned(len(curve.epochs), MEAN_POINTS):
        point = {**row, "run_id": None, "seed": None, "epoch": float(curve.epochs[at])}
        point |= {"value": scale * float(curve.mean[at]), "runs": curve.runs}
        point |= {"low": None, "high": None, "interval": None}
        if curve.runs >= LEAST_FOR_INTERVAL:
            low, high = (clipped(scale * float(c[at]), possible) for c in (curve.low, curve.high))
            point |= {"low": low or TINY, "high": high, "interval": f"{low:.5g} to {high:.5g}"}
        drawn.append(point)
    none = dict.fromkeys(("runs", "low", "high", "interval"))
    for member in curve.members:
        own = {**row, "run_id": member.run_id, "seed": member.seed}
        drawn += [
            {**own, "epoch": float(member.epochs[at]), "value": scale * float(member.values[at])}
            | none
            for at in thinned(len(member.epochs), most)
        ]
    return drawn


def _rows(metric: str, label: Label, curve: Curve, design: Design) -> Sequence[dict[str, Any]]:
    group = dict(zip(design.factors, label, strict=True))
    numbers = zip(curve.epochs, curve.mean, curve.low, curve.high, strict=True)
    return [
        {"metric": metric, **group, "epoch": e, "mean": m, "low": lo, "high": hi}
        | {"runs": curve.runs}
        for e, m, lo, hi in numbers
    ]
