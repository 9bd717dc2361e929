"""Files of a run's measurements: metrics.jsonl and histograms.npz.

Everything that is shown about a run can be computed from them. Rows hold no times, and a float is
written in exactly one way, so two identical trainings leave identical bytes.
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
"""Least number of seconds between two saves of histograms.npz."""
SAVE_SHARE = 20.0
"""After a save that took t seconds, the next one waits at least this many times t."""

FINAL = ("exact_", "test/")
"""How the names begin of what the last row gets after training, beside callbacks' own names."""


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
class _Record:
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
    """Writer of `metrics.jsonl`, `histograms.npz`, `messages.log` and `summary.json`.

    Args:
        taken: returns the ids of runs that another process has taken over and now writes.

    Raises:
        MetricsError: from any method, with the member whose files can't be written.
    """

    def __init__(self, taken: Callable[[], Collection[str]] = tuple) -> None:
        self._taken = taken
        self._records: list[_Record] = []
        self._next_save = 0.0

    def check(self, members: Sequence[MemberInfo]) -> None:
        """Refuse nothing."""

    def open(self, members: Sequence[MemberInfo]) -> None:
        """Open each member's file; the folders exist (`run_dir.prepare`).

        Of a run that goes on from a step, the rows up to it are kept and later ones removed.
        """
        for index, info in enumerate(members):
            path = info.run_dir / "metrics.jsonl"
            with _raising(index, info, path):
                if info.resumed_at is None:
                    self._records.append(_Record(info, open(path, "w+b")))  # noqa: SIM115
                else:
                    self._records.append(_reopen(info, info.resumed_at))
        self._next_save = time.monotonic() + SAVE_EVERY

    def row(self, member: int, row: Row) -> None:
        """Append one line and keep the histograms.

        The line is handed to the operating system at once. A row of the same step as the last one
        is merged into it.
        """
        record = self._ours(member)
        with _raising(member, record.info, record.info.run_dir / "metrics.jsonl"):
            _append(record, row)
        with _raising(member, record.info, record.info.run_dir / "histograms.npz"):
            for name, histogram in row.histograms.items():
                _keep(record, row.step, name, histogram)
        if row.histograms and time.monotonic() >= self._next_save:
            self._save_all()

    def mark(self, member: int) -> dict[str, Any]:
        """Flush all rows to the disk; return the mark with which `lacks` later checks them."""
        record = self._ours(member)
        self._save(member)
        with _raising(member, record.info, record.info.run_dir / "metrics.jsonl"):
            _check_there(record)
            os.fsync(record.file.fileno())
        written, last = record.before_last.copy(), _open_end(record.last)
        written.update(last)
        return {
            "rows": record.rows,
            "bytes": record.last_at + len(last),
            "sha256": written.hexdigest(),
            "histograms": {name: len(taken) for name, taken in record.histograms.items()},
        }

    def message(self, member: int, text: str) -> None:
        """Append one line to `messages.log`."""
        info = self._ours(member).info
        path = info.run_dir / "messages.log"
        with _raising(member, info, path), open(path, "a", encoding="utf-8") as file:
            file.write(" ".join(text.splitlines()) + "\n")

    def finish(self, member: int, state: str, summary: dict[str, Any]) -> None:
        """Write the last histograms and `summary.json`; the caller writes the status afterwards."""
        record = self._ours(member)
        try:
            self._save(member)
        finally:
            record.unsaved = False  # `close` needn't try again
        with _raising(member, record.info, record.info.run_dir / "metrics.jsonl"):
            _check_there(record)
            os.fsync(record.file.fileno())
            record.file.close()
        path = record.info.run_dir / "summary.json"
        with _raising(member, record.info, path):
            write_json(path, {**summary, "state": state})

    def close(self) -> None:
        """Save and close the files that `finish` hasn't closed."""
        error = None
        for index, record in enumerate(self._records):
            try:
                self._save(index)
                with _raising(index, record.info, record.info.run_dir / "metrics.jsonl"):
                    record.file.close()
            except MetricsError as failure:
                error = error or failure
        self._records = []
        if error:
            raise error

    def _save_all(self) -> None:
        start = time.monotonic()
        try:
            for index in range(len(self._records)):
                self._save(index)
        finally:
            end = time.monotonic()
            self._next_save = end + max(SAVE_EVERY, SAVE_SHARE * (end - start))

    def _ours(self, member: int) -> _Record:
        record = self._records[member]
        if record.info.run_id in self._taken():
            why = "another process has taken the run over"
            raise MetricsError(member, record.info.run_id, record.info.run_dir, why)
        return record

    def _save(self, member: int) -> None:
        record = self._records[member]
        if not record.unsaved or record.info.run_id in self._taken():
            return
        path = record.info.run_dir / "histograms.npz"
        with _raising(member, record.info, path):
            arrays: dict[str, Any] = {}
            for name, taken in record.histograms.items():
                arrays[f"{name}/counts"] = np.stack([counts for _, counts in taken])
                arrays[f"{name}/edges"] = record.edges[name]
                arrays[f"{name}/steps"] = np.array([step for step, _ in taken], np.int64)
            content = io.BytesIO()
            np.savez_compressed(content, **arrays)
            write_atomic(path, content.getvalue())
            record.unsaved = False


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """Read a `metrics.jsonl` and return its columns.

    Args:
        path: the file. An incomplete last line, as a kill leaves it, is left out.

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
    """Return the rows up to a step as the writers received them, without histograms.

    Values that were NaN or infinite are NaN.

    Raises:
        UserError: as `read_metrics`.
    """
    rows = []
    for _, plain in _lines(path):
        if plain["step"] > step:
            break
        values = {k: v for k, v in plain.items() if k not in ("step", "epoch")}
        scalars = {k: math.nan if v is None else _as_measured(v) for k, v in values.items()}
        rows.append(Row(plain["step"], plain["epoch"], scalars))
    return rows


def without_final(path: Path) -> bytes:
    """Return a metrics file as it was before its last row took the final numbers.

    These are what is counted over the whole training set (`exact_…`) and the test scores, for the
    best parameters, in the row with which a training ended.

    Raises:
        UserError: as `read_metrics`.
    """
    *_, (at, row) = _lines(path)
    content = Path(path).read_bytes()
    final = [key for key in row if key.startswith(FINAL)] if row["step"] else []
    if not final:
        return content
    # The line begins with the bytes that it had before: see `_append`.
    return content[: content.index(f',"{final[0]}":'.encode(), at)] + b"}\n"


def lacks(run_dir: Path, step: int, mark: Mapping[str, Any]) -> str | None:
    """Return what a run's files have lost of the rows up to a step; None if all are there.

    Args:
        run_dir: the run's folder.
        step: later rows don't matter.
        mark: what `MetricsFile.mark` returned at that step.
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
    except Exception as error:  # a damaged archive may raise anything
        return f"its measurements can't be read ({type(error).__name__}: {error})"
    return None


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each complete line's offset in bytes, and the row in it."""
    offset = 0
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
                "restore it, or train the run again with rerun=all"
            ) from error
        yield offset, row
        offset += len(line) + 1


def read_histograms(path: Path) -> dict[str, HistogramSeries]:
    """Read a `histograms.npz`; return each histogram by name, such as `hist/act/hidden_1`."""
    with open(path, "rb") as file, np.load(file) as arrays:
        names = [key.removesuffix("/counts") for key in arrays.files if key.endswith("/counts")]
        return {
            name: HistogramSeries(
                arrays[f"{name}/counts"], arrays[f"{name}/edges"], arrays[f"{name}/steps"]
            )
            for name in names
        }


def _reopen(info: MemberInfo, step: int) -> _Record:
    """Cut a member's files back to a step; return its record, ready for later rows."""
    path = info.run_dir / "metrics.jsonl"
    rows = [(at, plain) for at, plain in _lines(path) if plain["step"] <= step]
    (info.run_dir / "messages.log").unlink(missing_ok=True)  # the same warnings are raised again
    record = _Record(info, open(path, "r+b"), rows=len(rows))  # noqa: SIM115
    if rows:
        record.last_at, record.last = rows[-1]
        record.before_last.update(record.file.read(record.last_at))
    record.file.seek(record.last_at + len(_line(record.last) if rows else b""))
    record.file.truncate()
    histograms = info.run_dir / "histograms.npz"
    for name, series in (read_histograms(histograms) if histograms.exists() else {}).items():
        kept = zip(series.steps.tolist(), series.counts, strict=True)
        record.histograms[name] = [(at, counts) for at, counts in kept if at <= step]
        record.edges[name] = series.edges
    return record


def _append(record: _Record, row: Row) -> None:
    values = {key: v if math.isfinite(v) else None for key, v in shortest_scalars(row).items()}
    values.pop("step", None)
    plain = {"step": int(row.step), **values}
    if record.rows and record.last["step"] == plain["step"]:
        plain = record.last | plain  # begins with the old line's bytes: a crash leaves either
    else:
        record.before_last.update(_line(record.last) if record.rows else b"")
        record.last_at, record.rows = record.file.seek(0, os.SEEK_END), record.rows + 1
    record.file.seek(record.last_at)
    record.file.write(_line(plain))
    record.file.flush()
    record.last = plain
    _check_there(record)


def _line(plain: Mapping[str, Any]) -> bytes:
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _open_end(plain: Mapping[str, Any]) -> bytes:
    """Return the bytes of a line that stay the same when another row is merged into it."""
    return _line(plain).removesuffix(b"}\n") if plain else b""


def _as_measured(value: float) -> float:
    """Return the float32 whose shortest digits the file has; any other number as it is."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return float(single) if float(str(single)) == value else float(value)


def _check_there(record: _Record) -> None:
    if os.fstat(record.file.fileno()).st_nlink == 0:
        raise FileNotFoundError("it was deleted during training")


def _keep(record: _Record, step: int, name: str, histogram: Histogram) -> None:
    counts = np.array(histogram.counts, np.int64)
    edges = np.array(histogram.edges, np.float64)
    if counts.shape != (len(edges) + 1,):
        raise ValueError(f"{name}: {len(edges)} edges need {len(edges) + 1} counts: {counts.shape}")
    known = record.edges.setdefault(name, edges)
    if not np.array_equal(known, edges):
        raise ValueError(f"{name}: its edges changed at step {step}")
    record.histograms.setdefault(name, []).append((step, counts))
    record.unsaved = True


@contextmanager
def _raising(member: int, info: MemberInfo, path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MetricsError(member, info.run_id, path, reason) from error
