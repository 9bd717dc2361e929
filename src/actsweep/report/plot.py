"""Charts of a sweep's metrics and scores in Altair, for notebooks and papers. No jax."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actsweep.report.colours import group_styles
from actsweep.report.compare import Comparison
from actsweep.report.design import Entry
from actsweep.report.frames import metrics_frame
from actsweep.report.series import layer_sort_key
from actsweep.runs import run_dir
from actsweep.stats.paired import mean_interval, seed_means
from actsweep.stats.scores import SCORES
from actsweep.sweeps import table

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

COLUMNS = 3
"""Panels in a row."""


def curves(entries: Sequence[Entry], patterns: Sequence[str]) -> "alt.TopLevelMixin":
    """Return the curves of metrics along epochs: means over seeds with their 95 % interval.

    Runs that differ in anything but the seed are never averaged. A run that has ended keeps its
    last value; one that hasn't ends its group's curve. The interval is Student's.

    Args:
        entries: the runs.
        patterns: names of metrics, such as `val/accuracy` or `grad_norm/*`: a panel each.

    Raises:
        UserError: as `frames.metrics_frame`.
    """
    import altair as alt

    frame = metrics_frame(entries, patterns)
    titles = [*table.columns([entry.config for entry in entries]).values()]
    frame["group"] = [
        " ".join(map(str, row)) for row in zip(*(frame[t] for t in titles), strict=True)
    ]
    final = {*run_dir.ENDED} - {"pruned"}
    ended = {entry.run.run_id for entry in entries if entry.state in final}
    rows = [
        row
        for (metric, group), part in frame.groupby(["metric", "group"], sort=False)
        for row in _curve(str(metric), str(group), part, ended)
    ]
    metrics = _input_to_output([*dict.fromkeys(frame["metric"])])
    of_metric = {name: [row for row in rows if row["metric"] == name] for name in metrics}
    if len(metrics) == 1:
        return _lines(rows, metrics[0])
    panels = [_lines(of_metric[name], name).properties(width=200, height=140) for name in metrics]
    return alt.concat(*panels, columns=COLUMNS)


def _input_to_output(metrics: Sequence[str]) -> list[str]:
    """Return metrics of one family in the order of their layers."""
    families = [*dict.fromkeys(name.partition("/")[0] for name in metrics)]

    def place(name: str) -> tuple[int, tuple[int, int]]:
        family, _, layer = name.partition("/")
        return families.index(family), layer_sort_key(layer)

    return sorted(metrics, key=place)


def scores(comparison: Comparison) -> "alt.TopLevelMixin":
    """Return a comparison's scores: a dot a seed, and each group's mean with its 95 % interval."""
    import altair as alt

    scale = comparison.measure.scale
    names: list[str] = []
    groups: list[dict[str, Any]] = []
    seeds: list[dict[str, Any]] = []
    for label, summary in comparison.groups.items():
        group = " ".join(label)
        names.append(group)
        ends = (summary.mean, summary.low, summary.high)
        mean, low, high = (None if value is None else scale * value for value in ends)
        groups.append({"group": group, "mean": mean, "low": low, "high": high, "seeds": summary.n})
        seeds += [
            {"group": group, "seed": str(seed), "value": scale * value}
            for seed, value in seed_means(comparison.cells[label]).items()
        ]
    y = alt.Y("group:N", title=None, sort=names)
    zero = alt.Scale(zero=False)
    x = alt.X("value:Q", title=_title(comparison.measure.metric), scale=zero)
    colour = _colour(names, legend=None)
    tip = [alt.Tooltip(f"{name}:Q", format=".4g") for name in ("mean", "low", "high")]
    dots = alt.Chart(alt.InlineData(values=seeds)).mark_circle(opacity=0.5, size=30)
    bars = alt.Chart(alt.InlineData(values=groups))
    return alt.layer(
        dots.encode(x=x, y=y, color=colour, tooltip=["group:N", "seed:N", "value:Q"]),
        bars.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=colour),
        bars.mark_tick(thickness=2, size=14).encode(
            x="mean:Q", y=y, color=colour, tooltip=["group:N", *tip, "seeds:Q"]
        ),
    )


def _curve(metric: str, group: str, part: "pd.DataFrame", ended: set[str]) -> list[dict[str, Any]]:
    """Return a point for each epoch at which all runs of a group have a value."""
    wide = part.pivot_table(index="epoch", columns="run_id", values="value", aggfunc="last")
    held = wide.ffill()
    for run_id in held.columns.difference([*ended]):
        held.loc[held.index > wide[run_id].last_valid_index(), run_id] = None
    scale, rows = _scale(metric), []
    for epoch, values in held.dropna().iterrows():
        mean, half = mean_interval((scale * values).tolist())
        ends = (None, None) if half is None else (mean - half, mean + half)
        about = {"metric": metric, "group": group, "epoch": epoch, "runs": len(values)}
        rows.append({**about, "mean": mean, "low": ends[0], "high": ends[1]})
    return rows


def _lines(rows: Sequence[dict[str, Any]], metric: str) -> Any:
    import altair as alt

    names = [*dict.fromkeys(row["group"] for row in rows)]
    dashes = [list(style.dash) or [1, 0] for style in group_styles(names).values()]
    dash = alt.StrokeDash("group:N", scale=alt.Scale(domain=names, range=dashes), title=None)
    x, colour = alt.X("epoch:Q"), _colour(names)
    tip = [alt.Tooltip(f"{name}:Q", format=".4g") for name in ("epoch", "mean", "low", "high")]
    base = alt.Chart(alt.InlineData(values=rows))
    zero, title = alt.Scale(zero=False), _title(metric)
    band = base.mark_area(opacity=0.15).encode(
        x=x, y=alt.Y("low:Q", title=title, scale=zero), y2="high:Q", color=colour
    )
    line = base.mark_line(point=alt.OverlayMarkDef(size=12)).encode(
        x=x,
        y=alt.Y("mean:Q", title=title, scale=zero),
        color=colour,
        strokeDash=dash,
        tooltip=["metric:N", "group:N", *tip, "runs:Q"],
    )
    return alt.layer(band, line)


def _colour(names: Sequence[str], **options: Any) -> "alt.Color":
    """Return the colour of each group, as in reports."""
    import altair as alt

    scale = alt.Scale(
        domain=list(names), range=[style.colour for style in group_styles(names).values()]
    )
    options = {"legend": alt.Legend(symbolOpacity=1, symbolType="stroke")} | options
    return alt.Color("group:N", scale=scale, title=None, **options)


def _scale(metric: str) -> float:
    score = SCORES.get(metric.rpartition("/")[2])
    return score.scale if score else 1.0


def _title(metric: str) -> str:
    return f"{metric}, %" if _scale(metric) == 100 else metric
