"""Figures of a comparison for a paper: PDF and SVG of a stated width and font size. No jax."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from actsweep.report import plot
from actsweep.report.compare import ReportRequest, compare_sweeps
from actsweep.report.design import Entry, gather, where
from actsweep.runs.metrics_file import read_metrics
from actsweep.utils import files
from actsweep.utils.errors import UserError

if TYPE_CHECKING:
    import altair as alt

POINTS = {"in": 72.0, "cm": 72 / 2.54, "mm": 72 / 25.4, "pt": 1.0}
ASPECT = 0.7
"""Height over width."""


@dataclass(frozen=True)
class Size:
    """A figure's width and font size, in points of 1/72 inch."""

    width: float
    font: float

    @classmethod
    def of(cls, width: str, font: float) -> "Size":
        """Return the size that was typed, such as `3.25in`.

        Raises:
            UserError: the width isn't a number with a unit from half an inch to 20, or the font is
                not from 4 to 24 points.
        """
        typed = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(in|cm|mm|pt)", width.strip())
        points = float(typed[1]) * POINTS[typed[2]] if typed else 0.0
        if not 36 <= points <= 1440:
            raise UserError(
                f"--width {width}: must be from 0.5in to 20in, with in, cm, mm or pt; type for "
                "example --width 3.25in"
            )
        if not 4 <= font <= 24:
            raise UserError(
                f"--font-size {font:g}: must be from 4 to 24 points; type for example --font-size 8"
            )
        return cls(points, font)


def save(folders: Sequence[Path], request: ReportRequest, to: Path, size: Size) -> list[Path]:
    """Write the scores that are compared, and their curves, as PDF and SVG; return the files.

    The curves are of validation, or else of the metric itself, if it was logged.

    Args:
        folders: the sweeps' folders.
        request: what is compared.
        to: the folder to write to.
        size: of each figure.

    Raises:
        UserError: as `compare_sweeps`.
        OSError: the folder can't be written.
    """
    comparison = compare_sweeps(folders, request)
    charts = {"scores": plot.scores(comparison)}
    kind = comparison.measure.metric.rpartition("/")[2]
    kept = [e for e in where(gather(folders), request.where) if e.run.run_id in comparison.kept]
    logged = {name for entry in kept for name in _logged(entry)}
    metrics = (f"val/{kind}", comparison.measure.metric)
    if curve := next((name for name in metrics if name in logged), None):
        charts["curves"] = plot.curves(kept, [curve])
    to.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, chart in charts.items():
        for ending, content in _drawn(chart, size).items():
            paths.append(to / f"{name}.{ending}")
            files.write_atomic(paths[-1], content)
    return paths


def _logged(entry: Entry) -> Iterable[str]:
    try:
        return read_metrics(entry.run.metrics)
    except FileNotFoundError:
        return ()


def _drawn(chart: "alt.TopLevelMixin", size: Size) -> dict[str, bytes]:
    """Return a chart as PDF and SVG."""
    import vl_convert

    plain = chart.properties(
        width=size.width,
        height=ASPECT * size.width,
        autosize={"type": "fit", "contains": "padding"},
        padding=1,
    ).to_dict()
    fonts = {"labelFontSize": size.font, "titleFontSize": size.font}
    plain["config"] |= {"axis": fonts, "legend": {**fonts, "orient": "bottom"}}
    svg = vl_convert.vegalite_to_svg(plain)
    width = f'width="{size.width:g}pt" height="{ASPECT * size.width:g}pt"'
    return {
        "pdf": vl_convert.svg_to_pdf(svg),
        "svg": re.sub(r'width="[\d.]+" height="[\d.]+"', width, svg, count=1).encode(),
    }
