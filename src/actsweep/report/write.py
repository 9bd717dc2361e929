"""The report of sweeps: a page, and every figure and table as a file. No jax."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actsweep.report.chart import CONFIG, TABLE, Chart, Styles
from actsweep.report.charts import charts, sensitivity, styles_of
from actsweep.report.compare import USUAL, Comparison, ReportRequest, compare
from actsweep.report.design import (
    Design,
    Entry,
    Label,
    gather,
    lay_out,
    usual_factors,
    where,
    without_test_scores,
)
from actsweep.report.page import Reproduction, page
from actsweep.report.page_data import page_data
from actsweep.report.series import series
from actsweep.report.tables import as_csv, group_rows, pair_rows, run_rows
from actsweep.runs import run_dir
from actsweep.sweeps import plan
from actsweep.utils import files
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import typed_again

PAGE = "index.html"
MAX_GROUPS = 24
"""Groups up to which all are drawn: of more, the best."""


@dataclass(frozen=True)
class Report:
    """All parts of the page. `comparison` is the reason as text where there is none."""

    design: Design
    comparison: Comparison | str
    charts: Sequence[Chart]
    styles: Styles
    notes: Sequence[str]


def write(
    folders: Sequence[Path],
    to: Path,
    request: ReportRequest = USUAL,
    *,
    allow_incomplete: bool = False,
) -> Path:
    """Write the report of some sweeps into a folder; return the page's path.

    Args:
        folders: the sweeps' folders.
        to: the folder to write to.
        request: what the report is about.
        allow_incomplete: write it even if no run is complete yet, without an answer.

    Raises:
        UserError: no run is complete; as `compare`.
        OSError: the folder can't be written.
    """
    report = _make(where(gather(folders), request.where), request)
    if isinstance(report.comparison, str) and not allow_incomplete:
        raise UserError(report.comparison)
    to.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        pictures = pool.map(png, report.charts)
        for chart in report.charts:
            _write(to / f"{chart.name}.csv", as_csv(chart.rows))
        tables = _tables(report.design, report.comparison)
        for name, rows in tables.items():
            _write(to / f"{name}.csv", as_csv(rows))
        _write(to / PAGE, _page(folders, report))
        for chart, picture in zip(report.charts, pictures, strict=True):
            _write(to / f"{chart.name}.png", picture)
    return to / PAGE


def png(chart: Chart) -> bytes:
    """Return a chart as a picture, as a reader finds it."""
    import vl_convert

    spec = {**chart.spec, "config": CONFIG, "datasets": {TABLE: chart.first_drawn()}}
    return vl_convert.vegalite_to_png(spec, scale=1.5)


def _write(path: Path, content: str | bytes) -> None:
    files.write_atomic(path, content, durable=False)


def _make(entries: Sequence[Entry], request: ReportRequest) -> Report:
    if not entries:
        raise UserError("nothing to report: no runs")
    by = list(request.by) or usual_factors(entries)
    comparison: Comparison | str
    try:
        comparison = compare(entries, by, request.metric, request.margin, one_look=request.one_look)
        design, labels, kept = comparison.design, list(comparison.groups), {*comparison.kept}
        entries = design.entries  # of a tuning those with fresh seeds
        kept |= {r for r, label in design.labels.items() if label not in comparison.groups}
    except UserError as error:
        if any(entry.state == "complete" and not entry.choosing for entry in entries):
            raise
        entries = [without_test_scores(e) if e.choosing else e for e in entries]
        comparison, design = str(error), lay_out(entries, by)
        labels, kept = [], {*design.flat}
    labels = list(dict.fromkeys([*labels, *design.labels.values()]))
    drawn, notes = labels[:MAX_GROUPS], []
    if len(labels) > len(drawn):
        notes.append(f"figures show the first {len(drawn)} of {len(labels)} groups")
    groups: dict[Label, list[Entry]] = {label: [] for label in drawn}
    for entry in sorted(entries, key=lambda entry: entry.config["seed"]):
        label = design.labels[entry.run.run_id]
        if label in groups and entry.run.run_id in kept:
            groups[label].append(entry)
    logs = series(groups)
    styles = _styles(design, drawn)
    answer = None if isinstance(comparison, str) else comparison
    made = charts(design, styles, answer, logs)
    if isinstance(comparison, Comparison):
        made += _sensitivities(comparison, entries, request, styles)
    return Report(design, comparison, made, styles, [*notes, *logs.notes])


def _styles(design: Design, drawn: Sequence[Label]) -> Styles:
    """Return the style of each group that is drawn: by its place in the plan, as `drawn` is sorted
    by results, which change while the runs train."""
    planned = styles_of(
        [label for label in dict.fromkeys(design.labels.values()) if label in drawn]
    )
    return {label: planned[label] for label in drawn}


def _sensitivities(
    comparison: Comparison,
    entries: Sequence[Entry],
    request: ReportRequest,
    styles: Styles,
) -> list[Chart]:
    """Return a curve along the number that was compared, and along each one that was tuned."""
    made = [sensitivity(comparison, styles)]
    if any("data.name" in comparison.design.factors[title] for title in comparison.by[1:]):
        return [chart for chart in made if chart]  # a curve would average over data sets
    for path in comparison.design.tuned:
        along = [path, comparison.by[0]]
        metric = comparison.measure.metric
        made.append(sensitivity(compare(entries, along, metric, request.margin), styles))
    return [chart for chart in made if chart]


def _page(folders: Sequence[Path], report: Report) -> str:
    plans = [plan.read_frozen(folder) for folder in folders]
    overrides = {
        run_id: member["overrides"]
        for frozen in plans
        for run_id, member in frozen["members"].items()
    }
    return page(
        ", ".join(_about(*pair) for pair in zip(folders, plans, strict=True)),
        report.design,
        report.comparison,
        report.charts,
        report.styles,
        report.notes,
        [_reproduction(frozen, report.design.entries) for frozen in plans],
        page_data(report.design, overrides),
    )


def _about(folder: Path, frozen: Mapping[str, Any]) -> str:
    first = next(iter(frozen["members"].values()))
    return plan.about(first["config"].get("sweep", {})) or folder.name


def _reproduction(frozen: Mapping[str, Any], entries: Sequence[Entry]) -> Reproduction:
    statuses = [
        run_dir.read_status(entry.run) or {}
        for entry in entries
        if entry.run.run_id in frozen["members"]
    ]
    commits = [status.get("git") or {} for status in statuses]
    return Reproduction(
        typed_again(frozen["command"]),
        _unique(
            f"{k} {v}" for status in statuses for k, v in (status.get("versions") or {}).items()
        ),
        _unique(
            f"git {git['sha'][:10]}{' with changes' if git.get('dirty') else ''}"
            for git in commits
            if git.get("sha")
        ),
    )


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _tables(design: Design, comparison: Comparison | str) -> dict[str, list[dict[str, Any]]]:
    """Return the page's tables as rows; numbers in their own units."""
    runs = run_rows(design.entries)
    if isinstance(comparison, str):
        return {"runs": runs}
    return {"groups": group_rows(comparison), "pairs": pair_rows(comparison), "runs": runs}
