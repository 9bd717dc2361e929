"""The report as one HTML file that needs nothing else; its layout is `page.html`. No jax."""

import contextlib
import functools
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from actsweep.report.chart import Chart, Row, Styles, label_text
from actsweep.report.colours import BLACK
from actsweep.report.compare import Comparison
from actsweep.report.design import Design, Entry
from actsweep.report.page_data import script_json
from actsweep.report.series import in_order
from actsweep.report.text import FIRST, interval_text, words
from actsweep.report.values import Measure
from actsweep.stats.scores import SCORES, TASKS, tasks_in
from actsweep.sweeps.table import KNOWN
from actsweep.utils.files import write_atomic

if TYPE_CHECKING:
    from jinja2 import Template

HEADLINE = {**KNOWN, "trainer.epochs": "epochs"}
"""Config paths, with their names in the page's head, which shows values that all runs share."""
NONE = "–"
SCRIPTS = ("select", "filter", "table", "runs", "run", "figures", "live", "page")
STATIC_RUNS = 200
"""Runs up to which their table is there without scripts, too."""


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, what it is sorted by if not by that, and where it leads to.

    `interval` is the interval about the value, for a column with `interval`; empty without one.
    """

    text: str
    value: float | str | None = None
    link: str = ""
    interval: tuple[float, float] | tuple[()] = ()


@dataclass(frozen=True)
class Column:
    """A table's column: its title, and the CSS class of its cells.

    `interval`: its cells have a 95 % interval; what the title says of it, such as `[95 %]`.
    """

    title: str
    kind: str = ""
    interval: str = ""


@dataclass(frozen=True)
class Table:
    """A table, sorted by a click on a column's title; `name` is its id in the page."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    name: str = ""


@dataclass(frozen=True)
class Reproduction:
    """What it takes to do a sweep again."""

    command: str
    versions: Sequence[str]
    commits: Sequence[str]


def page(
    name: str,
    design: Design,
    outcome: Comparison | str,
    charts: Sequence[Chart],
    styles: Styles,
    notes: Sequence[str],
    reproductions: Sequence[Reproduction],
    data: Mapping[str, Any],
) -> str:
    """Render the whole page.

    Args:
        name: of the sweep, or sweeps.
        design: the runs.
        outcome: the comparison, or why there is none.
        charts: the figures.
        styles: how each group is drawn, by its label.
        notes: what couldn't be read.
        reproductions: what was typed, with which code and versions.
        data: what the scripts read, see `page_data`.
    """
    from markupsafe import Markup

    comparison = outcome if isinstance(outcome, Comparison) else None
    package = files("actsweep.report")
    return template("page.html").render(
        style=Markup(package.joinpath("page.css").read_text()),
        scripts=[Markup(package.joinpath(f"{name}.js").read_text()) for name in SCRIPTS],
        vega=Markup(_vega()) if charts else "",
        drawn=Markup(_figures(charts, styles)),
        data=Markup(script_json(data)),
        name=name,
        counts=_counts(design.entries),
        shared=_shared(design),
        answer=_answer(outcome),
        notes=[*(comparison.notes if comparison else []), *notes],
        groups=_groups(comparison) if comparison else None,
        pairs=_pairs(comparison) if comparison else None,
        figures=charts,
        runs=_runs(design) if len(design.entries) <= STATIC_RUNS else None,
        failures=_failures(design.entries),
        reproductions=reproductions,
    )


@functools.cache
def _vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script; made once a version, which takes 1 s."""
    import vl_convert

    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    kept = caches / "actsweep" / f"vega-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError):
        return kept.read_text()
    bundle = str(vl_convert.javascript_bundle())  # type: ignore[call-arg]  # it has a default
    bundle = bundle.replace("</script", "<\\/script")
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, bundle)
    return bundle


@functools.cache
def template(name: str) -> "Template":
    """Return a template of this folder. A variable that it isn't given is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("actsweep.report", "")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(name)


def _counts(entries: Sequence[Entry]) -> str:
    states = [entry.state for entry in entries]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{len(entries)} runs: {counts}"


def _shared(design: Design) -> str:
    """Return the values of `HEADLINE` that all runs have in common."""
    values = {title: design.values(path) for path, title in HEADLINE.items()}
    return ", ".join(f"{title} {texts[0]}" for title, texts in values.items() if len(texts) == 1)


def _answer(outcome: Comparison | str) -> list[tuple[str, list[str]]]:
    """Return the answer's sentences, each with its details."""
    if isinstance(outcome, str):
        return [(outcome, [])]
    answer: list[tuple[str, list[str]]] = []
    for line in words(outcome):
        if line.startswith("  "):
            answer[-1][1].append(line.strip())
        else:
            answer.append((line[0].upper() + line[1:], []))
    return answer


def _groups(comparison: Comparison) -> Table:
    measure = comparison.measure
    tuned = list(dict.fromkeys(key for values in comparison.chosen.values() for key in values))
    form = measure.form()
    rows = []
    for label, group in comparison.groups.items():
        chosen = comparison.chosen.get(label, {})
        rows.append(
            [
                *map(_text, label),
                *(_text(chosen.get(key)) for key in tuned),
                Cell(str(group.n), group.n),
                _interval(measure, group.mean, group.low, group.high),
                _number(_scaled(measure, group.median), form),
                _number(_scaled(measure, group.iqm), form),
            ]
        )
    unit = ", %" if measure.scale == 100 else ""
    few = any(group.low is None for group in comparison.groups.values())
    columns = [
        *_columns(*comparison.by, *tuned),
        *_columns("seeds", number=True),
        Column(f"{measure.metric}{unit}: mean", "number", _interval_title(2 if few else 0)),
        *_columns(f"median{unit}", f"IQM{unit}", number=True),
    ]
    return Table("Groups", columns, rows)


def _interval(
    measure: Measure, mean: float, low: float | None, high: float | None, *, signed: bool = False
) -> Cell:
    """Return a cell with a mean and its interval, as shown."""
    value = _scaled(measure, mean)
    if low is None or high is None:
        text = measure.text(mean, signed=signed)
        return Cell(text if text == NONE else f"{text} [{NONE}]", _or_empty(value))
    text = interval_text(measure, mean, low, high, signed=signed)
    return Cell(text, _or_empty(value), interval=(measure.scale * low, measure.scale * high))


def _interval_title(least: int) -> str:
    """Return what a title says of intervals; `least`: seeds from which there is one, if not all
    cells have it."""
    return f"[95 %, from {least} seeds on]" if least else "[95 %]"


def _scaled(measure: Measure, value: float | None) -> float | None:
    return None if value is None else measure.scale * value


def _or_empty(value: float | None) -> float | str:
    return "" if value is None or not math.isfinite(value) else value


def _pairs(comparison: Comparison) -> Table:
    measure, rows = comparison.measure, []
    for (a, b), pair in comparison.pairs.items():
        rows.append(
            [
                _text(a[0]),
                _text(b[0]),
                *map(_text, a[1:]),
                _text(measure.word(pair.verdict)),
                _interval(measure, pair.difference, pair.low, pair.high, signed=True),
                _number(pair.improvement, ".2f"),
                _number(pair.ahead_next, ".2f"),
                _number(pair.effect, "+.1f"),
                _number(pair.p_anytime, ".2g"),
                _number(pair.p_holm, ".2g"),
                _number(pair.p_flips, ".2g"),
                Cell(str(pair.n), pair.n),
                _number(pair.more, "d"),
            ]
        )
    unit = f", {measure.unit}" if measure.unit else ""
    few = any(pair.low is None for pair in comparison.pairs.values())
    least = 2 if comparison.one_look else FIRST
    numbers = ["share of seeds a ahead", "a ahead, new seed", "effect size", "p (any time)"]
    numbers += ["p (t, Holm)", "p (sign flips)", "seeds", "further seeds"]
    columns = [
        *_columns("a", "b", *comparison.by[1:], "a is"),
        Column(f"a − b{unit}", "number", _interval_title(least if few else 0)),
        *_columns(*numbers, number=True),
    ]
    return Table("Pairs, seed by seed", columns, rows)


def _runs(design: Design) -> Table:
    rows, scores = [], _scores(design)
    for entry in design.entries:
        flat, summary = design.flat[entry.run.run_id], entry.summary
        rows.append(
            [
                _link(entry),
                _text(entry.state),
                *(_text(flat.get(path)) for path in design.titles),
                _number(flat.get("seed"), "d"),
                *(_score(summary, name) for name in scores),
                _number(summary.get("best_epoch"), "g"),
                _number(_percent(summary.get("dead_frac")), ".2f"),
                _number(summary.get("seconds"), ".1f"),
            ]
        )
    titles = [f"test {SCORES[name].title}" for name in scores]
    numbers = ["seed", *titles, "best epoch", "dead units, %", "seconds"]
    columns = [*_columns("run", "state", *design.titles.values()), *_columns(*numbers, number=True)]
    return Table("Runs", columns, rows, name="runs")


def _scores(design: Design) -> list[str]:
    """Return the scores of the runs: accuracy and loss, and what else their tasks show."""
    tasks = tasks_in(entry.summary for entry in design.entries)
    shown = [name for task in tasks for name in TASKS[task].shown]
    return list(dict.fromkeys(("accuracy", "loss", *shown)))


def _score(summary: Mapping[str, Any], name: str) -> Cell:
    value = summary.get(f"test_{name}")
    return _number(None if value is None else SCORES[name].scale * value, ".4g")


def _failures(entries: Sequence[Entry]) -> Table | None:
    """Return the runs without a result, if there are any."""
    rows = [
        [_link(entry), _text(entry.state), _text(entry.cause)]
        for entry in entries
        if entry.state != "complete"
    ]
    columns = [*_columns("run", "state"), Column("why", "why")]
    return Table("Runs without a result", columns, rows) if rows else None


def _columns(*titles: str, number: bool = False) -> list[Column]:
    return [Column(title, "number" if number else "") for title in titles]


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _link(entry: Entry) -> Cell:
    run_id = entry.run.run_id
    return Cell(run_id, run_id, f"#run={quote(run_id, safe='')}")


def _text(value: Any) -> Cell:
    text = NONE if value is None else str(value)
    return Cell(text, text)


def _number(value: float | None, form: str) -> Cell:
    if value is None or not math.isfinite(value):
        return Cell(NONE, "")
    return Cell(format(value, form), value)


def _figures(charts: Sequence[Chart], styles: Styles) -> str:
    """Return what `figures.js` reads: all charts with their rows, and the groups, as JSON."""
    layers = in_order(
        str(row["layer"]) for chart in charts for row in chart.drawn if row.get("layer")
    )
    shown = {
        "black": BLACK,
        "layers": layers,
        "groups": [
            {"name": label_text(label), "colour": style.colour, "dash": style.dash}
            for label, style in styles.items()
        ],
        "charts": [
            {
                "name": chart.name,
                "spec": chart.spec,
                "singles": chart.singles,
                "axes": chart.axes,
                "panel": chart.panel,
                "times": chart.times,
                "caption": chart.caption,
                "ofRuns": chart.of_runs,
                "ofMeans": chart.of_means,
                "names": chart.names,
                "drawn": _columns_of(chart.drawn),
            }
            for chart in charts
        ],
    }
    text = json.dumps(shown, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")  # no text ends the script


def _columns_of(rows: Sequence[Row]) -> dict[str, Any]:
    """Return rows by column, repeated values once: `of[at[i]]` or `all[i]` is that of row i.

    Where one value follows upon itself, `lasting` has its place in `of`, and in how many rows.
    """
    columns: dict[str, Any] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [_short(row.get(key)) for row in rows]
        places = {value: place for place, value in enumerate(dict.fromkeys(values))}
        if 2 * len(places) > len(values):
            columns[key] = {"all": values}
        else:
            at = [places[value] for value in values]
            lasting = [n for place, rows in itertools.groupby(at) for n in (place, len([*rows]))]
            shorter = {"lasting": lasting} if len(lasting) < len(at) else {"at": at}
            columns[key] = {"of": [*places], **shorter}
    return {"count": len(rows), "columns": columns}


def _short(value: Any) -> Any:
    """Return a number with six digits, None if it isn't finite; anything else as it is."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
