"""The report's figure of theory beside measurement, before training. No jax."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from actsweep.report.chart import (
    TABLE,
    Chart,
    Styles,
    group_colour,
    group_dash,
    label_text,
    zoom,
)
from actsweep.report.design import Label
from actsweep.theory.predictions import PARTED, LayerComparison

Untrained = Mapping[str, Sequence[LayerComparison]]
"""Prediction and measurement by quantity, one a layer."""
NAMES = {
    "preact_std": "standard deviation of z",
    "cos_sim": "mean cosine similarity",
    "preact_grad_ratio": "|dl/dz|, last layer = 1",
}
LOGARITHMIC = ("preact_std", "preact_grad_ratio")


def predictions(untrained: Mapping[Label, Untrained], styles: Styles) -> Chart | None:
    """Return prediction (lines) and measurement (points) by layer, a panel a quantity.

    None without any. The caption names the layers where they part.
    """
    shown = [q for q in NAMES if any(q in of for of in untrained.values())]
    if not shown:
        return None
    drawn: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for label, of in untrained.items():
        for quantity in (q for q in shown if q in of):
            for place, layer in enumerate(of[quantity], 1):
                numbers = {
                    "predicted": layer.predicted,
                    "measured": layer.measured,
                    "z": layer.z,
                }
                row = {"group": label_text(label), "layer": layer.layer}
                rows.append({**row, "quantity": quantity, **numbers})
                own = {"run_id": None, "seed": None, "quantity": quantity, "place": place}
                drawn.append({**row, **own, **numbers, "parted": layer.parted})
    kept = {label: styles[label] for label in untrained}
    panels = [_panel(quantity, place, drawn, kept) for place, quantity in enumerate(shown)]
    chart = alt.concat(*panels, columns=3, data=alt.NamedData(TABLE))
    chart = chart.resolve_scale(color="shared", strokeDash="shared")
    return Chart(
        "predictions",
        "Before training: theory and measurement",
        f"Lines: mean-field theory, for the probe batch's mean square and cosine. "
        f"{_parting(untrained)}",
        chart.to_dict(validate=False),
        drawn,
        rows,
        of_means="Points: means over runs.",
    )


def _parting(untrained: Mapping[Label, Untrained]) -> str:
    """Say in which layers of which groups prediction and measurement part."""
    parted = [
        f"{label_text(label)} {layer.layer} (z = {layer.z:.1f})"
        for label, of in untrained.items()
        for layers in of.values()
        for layer in layers
        if layer.z is not None and layer.parted
    ]
    beyond = f"more than {PARTED:g} standard deviations over networks of these widths"
    if not parted:
        return f"Nowhere they are {beyond} apart."
    more = f" and {len(parted) - 6} more" if len(parted) > 6 else ""
    return f"They are {beyond} apart in {', '.join(parted[:6])}{more}: crosses."


def _panel(quantity: str, place: int, drawn: Sequence[Mapping[str, Any]], styles: Styles) -> Any:
    own = [row for row in drawn if row["quantity"] == quantity]
    positive = min(min(row["predicted"], row["measured"]) for row in own) > 0
    log = quantity in LOGARITHMIC and positive
    room: Any = {"padding": 8, "nice": False}
    scale = alt.Scale(type="log", **room) if log else alt.Scale(zero=False, **room)
    along = alt.Scale(zero=False, **room)
    x = alt.X("place:Q", title="layer", scale=along, axis=alt.Axis(tickMinStep=1, format="d"))
    base = alt.Chart().transform_filter(f"datum.quantity == '{quantity}'")
    colour, dash = group_colour(styles), group_dash(styles)
    tooltip = [
        *("group:N", "layer:N"),
        *(alt.Tooltip(f"{name}:Q", format=".4~g") for name in ("predicted", "measured")),
        alt.Tooltip("z:Q", format=".2f"),
    ]
    y = {
        name: alt.Y(f"{name}:Q", title=NAMES[quantity], scale=scale, axis=alt.Axis(format=".3~g"))
        for name in ("predicted", "measured")
    }
    points = base.mark_point(filled=False, size=45, clip=True, opacity=1).encode(
        x=x,
        y=y["measured"],
        color=colour,
        shape=alt.Shape(
            "parted:N",
            scale=alt.Scale(domain=[False, True], range=["circle", "cross"]),
            legend=None,
        ),
        tooltip=tooltip,
    )
    line = base.mark_line(strokeWidth=2, clip=True, point=False).encode(
        x=x, y=y["predicted"], color=colour, strokeDash=dash
    )
    layers: Any = alt.layer(line, points.add_params(zoom(f"theory{place}")))
    return layers.properties(width=260, height=220)
