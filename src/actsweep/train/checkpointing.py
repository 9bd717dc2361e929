"""Exact resume: members are saved during training, and go on from what was saved."""

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
from actsweep.train.types import ACTIVE, Pruned, Pruning, ResumePoint, State
from actsweep.utils.errors import UserError

log = logging.getLogger(__name__)

Lent = Mapping[str, float]
"""Numbers of a mixed activation that a member alone doesn't have; see `identity.lent_numbers`."""
SHARE = 50.0
"""After a save that took t seconds, the next one waits at least this many times t."""
MARGIN = 0.8
"""Share of `trainer.grace_s` after which no further member is saved."""


class Checkpointer:
    """Saver of a pack's members, at intervals and when a signal has asked for the end.

    Args:
        folders: one per member.
        metrics: their rows; a checkpoint is written only after the rows before it are on disk.
        about: metadata for every checkpoint.
        spent: seconds that each member has been trained before.
        trainer: how often to save, and how long ending may take.
        stop: the signals received so far.
        lent: of each member, what its pack's mixed activation has and it alone doesn't.
    """

    def __init__(
        self,
        folders: Sequence[RunDir],
        metrics: MetricsFile,
        about: Mapping[str, Any],
        spent: Sequence[float],
        trainer: TrainerConfig,
        stop: StopRequest,
        lent: Sequence[Lent] | None = None,
    ) -> None:
        self._lent = lent or [{}] * len(folders)
        self._folders, self._metrics, self._about = folders, metrics, dict(about)
        self._spent, self._trainer, self._stop = spent, trainer, stop
        self._began = time.monotonic()
        self._next = self._began + trainer.save_every_s
        self._ended: set[int] = set()
        self._warned = False

    def due(self, midway: bool) -> bool:
        """Return whether to save now, after a chunk or midway through one."""
        waits = midway and not self._trainer.save_every_s
        return self._stop.asked is not None or (time.monotonic() >= self._next and not waits)

    def asked(self) -> int | None:
        """Return the number of the signal that has asked training to end, or None."""
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
            state = jax.tree.map(lambda leaf: leaf[index], states)  # noqa: B023
            pruned = rows.pruned.get(index)
            try:
                if pruned is None:
                    self._save_one(index, step, epoch, state, ended=bool(state.outcome != ACTIVE))
                elif not pruned.stored:
                    self._save_one(index, pruned.step, pruned.epoch, _active(state), ended=True)
            except MetricsError as error:
                rows.fail(error.member, str(error))
        now = time.monotonic()
        every = self._trainer.save_every_s
        self._next = now + (max(every, SHARE * (now - began)) if every else 0.0)

    def _save_one(self, index: int, step: int, epoch: float, state: State, *, ended: bool) -> None:
        """Save one member's state; if that fails, its training goes on."""
        folder = self._folders[index]
        try:
            self._write(index, step, epoch, state, keep=2)
            run_dir.write_status(folder, "running", step=step, epoch=epoch)
        except MetricsError:
            raise
        except Exception as error:
            self._warn(f"{folder.run_id}: can't be saved ({error}); its training goes on")
        else:
            if ended:
                self._ended.add(index)

    def save_last(self, index: int, step: int, epoch: float, state: State) -> None:
        """Save the state in which one member's training ended, and remove its other checkpoints.

        Raises:
            Exception: the state can't be saved.
        """
        self._write(index, step, epoch, state, keep=1)

    def save_pruned(self, index: int, pruned: Pruned, state: State) -> None:
        """Save a pruned member as if it had been interrupted there: another sweep goes on with it.

        What was saved so before stays; other checkpoints are removed.

        Raises:
            Exception: the state can't be saved.
        """
        if pruned.stored:
            checkpoint.trim(self._folders[index].checkpoints, keep=1)
        else:
            self._write(index, pruned.step, pruned.epoch, _active(state), keep=1)

    def _write(self, index: int, step: int, epoch: float, state: State, keep: int) -> None:
        about = {
            **self._about,
            "epoch": epoch,
            "ended": bool(state.outcome != ACTIVE),
            "seconds": self.seconds(index),
            "mark": self._metrics.mark(index),
        }
        flat = checkpoint.without_lent(checkpoint.flatten(state._asdict()), self._lent[index])
        checkpoint.save(self._folders[index].checkpoints, step, flat, about, keep)

    def seconds(self, index: int) -> float:
        """Return a member's share of the seconds that its packs have taken."""
        return self._spent[index] + (time.monotonic() - self._began) / len(self._folders)

    def _late(self) -> bool:
        return self._stop.left(MARGIN * self._trainer.grace_s) == 0.0

    def _warn(self, text: str) -> None:
        if not self._warned:  # the others fail for the same reason: one line is enough
            log.warning("%s", text)
        self._warned = True


def _active(state: State) -> State:
    """Return a member's state as it was before it was stopped; nothing else changes then."""
    outcome: Any = np.full_like(state.outcome, ACTIVE)
    return state._replace(outcome=outcome)


@dataclass(frozen=True)
class ResumeGroup:
    """Members, by index, that go on from the same step; `start` is None for those that begin."""

    members: tuple[int, ...]
    start: ResumePoint | None
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class _Saved:
    state: State
    rows: list[Row]
    seconds: float


def resume_groups(
    folders: Sequence[RunDir],
    like: State,
    fresh: Sequence[bool],
    lent: Sequence[Lent] | None = None,
    pruning: Pruning | None = None,
) -> list[ResumeGroup]:
    """Return from where each member goes on, grouped by step.

    A checkpoint that is damaged, or whose rows are missing, is skipped with a warning, and the
    one before it is used.

    Args:
        folders: one per member.
        like: shapes of one member's state.
        fresh: for each member, whether it begins again, whatever is on disk.
        lent: as for `Checkpointer`.
        pruning: decides which of them were pruned before their newest checkpoint. Its judges are
            used up.
    """
    lent = lent or [{}] * len(folders)
    waiting = {
        place: {} if new else _ended_by_step(folder)
        for place, (folder, new) in enumerate(zip(folders, fresh, strict=True))
    }
    for place, known in waiting.items():
        if pruning and known and _was_pruned(folders[place], max(known), pruning, place):
            known[max(known)] = True
    groups: list[ResumeGroup] = []
    while waiting:
        step = _common(waiting.values())
        chosen = {p: at for p, known in waiting.items() if (at := _offer(known, step)) is not None}
        saved, broken = [], False
        for place, at in chosen.items():
            try:
                saved += [_load(folders[place], at, like, lent[place])] if at else []
            except CheckpointError as error:
                broken = True
                del waiting[place][at]
                before = max(waiting[place], default=0)
                how = f"goes on from step {before}" if before else "begins again"
                log.warning("%s: %s; %s", folders[place].run_id, error, how)
        if not broken:
            groups.append(_group(step, tuple(chosen), saved))
            waiting = {place: known for place, known in waiting.items() if place not in chosen}
    return groups


def load_resume_point(folders: Sequence[RunDir], step: int, like: State) -> ResumePoint | None:
    """Return the states of members at a step that the coordinator has chosen, without rows.

    Raises:
        CheckpointError: this process doesn't see the checkpoints that the coordinator sees.
    """
    if not step:
        return None
    states = []
    for folder in folders:
        at = _offer(_ended_by_step(folder), step)
        if not at:
            raise CheckpointError(
                f"{folder.checkpoints}: this process finds no checkpoint for step {step}"
            )
        flat, _ = checkpoint.load(folder.checkpoints, at)
        states.append(State(**checkpoint.unflatten(like._asdict(), flat)))
    return ResumePoint(step, _stacked(states), [[] for _ in folders])


def _stacked(states: Sequence[State]) -> State:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def _ended_by_step(folder: RunDir) -> dict[int, bool]:
    """Return the steps of a member's checkpoints, and whether it had ended there."""
    ended = {}
    for step in checkpoint.steps(folder.checkpoints):
        try:
            ended[step] = bool(checkpoint.metadata(folder.checkpoints, step).get("ended"))
        except CheckpointError:
            ended[step] = False  # `_load` reports what is wrong
    return ended


def _was_pruned(folder: RunDir, step: int, pruning: Pruning, place: int) -> bool:
    """Return whether a row up to a step is judged so; what can't be read is reported later."""
    judge, metric = pruning.judges[place], pruning.metric
    if judge is None:
        return False
    try:
        rows = read_rows(folder.metrics, step)
    except (OSError, UserError):
        return False
    scored = [row for row in rows if row.step and metric in row.scalars]
    return any(judge(round(row.epoch), row.scalars[metric]) for row in scored)


def _common(known: Collection[Mapping[int, bool]]) -> int:
    """Return the earliest of the newest steps, from which most members can go on; 0 to begin.

    Members that have ended can wait for any step.
    """
    newest = [max(steps, default=0) for steps in known]
    active = [top for top, steps in zip(newest, known, strict=True) if not steps.get(top)]
    return min(active) if active else max(newest)


def _offer(known: Mapping[int, bool], step: int) -> int | None:
    """Return the checkpoint for going on at a step, 0 if none is needed, None if impossible."""
    newest = max(known, default=0)
    if step in known or newest == step:
        return step
    return newest if newest < step and known.get(newest) else None


def _load(folder: RunDir, step: int, like: State, lent: Lent) -> _Saved:
    flat, about = checkpoint.load(folder.checkpoints, step)
    flat = checkpoint.with_lent(flat, like._asdict(), lent)
    state = State(**checkpoint.unflatten(like._asdict(), flat))
    if missing := lacks(folder.path, step, about.get("mark", {})):
        raise CheckpointError(f"checkpoint of step {step}: {missing}")
    rows = read_rows(folder.metrics, step)
    return _Saved(state, rows, float(about.get("seconds", 0.0)))


def _group(step: int, members: tuple[int, ...], saved: Sequence[_Saved]) -> ResumeGroup:
    if not saved:
        return ResumeGroup(members, None, (0.0,) * len(members))
    start = ResumePoint(step, _stacked([s.state for s in saved]), [s.rows for s in saved])
    return ResumeGroup(members, start, tuple(s.seconds for s in saved))


class NoCheckpoints:
    """Checkpointer that never saves: for tests, and for workers, whose coordinator saves."""

    def due(self, midway: bool) -> bool:
        """Return False: nothing is ever saved."""
        del midway
        return False

    def asked(self) -> int | None:
        """Return None: no signal asks training to end."""
        return None

    def save(self, step: int, epoch: float, states: State, rows: MetricLog) -> None:
        """Save nothing."""
