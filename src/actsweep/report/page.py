"""The report as one HTML file that needs nothing else. No jax."""

import io
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from actsweep.report import plotting
from actsweep.report.charts import INK, Chart
from actsweep.report.compare import Comparison
from actsweep.report.design import Design, Entry
from actsweep.report.text import interval_text, words
from actsweep.sweeps.table import KNOWN

ASKED_FIRST = {**KNOWN, "trainer.epochs": "epochs"}
"""What the page's head says if all runs share it: config paths, and words for them."""


@dataclass(frozen=True)
class Cell:
    """A table's cell: what is shown, as HTML, and for numbers what it is sorted by."""

    html: str
    value: float | str | None = None


@dataclass(frozen=True)
class Reproduction:
    """What it takes to do a sweep again."""

    command: str
    versions: Sequence[str]
    commits: Sequence[str]


def page(
    name: str,
    folder: Path,
    design: Design,
    found: Comparison | str,
    charts: Sequence[Chart],
    notes: Sequence[str],
    again: Sequence[Reproduction],
) -> str:
    """The whole page.

    Args:
        name: of the sweep, or sweeps.
        folder: where the page will lie, for links.
        design: the runs.
        found: the comparison, or why there is none.
        charts: the figures.
        notes: what couldn't be read.
        again: what was typed, with what.
    """
    own = files("actsweep.report")
    broken = [one for one in design.entries if one.state != "complete"]
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="soft">{escape(_counts(design.entries))}<br>{escape(_shared(design))}</p>',
        _navigation(bool(broken)),
        '<h2 id="answer">Answer</h2>',
        _answer(found),
        *_notes([*(found.notes if isinstance(found, Comparison) else []), *notes]),
        *([_groups(found), _pairs(found)] if isinstance(found, Comparison) else []),
        '<h2 id="figures">Figures</h2>',
        *(_figure(chart, place) for place, chart in enumerate(charts)),
        '<h2 id="runs-title">Runs</h2>',
        _runs(design, folder, found if isinstance(found, Comparison) else None),
        *([_failures(broken, folder)] if broken else []),
        '<h2 id="again">To do it again</h2>',
        *map(_again, again),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}: actsweep report</title>\n"
        f"<style>\n{own.joinpath('page.css').read_text()}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<script>\n{own.joinpath('page.js').read_text()}</script>\n</body>\n</html>\n"
    )


def _counts(entries: Sequence[Entry]) -> str:
    states = [one.state for one in entries]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{len(entries)} runs: {counts}"


def _shared(design: Design) -> str:
    """What all runs have in common of what one asks about first."""
    shared = {title: design.values(path) for path, title in ASKED_FIRST.items()}
    return ", ".join(f"{title} {one[0]}" for title, one in shared.items() if len(one) == 1)


def _navigation(broken: bool) -> str:
    links = {"answer": "Answer", "figures": "Figures", "runs-title": "Runs"}
    links |= {"failures": "Failures"} if broken else {}
    links |= {"again": "To do it again"}
    inner = "".join(f'<a href="#{at}">{text}</a>' for at, text in links.items())
    return f'<nav aria-label="Sections">{inner}</nav>'


def _answer(found: Comparison | str) -> str:
    if isinstance(found, str):
        return f'<div class="answer"><p>{escape(found)}</p></div>'
    html, inner = [], False
    for line in words(found):
        sub = line.startswith("  ")
        if sub != inner:
            html.append("<ul>" if sub else "</ul>")
        text = escape(line.strip())
        html.append(f"<li>{text}</li>" if sub else f"<p>{text[0].upper()}{text[1:]}</p>")
        inner = sub
    return f'<div class="answer">{"".join(html)}{"</ul>" if inner else ""}</div>'


def _notes(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    return [f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>"]


def _groups(found: Comparison) -> str:
    measure = found.measure
    tuned = list(dict.fromkeys(key for one in found.chosen.values() for key in one))
    number = lambda value: Cell(measure.text(value), value)  # noqa: E731
    rows = []
    for label, one in found.groups.items():
        ends = f"{measure.text(one.bca_low)} … {measure.text(one.bca_high)}"
        rows.append(
            [
                *map(_text, label),
                *(_text(found.chosen.get(label, {}).get(key)) for key in tuned),
                Cell(str(one.n), one.n),
                Cell(interval_text(measure, one.mean, one.low, one.high), one.mean),
                Cell("–" if one.bca_low is None else ends, one.bca_low),
                number(one.median),
                number(one.iqm),
            ]
        )
    title = measure.metric + (", %" if measure.scale == 100 else "")
    heads = [*found.by, *tuned, "seeds", f"{title}: mean [95 %]", "bootstrap 95 %", "median", "IQM"]
    table = _table(heads, rows, first_number=len(found.by) + len(tuned), caption="Groups")
    return f"{table}\n{_files('groups')}"


def _pairs(found: Comparison) -> str:
    measure, rows = found.measure, []
    for (a, b), one in found.pairs.items():
        difference = interval_text(measure, one.difference, one.low, one.high, signed=True)
        rows.append(
            [
                _text(a[0]),
                _text(b[0]),
                *map(_text, a[1:]),
                _text(measure.word(one.verdict)),
                Cell(difference, one.difference),
                _number(one.improvement, ".2f"),
                _number(one.effect, "+.1f"),
                _number(one.p_holm, ".2g"),
                _number(one.p_flips, ".2g"),
                Cell(str(one.n), one.n),
                _number(one.more, "d"),
            ]
        )
    heads = [
        "a",
        "b",
        *found.by[1:],
        "a is",
        "a − b [95 %]",
        "share of seeds a ahead",
        "effect size",
    ]
    heads += ["p (t, Holm)", "p (sign flips)", "seeds", "further seeds"]
    table = _table(heads, rows, first_number=2 + len(found.by), caption="Pairs, seed by seed")
    title = f"<summary>All pairs ({len(rows)})</summary>"
    return f"<details>{title}\n{table}\n{_files('pairs')}</details>"


def _runs(design: Design, folder: Path, found: Comparison | None) -> str:
    rows = []
    for one in design.entries:
        flat, summary = design.flat[one.run.run_id], one.summary
        scores = [(100, summary.get("test_accuracy")), (1, summary.get("test_loss"))]
        rows.append(
            [
                _link(one, folder),
                _text(one.state),
                *(_text(flat.get(path)) for path in design.titles),
                _number(flat.get("seed"), "d"),
                *(_number(None if v is None else scale * v, ".4g") for scale, v in scores),
                _number(summary.get("best_epoch"), "g"),
                _number(_percent(summary.get("dead_frac")), ".2f"),
                _number(summary.get("seconds"), ".1f"),
            ]
        )
    heads = ["run", "state", *design.titles.values(), "seed", "test accuracy, %", "test loss"]
    heads += ["best epoch", "dead units, %", "seconds"]
    table = _table(heads, rows, first_number=2 + len(design.titles), caption="Runs", name="runs")
    box = (
        '<label for="filter">Filter, for example <q>relu complete</q></label><br>'
        '<input id="filter" type="search" autocomplete="off"> '
        '<span id="shown" role="status"></span>'
    )
    return f"{box}\n{table}\n{_files('runs')}"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _link(one: Entry, folder: Path) -> Cell:
    where = quote(os.path.relpath(one.run.path, folder))
    run_id = escape(one.run.run_id)
    return Cell(f'<a href="{escape(where)}/">{run_id}</a>', one.run.run_id)


def _failures(broken: Sequence[Entry], folder: Path) -> str:
    rows = [[_link(one, folder), _text(one.state), _text(one.cause or "–")] for one in broken]
    table = _table(["run", "state", "why"], rows, first_number=3, caption="Runs without a result")
    return f'<h2 id="failures">Failures</h2>\n{table}'


def _again(one: Reproduction) -> str:
    facts = [f"code: {', '.join(one.commits) or 'unknown'}", f"versions: {', '.join(one.versions)}"]
    items = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    return f"<pre>{escape(one.command)}</pre>\n<ul>{items}</ul>"


def _text(value: Any) -> Cell:
    text = "–" if value is None else str(value)
    return Cell(escape(text), text)


def _number(value: float | None, form: str) -> Cell:
    if value is None or not math.isfinite(value):
        return Cell("–", "")
    return Cell(format(value, form), value)


def _table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    first_number: int,
    caption: str,
    name: str = "",
) -> str:
    """A table whose columns from `first_number` on hold numbers."""
    kinds = ["number" if place >= first_number else "" for place in range(len(heads))]
    if heads[-1] == "why":
        kinds[-1] = "why"
    marks = [f' class="{kind}"' if kind else "" for kind in kinds]
    head = "".join(
        f'<th scope="col"{mark}><button type="button">{escape(text)}</button></th>'
        for mark, text in zip(marks, heads, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{mark}{_value(cell)}>{cell.html}</td>"
            for mark, cell in zip(marks, row, strict=True)
        )
        + "</tr>\n"
        for row in rows
    )
    own = f' id="{name}"' if name else ""
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f'<table class="sortable"{own}><caption class="soft">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"
    )


def _value(cell: Cell) -> str:
    return "" if cell.value is None else f' data-value="{escape(str(cell.value))}"'


def _files(name: str, *kinds: str) -> str:
    links = ", ".join(f'<a href="{name}.{kind}">{kind.upper()}</a>' for kind in (*kinds, "csv"))
    return f'<p class="soft">{links}</p>'


def _figure(chart: Chart, place: int) -> str:
    return (
        f'<figure id="{chart.name}"><h3>{escape(chart.title)}</h3>\n'
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(chart.title)}">'
        f"{_svg(chart, f'f{place}-')}</div>\n"
        f"<figcaption>{escape(chart.caption)}</figcaption>\n{_files(chart.name, 'png')}</figure>"
    )


def _svg(chart: Chart, prefix: str) -> str:
    """The figure as SVG in the page's colours; its ids don't meet those of others."""
    stream = io.StringIO()
    with plotting.use_style():
        chart.figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", text)
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = text.replace(INK, "currentColor").replace(plotting.BLACK.lower(), "var(--black)")
    label = escape(f"{chart.title}. {chart.caption}")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
