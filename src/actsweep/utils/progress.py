"""How far a long loop is, and what takes long, on standard error."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

EVERY_S = 2.0
"""Seconds between two lines, and before the first."""
SLOW_S = 5.0
"""Seconds after which what is slow is said; then again after twice as long, and so on."""


def counted(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yield the items; say every few seconds how many there were, as `checked 400 of 1,000 runs`.

    In a terminal the line is rewritten, and wiped at the end.

    Args:
        items: what is looped over.
        what: the words around the numbers, such as `checked {} runs`.
    """
    tty = sys.stderr.isatty()
    said = time.monotonic()
    shown = False
    for done, item in enumerate(items):
        if time.monotonic() - said >= EVERY_S:
            said, shown = time.monotonic(), True
            line = what.format(f"{done:,} of {len(items):,}")
            print(f"\r\x1b[2K{line}" if tty else line, end="" if tty else "\n", file=sys.stderr)
            sys.stderr.flush()
        yield item
    if shown and tty:
        print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def to_stderr(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def slow(what: str, say: Callable[[str], object] = to_stderr) -> Iterator[None]:
    """Say what is done inside if it takes long, such as `compiling relu mlp4, since 14:03:07`.

    A thread says it, as the work inside may be one call into a library.

    Args:
        what: what is done.
        say: takes the line.
    """
    ended, since = threading.Event(), time.strftime("%H:%M:%S")

    def watch() -> None:
        wait, whole = SLOW_S, 0.0
        while not ended.wait(wait):
            whole += wait
            say(f"{what}, since {since} ({whole:.0f} s)")
            wait = 2 * wait

    watcher = threading.Thread(target=watch, name="actsweep-slow", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
