"""What a writer is, what it receives, and the fan-out that keeps one writer's failure its own."""

import contextlib
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from actsweep.runs.rows import MemberInfo, MetricsError, Row
from actsweep.utils.errors import UserError

log = logging.getLogger(__name__)


class Writer(Protocol):
    """A place for measurements. `member` is a position in the list that `open` received.

    >>> class Printer(Writer):
    ...     def row(self, member, row):
    ...         print(member, row.step, row.scalars.get("val/accuracy"))
    """

    def check(self, members: Sequence[MemberInfo]) -> None:
        """Raise UserError if it will refuse to start; nothing is touched, on disk or elsewhere."""

    def open(self, members: Sequence[MemberInfo]) -> None:
        """Start, before the first row."""

    def row(self, member: int, row: Row) -> None:
        """Take one row."""

    def message(self, member: int, text: str) -> None:
        """Take one line for a human, such as a health warning."""

    def finish(self, member: int, state: str, summary: dict[str, Any]) -> None:
        """End one member, with its state as in `status.json` and its final numbers."""

    def close(self) -> None:
        """End all; called once, also after an interruption."""


class Writers:
    """Several writers, which get everything in turn.

    A writer that raises is reported once and dropped; the others go on. Two errors pass through,
    after all the others had their turn: `MetricsError`, since the metrics file is the truth, and
    `UserError`, by which `check` refuses to start.
    """

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = list(writers)

    def check(self, members: Sequence[MemberInfo]) -> None:
        """Ask all, before anything on disk is touched, whether they will start.

        Raises:
            UserError: one refuses.
        """
        self._each("check", members)

    def open(self, members: Sequence[MemberInfo]) -> None:
        """Open all. Where one fails, those already open are closed again."""
        try:
            self._each("open", members)
        except (UserError, MetricsError):
            with contextlib.suppress(UserError, MetricsError):
                self._each("close")
            raise

    def row(self, member: int, row: Row) -> None:
        """Give a row to all."""
        self._each("row", member, row)

    def message(self, member: int, text: str) -> None:
        """Give a line to all."""
        self._each("message", member, text)

    def finish(self, member: int, state: str, summary: dict[str, Any]) -> None:
        """End a member everywhere."""
        self._each("finish", member, state, summary)

    def close(self) -> None:
        """Close all, once."""
        try:
            self._each("close")
        finally:
            self._writers = []

    def _each(self, method: str, *args: Any) -> None:
        raised: UserError | MetricsError | None = None
        for writer in list(self._writers):
            try:
                getattr(writer, method)(*args)
            except (UserError, MetricsError) as error:
                raised = raised or error
            except Exception as error:
                self._writers.remove(writer)
                name = getattr(writer, "name", type(writer).__name__)
                log.warning("%s is switched off, since it failed in %s: %r", name, method, error)
                with contextlib.suppress(Exception):
                    writer.close()
        if raised:
            raise raised
