"""How far a long loop is, on standard error."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

EVERY_S = 2.0
"""Seconds between two lines, and before the first."""


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
