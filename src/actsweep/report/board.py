"""A local page of all sweeps of an outputs folder, each with its report. No jax."""

import shlex
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from actsweep.report.compare import Comparison, compare
from actsweep.report.design import gather, usual_factors
from actsweep.report.local_server import Answer, announce, check_port, json_answer, local_server
from actsweep.report.page import template
from actsweep.report.page_data import script_json
from actsweep.report.watch import LiveReport
from actsweep.report.write import PAGE, ReportRequest, write
from actsweep.sweeps import find, status
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import train_command

SCRIPTS = ("select.js", "filter.js", "table.js", "board.js")
COLUMNS = (
    *(("sweep", "sweep", ""), ("best", "best group", ""), ("score", "its mean", "4g")),
    *(("metric", "metric", ""), ("runs", "runs", "6g"), ("complete", "complete", "6g")),
    *(("running", "running", "6g"), ("failed", "failed", "6g"), ("diverged", "diverged", "6g")),
    *(("left", "left", "6g"), ("submitted", "submitted", ""), ("command", "command", "")),
)
"""Name, title and digits of each column."""
LOOKS = 5.0
"""Least number of seconds between two looks at all sweeps."""


def serve(outputs: Path, port: int, *, open_browser: bool = False) -> None:
    """Serve the page of all sweeps until Ctrl-C.

    Args:
        outputs: `paths.outputs`.
        port: of 127.0.0.1; 0 takes a free one.
        open_browser: open the page where there is a display.

    Raises:
        UserError: there is no sweep, or the port is out of bounds or in use.
    """
    check_port(port)
    if not find.newest(outputs):
        raise UserError(f"{outputs}/sweeps: no sweep yet; type {train_command()} -m act=relu,elu")
    board = Board(outputs)
    with local_server(outputs, port, board.respond) as http_server:
        announce(http_server, open_browser=open_browser)
        http_server.serve_forever(poll_interval=0.1)


@dataclass
class Board:
    """All sweeps of an outputs folder, and the reports that were made of them.

    Attributes:
        outputs: `paths.outputs`.
    """

    outputs: Path
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _looked: float = 0.0
    _best: dict[str, tuple[object, dict[str, Any]]] = field(default_factory=dict)
    _reports: dict[str, LiveReport] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def respond(self, path: str, query: Mapping[str, Sequence[str]]) -> Answer | None:
        """Return the board's page, its data, or the way to a report; None for a file."""
        if path == "/":
            return Answer(board_page(self.outputs, self.data()).encode())
        if path == "/board.json":
            return json_answer(self.data())
        if path == "/report":
            return self._report(query.get("sweep", ()))
        return None

    def data(self) -> dict[str, Any]:
        """Return the rows of all sweeps, the newest first, as JSON for `table.js`."""
        with self._lock:
            if time.monotonic() >= self._looked:
                began = time.monotonic()
                self._rows = [self._row(folder) for folder in find.newest(self.outputs)]
                took = time.monotonic() - began
                self._looked = time.monotonic() + max(LOOKS, 10 * took)
            rows = self._rows
        columns = [
            {
                "name": name,
                "title": title,
                "digits": digits,
                "shown": True,
                "kind": "clip" if name == "command" else "",
                "values": [row.get(name) for row in rows],
            }
            for name, title, digits in COLUMNS
        ]
        return {"keys": [row["sweep"] for row in rows], "columns": columns}

    def _row(self, folder: Path) -> dict[str, Any]:
        submitted = datetime.fromtimestamp(find.submitted(folder)).isoformat(" ", "seconds")
        about = {"sweep": folder.name, "submitted": submitted}
        try:
            snapshot = status.take_snapshot(folder)
        except (UserError, KeyError) as error:
            return {**about, "command": f"can't be read: {error}"}
        states = [run.state for run in snapshot.runs]
        counts = {
            name: states.count(name) for name in ("complete", "running", "failed", "diverged")
        }
        left = sum(run.left for run in snapshot.runs)
        row = {**about, "command": snapshot.command, "runs": len(states), **counts, "left": left}
        ended = [run.status.get("updated") if not run.left else None for run in snapshot.runs]
        known, best = self._best.get(folder.name, (None, {}))
        if known != ended:
            best = best_group(folder)
            self._best[folder.name] = (ended, best)
        return {**row, **best}

    def _report(self, names: Sequence[str]) -> Answer:
        """Make or refresh the report of the sweeps of these names, and lead to it."""
        known = {folder.name: folder for folder in find.newest(self.outputs)}
        if not names or (unknown := [name for name in names if name not in known]):
            missing = ", ".join(unknown) if names else "no sweep"
            return _failure(f"{missing}: no such sweep in {self.outputs}/sweeps", 404)
        folders = [known[name] for name in dict.fromkeys(names)]
        try:
            page = self._single(folders[0]) if len(folders) == 1 else self._several(folders)
        except UserError as error:
            return _failure(str(error), 409)
        except Exception as error:
            print(f"no report of {' '.join(names)}: {error!r}", file=sys.stderr)
            return _failure(f"{type(error).__name__}: {error}", 500)
        inside = page.resolve().relative_to(self.outputs.resolve())
        return Answer(status=302, location=f"/{quote(inside.as_posix())}")

    def _single(self, folder: Path) -> Path:
        if folder.name not in self._reports:
            self._reports[folder.name] = LiveReport(folder, ReportRequest())
        report = self._reports[folder.name]
        report.refresh()
        return report.page

    def _several(self, folders: Sequence[Path]) -> Path:
        with self._lock:
            to = self.outputs / "report"
            write(folders, to, allow_incomplete=True)
        return to / PAGE


def best_group(folder: Path) -> dict[str, Any]:
    """Return a sweep's `best` group, its mean `score` as shown, and the `metric`.

    Nothing if there is no comparison: no run is complete, or several data sets have no mean.
    """
    try:
        entries = gather([folder])
        comparison = compare(entries, usual_factors(entries))
    except (UserError, KeyError, OSError, ValueError):
        return {}
    return _best(comparison)


def _best(comparison: Comparison) -> dict[str, Any]:
    measure = comparison.measure
    means = {label: group.mean for label, group in comparison.groups.items()}
    known = {label: (measure.sign or 1) * mean for label, mean in means.items() if mean is not None}
    if not known:
        return {}
    label = max(known, key=lambda label: known[label])
    unit = ", %" if measure.scale == 100 else ""
    score = measure.scale * means[label]
    return {"best": " ".join(label), "score": score, "metric": f"{measure.metric}{unit}"}


def board_page(outputs: Path, data: Mapping[str, Any]) -> str:
    """Render the page of all sweeps.

    Args:
        outputs: `paths.outputs`.
        data: the sweeps, see `Board.data`.
    """
    from markupsafe import Markup

    package = files("actsweep.report")
    return template("board.html").render(
        outputs=str(outputs.absolute()),
        style=Markup(package.joinpath("page.css").read_text()),
        script=Markup("".join(package.joinpath(name).read_text() for name in SCRIPTS)),
        data=Markup(script_json(data)),
        seconds=LOOKS,
        command=f"actsweep board {shlex.quote(str(outputs))}",
    )


def _failure(text: str, code: int) -> Answer:
    page = template("failure.html").render(text=text)
    return Answer(page.encode(), status=code)
