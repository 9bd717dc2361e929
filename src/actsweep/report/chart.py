"""What a figure of the report is: its texts, its Vega-Lite chart, the numbers it draws. No jax."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import altair as alt
import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from actsweep.report.colours import Style

TABLE = "table"
"""Name of a chart's rows in its specification."""
INK, SOFT, LINE = "#1c1c1e", "#5c5c66", "#e2e2e8"
FONT = "system-ui, 'DejaVu Sans', sans-serif"
CONFIG: dict[str, Any] = {
    "background": "white",
    "font": FONT,
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelColor": INK,
        "titleColor": INK,
        "gridColor": LINE,
        "domainColor": SOFT,
        "tickColor": SOFT,
        "labelLimit": 160,
    },
    "legend": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelColor": INK,
        "titleColor": INK,
        "labelLimit": 240,
        "symbolType": "stroke",
        "symbolOpacity": 1,
        "symbolSize": 400,
        "symbolStrokeWidth": 2,
        "titleLimit": 400,
    },
    "header": {
        "labelFontSize": 13,
        "labelFontWeight": "bold",
        "labelColor": INK,
        "labelLimit": 240,
        "titleColor": INK,
    },
    "title": {"fontSize": 13, "color": INK},
    "view": {"stroke": None},
}
"""Look of the figures that lie beside the page, which has the colours of its reader's system."""
TITLES = {
    "grad_norm": "Gradient norm",
    "dead_frac": "Share of dead units",
    "saturated_frac": "Share of saturated units",
    "cos_sim": "Cosine similarity between examples",
    "val/accuracy": "Validation accuracy, %",
    "val/mean_average_precision": "Validation mean average precision, %",
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
Row = Mapping[str, Any]
Styles = Mapping[tuple[str, ...], Style]
"""How each group is drawn, by its label."""


@dataclass(frozen=True)
class Chart:
    """A figure: its file name, title and caption, and the numbers that it draws.

    Attributes:
        caption: what is so whichever rows a reader has chosen.
        spec: the Vega-Lite specification, without its rows, which it calls `TABLE`.
        drawn: the rows that are drawn, in the units that are shown. `group` is a group's label;
            `run_id` and `seed` are those of a single run, and None in rows over several.
        rows: the figure's numbers in their own units, for its CSV file.
        singles: when single runs are drawn: always, where a reader asks for their curves, for the
            seeds and runs that a reader has chosen, in place of the means, or one of each group:
            the first of `drawn`, or the first of those that a reader has chosen.
        of_runs: what the caption adds where single runs are drawn.
        of_means: what it adds where means are drawn.
        names: titles with units of the rows' values, for what a reader saves.
        axes: the scales that a reader can choose from: where each is in `spec`, and by name the
            scale to put there.
        panel: the least width of a panel, and what lies beside each, in pixels.
        times: epochs of a slider, if the figure shows one epoch at a time.
    """

    name: str
    title: str
    caption: str
    spec: Mapping[str, Any]
    drawn: Sequence[Row]
    rows: Sequence[Row]
    singles: Literal["always", "asked", "chosen", "one"] = "always"
    axes: Sequence[Mapping[str, Any]] = ()
    panel: tuple[int, int] = (260, 70)
    times: Sequence[float] = field(default=())
    of_runs: str = ""
    of_means: str = ""
    names: Mapping[str, str] = field(default_factory=dict)

    def first_drawn(self) -> list[Row]:
        """Return the rows that are drawn before a reader has chosen any."""
        if self.singles == "always":
            return [*self.drawn]
        if self.singles != "one":
            return [row for row in self.drawn if row["run_id"] is None]
        first = {row["group"]: row["run_id"] for row in reversed(self.drawn)}
        return [row for row in self.drawn if row["run_id"] == first[row["group"]]]

    def first_caption(self) -> str:
        """Return the caption of these rows."""
        runs = self.of_runs if self.singles in ("always", "one") else ""
        means = self.of_means if self.singles != "one" else ""
        return " ".join(text for text in (self.caption, runs, means) if text)


def label_text(label: Iterable[str]) -> str:
    """Return a group's label as it is shown."""
    return " ".join(label)


def group_colour(styles: Styles, *, legend: bool | None = None) -> alt.Color:
    """Return the encoding of groups as colours; `legend`: never or always one, None: beside the
    page only, which has one for all charts."""
    scale = alt.Scale(
        domain=[label_text(label) for label in styles],
        range=[style.colour for style in styles.values()],
    )
    if legend is None:
        return alt.Color("group:N", scale=scale, title=None)
    return alt.Color("group:N", scale=scale, legend=alt.Legend(title=None) if legend else None)


def group_dash(styles: Styles) -> alt.StrokeDash:
    """Return the encoding of groups as dashes."""
    scale = alt.Scale(
        domain=[label_text(label) for label in styles],
        range=[list(style.dash) for style in styles.values()],
    )
    return alt.StrokeDash("group:N", scale=scale, title=None)


def zoom(name: str, encodings: Sequence[Literal["x", "y"]] = ("x", "y")) -> alt.Parameter:
    """Return a selection that drags a chart, and zooms it by the wheel with Ctrl or ⌘."""
    wheel = "wheel![event.ctrlKey || event.metaKey]"
    return alt.selection_interval(
        name=name, bind="scales", encodings=list(encodings), zoom=wheel, clear=False
    )


def scales(
    middles: Iterable[float],
    ends: Iterable[float | None],
    possible: tuple[float | None, float | None],
    *,
    log: bool,
) -> dict[str, dict[str, Any]]:
    """Return the scales of an axis by name: `close`, `zero`, and `log` if all means are positive.

    Args:
        middles: means and values; a logarithmic axis begins below the least.
        ends: the ends of intervals; None where there is no interval.
        possible: the least and the largest value that there can be; None: no bound.
        log: whether `auto` is logarithmic where it can be.
    """
    means = [value for value in middles if np.isfinite(value)] or [0.0, 1.0]
    known = [*means, *(value for value in ends if value is not None and np.isfinite(value))]
    low, high = min(known), max(known)
    room = 0.08 * (high - low) or 0.08 * abs(high) or 1.0
    least = low - room if possible[0] is None else possible[0]
    most = high + room if possible[1] is None else possible[1]
    close = [max(low - room, least), min(high + room, most)]
    kinds: dict[str, dict[str, Any]] = {
        "close": {"domain": close, "zero": False, "nice": False},
        "zero": {"domain": [min(0.0, close[0]), max(0.0, close[1])], "nice": False},
    }
    if min(means) > 0:
        domain = [0.85 * min(means), min(1.1 * high, most)]
        kinds["log"] = {"type": "log", "domain": domain, "nice": False}
    return {"auto": kinds["log"] if log and "log" in kinds else kinds["close"], **kinds}


def thinned(count: int, most: int) -> Int[ndarray, " kept"]:
    """Return at most so many of the places 0, 1, … `count` - 1, evenly, both ends among them."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(int))


def cells(epochs: Float[ndarray, " n"]) -> tuple[Float[ndarray, " n"], Float[ndarray, " n"]]:
    """Return where each epoch's cell begins and ends: halfway to its neighbours."""
    half = np.diff(epochs) / 2 if len(epochs) > 1 else np.array([0.5])
    middles = epochs[:-1] + half if len(epochs) > 1 else epochs[:0]
    return (
        np.concatenate([[epochs[0] - half[0]], middles]),
        np.concatenate([middles, [epochs[-1] + half[-1]]]),
    )
