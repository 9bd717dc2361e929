"""Progress on stderr: a live display in a terminal, a line now and then elsewhere."""

import logging
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from actsweep.runs.rows import MemberInfo, Row

LINE_EVERY = 5.0
"""Seconds between two plain lines, at the least."""
LONG_EPOCH = 60.0
"""Seconds between two plain lines within an epoch."""
IN_TITLE = ("act", "model", "depth", "depth.layers", "seed")
"""Overrides that every title shows."""


class Console:
    """A display of one pack's training, and where it stands in the sweep.

    Args:
        run_offset: runs of the sweep that were done before this pack.
        total_runs: runs of the sweep; None when the pack is all there is.
        stream: where to; None for stderr. stdout is kept for the final table.
        live: whether to draw; None to draw only in a terminal.
        differing: by run id, the overrides that aren't the same for all runs of the sweep.
    """

    def __init__(
        self,
        run_offset: int = 0,
        total_runs: int | None = None,
        stream: TextIO | None = None,
        live: bool | None = None,
        differing: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._offset = run_offset
        self._differing = differing or {}
        self._total = total_runs
        self._stream = stream or sys.stderr
        drawable = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._live = drawable if live is None else live
        self._members: list[MemberInfo] = []
        self._latest: dict[int, dict[str, float]] = {}
        self._steps: dict[int, int] = {}
        self._states: dict[int, str] = {}
        self._epoch = self._first_epoch = 0.0
        self._start = self._counted_from = 0.0
        self._printed_at = -math.inf
        self._printed_epoch = -1
        self._display: _Live | None = None

    def check(self, members: Sequence[MemberInfo]) -> None:
        """Refuse nothing."""

    def open(self, members: Sequence[MemberInfo]) -> None:
        """Start the clock and, in a terminal, the display."""
        self._members = list(members)
        self._start = self._counted_from = time.monotonic()
        if self._live:
            total = self._total or len(members)
            self._display = _Live(self._stream, self._title(), self._epochs(), total)
            self._display.update(self._epoch, "", self._offset, f"of {total} runs")

    def row(self, member: int, row: Row) -> None:
        """Take the newest numbers; show them once every live member has sent this step."""
        if not self._latest and self._members[member].resumed_at is not None:
            self._first_epoch, self._counted_from = row.epoch, time.monotonic()
        self._latest.setdefault(member, {}).update(row.scalars)
        self._steps[member] = row.step
        self._epoch = max(self._epoch, row.epoch)
        live = self._live_members()
        if all(self._steps.get(other) == row.step for other in live):
            self._show()

    def message(self, member: int, text: str) -> None:
        """Print one line, above the display where there is one."""
        self._print(f"{self._members[member].run_id}: {text}")

    def finish(self, member: int, state: str, summary: dict[str, Any]) -> None:
        """Count the member as done; after the last one, print the pack's line."""
        self._states[member] = state
        if self._display:
            self._show()
        if len(self._states) == len(self._members):
            self._end()

    def close(self) -> None:
        """Remove the display; print the last line if the pack was interrupted."""
        if self._members and len(self._states) < len(self._members):
            self._end()
        self._members = []

    def _show(self) -> None:
        if self._display:
            total = self._total or len(self._members)
            runs = f"of {total} runs  {self._eta()}"
            done = self._offset + len(self._states)
            self._display.update(self._epoch, self._numbers(), done, runs)
            return
        now, epoch = time.monotonic(), math.floor(self._epoch)
        waited = now - self._printed_at
        if waited >= (LINE_EVERY if epoch > self._printed_epoch else LONG_EPOCH):
            self._printed_at, self._printed_epoch = now, epoch
            self._print(f"{self._head()}  {self._numbers()}  {self._eta()}")

    def _end(self) -> None:
        if self._display:
            self._display.stop()
            self._display = None
        ended = ", ".join(
            f"{list(self._states.values()).count(state)} {state}"
            for state in dict.fromkeys(self._states.values())
        )
        seconds = _clock(time.monotonic() - self._start)
        self._print(f"{self._head()}  {ended or 'interrupted'}  {self._numbers()}  in {seconds}")

    def _head(self) -> str:
        total = self._total or len(self._members)
        done = self._offset + len(self._states)
        epochs = f"epoch {round(self._epoch, 1):g}/{self._epochs()}"
        return f"[{done}/{total} runs] {self._title()}  {epochs}"

    def _title(self) -> str:
        acts = dict.fromkeys(f"{info.act} {info.model}{info.depth}" for info in self._members)
        seeds = sorted({info.seed for info in self._members})
        extra = "" if len(self._members) == len(seeds) else f" ({len(self._members)} runs)"
        return f"{', '.join(acts)}{self._settings()}  seed {_few(seeds)}{extra}"

    def _settings(self) -> str:
        """Return what tells these runs from the sweep's others, and from each other, if anything.

        What the title says in any case is left out.
        """
        own = [self._differing.get(info.run_id, {}) for info in self._members]
        keys = dict.fromkeys(key for values in own for key in values if key not in IN_TITLE)
        texts = []
        for key in keys:
            values = dict.fromkeys(one[key] for one in own if key in one)
            ordered: list[str] = sorted(values, key=_as_number)
            texts.append(f"  {key} {_few(ordered)}")
        return "".join(texts)

    def _epochs(self) -> int:
        return max((info.total_epochs for info in self._members), default=0)

    def _live_members(self) -> list[int]:
        return [member for member in range(len(self._members)) if member not in self._states]

    def _numbers(self) -> str:
        members = self._live_members() or range(len(self._members))
        shown = []
        for name, label, form in (
            ("train/loss", "loss", ".4f"),
            ("val/accuracy", "val acc", ".4f"),
            ("val/mean_average_precision", "val mAP", ".4f"),
            ("val/perplexity", "val perplexity", ".2f"),
        ):
            values = [self._latest.get(member, {}).get(name, math.nan) for member in members]
            known = [value for value in values if math.isfinite(value)]
            if known:
                shown.append(f"{label} {sum(known) / len(known):{form}}")
        return "  ".join(shown)

    def _eta(self) -> str:
        """Estimate the time left, as if the runs to come took as long as these."""
        done = self._epoch - self._first_epoch
        if done <= 0.0:
            return ""
        an_epoch = (time.monotonic() - self._counted_from) / done
        packs = ((self._total or len(self._members)) - self._offset) / len(self._members)
        left = self._epochs() * max(packs, 1.0) - self._epoch
        return f"{_clock(an_epoch * max(left, 0.0))} left"

    def _print(self, line: str) -> None:
        if self._display:
            self._display.print(line)
        else:
            print(line, file=self._stream, flush=True)


def _few(values: Sequence[object]) -> str:
    """Return up to three values, or the first and the last of more."""
    return f"{values[0]}..{values[-1]}" if len(values) > 3 else ",".join(map(str, values))


def _as_number(text: str) -> tuple[float, str]:
    """Return a key that sorts numbers as numbers, and after them what is none."""
    try:
        return float(text), ""
    except ValueError:
        return math.inf, text


class _Live:
    """Two bars, the sweep's and the pack's, that leave no trace when they stop."""

    def __init__(self, stream: TextIO, title: str, epochs: int, runs: int) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        def text(template: str) -> TextColumn:
            column = Column(no_wrap=True, overflow="ellipsis")
            return TextColumn(template, markup=False, table_column=column)

        bar = BarColumn(bar_width=20, table_column=Column(no_wrap=True))
        self._progress = Progress(
            text("{task.description}"),
            bar,
            text("{task.completed:.0f}/{task.total:.0f}"),
            text("{task.fields[info]}"),
            console=RichConsole(file=stream, force_terminal=True),
            refresh_per_second=4,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # a redirected stdout stays as it is
            redirect_stderr=True,
        )
        self._pack = self._progress.add_task(title, total=epochs, info="")
        self._sweep = self._progress.add_task("sweep", total=runs, info="")
        streams = {id(sys.stdout): "stdout", id(sys.stderr): "stderr"}
        self._progress.start()
        self._handlers: list[tuple[logging.StreamHandler[Any], Any]] = []
        for handler in logging.getLogger().handlers:
            name = streams.get(id(getattr(handler, "stream", None)))
            if name and isinstance(handler, logging.StreamHandler):  # else it prints into the bars
                self._handlers.append((handler, handler.setStream(getattr(sys, name))))

    def update(self, epoch: float, numbers: str, runs: int, info: str) -> None:
        self._progress.update(self._pack, completed=epoch, info=numbers)
        self._progress.update(self._sweep, completed=runs, info=info)

    def print(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        for handler, stream in self._handlers:
            if stream is not None:
                handler.setStream(stream)
        self._progress.stop()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
