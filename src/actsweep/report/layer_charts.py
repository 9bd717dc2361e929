"""The report's figures of layers: heat maps over epochs, distributions of activations. No jax."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
from jaxtyping import Int

from actsweep.report.chart import (
    HINTS,
    TABLE,
    TITLES,
    Chart,
    Styles,
    cells,
    group_colour,
    label_text,
    thinned,
    zoom,
)
from actsweep.report.design import Label
from actsweep.report.run_columns import SHARES
from actsweep.report.series import Layers, Ridges, in_order

CELLS = 12_000
"""Cells of a figure, and rows of all its single runs, which a browser redraws at once."""
RIDGES = 8
"""Epochs whose distributions are always drawn."""
TIMES = 40
"""Epochs that the slider can show."""
POINTS = 16_000
"""Points of a figure's distributions, of the first run of each group."""
OTHER_POINTS = 8_000
"""Points of those of all other runs."""
PANEL = (175, 45)
"""Least width of a panel and what lies beside it, in pixels: two fit onto a phone."""
AXIS, CHARACTER = 8, 6
"""Pixels of an axis of a panel's own, and of a character of its labels."""
LEAST_DENSITY = 0.002
UNITS = {
    "grad_norm": (1.0, "L2 norm"),
    "dead_frac": (100.0, SHARES["dead_frac"]),
    "saturated_frac": (100.0, SHARES["saturated_frac"]),
    "cos_sim": (1.0, "mean cosine similarity"),
}
"""From each quantity's own unit to the one that is shown, and the name of that."""


def heat(quantity: str, layers: Mapping[Label, Layers]) -> Chart | None:
    """Return a heat map of a quantity by layer and epoch, a panel a group; None without any."""
    if not layers:
        return None
    drawn: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    most = max(2, CELLS // sum(len(group.names) for group in layers.values()))
    single_cells = sum(len(g.members) * g.values.size for g in layers.values())
    for label, group in layers.items():
        rows += [
            {"group": label_text(label), "layer": name, "epoch": epoch, quantity: value}
            for name, values in zip(group.names, group.values, strict=True)
            for epoch, value in zip(group.epochs, values, strict=True)
        ]
        drawn += _cells(quantity, label, group, most, singles=single_cells <= CELLS)
    caption = f"{HINTS[quantity]} Input at the bottom."
    if any(len(group.epochs) > most for group in layers.values()):
        caption += f" Of the epochs {most} are drawn."
    if single_cells > CELLS:
        caption += " Too many runs to choose seeds here."
    title = f"{TITLES[quantity]}, layer by epoch"
    chart = _heat_chart(quantity, layers, drawn)
    return Chart(
        quantity,
        title,
        caption,
        chart.to_dict(validate=False),
        drawn,
        rows,
        singles="chosen",
        panel=_panel(layers),
        of_runs="Of each group the mean over the runs that are chosen.",
        of_means="Means over seeds.",
        names={"value": UNITS[quantity][1]},
    )


def _panel(layers: Mapping[Label, Layers]) -> tuple[int, int]:
    """Return the least width of a panel, and the room beside it: of axes, where each has one."""
    least, beside = PANEL
    if _alike(layers):
        return PANEL
    names = (name for group in layers.values() for name in group.names)
    longest = max(len(name.replace("hidden_", "")) for name in names)
    return least, beside + AXIS + min(130, CHARACTER * longest)


def _alike(layers: Mapping[Label, Layers]) -> bool:
    return len({tuple(group.names) for group in layers.values()}) == 1


def _cells(
    quantity: str, label: Label, group: Layers, most: int, *, singles: bool
) -> Iterator[dict[str, Any]]:
    """Yield the cells of a group's means, and those of its single runs if they are few enough."""
    kept = thinned(len(group.epochs), most)
    since, until = cells(group.epochs[kept])
    scale = UNITS[quantity][0]
    whole: list[tuple[str | None, int | None, np.ndarray]] = [(None, None, group.values)]
    if singles:
        whole += [(member.run_id, member.seed, member.values) for member in group.members]
    for run_id, seed, values in whole:
        for name, row in zip(group.names, scale * values[:, kept], strict=True):
            for place in np.flatnonzero(np.isfinite(row)):
                yield {
                    "group": label_text(label),
                    "run_id": run_id,
                    "seed": seed,
                    "layer": name,
                    "epoch": float(group.epochs[kept[place]]),
                    "since": float(since[place]),
                    "until": float(until[place]),
                    "value": float(row[place]),
                }


def _heat_chart(
    quantity: str, layers: Mapping[Label, Layers], drawn: Sequence[Mapping[str, Any]]
) -> alt.FacetChart:
    names = in_order(name for group in layers.values() for name in group.names)
    legend = alt.Legend(
        title=UNITS[quantity][1], orient="top", gradientLength=220, format=".3~g", tickCount=5
    )
    shown = heat_scale(quantity, [row["value"] for row in drawn])
    colour = alt.Color("value:Q", scale=alt.Scale.from_dict(shown), legend=legend)
    label = alt.Axis(labelExpr="replace(datum.label, 'hidden_', '')", labelOverlap=True)
    tooltip = [
        *("group:N", alt.Tooltip("layers:N", title="layer")),
        alt.Tooltip("epoch:Q", format="~g"),
        alt.Tooltip("value:Q", title=UNITS[quantity][1], format=".4~g"),
    ]
    several = max((row["epoch"] for row in drawn), default=0) >= 2
    epochs = alt.Axis(tickMinStep=1) if several else alt.Axis()
    height = min(70 + 16 * max(len(group.names) for group in layers.values()), 300)
    chart = (
        alt.Chart(alt.NamedData(TABLE))
        .transform_aggregate(
            value="mean(value)", groupby=["group", "layer", "epoch", "since", "until"]
        )
        .transform_calculate(layers="datum.layer")
        .mark_rect(clip=True, x2Offset=0.5, height={"band": 1.03})  # no seams
        .encode(
            x=alt.X("since:Q", title="epoch", scale=alt.Scale(nice=False, zero=False), axis=epochs),
            x2="until:Q",
            y=alt.Y("layer:N", sort=names[::-1], title="layer", axis=label),
            color=colour,
            tooltip=tooltip,
        )
        .properties(width=220, height=height)
        .add_params(zoom("zoom", ["x"]))
        .facet(_by_group(layers), columns=3)
    )
    return chart if _alike(layers) else chart.resolve_scale(y="independent")


def _by_group(groups: Mapping[Label, Any]) -> alt.Facet:
    return alt.Facet("group:N", sort=[label_text(label) for label in groups], title=None)


def heat_scale(quantity: str, values: Sequence[float]) -> dict[str, Any]:
    """Return a scale of colours up to the largest value: for shares one that shows a few percent.

    Norms have a logarithmic scale; for shares the colour goes with the square root.
    """
    known = np.array([value for value in values if math.isfinite(value)])
    positive = known[known > 0]
    viridis = {"scheme": "viridis", "clamp": True}
    if quantity == "grad_norm" and len(positive):
        low, high = np.quantile(positive, [0.01, 1.0])
        domain = [float(low), float(max(high, low * 1.01))]
        return {"type": "log", "domain": domain, **viridis}
    if quantity == "cos_sim":
        return {"domain": [float(min(0.0, known.min(initial=0.0))), 1.0], **viridis}
    high = float(known.max(initial=0.0)) or UNITS[quantity][0] / 100
    return {"type": "sqrt", "domain": [0.0, high], **viridis}


def ridges(layer: str, by_group: Mapping[Label, Sequence[Ridges]], styles: Styles) -> Chart | None:
    """Return the distribution of a layer's activations over epochs, a panel a group; None without
    any.

    Each panel shows one run, at first the group's first, of which it has the most epochs.

    Args:
        layer: its name.
        by_group: each group's runs, at least one.
        styles: how each group is drawn, by its label.
    """
    if not by_group:
        return None
    firsts = {label: runs[0] for label, runs in by_group.items()}
    ends = _used([run for runs in by_group.values() for run in runs])
    most = min(max(RIDGES, POINTS // max(_bins(firsts.values(), ends), 1)), TIMES)
    others = _bins((run for runs in by_group.values() for run in runs[1:]), ends)
    fewer = min(RIDGES, max(2, OTHER_POINTS // max(others, 1)))
    drawn: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for label, (first, *more) in by_group.items():
        picked = thinned(len(first.epochs), RIDGES)
        rows += _ridge_rows(label, first, picked)
        kept = np.union1d(thinned(len(first.epochs), most), picked)
        drawn += _outlines(layer, label, first, kept, picked, ends)
        for run in more:
            kept = thinned(len(run.epochs), fewer)
            drawn += _outlines(layer, label, run, kept, kept, ends)
    outside = max(run.outside for runs in by_group.values() for run in runs)
    caption = (
        f"Output of {layer}, epochs from top to bottom; the height is the square root of the "
        f"density. At most {100 * outside:.1f} % lie beyond the edges."
    )
    chart = _ridge_chart(firsts, drawn, styles).to_dict(validate=False)
    return Chart(
        f"activations-{layer}",
        f"Distribution of activations, {layer.replace('_', ' ')}",
        caption,
        chart,
        drawn,
        rows,
        panel=PANEL,
        times=sorted({row["epoch"] for row in drawn}),
        singles="one",
        of_runs="One run of each group.",
    )


def _bins(runs: Iterable[Ridges], ends: tuple[float, float]) -> int:
    """Return how many edges of these runs' histograms are drawn at each epoch."""
    return sum(int(((run.edges >= ends[0]) & (run.edges <= ends[1])).sum()) for run in runs)


def _ridge_rows(
    label: Label, ridge: Ridges, picked: Int[np.ndarray, " picked"]
) -> list[dict[str, Any]]:
    bins = list(zip(ridge.edges[:-1], ridge.edges[1:], strict=True))
    return [
        {"group": label_text(label), "run": ridge.run_id, "epoch": ridge.epochs[at]}
        | {"from": low, "to": high, "density": density}
        for at in picked
        for (low, high), density in zip(bins, ridge.densities[at], strict=True)
    ]


def _outlines(
    layer: str,
    label: Label,
    ridge: Ridges,
    kept: Int[np.ndarray, " kept"],
    picked: Int[np.ndarray, " picked"],
    ends: tuple[float, float],
) -> Iterator[dict[str, Any]]:
    """Yield the steps of the distributions at some epochs: each bin from its own lower edge."""
    since, until = cells(ridge.epochs[kept])
    lower = np.flatnonzero((ridge.edges >= ends[0]) & (ridge.edges <= ends[1]))
    last = len(ridge.epochs) - 1
    for place, at in enumerate(kept):
        base = -(min(RIDGES, last + 1) - 1) * at / max(last, 1)
        heights = 1.6 * np.sqrt(np.append(ridge.densities[at], 0.0))
        for i in lower:
            yield {
                "group": label_text(label),
                "run_id": ridge.run_id,
                "seed": ridge.seed,
                "layer": layer,
                "epoch": float(ridge.epochs[at]),
                "since": float(since[place]),
                "until": float(until[place]),
                "always": bool(at in picked),
                "activation": float(ridge.edges[i]),
                "base": round(float(base), 4),
                "top": round(float(base + heights[i]), 4),
            }


def _ridge_chart(
    by_group: Mapping[Label, Ridges], drawn: Sequence[Mapping[str, Any]], styles: Styles
) -> alt.FacetChart:
    epochs = [row["epoch"] for row in drawn]
    shown = alt.param(name="shown", value=max(epochs, default=0.0))
    lowest = min((row["base"] for row in drawn), default=0.0)
    x = alt.X("activation:Q", title="activation", scale=alt.Scale(nice=False, zero=False))
    y = alt.Y("top:Q", title="epoch", axis=_epoch_axis(by_group, lowest),
              scale=alt.Scale(domain=[lowest - 0.1, 1.7], nice=False))  # fmt: skip
    colour = group_colour({k: styles[k] for k in by_group}, legend=False)
    tooltip: list[Any] = [
        *("group:N", alt.Tooltip("run_id:N", title="run"), "seed:N", "layer:N"),
        alt.Tooltip("epoch:Q", format="~g"),
    ]
    base = alt.Chart().encode(x=x, y=y, y2="base:Q", color=colour, tooltip=tooltip)
    area: Any = {"interpolate": "step-after", "clip": True}
    faint = base.transform_filter("datum.always").mark_area(
        **area, fillOpacity=0.25, line={"strokeWidth": 0.8}
    )
    strong = base.transform_filter("datum.since <= shown && shown < datum.until").mark_area(
        **area, fillOpacity=0.7, line={"strokeWidth": 1.5}
    )
    layers = alt.layer(
        faint.encode(detail="epoch:Q").add_params(zoom("zoom", ["x"])),
        strong.encode(detail="epoch:Q"),
    )
    layers = layers.properties(width=220, height=190, data=alt.NamedData(TABLE))
    return layers.facet(_by_group(by_group), columns=3).add_params(shown)


def _epoch_axis(by_group: Mapping[Label, Ridges], lowest: float) -> alt.Axis:
    """Return an axis that names the first and the last epoch; where groups differ, by the words."""
    ends = {(float(r.epochs[0]), float(r.epochs[-1])) for r in by_group.values()}
    first, last = (f"{end:g}" for end in ends.pop()) if len(ends) == 1 else ("first", "last")
    return alt.Axis(
        values=[lowest, 0] if lowest else [0],
        labelExpr=f"datum.value === 0 ? '{first}' : '{last}'",
        grid=False,
        ticks=False,
        domain=False,
    )


def _used(ridges: Sequence[Ridges]) -> tuple[float, float]:
    """Return the edges between which bins hold more than next to nothing anywhere."""
    edges: list[float] = []
    for ridge in ridges:
        used = np.flatnonzero((ridge.densities > LEAST_DENSITY).any(0))
        edges += [*ridge.edges[used], *ridge.edges[used + 1]]
    if not edges:  # everything lies beyond them
        return float(ridges[0].edges[0]), float(ridges[0].edges[-1])
    return float(min(edges)), float(max(edges))
