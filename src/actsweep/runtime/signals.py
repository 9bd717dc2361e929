"""Signals that end this process: at once, or, while a pack trains, after it is saved.

SIGINT is Ctrl-C. Clusters send SIGTERM before they kill. Submitit asks SLURM for SIGUSR2. SIGHUP
comes when a terminal is closed or an ssh connection drops.
"""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

NOTED = b"\nsaving, then ending; Ctrl-C again ends at once\n"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """End of training by a signal; nothing that has been written is lost."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)


class StopRequest:
    """Signals that have asked this process to end.

    Attributes:
        asked: the first signal that came, or None.
        since: when it came, by `time.monotonic`.
        quiet: whether another process tells the user.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self.since = 0.0
        self.quiet = False
        self._patience = 0
        self._at_once = False
        self._before: dict[int, Any] = {}

    @property
    def hurried(self) -> bool:
        """Return whether the process will be killed soon; after Ctrl-C it won't."""
        return self.asked not in (None, signal.SIGINT)

    def left(self, grace_s: float) -> float:
        """Return the seconds left until the process is killed.

        `grace_s` counts from the signal on; after a second Ctrl-C nothing is left.
        """
        if self._at_once:
            return 0.0
        return max(0.0, self.since + grace_s - time.monotonic()) if self.hurried else math.inf

    def install(self) -> None:
        """Handle the signals that end a process, except those that it was started to ignore."""
        if threading.current_thread() is not threading.main_thread():
            return  # handlers can only be set in the main thread
        for number in ENDING:
            before = signal.getsignal(number)
            if before not in (signal.SIG_IGN, None, self._handle):
                self._before[number] = before
                signal.signal(number, self._handle)

    def uninstall(self) -> None:
        """Give the signals back to the handlers of before."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    @contextlib.contextmanager
    def patience(self) -> Iterator[None]:
        """Only note signals, until `check` raises; obey a second Ctrl-C at once."""
        self._patience += 1
        try:
            yield
        finally:
            self._patience -= 1

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self.asked is not None:
            raise Interrupted(self.asked)

    def hand_on(self) -> None:
        """Call the previous handler of the signal: submitit's queues the job again."""
        before = self._before.get(self.asked) if self.asked else None
        if callable(before) and before is not signal.default_int_handler:
            before(self.asked, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code.co_name == "_xla_gc_callback":
            # After a long compilation Python often handles signals there first, and an exception
            # raised there is printed and dropped.
            again = threading.Timer(0.01, signal.raise_signal, [number])
            again.daemon = True
            again.start()
            return
        first = self.asked is None
        if first:
            self.asked, self.since = signal.Signals(number), time.monotonic()
        self._at_once = self._at_once or (number == signal.SIGINT and not first)
        if not self._patience or self._at_once:
            raise Interrupted(number)
        if first and number == signal.SIGINT and not self.quiet:
            with contextlib.suppress(OSError):  # a handler may run within a print: no stream here
                os.write(2, NOTED)
