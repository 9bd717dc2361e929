"""Runs, and the groups and pairs of a comparison, as rows of plain values. No jax."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from actsweep.report.compare import Comparison
from actsweep.report.design import Entry
from actsweep.report.text import words
from actsweep.sweeps import table
from actsweep.utils import files

Row = dict[str, Any]


def factors_of(entries: Sequence[Entry]) -> dict[str, Row]:
    """Return, by run id, the values of what tells the runs apart, by title; the seed is last."""
    titles = table.columns([entry.config for entry in entries]) if entries else {}
    factors = {}
    for entry in entries:
        flat = table.flatten_groups(entry.config)
        values = {title: _plain(flat.get(path)) for path, title in titles.items()}
        factors[entry.run.run_id] = {**values, "seed": entry.config["seed"]}
    return factors


def _plain(value: Any) -> Any:
    """Return a value that a cell can hold: lists and mappings as text."""
    return str(value) if isinstance(value, list | tuple | dict) else value


def run_rows(entries: Sequence[Entry]) -> list[Row]:
    """Return a row for each run: its id, state, factors, seed, and final numbers."""
    factors = factors_of(entries)
    return [
        {
            "run_id": entry.run.run_id,
            "state": entry.state,
            **factors[entry.run.run_id],
            **{key: value for key, value in entry.summary.items() if key not in ("state", "seed")},
            "cause": entry.cause,
        }
        for entry in entries
    ]


def group_rows(comparison: Comparison) -> list[Row]:
    """Return a row for each group, best first; numbers in their own units."""
    return [
        {
            **dict(zip(comparison.by, label, strict=True)),
            **comparison.chosen.get(label, {}),
            **asdict(summary),
        }
        for label, summary in comparison.groups.items()
    ]


def pair_rows(comparison: Comparison) -> list[Row]:
    """Return a row for each pair, with its verdict; numbers in their own units."""
    first, *rest = comparison.by
    return [
        {
            f"{first} a": a[0],
            f"{first} b": b[0],
            **dict(zip(rest, a[1:], strict=True)),
            **asdict(pair),
            "verdict": comparison.measure.word(pair.verdict),
        }
        for (a, b), pair in comparison.pairs.items()
    ]


def as_plain(comparison: Comparison) -> Row:
    """Return a comparison as plain values, as `actsweep compare --json` prints it.

    Returns:
        `metric`; `unit` and `scale`, from the numbers' own unit to the one that is shown; `margin`,
        in their own unit; `by`; `one_look`; `groups` and `pairs`, rows as in groups.csv and
        pairs.csv; `interaction`, its p-value or None; `across`, rows by data sets; `answer` and
        `notes`, lines of text.
    """
    measure = comparison.measure
    return {
        "metric": measure.metric,
        "unit": measure.unit,
        "scale": measure.scale,
        "margin": measure.margin,
        "by": list(comparison.by),
        "one_look": comparison.one_look,
        "groups": group_rows(comparison),
        "pairs": pair_rows(comparison),
        "interaction": comparison.interaction,
        "across": [{"a": a, "b": b, **asdict(s)} for (a, b), s in comparison.across.items()],
        "answer": words(comparison),
        "notes": list(comparison.notes),
    }


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV, with a line of names."""
    stream = io.StringIO()
    names = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: files.csv_cell(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()
