"""Signals that end this process: noted while a pack trains, so that it is saved; else obeyed.

SIGINT is Ctrl-C, SIGTERM what clusters send before they kill, SIGUSR2 what submitit asks SLURM for.
"""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Interrupted(KeyboardInterrupt):
    """Ends the training; nothing that has been written is lost."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)


class StopRequest:
    """What signals have asked of this process.

    Attributes:
        asked: the first signal that came.
        since: when, by `time.monotonic`.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self.since = 0.0
        self._patience = 0
        self._at_once = False
        self._before: dict[int, Any] = {}

    @property
    def hurried(self) -> bool:
        """Whether the process will be killed soon: after Ctrl-C it won't."""
        return self.asked not in (None, signal.SIGINT)

    def left(self, grace_s: float) -> float:
        """Seconds until the process is killed, if it has that long from the signal on; none are
        left after a second Ctrl-C."""
        if self._at_once:
            return 0.0
        return max(0.0, self.since + grace_s - time.monotonic()) if self.hurried else math.inf

    def install(self) -> None:
        """Take over the signals that end a process, but for those that it was started to ignore."""
        if threading.current_thread() is not threading.main_thread():
            return  # only there can handlers be set
        for number in ENDING:
            before = signal.getsignal(number)
            if before not in (signal.SIG_IGN, None, self._handle):
                self._before[number] = before
                signal.signal(number, self._handle)

    @contextlib.contextmanager
    def patience(self) -> Iterator[None]:
        """Here a signal is only noted; `check` then ends it. A second Ctrl-C is obeyed at once."""
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
        """Let whoever listened before have the signal: submitit then queues the job again."""
        before = self._before.get(self.asked) if self.asked else None
        if callable(before) and before is not signal.default_int_handler:
            before(self.asked, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code.co_name == "_xla_gc_callback":
            # Python often first looks at signals there, after a long compilation, and what is
            # raised there is printed and forgotten.
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
