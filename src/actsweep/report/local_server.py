"""A server for this machine alone: pages that are made, and the files of one folder. No jax."""

import errno
import functools
import json
import os
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from actsweep.utils.errors import UserError
from actsweep.utils.files import finite, is_inside

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")


@dataclass(frozen=True)
class Answer:
    """What is sent to a browser: content, or with a `location` where to go."""

    content: bytes = b""
    kind: str = "text/html; charset=utf-8"
    status: int = 200
    location: str = ""


Respond = Callable[[str, Mapping[str, Sequence[str]]], Answer | None]
"""Returns the answer to a path and its query; None for a file of the folder."""


def json_answer(value: Any) -> Answer:
    """Return an answer in JSON."""
    return Answer(json.dumps(finite(value), allow_nan=False).encode(), "application/json")


def check_port(port: int) -> None:
    """Check a port as typed.

    Raises:
        UserError: it is out of bounds.
    """
    if not 0 <= port < 65536:
        raise UserError(f"--port {port}: must be 0 to 65535; type for example --port 8765")


def local_server(root: Path, port: int, respond: Respond) -> ThreadingHTTPServer:
    """Return a server of a folder on 127.0.0.1.

    It answers only to the names of this machine, so that no other site can read it by a name that
    resolves to 127.0.0.1, and to no request that another site's page makes. Nothing outside the
    folder is served, links followed.

    Args:
        root: the folder.
        port: 0 takes a free one.
        respond: makes the pages that aren't files.

    Raises:
        UserError: the port is in use.
    """
    handler = functools.partial(_Handler, root.resolve(), respond, directory=str(root.resolve()))
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise UserError(f"--port {port}: is in use; type for example --port 0") from error


def address(server: ThreadingHTTPServer) -> str:
    """Return the address of a server's first page."""
    return f"http://{HOST}:{server.server_address[1]}/"


def announce(server: ThreadingHTTPServer, *, open_browser: bool) -> None:
    """Print a server's address, and open it where there is a display."""
    print(f"{address(server)}   (Ctrl-C ends)", flush=True)
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    if open_browser and (
        sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in displays)
    ):
        threading.Thread(target=webbrowser.open, args=(address(server),), daemon=True).start()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, root: Path, respond: Respond, *rest: Any, **options: Any) -> None:
        self._root, self._respond = root, respond
        super().__init__(*rest, **options)

    def do_GET(self) -> None:
        if not self._is_allowed():
            self.send_error(403)
            return
        parts = urlsplit(self.path)
        answer = self._respond(unquote(parts.path), parse_qs(parts.query))
        if answer is not None:
            self._send(answer)
        elif self._is_served():
            super().do_GET()
        else:
            self.send_error(404)

    def do_HEAD(self) -> None:
        if not self._is_allowed():
            self.send_error(403)
        elif not self._is_served():
            self.send_error(404)
        else:
            super().do_HEAD()

    def _is_allowed(self) -> bool:
        """Return whether this machine was asked for, and not by another site's page."""
        host, _, port = self.headers.get("Host", "").partition(":")
        own = host in NAMES and (not port or port.isdecimal())
        return own and self.headers.get("Sec-Fetch-Site", "none") != "cross-site"

    def _is_served(self) -> bool:
        """Return whether the path names something in the folder, links followed."""
        if "%00" in self.path:
            return False
        path = Path(self.translate_path(self.path))
        shown = [path, *(path / name for name in ("index.html", "index.htm") if path.is_dir())]
        return all(is_inside(self._root, file) for file in shown)

    def end_headers(self) -> None:
        """Let no browser keep a page that may be written anew."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        if answer.location:
            self.send_header("Location", answer.location)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *values: Any) -> None:
        """Log nothing."""
