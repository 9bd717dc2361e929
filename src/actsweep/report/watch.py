"""A local server of a sweep's report, which is rewritten while the sweep runs. No jax."""

import errno
import functools
import math
import os
import shlex
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

from actsweep.report.write import PAGE, ReportRequest, write
from actsweep.sweeps import plan, status
from actsweep.utils.errors import UserError
from actsweep.utils.files import is_inside

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
WATCHED_FILES = ("status.json", "metrics.jsonl")


def watch(folder: Path, request: ReportRequest, port: int = 8765, seconds: float = 20.0) -> None:
    """Serve a sweep's report until Ctrl-C.

    Args:
        folder: the sweep's folder.
        request: what the report is about.
        port: of 127.0.0.1; 0 takes a free one.
        seconds: between two checks of the sweep.

    Raises:
        UserError: the port or the time is out of bounds, the port is in use, or the sweep can't be
            read.
    """
    if not 1 <= seconds < math.inf:
        raise UserError(f"--every {seconds:g}: must be at least 1; type for example --every 20")
    if not 0 <= port < 65536:
        raise UserError(f"--port {port}: must be 0 to 65535; type for example --port 8765")
    live_report = LiveReport(folder, request)
    live_report.refresh()
    with server(live_report, port, seconds) as http_server:
        print(f"http://{HOST}:{http_server.server_address[1]}/   (Ctrl-C ends)", flush=True)
        stop = threading.Event()
        threading.Thread(
            target=_keep_refreshing, args=(live_report, stop, seconds), daemon=True
        ).start()
        try:
            http_server.serve_forever()
        finally:
            stop.set()


class LiveReport:
    """A sweep's report on disk, which is rewritten when a run has made progress."""

    def __init__(self, folder: Path, request: ReportRequest) -> None:
        self.outputs = plan.outputs_dir(folder, plan.read_frozen(folder)).resolve()
        self.page = folder.resolve() / "report" / PAGE
        self._folder, self._request = folder, request
        self._known: object = None
        if self.outputs not in self.page.parents:
            raise UserError(
                f"{folder}: isn't in {self.outputs}, to whose runs the page links; type "
                f"actsweep report {shlex.quote(str(folder))}"
            )

    def refresh(self) -> bool:
        """Write the report if any run has made progress; return whether it was written."""
        now = self._state()
        if now == self._known and self.page.is_file():
            return False
        write([self._folder], self.page.parent, self._request, allow_incomplete=True)
        self._known = now
        return True

    def _state(self) -> list[tuple[str, str, list[int]]]:
        """Return how far each run is; its state counts too, since a killed run changes no file."""
        states = []
        for run_status in status.take_snapshot(self._folder).runs:
            paths = [self.outputs / "runs" / run_status.run.run_id / name for name in WATCHED_FILES]
            times = [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]
            states.append((run_status.run.run_id, run_status.state, times))
        return states


def server(live_report: LiveReport, port: int, seconds: float) -> ThreadingHTTPServer:
    """Return a server of the outputs folder, whose report page reloads itself.

    Raises:
        UserError: the port is in use.
    """
    handler = functools.partial(_Handler, live_report, seconds, directory=str(live_report.outputs))
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise UserError(f"--port {port}: is in use; type for example --port 0") from error


def _keep_refreshing(live_report: LiveReport, stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        try:
            live_report.refresh()
        except Exception as error:  # a half-written file, say; the next refresh may succeed
            text = str(error) if isinstance(error, UserError) else repr(error)
            print(f"this page is out of date: {text}", file=sys.stderr)


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, live_report: LiveReport, seconds: float, *rest: Any, **options: Any) -> None:
        self._live_report, self._seconds = live_report, seconds
        super().__init__(*rest, **options)

    def do_GET(self) -> None:
        page = self._live_report.page
        if not self._is_for_this_machine():
            self.send_error(403)
        elif not self._is_served():
            self.send_error(404)
        elif self.path.partition("?")[0] == "/":
            self.send_response(302)
            self.send_header(
                "Location", f"/{quote(os.path.relpath(page, self._live_report.outputs))}"
            )
            self.end_headers()
        elif Path(self.translate_path(self.path)) == page and page.is_file():
            self._send_page(page.read_bytes())
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        if not self._is_for_this_machine():
            self.send_error(403)
        elif not self._is_served():
            self.send_error(404)
        else:
            super().do_HEAD()

    def _is_for_this_machine(self) -> bool:
        """Return whether this machine was asked for, not a site whose name resolves to it."""
        host, _, port = self.headers.get("Host", "").partition(":")
        return host in NAMES and (not port or port.isdecimal())

    def _is_served(self) -> bool:
        """Return whether the path names something in the outputs folder, links followed."""
        if "%00" in self.path:
            return False
        return is_inside(self._live_report.outputs, Path(self.translate_path(self.path)))

    def _send_page(self, content: bytes) -> None:
        refresh = f'<head>\n<meta http-equiv="refresh" content="{self._seconds:g}">'.encode()
        content = content.replace(b"<head>", refresh, 1)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *values: Any) -> None:
        """Log nothing."""
