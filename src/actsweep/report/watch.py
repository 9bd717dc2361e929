"""Serves a sweep's report on this machine, written anew while the sweep runs. No jax."""

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

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
WATCHED = ("status.json", "metrics.jsonl")


def watch(folder: Path, wanted: ReportRequest, port: int = 8765, seconds: float = 20.0) -> None:
    """Serve a sweep's report until Ctrl-C.

    Args:
        folder: the sweep's.
        wanted: what the report is about.
        port: of 127.0.0.1; 0 takes a free one.
        seconds: between two looks at the sweep.

    Raises:
        UserError: the port is taken or none, the time is none, or the sweep can't be read.
    """
    if not 1 <= seconds < math.inf:
        raise UserError(f"--every {seconds:g}: must be at least 1; type for example --every 20")
    if not 0 <= port < 65536:
        raise UserError(f"--port {port}: must be 0 to 65535; type for example --port 8765")
    watched = Watched(folder, wanted)
    watched.renew()
    with server(watched, port, seconds) as served:
        print(f"http://{HOST}:{served.server_address[1]}/   (Ctrl-C ends)", flush=True)
        stop = threading.Event()
        threading.Thread(target=_keep_new, args=(watched, stop, seconds), daemon=True).start()
        try:
            served.serve_forever()
        finally:
            stop.set()


class Watched:
    """A sweep's report on disk, and whether there is something new to tell."""

    def __init__(self, folder: Path, wanted: ReportRequest) -> None:
        self.outputs = plan.outputs_dir(folder, plan.read_frozen(folder)).resolve()
        self.page = folder.resolve() / "report" / PAGE
        self._folder, self._wanted = folder, wanted
        self._known: object = None
        if self.outputs not in self.page.parents:
            raise UserError(
                f"{folder}: isn't in {self.outputs}, whose runs the page links to; type "
                f"actsweep report {shlex.quote(str(folder))}"
            )

    def renew(self) -> bool:
        """Write the report if any run has got ahead; whether it did."""
        now = self._state()
        if now == self._known and self.page.is_file():
            return False
        write([self._folder], self.page.parent, self._wanted, partly=True)
        self._known = now
        return True

    def _state(self) -> list[tuple[str, str, list[int]]]:
        """How far each run is; a process that was killed has changed no file."""
        found = []
        for one in status.take_snapshot(self._folder).runs:
            paths = [self.outputs / "runs" / one.run.run_id / name for name in WATCHED]
            times = [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]
            found.append((one.run.run_id, one.state, times))
        return found


def server(watched: Watched, port: int, seconds: float) -> ThreadingHTTPServer:
    """A server of the outputs' folder, whose page loads itself anew.

    Raises:
        UserError: the port is taken.
    """
    handler = functools.partial(_Handler, watched, seconds, directory=str(watched.outputs))
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise UserError(f"--port {port}: is taken; type for example --port 0") from error


def _keep_new(watched: Watched, stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        try:
            watched.renew()
        except Exception as error:  # a half-written file, say; the next look may do
            text = str(error) if isinstance(error, UserError) else repr(error)
            print(f"the page is of before: {text}", file=sys.stderr)


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, watched: Watched, seconds: float, *rest: Any, **named: Any) -> None:
        self._watched, self._seconds = watched, seconds
        super().__init__(*rest, **named)

    def do_GET(self) -> None:
        page = self._watched.page
        if not self._for_us():
            self.send_error(403)
        elif self.path.partition("?")[0] == "/":
            self.send_response(302)
            self.send_header("Location", f"/{quote(os.path.relpath(page, self._watched.outputs))}")
            self.end_headers()
        elif Path(self.translate_path(self.path)) == page and page.is_file():
            self._send_page(page.read_bytes())
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        if self._for_us():
            super().do_HEAD()
        else:
            self.send_error(403)

    def _for_us(self) -> bool:
        """Whether a browser asks for this machine, not for a site whose name leads here."""
        return self.headers.get("Host", "").rpartition(":")[0] in NAMES

    def _send_page(self, content: bytes) -> None:
        again = f'<head>\n<meta http-equiv="refresh" content="{self._seconds:g}">'.encode()
        content = content.replace(b"<head>", again, 1)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing of what is fetched."""
