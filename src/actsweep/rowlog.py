"""From the readings of a pack to the rows of its members: hooks look at them, writers take them.

Readings are fetched one chunk late, so that the host never makes the device wait.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from actsweep.callbacks.base import Binned, Callback, Hook, Say, Stop
from actsweep.step import ACTIVE
from actsweep.writers import Histogram, MetricsError, Row, Writers

NOT_LOGGED = ("active", "outcome")


class Readings(NamedTuple):
    """What the devices said after a chunk, and which member stood in which row."""

    step: int
    epoch: float
    parts: Sequence[Mapping[str, Any]]
    rows: Mapping[int, int]


class RowLog:
    """Turns readings of the pack into rows of members, runs the hooks, and writes one row late.

    The last row of a member is held back until its final numbers can join it, so that its metrics
    file has every step once.
    """

    def __init__(self, size: int, callbacks: Mapping[str, Callback], writers: Writers) -> None:
        self.writers = writers
        self.hooks: list[list[tuple[str, Hook]]] = [
            [(name, c.hook()) for name, c in callbacks.items() if c.hook] for _ in range(size)
        ]
        self.held: list[Row | None] = [None] * size
        self.stopping: set[int] = set()
        self.failures: dict[int, str] = {}
        self.ended: set[int] = set()
        self._pending: Readings | None = None

    @property
    def all_done(self) -> bool:
        """No member is active any more, as far as the host knows."""
        return len(self.ended) == len(self.held)

    def put(self, readings: Readings) -> None:
        """Queue this chunk's readings; handle those of the chunk before."""
        before, self._pending = self._pending, readings
        if before is not None:
            self._handle(before)

    def catch_up(self) -> None:
        """Handle what is still queued."""
        if self._pending is not None:
            self._handle(self._pending)
            self._pending = None

    def finish(self, member: int, scalars: Mapping[str, float]) -> None:
        """Write a member's last row, with its final numbers."""
        row = self.held[member] or Row(0, 0.0)
        self._write(member, Row(row.step, row.epoch, row.scalars | dict(scalars), row.histograms))

    def _handle(self, readings: Readings) -> None:
        parts = jax.device_get(readings.parts)
        for member, place in readings.rows.items():
            outcomes = [part["outcome"][place] for part in parts if "outcome" in part]
            row = row_of(place, readings.step, readings.epoch, parts)
            if row is None or member in self.failures:
                self.ended.add(member)
                continue
            if outcomes and outcomes[-1] != ACTIVE:
                self.ended.add(member)
            self._keep(member, row)
            self._look(member, row)

    def _keep(self, member: int, row: Row) -> None:
        before, self.held[member] = self.held[member], row
        if before is not None:
            self._write(member, before)

    def _write(self, member: int, row: Row) -> None:
        try:
            self.writers.row(member, row)
        except MetricsError as error:
            self.fail(error.member, str(error))

    def _look(self, member: int, row: Row) -> None:
        if member in self.stopping:
            return  # its last row was on its way when it was told to stop
        for name, hook in self.hooks[member]:
            try:
                said = hook(row.step, row.epoch, row.scalars)
            except Exception as error:
                self.fail(member, f"callbacks.{name}: {type(error).__name__}: {error}")
                return
            if isinstance(said, Say | Stop):
                self.writers.message(member, said.text)
            if isinstance(said, Stop):
                self.stopping.add(member)

    def fail(self, member: int, cause: str) -> None:
        """A member's own hook or record broke: it ends here; the others go on."""
        self.failures.setdefault(member, cause)
        self.stopping.add(member)
        self.ended.add(member)


def row_of(place: int, step: int, epoch: float, parts: Sequence[Mapping[str, Any]]) -> Row | None:
    """One member's share of the readings; None if it was active in none of the parts."""
    row = Row(step, epoch)
    alive = [part for part in parts if "active" not in part or part["active"][place]]
    if not alive:
        return None
    for part in reversed(alive):  # of two readings of one name, the chunk's own stands
        for name, value in part.items():
            if isinstance(value, Binned):
                counts = np.asarray(value.counts[place], np.int64)
                row.histograms[name] = Histogram(counts, np.asarray(value.edges))
            elif name not in NOT_LOGGED:
                row.scalars[name] = float(value[place])
    return row
