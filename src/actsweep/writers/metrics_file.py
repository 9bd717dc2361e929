"""The record of a run that everything else can be rebuilt from: metrics.jsonl and histograms.npz.

Rows hold no times and floats have one spelling, so two identical trainings leave identical bytes.
JSON has no NaN and no infinity: both are written as null and read as NaN.
"""

import io
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from actsweep.errors import UserError
from actsweep.ledger import write_atomic, write_json
from actsweep.writers.base import Histogram, MemberInfo, MetricsError, Row, numbers

SAVE_EVERY = 10.0
"""Seconds between two saves of histograms.npz, at the least."""
SAVE_SHARE = 20.0
"""A save that took t seconds is not repeated for this many times t."""


@dataclass(frozen=True)
class HistogramSeries:
    """One histogram over time."""

    counts: np.ndarray
    """int64 [T, bins + 2]: underflow first, overflow last."""
    edges: np.ndarray
    """float64 [bins + 1], the same at every step."""
    steps: np.ndarray
    """int64 [T]."""


@dataclass
class _Member:
    info: MemberInfo
    file: TextIO
    histograms: dict[str, list[tuple[int, np.ndarray]]] = field(default_factory=dict)
    edges: dict[str, np.ndarray] = field(default_factory=dict)
    unsaved: bool = False


class MetricsFile:
    """Writes `metrics.jsonl`, `histograms.npz`, `messages.log` and `summary.json` of every member.

    Raises:
        MetricsError: from any method, with the member whose files can't be written.
    """

    def __init__(self) -> None:
        self._members: list[_Member] = []
        self._next_save = 0.0

    def open(self, members: Sequence[MemberInfo]) -> None:
        """Open each member's file at its end; the folders exist (`ledger.prepare`)."""
        for index, info in enumerate(members):
            path = info.run_dir / "metrics.jsonl"
            with _raising(index, info, path):
                file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (open until `finish`)
                self._members.append(_Member(info, file))
        self._next_save = time.monotonic() + SAVE_EVERY

    def row(self, member: int, row: Row) -> None:
        """Append one line, handed to the operating system at once; keep the histograms."""
        one = self._members[member]
        with _raising(member, one.info, one.info.run_dir / "metrics.jsonl"):
            one.file.write(_line(row))
            one.file.flush()
        with _raising(member, one.info, one.info.run_dir / "histograms.npz"):
            for name, histogram in row.histograms.items():
                _keep(one, row.step, name, histogram)
        if row.histograms and time.monotonic() >= self._next_save:
            self._save_all()

    def message(self, member: int, text: str) -> None:
        """Append one line to `messages.log`."""
        info = self._members[member].info
        path = info.run_dir / "messages.log"
        with _raising(member, info, path), open(path, "a", encoding="utf-8") as file:
            file.write(" ".join(text.splitlines()) + "\n")

    def finish(self, member: int, state: str, summary: dict[str, Any]) -> None:
        """Write the last histograms and `summary.json`; the caller then writes the status."""
        one = self._members[member]
        self._save(member)
        with _raising(member, one.info, one.info.run_dir / "metrics.jsonl"):
            one.file.close()
        path = one.info.run_dir / "summary.json"
        with _raising(member, one.info, path):
            write_json(path, {**summary, "state": state})

    def close(self) -> None:
        """Save and close what no `finish` ended."""
        error = None
        for index, one in enumerate(self._members):
            try:
                self._save(index)
                with _raising(index, one.info, one.info.run_dir / "metrics.jsonl"):
                    one.file.close()
            except MetricsError as failure:
                error = error or failure
        self._members = []
        if error:
            raise error

    def _save_all(self) -> None:
        start = time.monotonic()
        try:
            for index in range(len(self._members)):
                self._save(index)
        finally:
            end = time.monotonic()
            self._next_save = end + max(SAVE_EVERY, SAVE_SHARE * (end - start))

    def _save(self, member: int) -> None:
        one = self._members[member]
        if not one.unsaved:
            return
        path = one.info.run_dir / "histograms.npz"
        with _raising(member, one.info, path):
            arrays: dict[str, Any] = {}
            for name, taken in one.histograms.items():
                arrays[f"{name}/counts"] = np.stack([counts for _, counts in taken])
                arrays[f"{name}/edges"] = one.edges[name]
                arrays[f"{name}/steps"] = np.array([step for step, _ in taken], np.int64)
            content = io.BytesIO()
            np.savez_compressed(content, **arrays)
            write_atomic(path, content.getvalue())
            one.unsaved = False


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """Read a `metrics.jsonl`.

    Args:
        path: the file. A last line that was cut short, as a kill leaves it, is left out.

    Returns:
        Column name -> float64 [rows]; NaN where a row has null or lacks the column.

    Raises:
        UserError: a line other than the last is not a row.
    """
    lines = Path(path).read_bytes().split(b"\n")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines):
            break  # empty after a whole last line, else cut short
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
            rows.append({key: math.nan if v is None else float(v) for key, v in row.items()})
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}, line {number}: not a row of metrics ({error}); the file is damaged: "
                "restore it, or train the run anew with rerun=all"
            ) from error
    columns = dict.fromkeys(key for row in rows for key in row)
    return {key: np.array([row.get(key, math.nan) for row in rows]) for key in columns}


def read_histograms(path: Path) -> dict[str, HistogramSeries]:
    """Read a `histograms.npz`: histogram name (`hist/act/hidden_1`) -> its series."""
    with np.load(path) as arrays:
        names = [key.removesuffix("/counts") for key in arrays.files if key.endswith("/counts")]
        return {
            name: HistogramSeries(
                arrays[f"{name}/counts"], arrays[f"{name}/edges"], arrays[f"{name}/steps"]
            )
            for name in names
        }


def _line(row: Row) -> str:
    values = {key: v if math.isfinite(v) else None for key, v in numbers(row).items()}
    values.pop("step", None)
    plain = {"step": int(row.step), **values}
    return json.dumps(plain, separators=(",", ":"), allow_nan=False) + "\n"


def _keep(one: _Member, step: int, name: str, histogram: Histogram) -> None:
    counts = np.array(histogram.counts, np.int64)
    edges = np.array(histogram.edges, np.float64)
    if counts.shape != (len(edges) + 1,):
        raise ValueError(f"{name}: {len(edges)} edges need {len(edges) + 1} counts: {counts.shape}")
    known = one.edges.setdefault(name, edges)
    if not np.array_equal(known, edges):
        raise ValueError(f"{name}: its edges changed at step {step}")
    one.histograms.setdefault(name, []).append((step, counts))
    one.unsaved = True


@contextmanager
def _raising(member: int, info: MemberInfo, path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MetricsError(member, info.run_id, path, reason) from error
