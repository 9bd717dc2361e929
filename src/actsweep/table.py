"""The table at the end of a sweep: one line an activation (and whatever else was swept)."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from actsweep.stats import mean_interval

GROUPS = ("act", "depth", "init", "lr")


def show(results: Sequence[Mapping[str, Any]], stream: TextIO | None = None) -> None:
    """Print the groups' means with 95 % intervals (Student t), best first, and what failed."""
    from rich.console import Console
    from rich.table import Table

    stream = stream or sys.stdout
    console = Console(file=stream, highlight=False, width=None if stream.isatty() else 110)
    keys = [k for k in GROUPS if k == "act" or len({r.get(k) for r in results}) > 1]
    classify = any(r.get("test_accuracy") is not None for r in results)
    score = "test accuracy, %" if classify else "test loss"
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key in keys:
        table.add_column(key)
    for title in ("seeds", score, "best epoch", "dead units, %", "seconds"):
        table.add_column(title, justify="right")
    for row in sorted(_rows(results, keys, classify), key=lambda row: row[0], reverse=classify):
        table.add_row(*row[1])
    console.print(table)
    for line in _remarks(results):
        console.print(line, style="yellow")


def _rows(
    results: Sequence[Mapping[str, Any]], keys: Sequence[str], classify: bool
) -> list[tuple[float, list[str]]]:
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault(tuple(result.get(key) for key in keys), []).append(result)
    rows = []
    for group, members in groups.items():
        values = _column(members, "test_accuracy" if classify else "test_loss")
        scale = 100.0 if classify else 1.0
        mean, width = mean_interval(values) if values else (float("nan"), None)
        digits = 2 if classify else 5
        cell = f"{scale * mean:.{digits}f}" if values else "–"
        if width is not None:
            cell += f" ± {scale * width:.{digits}f}"
        rank = mean if values else (-1.0 if classify else float("inf"))
        done = sum(member["state"] == "complete" for member in members)
        seeds = str(done) if done == len(members) else f"{done} of {len(members)}"
        dead = _mean(members, "dead_frac")
        rows.append(
            (
                rank,
                [
                    *map(str, group),
                    seeds,
                    cell,
                    _text(_mean(members, "best_epoch"), 1),
                    _text(None if dead is None else 100 * dead, 2),
                    _text(_mean(members, "seconds"), 1),
                ],
            )
        )
    return rows


def _remarks(results: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    reused = sum(bool(result.get("reused")) for result in results)
    if reused:
        lines.append(f"{reused} of {len(results)} runs were complete already (rerun=all repeats)")
    for result in results:
        if result["state"] != "complete":
            cause = f": {result['cause']}" if result.get("cause") else ""
            lines.append(f"{result['run_id']} {result['state']}{cause}")
    return lines


def _column(members: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """Values of the complete members; one that diverged has no final score."""
    complete = [member for member in members if member["state"] == "complete"]
    return [float(m[key]) for m in complete if m.get(key) is not None]


def _mean(members: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = _column(members, key)
    return sum(values) / len(values) if values else None


def _text(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
