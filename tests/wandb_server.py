"""A loopback test double of a W&B server.

It proves what the client does, not what the site accepts. It keeps what it is sent, run by run, and
can be told to misbehave.
"""

import contextlib
import json
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

KEY = "0" * 40
Fault = int | str | None
"""An HTTP status for every answer; `silent`: accept and never answer; `close`: hang up."""


@dataclass
class Run:
    """What the server knows of one run."""

    lines: dict[int, str] = field(default_factory=dict)
    """The lines of the history by their place in it; a line sent again replaces the first."""
    exit_codes: list[int] = field(default_factory=list)
    preempting: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    tags: list[str] = field(default_factory=list)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows, in order."""
        return [json.loads(self.lines[place]) for place in sorted(self.lines)]

    @property
    def steps(self) -> list[int]:
        """The step of every row, in order."""
        return [row["_step"] for row in self.history]


class WandbServer:
    """The part of W&B's HTTP interface that `wandb.init` … `finish` and `wandb sync` talk to.

    Args:
        fault: what is wrong with it, as `Fault`; may be changed at any time.
        after: so many requests are answered properly before the fault sets in.
        only: the fault is in requests whose path ends so, such as `file_stream`.
        raw: every answer's content, whatever was asked.
    """

    def __init__(
        self, fault: Fault = None, after: int = 0, only: str = "", raw: bytes | None = None
    ) -> None:
        self.fault, self.after, self.only, self.raw = fault, after, only, raw
        self.runs: dict[str, Run] = {}
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        """Path, headers and content of every request, in order."""
        self.views: dict[str, dict[str, Any]] = {}
        """Saved views by their internal name, as they were sent."""
        self.sweeps: dict[str, str] = {}
        """Sweeps' configurations by id, as text."""
        self.queue: list[dict[str, Any]] = []
        """What agents are told to run: a run's arguments; then to end."""
        self.operations: Counter[str] = Counter()
        """GraphQL operations by name, and `file_stream` and `PUT`."""
        self.lock = threading.RLock()
        self._quiet = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self.port = _free_port()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def stopped(self) -> bool:
        """Whether nobody listens."""
        return self._server is None

    def start(self) -> None:
        """Listen."""
        self._quiet.clear()
        self._server = _Server(("127.0.0.1", self.port), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Die: hang up on everyone and listen no more. `start` brings it back."""
        self._quiet.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "WandbServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wrong(self, path: str) -> Fault:
        """What is wrong with the answer to this request."""
        if not path.rstrip("/").endswith(self.only):
            return None
        self.after -= 1
        return self.fault if self.after < 0 else None

    def answer(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """A proper answer to a POST."""
        if path.endswith("/graphql"):
            return {"data": self._graphql(content["query"], content.get("variables") or {})}
        if path.endswith("/file_stream"):
            self.operations["file_stream"] += 1
            self._file_stream(self._run(path.split("/")[-2]), content)
        return {}

    def _run(self, name: str) -> Run:
        return self.runs.setdefault(name, Run())

    def _graphql(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        name = query.replace("(", " ").split()[1]
        self.operations[name] += 1
        if name == "Viewer":
            return {"viewer": {"id": "1", "entity": "e", "username": "u", "teams": {"edges": []}}}
        if name == "UpsertBucket":
            return {"upsertBucket": self._upsert(given)}
        if name == "RunResumeStatus":
            return {"model": self._resume(given)}
        if name == "CreateRunFiles":
            files = [{"name": f, "uploadUrl": f"{self.url}/put/{f}"} for f in given["files"]]
            made = {"runID": given["run"], "uploadHeaders": [], "files": files}
            return {"createRunFiles": made}
        return self._sweeping(name, given)

    def _sweeping(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Views, sweeps, agents."""
        if name == "UpsertView2":
            inserted = given["name"] not in self.views
            self.views[given["name"]] = given
            view = {"id": f"id of {given['name']}", "name": given["name"]}
            return {"upsertView": {"view": view, "inserted": inserted}}
        if name == "UpsertSweep":
            made = f"sweep{len(self.sweeps)}"
            self.sweeps[made] = given["config"]
            sweep = {"name": made, "project": self._project({"project": given["projectName"]})}
            return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}
        if name == "SweepWithRuns":
            sweep = {"id": given["sweep"], "config": self.sweeps[given["sweep"]]}
            return {"project": {"sweep": sweep | {"state": "RUNNING", "runs": {"edges": []}}}}
        if name == "CreateAgent":
            return {"createAgent": {"agent": {"id": "agent"}}}
        if name == "Heartbeat":
            return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": self._next(given)}}
        return {}

    def _next(self, given: dict[str, Any]) -> str:
        """A run at a time."""
        if json.loads(given["runState"]):
            return "[]"
        if not self.queue:
            return json.dumps([{"type": "exit"}])
        arguments = {key: {"value": value} for key, value in self.queue.pop(0).items()}
        (config,) = self.sweeps.values()
        program = yaml.safe_load(config)["program"]
        run = {"type": "run", "run_id": f"agent-{len(self.queue)}", "program": program}
        run["args"] = arguments
        return json.dumps([run])

    def _upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        inserted = given["name"] not in self.runs
        run = self._run(given["name"])
        run.config = json.loads(given.get("config") or "null") or run.config
        run.group = given.get("groupName") or run.group
        run.tags = given.get("tags") or run.tags
        bucket = {"id": given["name"], "name": given["name"], "displayName": given["name"]}
        bucket |= {"historyLineCount": len(run.lines), "project": self._project(given)}
        return {"bucket": bucket, "inserted": inserted}

    def _project(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"id": "p", "name": given.get("project") or "p", "entity": {"id": "1", "name": "e"}}

    def _resume(self, given: dict[str, Any]) -> dict[str, Any]:
        model: dict[str, Any] = {"id": "p", "name": "p", "entity": {"id": "1", "name": "e"}}
        run = self.runs.get(given["name"])
        if run is None:
            return model | {"bucket": None}
        last = [run.lines[place] for place in sorted(run.lines)][-1:]
        return model | {
            "bucket": {
                "id": given["name"],
                "name": given["name"],
                "summaryMetrics": json.dumps(run.summary),
                "displayName": given["name"],
                "logLineCount": 0,
                "historyLineCount": len(run.lines),
                "eventsLineCount": 0,
                "historyTail": json.dumps(last),
                "eventsTail": "[]",
                "config": json.dumps(run.config),
                "tags": run.tags,
                "notes": None,
                "wandbConfig": json.dumps({"t": {}}),
            }
        }

    def _file_stream(self, run: Run, content: dict[str, Any]) -> None:
        for name, part in (content.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                for place, line in enumerate(part["content"], start=part["offset"]):
                    run.lines[place] = line
            if name == "wandb-summary.json":
                run.summary = json.loads(part["content"][-1])
        run.preempting = run.preempting or bool(content.get("preempting"))
        if content.get("complete"):
            run.exit_codes.append(content.get("exitcode", 0))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what it is for."""


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            server._sockets.add(self.request)

        def finish(self) -> None:
            server._sockets.discard(self.request)
            with contextlib.suppress(OSError):
                super().finish()

        def do_POST(self) -> None:
            self._take(read=True)

        def do_PUT(self) -> None:
            self._take(read=False)

        def do_GET(self) -> None:
            self._take(read=False)

        def _take(self, read: bool) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content = json.loads(raw) if read and raw else {}
            with server.lock:
                server.asked.append((self.path, dict(self.headers), content))
                fault = server.wrong(self.path)
                proper = {} if fault else server.answer(self.path, content)
            if fault == "silent":
                server._quiet.wait(600)
            if isinstance(fault, str):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            body = b"{}" if fault else json.dumps(proper).encode()
            body = body if server.raw is None else server.raw
            self.send_response(fault or 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
