"""A writer for experiment trackers that see one run each: from a side thread, whole steps in order.

A tool's own module says only how it takes a run's config, a step and an end.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from actsweep.loggers.wandb_support import final_numbers, past_rows
from actsweep.runs.rows import MemberInfo, Row

FLUSH_SECONDS = 0.5
"""Rows of this time are written together; a kill loses no more, and resuming writes them."""
QUEUE_ROWS = 10_000

CUT_SHORT = ("running", "preempted")
"""States after which a run may go on: its last row may still take the final numbers."""


class RunLog(Protocol):
    """One run in a tool.

    When a run goes on, its rows come again from the first: what the tool has is replaced or left.
    """

    def step(self, row: Row) -> None:
        """Take a whole step; each comes once, in order."""

    def flush(self) -> None:
        """Hand to the tool what is still held."""

    def end(self, state: str, summary: dict[str, Any], messages: Sequence[str]) -> None:
        """End the run, after its last row, with its state as in `status.json`."""


class ToolWriter:
    """A run of a tool for each member. No row waits for the tool.

    Args:
        name: the tool's, for messages.
        open_run: starts a run; called in the side thread, as all that concerns the tool.
        close_seconds: how long `close` waits for the tool; may be set until then.

    Raises:
        Exception: what the tool raised, from the next call of any method.
    """

    def __init__(
        self,
        name: str,
        open_run: Callable[[MemberInfo], RunLog],
        close_seconds: float = 60.0,
    ) -> None:
        self.name = name
        self.close_seconds = close_seconds
        self.cut_short = "running"  # the state of runs that haven't ended when it is closed
        self._open_run = open_run
        self._queue: queue.SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]]]
        self._queue = queue.SimpleQueue()
        self._most = QUEUE_ROWS  # and the rows of those that go on
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._runs: dict[int, RunLog] = {}
        self._held: dict[int, Row] = {}
        self._messages: dict[int, list[str]] = {}

    def check(self, members: Sequence[MemberInfo]) -> None:
        """Refuse nothing: whether the tool is installed was asked when it was built."""

    def open(self, members: Sequence[MemberInfo]) -> None:
        """Start the side thread; it opens the runs and repeats the rows of those that go on."""
        for member, info in enumerate(members):
            self._put(self._open, member, info)
            if info.resumed_at is not None:  # read here: from now on the file grows
                for row in past_rows(info, info.resumed_at):
                    self._put(self._log, member, row)
                    self._most += 1
        self._thread = threading.Thread(target=self._work, name=f"{self.name}-writer", daemon=True)
        self._thread.start()

    def row(self, member: int, row: Row) -> None:
        """Queue one row."""
        if self._queue.qsize() > self._most:
            self.close_seconds = 0.0
            raise TimeoutError(f"it is too slow: {QUEUE_ROWS} rows wait for it")
        self._put(self._log, member, row)

    def message(self, member: int, text: str) -> None:
        """Keep a line for the end of the run."""
        self._messages.setdefault(member, []).append(text)

    def finish(self, member: int, state: str, summary: dict[str, Any]) -> None:
        """Queue the end of one run."""
        self._put(self._finish, member, state, final_numbers(summary))

    def close(self) -> None:
        """Wait until the tool has everything, up to `close_seconds`."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        self._closing.set()
        thread.join(0.0 if self._error else self.close_seconds)
        if thread.is_alive() and not self._error:
            raise TimeoutError(f"it did not finish within {self.close_seconds:.0f} s")
        self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error:
            raise error

    def _put(self, job: Callable[..., None], *args: Any) -> None:
        self._raise()
        self._queue.put((job, args))

    # From here on: the side thread.

    def _work(self) -> None:
        try:
            last = False
            while not last:
                last = self._closing.wait(FLUSH_SECONDS)
                started = time.monotonic()
                while not self._queue.empty() and (last or time.monotonic() < started + 1.0):
                    job, args = self._queue.get()
                    job(*args)
                for run in self._runs.values():
                    run.flush()
            for member in list(self._runs):  # interrupted
                self._finish(member, self.cut_short, {})
        except Exception as error:
            self._error = error

    def _open(self, member: int, info: MemberInfo) -> None:
        self._runs[member] = self._open_run(info)

    def _log(self, member: int, row: Row) -> None:
        before = self._held.get(member)
        if before is not None and before.step == row.step:
            scalars, histograms = before.scalars | row.scalars, before.histograms | row.histograms
            row = Row(row.step, row.epoch, scalars, histograms)
        elif before is not None:
            self._runs[member].step(before)
        self._held[member] = row

    def _finish(self, member: int, state: str, summary: dict[str, Any]) -> None:
        run, held = self._runs.pop(member), self._held.pop(member, None)
        if held is not None and state not in CUT_SHORT:
            run.step(held)
        run.flush()
        run.end(state, summary, self._messages.pop(member, []))
