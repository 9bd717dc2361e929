"""A local server of a sweep's report, which is rewritten while the sweep runs. No jax."""

import math
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

from actsweep.report.local_server import Answer, announce, check_port, json_answer, local_server
from actsweep.report.write import PAGE, ReportRequest, write
from actsweep.sweeps import plan, status
from actsweep.sweeps.progress import progress
from actsweep.sweeps.status import SweepSnapshot
from actsweep.utils.errors import UserError

WATCHED_FILES = ("status.json", "metrics.jsonl")
PROGRESS = "progress.json"
"""What an open page asks for, beside it."""
POLL = 2.0
"""Seconds between two questions of an open page."""


def watch(
    folder: Path,
    request: ReportRequest,
    port: int = 8765,
    seconds: float = 20.0,
    *,
    open_browser: bool = False,
) -> None:
    """Serve a sweep's report until the sweep ends, or Ctrl-C.

    A sweep that has ended before is served until Ctrl-C.

    Args:
        folder: the sweep's folder.
        request: what the report is about.
        port: of 127.0.0.1; 0 takes a free one.
        seconds: between two checks of the sweep.
        open_browser: open the page where there is a display.

    Raises:
        UserError: the port or the time is out of bounds, the port is in use, or the sweep can't be
            read.
    """
    if not 1 <= seconds < math.inf:
        raise UserError(f"--every {seconds:g}: must be at least 1; type for example --every 20")
    check_port(port)
    live_report = LiveReport(folder, request)
    live_report.refresh()
    with server(live_report, port) as http_server:
        announce(http_server, open_browser=open_browser)
        stop, ended = threading.Event(), live_report.final
        if ended:
            print(_ending(live_report, folder), flush=True)
        rest = (live_report, stop, seconds, None if ended else http_server.shutdown)
        threading.Thread(target=_keep_refreshing, args=rest, daemon=True).start()
        try:
            http_server.serve_forever(poll_interval=0.1)
        finally:
            stop.set()
    print(_ending(live_report, folder), flush=True)


def _ending(live_report: "LiveReport", folder: Path) -> str:
    return f"{folder.name} has ended: {live_report.counts()}; its page: {live_report.page}"


class LiveReport:
    """A sweep's report on disk, which is rewritten when a run has made progress.

    Attributes:
        outputs: the folder that holds the sweep and its runs.
        page: the report's page.
        version: how often the page was written.
        final: whether the page was last checked after the sweep's end.
    """

    def __init__(self, folder: Path, request: ReportRequest) -> None:
        self.outputs = plan.outputs_dir(folder, plan.read_frozen(folder)).resolve()
        self.page = folder.resolve() / "report" / PAGE
        self.version, self.final = 0, False
        self._folder, self._request = folder, request
        self._known: object = None
        self._writing = threading.Lock()
        self._progress: dict[str, Any] = {}
        self._fresh_until = 0.0
        if self.outputs not in self.page.parents:
            raise UserError(
                f"{folder}: isn't in {self.outputs}, whose runs are served beside it; type "
                f"actsweep report {shlex.quote(str(folder))}"
            )

    def refresh(self) -> bool:
        """Write the report if any run has made progress; return whether it was written."""
        with self._writing:
            snapshot = status.take_snapshot(self._folder)
            ended = not snapshot.supervised and not any(run.left for run in snapshot.runs)
            now = self._state(snapshot)
            written = now != self._known or not self.page.is_file()
            if written:
                write([self._folder], self.page.parent, self._request, allow_incomplete=True)
                self._known = now
                self.version += 1
            if ended:
                self._fresh_until = 0.0  # the last look must see the end
            self.final = ended
            return written

    def progress(self) -> dict[str, Any]:
        """Return the sweep's progress, the page's version and whether it is final, as JSON.

        Where looking takes long (many runs, or SLURM is asked), it is looked at less often.
        """
        began, final = time.monotonic(), self.final
        if began >= self._fresh_until:
            self._progress = progress(status.take_snapshot(self._folder)).plain()
            ended = time.monotonic()
            self._fresh_until = ended + max(POLL / 2, 10 * (ended - began))
        return {**self._progress, "version": self.version, "final": final}

    def counts(self) -> str:
        """Return the number of runs in each state, in words."""
        return status.take_snapshot(self._folder).counts()

    def _state(self, snapshot: SweepSnapshot) -> list[tuple[str, str, list[int]]]:
        """Return how far each run is; its state counts too, since a killed run changes no file."""
        states = []
        for run_status in snapshot.runs:
            paths = [self.outputs / "runs" / run_status.run.run_id / name for name in WATCHED_FILES]
            times = [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]
            states.append((run_status.run.run_id, run_status.state, times))
        return states


def server(live_report: LiveReport, port: int) -> ThreadingHTTPServer:
    """Return a server of the outputs folder, whose report page keeps itself up to date.

    Raises:
        UserError: the port is in use.
    """
    page = f"/{os.path.relpath(live_report.page, live_report.outputs)}"
    beside = page.removesuffix(PAGE) + PROGRESS

    def respond(path: str, query: Mapping[str, Sequence[str]]) -> Answer | None:
        if path == "/":
            return Answer(status=302, location=quote(page))
        if path == beside:
            return json_answer(live_report.progress())
        if path == page and live_report.page.is_file():
            return Answer(live_page(live_report))
        return None

    return local_server(live_report.outputs, port, respond)


def live_page(live_report: LiveReport) -> bytes:
    """Return the report's page with the mark that makes it ask for progress."""
    mark = f'<head>\n<meta name="actsweep-live" content="{POLL:g} {live_report.version}">'
    return live_report.page.read_bytes().replace(b"<head>", mark.encode(), 1)


def _keep_refreshing(
    live_report: LiveReport,
    stop: threading.Event,
    seconds: float,
    at_end: Callable[[], None] | None,
) -> None:
    """Refresh the report until `stop`; once the sweep has ended, let open pages know, and end."""
    while not stop.wait(seconds):
        try:
            live_report.refresh()
        except Exception as error:  # a half-written file, say; the next refresh may succeed
            text = str(error) if isinstance(error, UserError) else repr(error)
            print(f"this page is out of date: {text}", file=sys.stderr)
            continue
        if live_report.final and at_end is not None:
            stop.wait(3 * POLL)  # in which an open page fetches the last of it
            at_end()
            return
