"""Rows of members from the readings of a pack; hooks check them, writers store them.

Readings are fetched one chunk late, so that the devices never wait for the host.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from actsweep.callbacks.base import Callback, EarlyStop, Hook, LogMessage
from actsweep.loggers.base import Writers
from actsweep.runs.rows import MetricsError, Row
from actsweep.stats.histogram import Histogram
from actsweep.train.types import ACTIVE, ChunkReadings, Pruned, Pruning

NOT_LOGGED = ("active", "outcome")


class MetricLog:
    """Log that turns a pack's readings into members' rows, one chunk late, and runs the hooks.

    The effect of a row (a hook's stop, a member's end) comes once the chunk after it is over, even
    if a checkpoint made the row be written sooner: saving changes nothing.

    Where members may be pruned, the row of an epoch is fetched and judged at once, so that a pruned
    member takes no further step.

    Attributes:
        last: every member's last row.
        failures: for each failed member, why its training can't go on.
        pruned: where members were pruned.
    """

    def __init__(
        self,
        size: int,
        callbacks: Mapping[str, Callback],
        writers: Writers,
        pruning: Pruning | None = None,
    ) -> None:
        self.writers, self._pruning = writers, pruning
        self.pruned: dict[int, Pruned] = {}
        self.hooks: list[list[tuple[str, Hook]]] = [
            [(name, c.hook()) for name, c in callbacks.items() if c.hook] for _ in range(size)
        ]
        self.last: list[Row] = [Row(0, 0.0)] * size
        self.failures: dict[int, str] = {}
        self._stopping: dict[int, int] = {}  # member -> step of the row that stopped it
        self._ended: dict[int, int] = {}
        self._pending: ChunkReadings | None = None

    def stopping(self, step: int) -> list[int]:
        """Return the members that a row before this step stopped, or were pruned, in order."""
        before = {member for member, at in self._stopping.items() if at < step}
        return sorted(before | self._pruned_by(step))

    def ended(self, step: int) -> list[int]:
        """Return the members that rows before this step show as ended, or pruned, in order."""
        before = {member for member, at in self._ended.items() if at < step}
        return sorted(before | self._pruned_by(step))

    def _pruned_by(self, step: int) -> set[int]:
        return {member for member, pruned in self.pruned.items() if pruned.step <= step}

    def replay(self, member: int, rows: Sequence[Row], *, active: bool) -> None:
        """Run a member's hooks on the rows that are on disk, as when these were first written.

        `active`: whether training goes on after the last of them.
        """
        for row in rows:
            self.last[member] = row
            self._run_hooks(member, row, stored=True)
            if active:
                self._judge(member, row, stored=True)
        if not active:
            self._ended.setdefault(member, self.last[member].step)

    def put(self, readings: ChunkReadings) -> None:
        """Queue this chunk's readings; write those of the chunk before."""
        self.catch_up()
        self._pending = readings
        if self._pruning and readings.step and readings.epoch.is_integer():
            self.catch_up()

    def catch_up(self) -> None:
        """Write the readings that are still queued."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._handle(pending)

    def finish(self, member: int, scalars: Mapping[str, float]) -> None:
        """Add the final numbers to a member's last row."""
        if scalars:
            row = self.last[member]
            self._write(member, Row(row.step, row.epoch, dict(scalars)))

    def _handle(self, readings: ChunkReadings) -> None:
        parts = jax.device_get(readings.parts)
        for member, place in readings.rows.items():
            outcomes = [part["outcome"][place] for part in parts if "outcome" in part]
            row = row_of(place, readings.step, readings.epoch, parts)
            if row is None or member in self.failures:
                self._ended.setdefault(member, readings.step)
                continue
            if any(outcome != ACTIVE for outcome in outcomes):
                self._ended.setdefault(member, readings.step)
            self.last[member] = row
            self._write(member, row)
            self._run_hooks(member, row)
            self._judge(member, row)

    def _judge(self, member: int, row: Row, *, stored: bool = False) -> None:
        """Prune a member that has validated, if it is still training and its judge says so."""
        judge = self._pruning.judges[member] if self._pruning else None
        if judge is None or self._pruning is None or not row.step:
            return
        score = row.scalars.get(self._pruning.metric)
        ended = member in self._ended or member in self.failures or member in self.pruned
        if score is not None and not ended and judge(round(row.epoch), score):
            self.pruned[member] = Pruned(row.step, row.epoch, stored)

    def _write(self, member: int, row: Row) -> None:
        try:
            self.writers.row(member, row)
        except MetricsError as error:
            self.fail(error.member, str(error))

    def _run_hooks(self, member: int, row: Row, *, stored: bool = False) -> None:
        """Run a member's hooks; a `stored` row has the numbers that they returned before."""
        if member in self._stopping:  # this row was measured before the stop took effect
            self._ended.setdefault(member, row.step)
            return
        for name, hook in self.hooks[member]:
            try:
                action = hook(row.step, row.epoch, row.scalars)
                if isinstance(action, Mapping) and not stored:
                    self._add(member, row, _numbers(action, row.scalars))
            except Exception as error:
                self.fail(member, f"callbacks.{name}: {type(error).__name__}: {error}")
                return
            if isinstance(action, LogMessage | EarlyStop):
                self.writers.message(member, action.text)
            if isinstance(action, EarlyStop):
                self._stopping[member] = row.step

    def _add(self, member: int, row: Row, numbers: Mapping[str, float]) -> None:
        if numbers:
            self._write(member, Row(row.step, row.epoch, dict(numbers)))
            row.scalars.update(numbers)

    def fail(self, member: int, cause: str) -> None:
        """End a member whose hook or metrics file raised; the others go on."""
        self.failures.setdefault(member, cause)
        self._stopping.setdefault(member, self.last[member].step)
        self._ended.setdefault(member, self.last[member].step)


def _numbers(returned: Mapping[str, float], taken: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers that a hook has returned.

    Raises:
        ValueError: what it returned is no number, or its name is taken.
    """
    numbers = {}
    for name, value in returned.items():
        if not isinstance(name, str) or name in ("step", "epoch") or name in taken:
            raise ValueError(f"it returned a number called {name!r}, a name that is taken")
        if np.ndim(value) or not isinstance(np.asarray(value).item(), int | float):
            raise ValueError(f"it returned {value!r} for {name}, which is not a number")
        numbers[name] = float(value)
    return numbers


def row_of(place: int, step: int, epoch: float, parts: Sequence[Mapping[str, Any]]) -> Row | None:
    """Return one member's readings as a row; None if it was active in none of the parts."""
    row = Row(step, epoch)
    alive = [part for part in parts if "active" not in part or part["active"][place]]
    if not alive:
        return None
    for part in reversed(alive):  # of two readings with one name, the chunk's own is kept
        for name, value in part.items():
            if isinstance(value, Histogram):
                counts = np.asarray(value.counts[place], np.int64)
                row.histograms[name] = Histogram(counts, np.asarray(value.edges))
            elif name not in NOT_LOGGED:
                row.scalars[name] = float(value[place])
    return row
