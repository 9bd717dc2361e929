"""Writes the report of sweeps: the page, and every figure and table as a file. No jax."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actsweep.report import plotting
from actsweep.report.charts import Chart, charts, sensitivity
from actsweep.report.compare import Comparison, compare
from actsweep.report.design import Design, Entry, Label, gather, lay_out, usual_factors, where
from actsweep.report.page import Reproduction, page
from actsweep.report.series import series
from actsweep.runs import run_dir
from actsweep.sweeps import plan
from actsweep.utils import files
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import typed_again

PAGE = "index.html"
MOST_GROUPS = 24
"""Groups that are drawn: of more, the best."""


@dataclass(frozen=True)
class ReportRequest:
    """What a report is about: as typed for `actsweep compare`; `by` is found out if empty."""

    by: Sequence[str] = ()
    metric: str | None = None
    margin: float | None = None
    where: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """All that is written: the page's parts."""

    design: Design
    found: Comparison | str
    charts: Sequence[Chart]
    notes: Sequence[str]


def write(
    folders: Sequence[Path],
    to: Path,
    wanted: ReportRequest = ReportRequest(),
    *,
    partly: bool = False,
) -> Path:
    """Write the report of some sweeps into a folder; the page's path.

    Args:
        folders: the sweeps'.
        to: where to.
        wanted: what it is about.
        partly: also if nothing is complete yet: then without an answer.

    Raises:
        UserError: no run is complete; as `compare`.
        OSError: the folder can't be written.
    """
    made = _make(where(gather(folders), wanted.where), wanted)
    if isinstance(made.found, str) and not partly:
        raise UserError(made.found)
    to.mkdir(parents=True, exist_ok=True)
    for chart in made.charts:
        plotting.save(chart.figure, to / chart.name, ("png",))
        _write_csv(to / f"{chart.name}.csv", chart.rows)
    for name, rows in _tables(made.design, made.found).items():
        _write_csv(to / f"{name}.csv", rows)
    files.write_atomic(to / PAGE, _page(folders, to, made))
    return to / PAGE


def _make(entries: Sequence[Entry], wanted: ReportRequest) -> Report:
    if not entries:
        raise UserError("nothing to report: no runs")
    by = list(wanted.by) or usual_factors(entries)
    found: Comparison | str
    try:
        found = compare(entries, by, wanted.metric, wanted.margin)
        design, labels, kept = found.design, list(found.groups), found.kept
    except UserError as error:
        if any(one.state == "complete" for one in entries):
            raise
        found, design = str(error), lay_out(entries, by)
        labels, kept = list(dict.fromkeys(design.labels.values())), design.flat.keys()
    drawn, notes = labels[:MOST_GROUPS], []
    if len(labels) > len(drawn):
        notes.append(f"figures show the first {len(drawn)} of {len(labels)} groups")
    groups: dict[Label, list[Entry]] = {label: [] for label in drawn}
    for one in sorted(entries, key=lambda one: one.config["seed"]):
        label = design.labels[one.run.run_id]
        if label in groups and one.run.run_id in kept:
            groups[label].append(one)
    read = series(groups)
    made = charts(design, drawn, None if isinstance(found, str) else found, read)
    if isinstance(found, Comparison):
        made += _sensitivities(found, entries, wanted)
    return Report(design, found, made, [*notes, *read.notes])


def _sensitivities(
    found: Comparison, entries: Sequence[Entry], wanted: ReportRequest
) -> list[Chart]:
    """A curve along the number that was compared, and along each one that was tuned."""
    made = [sensitivity(found)]
    if any("data.name" in found.design.factors[title] for title in found.by[1:]):
        return [one for one in made if one]  # a curve would average over data sets
    for path in found.design.tuned:
        along = [path, found.by[0]]
        made.append(sensitivity(compare(entries, along, found.measure.metric, wanted.margin)))
    return [one for one in made if one]


def _page(folders: Sequence[Path], to: Path, made: Report) -> str:
    name = ", ".join(folder.name for folder in folders)
    again = [_again(folder, made.design.entries) for folder in folders]
    return page(name, to, made.design, made.found, made.charts, made.notes, again)


def _again(folder: Path, entries: Sequence[Entry]) -> Reproduction:
    plain = plan.read_frozen(folder)
    statuses = [
        run_dir.read_status(one.run) or {} for one in entries if one.run.run_id in plain["members"]
    ]
    commits = [status.get("git") or {} for status in statuses]
    return Reproduction(
        typed_again(plain["command"]),
        _each(f"{k} {v}" for status in statuses for k, v in (status.get("versions") or {}).items()),
        _each(
            f"git {git['sha'][:10]}{' with changes' if git.get('dirty') else ''}"
            for git in commits
            if git.get("sha")
        ),
    )


def _each(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _tables(design: Design, found: Comparison | str) -> dict[str, list[dict[str, Any]]]:
    """The page's tables as rows; numbers in their own units."""
    runs = [
        {
            "run_id": one.run.run_id,
            "state": one.state,
            **{title: design.flat[one.run.run_id].get(p) for p, title in design.titles.items()},
            "seed": one.config["seed"],
            **{key: value for key, value in one.summary.items() if key not in ("state", "seed")},
            "cause": one.cause,
        }
        for one in design.entries
    ]
    if isinstance(found, str):
        return {"runs": runs}
    first, *rest = found.by
    groups = [
        {**dict(zip(found.by, label, strict=True)), **found.chosen.get(label, {}), **asdict(one)}
        for label, one in found.groups.items()
    ]
    pairs = [
        {
            f"{first} a": a[0],
            f"{first} b": b[0],
            **dict(zip(rest, a[1:], strict=True)),
            **asdict(one),
            "verdict": found.measure.word(one.verdict),
        }
        for (a, b), one in found.pairs.items()
    ]
    return {"groups": groups, "pairs": pairs, "runs": runs}


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    stream = io.StringIO()
    names = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_atomic(path, stream.getvalue())
