"""The record of a run that everything else can be rebuilt from: metrics.jsonl and histograms.npz.

Rows hold no times and floats have one spelling, so two identical trainings leave identical bytes.
JSON has no NaN and no infinity: both are written as null and read as NaN.
"""

import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from actsweep.runs.rows import MemberInfo, MetricsError, Row, shortest_scalars
from actsweep.stats.histogram import Histogram
from actsweep.utils.errors import UserError
from actsweep.utils.files import write_atomic, write_json

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
    file: BinaryIO
    rows: int = 0
    last: dict[str, Any] = field(default_factory=dict)
    last_at: int = 0
    before_last: Any = field(default_factory=hashlib.sha256)
    histograms: dict[str, list[tuple[int, np.ndarray]]] = field(default_factory=dict)
    edges: dict[str, np.ndarray] = field(default_factory=dict)
    unsaved: bool = False


class MetricsFile:
    """Writes `metrics.jsonl`, `histograms.npz`, `messages.log` and `summary.json` of every member.

    Args:
        taken: says which runs, by id, another process has taken over: their files are its own.

    Raises:
        MetricsError: from any method, with the member whose files can't be written.
    """

    def __init__(self, taken: Callable[[], Collection[str]] = tuple) -> None:
        self._taken = taken
        self._members: list[_Member] = []
        self._next_save = 0.0

    def open(self, members: Sequence[MemberInfo]) -> None:
        """Open each member's file. The folders exist (`ledger.prepare`); of a run that goes on,
        the rows up to there are kept and those after it are cut off."""
        for index, info in enumerate(members):
            path = info.run_dir / "metrics.jsonl"
            with _raising(index, info, path):
                if info.resumed_at is None:
                    self._members.append(_Member(info, open(path, "w+b")))  # noqa: SIM115
                else:
                    self._members.append(_reopen(info, info.resumed_at))
        self._next_save = time.monotonic() + SAVE_EVERY

    def row(self, member: int, row: Row) -> None:
        """Append one line, handed to the operating system at once; keep the histograms. A row of
        the same step as the one before joins it."""
        one = self._ours(member)
        with _raising(member, one.info, one.info.run_dir / "metrics.jsonl"):
            _append(one, row)
        with _raising(member, one.info, one.info.run_dir / "histograms.npz"):
            for name, histogram in row.histograms.items():
                _keep(one, row.step, name, histogram)
        if row.histograms and time.monotonic() >= self._next_save:
            self._save_all()

    def mark(self, member: int) -> dict[str, Any]:
        """Have all that was written on the disk; what `lacks` compares the files with later."""
        one = self._ours(member)
        self._save(member)
        with _raising(member, one.info, one.info.run_dir / "metrics.jsonl"):
            _check_there(one)
            os.fsync(one.file.fileno())
        written, last = one.before_last.copy(), _open_end(one.last)
        written.update(last)
        return {
            "rows": one.rows,
            "bytes": one.last_at + len(last),
            "sha256": written.hexdigest(),
            "histograms": {name: len(taken) for name, taken in one.histograms.items()},
        }

    def message(self, member: int, text: str) -> None:
        """Append one line to `messages.log`."""
        info = self._ours(member).info
        path = info.run_dir / "messages.log"
        with _raising(member, info, path), open(path, "a", encoding="utf-8") as file:
            file.write(" ".join(text.splitlines()) + "\n")

    def finish(self, member: int, state: str, summary: dict[str, Any]) -> None:
        """Write the last histograms and `summary.json`; the caller then writes the status."""
        one = self._ours(member)
        try:
            self._save(member)
        finally:
            one.unsaved = False  # `close` needn't try again
        with _raising(member, one.info, one.info.run_dir / "metrics.jsonl"):
            _check_there(one)
            os.fsync(one.file.fileno())
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

    def _ours(self, member: int) -> _Member:
        one = self._members[member]
        if one.info.run_id in self._taken():
            why = "another process has taken the run over"
            raise MetricsError(member, one.info.run_id, one.info.run_dir, why)
        return one

    def _save(self, member: int) -> None:
        one = self._members[member]
        if not one.unsaved or one.info.run_id in self._taken():
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
    rows = [plain for _, plain in _lines(path)]
    columns = dict.fromkeys(key for row in rows for key in row)
    return {
        key: np.array([math.nan if (v := row.get(key)) is None else v for row in rows], float)
        for key in columns
    }


def read_rows(path: Path, step: int) -> list[Row]:
    """The rows up to a step as they were handed to the writers, without histograms. What was NaN or
    infinite is NaN.

    Raises:
        UserError: as `read_metrics`.
    """
    found = []
    for _, plain in _lines(path):
        if plain["step"] > step:
            break
        values = {k: v for k, v in plain.items() if k not in ("step", "epoch")}
        scalars = {k: math.nan if v is None else _as_measured(v) for k, v in values.items()}
        found.append(Row(plain["step"], plain["epoch"], scalars))
    return found


def lacks(run_dir: Path, step: int, mark: Mapping[str, Any]) -> str | None:
    """What a run's files lack of the rows that they had at a step; None if all is there.

    Args:
        run_dir: the run's folder.
        step: rows beyond it don't matter.
        mark: what `MetricsFile.mark` returned then.
    """
    try:
        path = run_dir / "metrics.jsonl"
        kept = sum(plain["step"] <= step for _, plain in _lines(path))
        if kept != mark["rows"]:
            return f"metrics.jsonl holds {kept} rows of {mark['rows']}"
        if hashlib.sha256(path.read_bytes()[: mark["bytes"]]).hexdigest() != mark["sha256"]:
            return "metrics.jsonl has been altered"
        if mark["histograms"]:
            series = read_histograms(run_dir / "histograms.npz")
            for name, number in mark["histograms"].items():
                if name not in series or np.sum(series[name].steps <= step) != number:
                    return f"histograms.npz lacks some of {name}"
    except Exception as error:  # a damaged archive raises whatever it likes
        return f"its measurements can't be read ({type(error).__name__}: {error})"
    return None


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Where each whole line starts, in bytes, and the row in it."""
    place = 0
    lines = Path(path).read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # the last is empty, or cut short
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not all(
                v is None or isinstance(v, int | float) for v in row.values()
            ):
                raise ValueError("not an object of numbers")
            row["step"], row["epoch"]
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{path}, line {number}: not a row of metrics ({error}); the file is damaged: "
                "restore it, or train the run anew with rerun=all"
            ) from error
        yield place, row
        place += len(line) + 1


def read_histograms(path: Path) -> dict[str, HistogramSeries]:
    """Read a `histograms.npz`: histogram name (`hist/act/hidden_1`) -> its series."""
    with open(path, "rb") as file, np.load(file) as arrays:
        names = [key.removesuffix("/counts") for key in arrays.files if key.endswith("/counts")]
        return {
            name: HistogramSeries(
                arrays[f"{name}/counts"], arrays[f"{name}/edges"], arrays[f"{name}/steps"]
            )
            for name in names
        }


def _reopen(info: MemberInfo, step: int) -> _Member:
    """A member's files as they were at a step, ready for what follows."""
    path = info.run_dir / "metrics.jsonl"
    rows = [(at, plain) for at, plain in _lines(path) if plain["step"] <= step]
    (info.run_dir / "messages.log").unlink(missing_ok=True)  # its lines are said again
    one = _Member(info, open(path, "r+b"), rows=len(rows))  # noqa: SIM115
    if rows:
        one.last_at, one.last = rows[-1]
        one.before_last.update(one.file.read(one.last_at))
    one.file.seek(one.last_at + len(_line(one.last) if rows else b""))
    one.file.truncate()
    histograms = info.run_dir / "histograms.npz"
    for name, series in (read_histograms(histograms) if histograms.exists() else {}).items():
        kept = zip(series.steps.tolist(), series.counts, strict=True)
        one.histograms[name] = [(at, counts) for at, counts in kept if at <= step]
        one.edges[name] = series.edges
    return one


def _append(one: _Member, row: Row) -> None:
    values = {key: v if math.isfinite(v) else None for key, v in shortest_scalars(row).items()}
    values.pop("step", None)
    plain = {"step": int(row.step), **values}
    if one.rows and one.last["step"] == plain["step"]:
        plain = one.last | plain  # starts as the line that it replaces: a crash leaves one of them
    else:
        one.before_last.update(_line(one.last) if one.rows else b"")
        one.last_at, one.rows = one.file.seek(0, os.SEEK_END), one.rows + 1
    one.file.seek(one.last_at)
    one.file.write(_line(plain))
    one.file.flush()
    one.last = plain
    _check_there(one)


def _line(plain: Mapping[str, Any]) -> bytes:
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _open_end(plain: Mapping[str, Any]) -> bytes:
    """What stays of a line, whatever joins it."""
    return _line(plain).removesuffix(b"}\n") if plain else b""


def _as_measured(value: float) -> float:
    """The float32 whose fewest digits the file has; any other number as it is."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return float(single) if float(str(single)) == value else float(value)


def _check_there(one: _Member) -> None:
    if os.fstat(one.file.fileno()).st_nlink == 0:
        raise FileNotFoundError("it was deleted during the training")


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
