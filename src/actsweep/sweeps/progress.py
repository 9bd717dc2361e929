"""How far the runs of a sweep are, how fast they go, and how long it will take. No jax."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actsweep.sweeps.status import RunStatus, SweepSnapshot

ORDER = (
    *("complete", "pruned", "running", "failed", "diverged", "interrupted", "preempted"),
    *("starting", "queued", "waiting"),
)
"""Order in which states are listed."""

BESIDE_LOSS = ("val/accuracy", "val/mean_average_precision", "val/perplexity")
"""Scores that stand in the row of a validation."""
LAST = ("epoch", "train/loss", "val/loss")
TAILS = (1 << 14, 1 << 17, 1 << 20)  # bytes read from the end of a metrics file, until they suffice
SPANS = ((86400, "day"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class RunProgress:
    """How far one run is.

    Attributes:
        run: its id.
        state: as in `RunStatus`.
        epoch, epochs: epochs done, and how many it is to train.
        steps_per_second: optimiser steps a second since it began or went on; None if unknown.
        seconds_left: None if unknown.
        now: what it does, in words: its losses and where it is trained, or why it isn't.
    """

    run: str
    state: str
    epoch: float
    epochs: int
    steps_per_second: float | None
    seconds_left: float | None
    now: str


@dataclass(frozen=True)
class SweepProgress:
    """How far a sweep is.

    Attributes:
        counts: the number of runs in each state, in words.
        share: of all epochs, how many are done; a run that has ended counts as done.
        ended: whether nothing is left to train.
        supervised: whether a process trains it, or waits for its jobs.
        steps_per_second: of all runs that are being trained.
        runs_per_hour: since the first of these began; None if none is.
        seconds_left: None if unknown.
        runs: those that haven't ended, those in training first.
    """

    counts: str
    share: float
    ended: bool
    supervised: bool
    steps_per_second: float | None
    runs_per_hour: float | None
    seconds_left: float | None
    runs: Sequence[RunProgress]

    def plain(self) -> dict[str, Any]:
        """Return it as JSON, with durations in words."""
        words = {"left": None if self.seconds_left is None else span(self.seconds_left)}
        runs = [
            {**asdict(run), "left": None if run.seconds_left is None else span(run.seconds_left)}
            for run in self.runs
        ]
        return {**asdict(self), **words, "runs": runs}


def progress(sweep: "SweepSnapshot") -> SweepProgress:
    """Return how far a sweep is, by its runs' own files."""
    now = datetime.now(UTC)
    rows = {
        member.run.run_id: last_values(member.run.metrics, (*LAST, "step"))
        for member in sweep.runs
        if member.left and member.status
    }
    runs = [
        _run_progress(member, rows.get(member.run.run_id, {}))
        for member in sweep.runs
        if member.left
    ]
    runs.sort(key=lambda run: ORDER.index(run.state) if run.state in ORDER else len(ORDER))
    done = [1.0 if not m.left else _share(m, rows.get(m.run.run_id, {})) for m in sweep.runs]
    trained, hours = _trained(sweep, rows, now)
    rate = trained / hours if hours > 0 and trained > 0 else None
    left, speeds = len(done) - sum(done), [r.steps_per_second or 0.0 for r in runs]
    return SweepProgress(
        sweep.counts(),
        sum(done) / len(done) if done else 1.0,
        not runs,
        sweep.supervised,
        sum(speeds) or None,
        rate,
        3600 * left / rate if rate and sweep.supervised and runs else None,
        runs,
    )


def _run_progress(member: "RunStatus", row: Mapping[str, Any]) -> RunProgress:
    pace = _pace(member, row) if member.owner else None
    speed = pace * row["step"] / row["epoch"] if pace and row.get("step") else None
    return RunProgress(
        member.run.run_id,
        member.state,
        round(float(row.get("epoch") or 0), 3),
        member.epochs,
        speed,
        seconds_left(member, row),
        _doing(member, row),
    )


def _doing(member: "RunStatus", row: Mapping[str, Any]) -> str:
    if member.job and member.job.live and not member.owner:
        return member.job.where()
    if not member.owner:
        return str(member.status.get("cause") or "")
    scores = [f"{key} {row[key]:.4g}" for key in ("train/loss", *BESIDE_LOSS) if key in row]
    return ", ".join([f"on {member.owner.host}, process {member.owner.pid}", *scores])


def seconds_left(member: "RunStatus", row: Mapping[str, Any]) -> float | None:
    """Estimate the remaining time of a run in training, from its epochs since the last start.

    Args:
        member: the run.
        row: its last values.
    """
    pace = _pace(member, row) if member.owner else None
    return (member.epochs - row["epoch"]) / pace if pace else None


def _pace(member: "RunStatus", row: Mapping[str, Any]) -> float | None:
    """Return epochs a second since a run began or went on; None before its first epoch."""
    since = member.status.get("since")
    if not since or "epoch" not in row:
        return None
    written = datetime.fromtimestamp(member.run.metrics.stat().st_mtime, UTC)
    seconds = (written - datetime.fromisoformat(since["time"])).total_seconds()
    epochs = row["epoch"] - since["epoch"]
    return epochs / seconds if epochs > 0 and seconds > 0 else None


def _share(member: "RunStatus", row: Mapping[str, Any]) -> float:
    return min(1.0, float(row.get("epoch") or 0) / member.epochs) if member.epochs else 0.0


def _trained(
    sweep: "SweepSnapshot", rows: Mapping[str, Mapping[str, Any]], now: datetime
) -> tuple[float, float]:
    """Return how many runs' worth of epochs were trained, and in how many hours.

    Since the first of the runs that are in training began: what was before may have had a pause.
    """
    training = [m for m in sweep.runs if m.left and m.owner and "since" in m.status]
    if not training:
        return 0.0, 0.0
    first = min(_time(member.status["since"]["time"]) for member in training)
    runs = 0.0
    for member in training:
        share = _share(member, rows.get(member.run.run_id, {}))
        runs += max(0.0, share - member.status["since"]["epoch"] / max(1, member.epochs))
    for member in sweep.runs:
        if member.left or member.status.get("sweep") != sweep.folder.name:
            continue
        if "since" in member.status:
            began, ended = (_time(member.status["since"]["time"]), _time(member.status["updated"]))
            inside = (ended - max(first, began)).total_seconds()
            runs += max(0.0, inside / max(1.0, (ended - began).total_seconds()))
    return runs, (now - first).total_seconds() / 3600


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def span(seconds: float) -> str:
    """Return a duration in words, such as `3 min`."""
    for length, unit in SPANS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return "0 s"


def last_values(path: Path, keys: Sequence[str] = LAST) -> dict[str, Any]:
    """Read the newest epoch, training loss and validation scores from the end of a metrics file.

    Args:
        path: the file.
        keys: what is read beside the scores of the newest validation.

    Returns:
        `epoch`, `train/loss`, `val/loss` and the scores in `BESIDE_LOSS`, as far as the file has
        them; nothing if it can't be read. A last line that isn't complete is ignored.
    """
    values: dict[str, Any] = {}
    try:
        with open(path, "rb") as file:
            end = file.seek(0, 2)
            for size in TAILS:
                start = file.seek(max(0, end - size))
                lines = file.read(end - start).split(b"\n")[:-1]
                values = _newest_values(lines[1:] if start else lines, keys)
                if start == 0 or ("val/loss" in values and "train/loss" in values):
                    break
    except OSError:
        pass
    return values


def _newest_values(lines: Sequence[bytes], keys: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, dict):
            continue
        if "val/loss" in row and "val/loss" not in values:
            values |= {key: row.get(key) for key in BESIDE_LOSS}
        for key in keys:
            if key in row:
                values.setdefault(key, row[key])
        if "train/loss" in values and "val/loss" in values:
            break
    return {key: value for key, value in values.items() if value is not None}
