"""Style of figures: a colour, line and marker for each activation; panels, heat maps, files."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from actsweep.report import colours
from actsweep.report.colours import GREY

_SOLID, _DASHED, _DOTTED, _MIXED = "-", "--", ":", "-."
_LINES: dict[str, tuple[str | tuple[int, tuple[int, ...]], str]] = {
    "sigmoid": (_SOLID, "o"),
    "hard_sigmoid": (_DASHED, "o"),
    "log_sigmoid": (_DOTTED, "o"),
    "tanh": (_SOLID, "s"),
    "hard_tanh": (_DASHED, "s"),
    "softsign": (_DOTTED, "s"),
    "relu": (_SOLID, "^"),
    "relu6": (_DASHED, "^"),
    "squared_relu": (_DOTTED, "^"),
    "softplus": (_MIXED, "^"),
    "leaky_relu": (_SOLID, "v"),
    "prelu": (_DASHED, "v"),
    "elu": (_SOLID, "D"),
    "celu": (_DASHED, "D"),
    "selu": (_DOTTED, "D"),
    "swish": (_SOLID, "P"),
    "silu": (_DASHED, "P"),
    "hard_swish": (_DOTTED, "P"),
    "mish": (_MIXED, "P"),
    "gelu": (_SOLID, "X"),
    "identity": (_SOLID, "."),
    "maxout": (_DASHED, "."),
    "softmax": (_DOTTED, "."),
    "log_softmax": (_MIXED, "."),
    "glu": (_SOLID, "*"),
    "swiglu": (_DASHED, "*"),
    "geglu": (_DOTTED, "*"),
    "reglu": (_MIXED, "*"),
    "star_relu": ((0, (7, 2)), "^"),
    "squareplus": ((0, (4, 1, 1, 1)), "^"),
    "sparse_plus": ((0, (1, 3)), "^"),
    "threshold": ((0, (9, 4)), "^"),
    "penalized_tanh": (_MIXED, "s"),
    "tanh_shrink": ((0, (7, 2)), "s"),
    "soft_shrink": ((0, (4, 1, 1, 1)), "s"),
    "hard_shrink": ((0, (1, 3)), "s"),
    "xielu": (_MIXED, "D"),
    "rational": (_DOTTED, "v"),
    "rrelu": ((0, (7, 2)), "v"),
    "snake": (_MIXED, "v"),
    "smish": ((0, (7, 2)), "P"),
    "telu": ((0, (4, 1, 1, 1)), "P"),
    "colu": ((0, (1, 3)), "P"),
    "sparse_sigmoid": (_MIXED, "o"),
    "serf": (_DASHED, "X"),
    "erf_act": (_DOTTED, "X"),
    "golu": (_MIXED, "X"),
}
STYLES = {act: (colours.colour(act), dash, marker) for act, (dash, marker) in _LINES.items()}
"""An activation's colour, the same as in reports, its line and its marker."""
UNKNOWN = (GREY, _SOLID, "h")
RC_PARAMS: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 120,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "svg.hashsalt": "actsweep",
    "svg.fonttype": "none",
}


def colour(act: str) -> str:
    """Return an activation's colour; grey for one that isn't ours."""
    return STYLES.get(act, UNKNOWN)[0]


def line_style(act: str, *, marker: bool = False) -> dict[str, Any]:
    """Return the options with which `Axes.plot` draws an activation, its label included."""
    shade, dash, mark = STYLES.get(act, UNKNOWN)
    style = {"color": shade, "linestyle": dash, "label": act}
    return style | ({"marker": mark} if marker else {})


@contextmanager
def use_style() -> Iterator[None]:
    """Draw figures inside in the style that all of ours share."""
    with matplotlib.rc_context(RC_PARAMS):
        yield


def panels(
    count: int,
    columns: int,
    *,
    width: float = 3.0,
    height: float = 2.4,
    share: bool = True,
    title: str = "",
) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels, and these in reading order.

    Args:
        count: number of panels; at least 1.
        columns: panels in a row; fewer where there are fewer panels.
        width: of a panel, in inches.
        height: of a panel, in inches.
        share: whether the panels share their axes.
        title: a title above all.
    """
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.35 * bool(title)))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(rows, columns, sharex=share, sharey=share, squeeze=False)
    flat = list(np.ravel(grid))
    for axes in flat[count:]:
        axes.remove()
    for axes in flat[max(count - columns, 0) : count]:
        axes.tick_params(labelbottom=True)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure, flat[:count]


def label_layers(axes: Axes, layers: Sequence[str]) -> None:
    """Name the ticks 0, 1, … after layers, input on the left; of many layers every nth."""
    step = math.ceil(len(layers) / 12)
    short = [name.replace("hidden_", "") for name in layers]
    axes.set_xticks(range(0, len(layers), step), short[::step])
    axes.set_xlabel("hidden layer, input to output" + (", head" if "head" in layers else ""))


def heatmap(
    axes: Axes,
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    form: str = "{:.0f}",
    **options: Any,
) -> None:
    """Draw a table of numbers as colours, with the numbers written in; NaN stays blank."""
    grid = np.asarray(values, float)
    image = axes.imshow(grid, aspect="auto", **({"cmap": "cividis"} | options))
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(visible=False)
    bright = np.ma.filled(image.norm(grid), 0.0) > 0.55
    for (i, j), value in np.ndenumerate(grid):
        if not np.isnan(value):
            ink = "black" if bright[i, j] else "white"
            axes.text(j, i, form.format(value), ha="center", va="center", color=ink, fontsize=8)


def save_figure(figure: Figure, path: Path, kinds: Sequence[str] = ("png", "svg")) -> None:
    """Write a figure; the same figure gives the same bytes.

    Args:
        figure: the figure.
        path: the file, without its ending.
        kinds: the kinds of file, `png` and `svg`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with use_style():
        for kind in kinds:
            unstable = {"png": "Software", "svg": "Date"}[kind]
            figure.savefig(path.with_name(f"{path.name}.{kind}"), metadata={unstable: None})
