"""Writes the report of sweeps: the page, and every figure and table as a file. No jax."""

import csv
import io
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actsweep import figures, ledger, sweeps
from actsweep.errors import UserError
from actsweep.report.charts import Chart, charts, sensitivity
from actsweep.report.compare import Comparison, compare
from actsweep.report.entries import Design, Entry, Label, gather, lay_out, where
from actsweep.report.page import Again, page
from actsweep.report.series import series

PAGE = "index.html"
MOST_GROUPS = 12
"""Groups that are drawn: of more, the best."""
MOST_SECOND = 8
"""Values of a second factor that are compared without being asked for."""


@dataclass(frozen=True)
class Wanted:
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


def write(folders: Sequence[Path], to: Path, wanted: Wanted = Wanted()) -> Path:
    """Write the report of some sweeps into a folder; the page's path.

    Raises:
        UserError: no run is complete; as `compare`.
        OSError: the folder can't be written.
    """
    made = _make(where(gather(folders), wanted.where), wanted)
    if isinstance(made.found, str):
        raise UserError(made.found)
    to.mkdir(parents=True, exist_ok=True)
    for chart in made.charts:
        figures.save(chart.figure, to / chart.name, ("png",))
        _write_csv(to / f"{chart.name}.csv", chart.rows)
    for name, rows in _tables(made.found).items():
        _write_csv(to / f"{name}.csv", rows)
    ledger.write_atomic(to / PAGE, _page(folders, to, made))
    return to / PAGE


def live(folders: Sequence[Path], to: Path, wanted: Wanted, seconds: float) -> str:
    """The page of sweeps that may still run, which loads itself anew every so many seconds."""
    made = _make(where(gather(folders), wanted.where), wanted)
    again = f'<meta http-equiv="refresh" content="{seconds:g}">\n'
    return _page(folders, to, made, again)


def usual_factors(entries: Sequence[Entry]) -> list[str]:
    """What tells groups apart if nobody says: the activation, and what else was swept if it is one
    thing with few values, but for what is tuned; data sets are never averaged over."""
    design = lay_out(entries, ["act", "data"])
    several = [len(design.values(path)) for path in ("act.name", "data.name")]
    others = design.averaged
    if several[1] > 1:
        return ["act", "data"]
    params = any(path.startswith("act.") and path != "act.name" for path in design.titles)
    few = [path for path in others if len(design.values(path)) <= MOST_SECOND]
    if several[0] > 1 or params or not (others or design.tuned):
        return ["act", *(few if len(others) == 1 else [])]
    return [*(others or design.tuned)][:1]


def _make(entries: Sequence[Entry], wanted: Wanted) -> Report:
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


def _sensitivities(found: Comparison, entries: Sequence[Entry], wanted: Wanted) -> list[Chart]:
    """A curve along each number that was compared, or tuned."""
    if own := sensitivity(found):
        return [own]
    made = []
    for path in found.design.tuned:
        if found.by[0] == "act":
            along = compare(entries, [path, "act"], found.measure.metric, wanted.margin)
            made.append(sensitivity(along))
    return [one for one in made if one]


def _page(folders: Sequence[Path], to: Path, made: Report, refresh: str = "") -> str:
    name = ", ".join(folder.name for folder in folders)
    again = [_again(folder, made.design.entries) for folder in folders]
    return page(name, to, made.design, made.found, made.charts, made.notes, again, refresh)


def _again(folder: Path, entries: Sequence[Entry]) -> Again:
    plain = sweeps.frozen(folder)
    statuses = [
        ledger.read_status(one.run) or {} for one in entries if one.run.run_id in plain["members"]
    ]
    commits = [status.get("git") or {} for status in statuses]
    return Again(
        shlex.join(["python", *plain["command"]]),
        _each(f"{k} {v}" for status in statuses for k, v in (status.get("versions") or {}).items()),
        _each(
            f"git {git['sha'][:10]}{' with changes' if git.get('dirty') else ''}"
            for git in commits
            if git.get("sha")
        ),
    )


def _each(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _tables(found: Comparison) -> dict[str, list[dict[str, Any]]]:
    """The page's tables as rows; numbers in their own units."""
    by = found.by
    groups = [
        {**dict(zip(by, label, strict=True)), **found.chosen.get(label, {}), **asdict(one)}
        for label, one in found.groups.items()
    ]
    pairs = [
        {
            f"{by[0]} a": a[0],
            f"{by[0]} b": b[0],
            **dict(zip(by[1:], a[1:], strict=True)),
            **asdict(one),
        }
        for (a, b), one in found.pairs.items()
    ]
    design = found.design
    runs = [
        {
            "run_id": one.run.run_id,
            "state": one.state,
            **{title: design.flat[one.run.run_id].get(p) for p, title in design.titles.items()},
            "seed": one.config["seed"],
            **one.summary,
            "cause": one.cause,
        }
        for one in design.entries
    ]
    return {"groups": groups, "pairs": pairs, "runs": runs}


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    stream = io.StringIO()
    names = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    ledger.write_atomic(path, stream.getvalue())


def at_end(folder: Path) -> None:
    """Write a sweep's report once it has ended, and say where; it never fails the sweep."""
    try:
        path = write([folder], folder / "report")
    except UserError:
        return  # nothing is complete: the table has said so
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        again = f"actsweep report {sweeps.name_of(folder)}"
        print(f"no report: {why}; again: {again}", file=sys.stderr)
    else:
        print(f"report: {path}")
