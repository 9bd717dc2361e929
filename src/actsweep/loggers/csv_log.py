"""`logger=csv`: a run's rows as `metrics.csv` in its folder, one line a step, for a spreadsheet."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actsweep.loggers.tool_writer import ToolWriter
from actsweep.runs.rows import Row, shortest_scalars, with_quantiles
from actsweep.utils.files import write_atomic


def writer() -> ToolWriter:
    """Return a writer of CSV files; a histogram becomes five columns, its quantiles."""
    return ToolWriter("csv", lambda info: CsvLog(info.run_dir / "metrics.csv"))


class CsvLog:
    """The file of one run, written anew when the run goes on or a column comes to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: list[str] = ["step"]
        self._lines: list[dict[str, Any]] = []
        self._write_anew([])

    def step(self, row: Row) -> None:
        """Take a step."""
        self._lines.append({"step": row.step, **shortest_scalars(with_quantiles(row))})

    def flush(self) -> None:
        """Append the lines; with a new column, write the whole file."""
        if not self._lines:
            return
        names = dict.fromkeys(name for line in self._lines for name in line)
        new = [name for name in names if name not in self._columns]
        if new:
            with open(self._path, newline="", encoding="utf-8") as file:
                before = list(csv.DictReader(file))
            self._columns += new
            self._write_anew([*before, *self._lines])
        else:
            with open(self._path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerows(self._lines)
        self._lines = []

    def end(self, state: str, summary: dict[str, Any], messages: Sequence[str]) -> None:
        """Do nothing: `summary.json` and `status.json` are beside the file."""

    def _write_anew(self, lines: Sequence[dict[str, Any]]) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, self._columns)
        table.writeheader()
        table.writerows(lines)
        write_atomic(self._path, text.getvalue().encode())
