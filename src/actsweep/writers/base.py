"""What a writer is, what it receives, and the fan-out that keeps one writer's failure its own."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from actsweep.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Histogram:
    """Counts over fixed bins, with what fell outside."""

    counts: np.ndarray
    """int64 [bins + 2]: underflow first, overflow last."""
    edges: np.ndarray
    """float64 [bins + 1], increasing."""


@dataclass(frozen=True)
class Row:
    """What one member measured at one step."""

    step: int
    epoch: float
    scalars: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)


@dataclass(frozen=True)
class MemberInfo:
    """What writers need to know about a run before its first row."""

    run_id: str
    run_dir: Path
    config: dict[str, Any]
    act: str
    depth: int
    init: str
    seed: int
    model: str
    data: str
    lr: float
    sweep: str
    total_epochs: int
    resumed_at: int | None = None
    """Step from which the run goes on; the rows up to it stand in its files; None for a fresh
    one."""


class Writer(Protocol):
    """Takes measurements somewhere. `member` is a position in the list that `open` received."""

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


class MetricsError(Exception):
    """A member's own record can't be written; its training can't be trusted to be on disk."""

    def __init__(self, member: int, run_id: str, path: Path, reason: str) -> None:
        super().__init__(f"can't write {path}: {reason}")
        self.member = member
        self.run_id = run_id
        self.path = path


def numbers(row: Row) -> dict[str, float]:
    """Epoch and scalars; a value that is a float32 becomes the float with the fewest digits that
    rounds to it (0.1, not 0.10000000149), any other stays as it is."""
    named = {"epoch": row.epoch} | {k: v for k, v in row.scalars.items() if k != "epoch"}
    values = np.array([float(value) for value in named.values()])
    with np.errstate(over="ignore"):
        singles = values.astype(np.float32)
    exact = singles.astype(np.float64) == values
    short = [
        float(str(single)) if same else float(value)
        for single, same, value in zip(singles, exact.tolist(), values, strict=True)
    ]
    return dict(zip(named, short, strict=True))


class Writers:
    """Hands everything to several writers in turn.

    A writer that raises is reported once and dropped; the others go on. Two errors pass through,
    after all the others had their turn: `MetricsError`, since the metrics file is the truth, and
    `UserError`, by which a writer refuses to start.
    """

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = list(writers)

    def open(self, members: Sequence[MemberInfo]) -> None:
        """Open all. Where one refuses to start, those already open are closed again."""
        try:
            self._each("open", members)
        except (UserError, MetricsError):
            with contextlib.suppress(UserError, MetricsError):
                self._each("close")
            raise

    def row(self, member: int, row: Row) -> None:
        """One row to all."""
        self._each("row", member, row)

    def message(self, member: int, text: str) -> None:
        """One line to all."""
        self._each("message", member, text)

    def finish(self, member: int, state: str, summary: dict[str, Any]) -> None:
        """End one member everywhere."""
        self._each("finish", member, state, summary)

    def close(self) -> None:
        """Close all."""
        self._each("close")

    def _each(self, method: str, *args: Any) -> None:
        raised: UserError | MetricsError | None = None
        for writer in list(self._writers):
            try:
                getattr(writer, method)(*args)
            except (UserError, MetricsError) as error:
                raised = raised or error
            except Exception as error:
                self._writers.remove(writer)
                name = type(writer).__name__
                log.warning("%s is off for the rest: %s: %r", name, method, error)
                with contextlib.suppress(Exception):
                    writer.close()
        if raised:
            raise raised
