"""Exact resume: saves members on the way, and finds from where each can go on."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from actsweep.config.schema import TrainerConfig
from actsweep.runs import checkpoint, run_dir
from actsweep.runs.checkpoint import CheckpointError
from actsweep.runs.metrics_file import MetricsFile, lacks, read_rows
from actsweep.runs.rows import MetricsError, Row
from actsweep.runs.run_dir import RunDir
from actsweep.runtime.signals import StopRequest
from actsweep.train.metric_log import MetricLog
from actsweep.train.types import ACTIVE, ResumePoint, State

log = logging.getLogger(__name__)

SHARE = 50.0
"""Saving a pack that took t seconds isn't done again for this many times t."""
MARGIN = 0.8
"""Share of `trainer.grace_s` after which no further member is saved."""


class Checkpointer:
    """Saves the members of a pack when it is time, or a signal asks for it; then ends the pack.

    Args:
        folders: one a member.
        metrics: their rows; what a checkpoint builds on is made safe first.
        about: metadata for every checkpoint.
        spent: seconds that each member has had before.
        trainer: how often, and how long ending may take.
        stop: what signals have asked for.
    """

    def __init__(
        self,
        folders: Sequence[RunDir],
        metrics: MetricsFile,
        about: Mapping[str, Any],
        spent: Sequence[float],
        trainer: TrainerConfig,
        stop: StopRequest,
    ) -> None:
        self._folders, self._metrics, self._about = folders, metrics, dict(about)
        self._spent, self._trainer, self._stop = spent, trainer, stop
        self._began = time.monotonic()
        self._next = self._began + trainer.save_every_s
        self._ended: set[int] = set()
        self._warned = False

    def due(self, midway: bool) -> bool:
        """Whether to save now, after a chunk or midway through one."""
        waits = midway and not self._trainer.save_every_s
        return self._stop.asked is not None or (time.monotonic() >= self._next and not waits)

    def asked(self) -> int | None:
        """The number of the signal that has asked for the training to end."""
        return self._stop.asked

    def save(self, step: int, epoch: float, states: State, rows: MetricLog) -> None:
        """Save every member that can go on."""
        began = time.monotonic()
        for index in range(len(self._folders)):
            if index in rows.failures or index in self._ended:
                continue
            if self._stop.asked is not None and self._late():
                log.warning("saved %d of %d runs in time", index, len(self._folders))
                break
            own = jax.tree.map(lambda leaf: leaf[index], states)  # noqa: B023
            try:
                self._save_one(index, step, epoch, own)
            except MetricsError as error:
                rows.fail(error.member, str(error))
        now = time.monotonic()
        every = self._trainer.save_every_s
        self._next = now + (max(every, SHARE * (now - began)) if every else 0.0)

    def _save_one(self, index: int, step: int, epoch: float, own: State) -> None:
        """Save one member's state; one that can't be saved trains on all the same."""
        folder, active = self._folders[index], bool(own.outcome == ACTIVE)
        try:
            self._write(index, step, epoch, own, keep=2)
            run_dir.write_status(folder, "running", step=step, epoch=epoch)
        except MetricsError:
            raise
        except Exception as error:
            self._warn(f"{folder.run_id}: can't be saved ({error}); it trains on")
        else:
            if not active:
                self._ended.add(index)

    def save_last(self, index: int, step: int, epoch: float, own: State) -> None:
        """Save the state in which one member's training ended; it is the only one to stay.

        Raises:
            Exception: it can't be saved.
        """
        self._write(index, step, epoch, own, keep=1)

    def _write(self, index: int, step: int, epoch: float, own: State, keep: int) -> None:
        about = {
            **self._about,
            "epoch": epoch,
            "ended": bool(own.outcome != ACTIVE),
            "seconds": self.seconds(index),
            "mark": self._metrics.mark(index),
        }
        flat = checkpoint.flatten(own._asdict())
        checkpoint.save(self._folders[index].checkpoints, step, flat, about, keep)

    def seconds(self, index: int) -> float:
        """A member's share of the time that its packs have taken."""
        return self._spent[index] + (time.monotonic() - self._began) / len(self._folders)

    def _late(self) -> bool:
        return self._stop.left(MARGIN * self._trainer.grace_s) == 0.0

    def _warn(self, text: str) -> None:
        if not self._warned:  # the others can't be saved either, and will say so again
            log.warning("%s", text)
        self._warned = True


@dataclass(frozen=True)
class ResumeGroup:
    """Members, by place in a list, that go on together; `start` is None for those that begin."""

    members: tuple[int, ...]
    start: ResumePoint | None
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class _Saved:
    state: State
    rows: list[Row]
    seconds: float


def resume_groups(
    folders: Sequence[RunDir], like: State, fresh: Sequence[bool]
) -> list[ResumeGroup]:
    """From where each member goes on: as many together as share a step.

    A checkpoint that is damaged, or whose rows are gone, is left out with a line that says so, and
    the one before it is used.

    Args:
        folders: one a member.
        like: shapes of one member's state.
        fresh: whether a member begins anew, whatever is on disk.
    """
    waiting = {
        place: {} if new else _ended_by_step(folder)
        for place, (folder, new) in enumerate(zip(folders, fresh, strict=True))
    }
    found: list[ResumeGroup] = []
    while waiting:
        step = _common(waiting.values())
        chosen = {p: at for p, known in waiting.items() if (at := _offer(known, step)) is not None}
        saved, broken = [], False
        for place, at in chosen.items():
            try:
                saved += [_load(folders[place], at, like)] if at else []
            except CheckpointError as error:
                broken = True
                del waiting[place][at]
                before = max(waiting[place], default=0)
                how = f"goes on from step {before}" if before else "begins anew"
                log.warning("%s: %s; %s", folders[place].run_id, error, how)
        if not broken:
            found.append(_point(step, tuple(chosen), saved))
            waiting = {place: known for place, known in waiting.items() if place not in chosen}
    return found


def load_resume_point(folders: Sequence[RunDir], step: int, like: State) -> ResumePoint | None:
    """Where members go on at a step, as another process that shares their folders has found;
    without their rows.

    Raises:
        CheckpointError: a checkpoint isn't what that process has seen.
    """
    if not step:
        return None
    states = []
    for folder in folders:
        at = _offer(_ended_by_step(folder), step)
        if not at:
            raise CheckpointError(
                f"{folder.checkpoints}: no checkpoint for step {step} is seen here"
            )
        flat, _ = checkpoint.load(folder.checkpoints, at)
        states.append(State(**checkpoint.unflatten(like._asdict(), flat)))
    return ResumePoint(step, _stacked(states), [[] for _ in folders])


def _stacked(states: Sequence[State]) -> State:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def _ended_by_step(folder: RunDir) -> dict[int, bool]:
    """The steps of a member's checkpoints, and whether it had ended there."""
    found = {}
    for step in checkpoint.steps(folder.checkpoints):
        try:
            found[step] = bool(checkpoint.metadata(folder.checkpoints, step).get("ended"))
        except CheckpointError:
            found[step] = False  # `_load` will say what is wrong
    return found


def _common(known: Collection[Mapping[int, bool]]) -> int:
    """The step that most can go on from: the earliest of the newest. Who has ended can wait for
    any step; 0 is the beginning."""
    newest = [max(steps, default=0) for steps in known]
    active = [top for top, steps in zip(newest, known, strict=True) if not steps.get(top)]
    return min(active) if active else max(newest)


def _offer(known: Mapping[int, bool], step: int) -> int | None:
    """The checkpoint with which a member can go on at a step, 0 for none, None if it can't."""
    newest = max(known, default=0)
    if step in known or newest == step:
        return step
    return newest if newest < step and known.get(newest) else None


def _load(folder: RunDir, step: int, like: State) -> _Saved:
    flat, about = checkpoint.load(folder.checkpoints, step)
    state = State(**checkpoint.unflatten(like._asdict(), flat))
    if missing := lacks(folder.path, step, about.get("mark", {})):
        raise CheckpointError(f"checkpoint of step {step}: {missing}")
    rows = read_rows(folder.metrics, step)
    return _Saved(state, rows, float(about.get("seconds", 0.0)))


def _point(step: int, members: tuple[int, ...], saved: Sequence[_Saved]) -> ResumeGroup:
    if not saved:
        return ResumeGroup(members, None, (0.0,) * len(members))
    start = ResumePoint(step, _stacked([one.state for one in saved]), [one.rows for one in saved])
    return ResumeGroup(members, start, tuple(one.seconds for one in saved))


class NoCheckpoints:
    """Saves nothing and asks for nothing: for tests, and for workers, whose coordinator saves."""

    def due(self, midway: bool) -> bool:
        """Whether to save now: never."""
        del midway
        return False

    def asked(self) -> int | None:
        """The number of the signal that has asked for the training to end: none."""
        return None

    def save(self, step: int, epoch: float, states: State, rows: MetricLog) -> None:
        """Save nothing."""
