"""Run directories on disk: a run's files, its state, and the members of a sweep.

Everything is written to a temporary file, flushed to the disk and renamed, so a reader sees either
the old file or the new one. JSON has no NaN and no infinity: both are written as null.
"""

import contextlib
import csv
import io
import os
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from actsweep.utils.errors import UserError
from actsweep.utils.files import csv_cell, csv_text, read_json, remove, write_atomic, write_json
from actsweep.utils.provenance import provenance

STATES = ("running", "complete", "diverged", "pruned", "failed", "preempted")
ENDED = ("complete", "diverged", "pruned", "failed")
SUMMARY_FIELDS = (
    "act",
    "depth",
    "init",
    "seed",
    "lr",
    "epochs",
    "best_epoch",
    "best_val_accuracy",
    "test_accuracy",
    "test_loss",
    "train_loss",
    "dead_frac",
    "seconds",
)
MEMBERS_COLUMNS = ("run_id", "overrides", "state", *SUMMARY_FIELDS)
_TEXT_COLUMNS = ("run_id", "overrides", "state", "act", "init")


LASTING = ("sweep", "attempt", "resumed", "since", "training")
"""Fields of a status that later statuses of the same training keep."""


@dataclass(frozen=True)
class RunDir:
    """Paths of one run's files, in `<root>/runs/<run_id>/`; `root` is `paths.outputs`."""

    root: Path
    run_id: str

    @property
    def path(self) -> Path:
        """Return the run's folder."""
        return Path(self.root) / "runs" / self.run_id

    @property
    def config(self) -> Path:
        """Return the file of the frozen, resolved configuration."""
        return self.path / "config.yaml"

    @property
    def status(self) -> Path:
        """Return the file of state, step, times and provenance."""
        return self.path / "status.json"

    @property
    def metrics(self) -> Path:
        """Return the file of metrics: one JSON line per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def histograms(self) -> Path:
        """Return the file of every histogram's counts, edges and steps."""
        return self.path / "histograms.npz"

    @property
    def messages(self) -> Path:
        """Return the file of the warnings raised during training, one per line."""
        return self.path / "messages.log"

    @property
    def summary(self) -> Path:
        """Return the file of the final numbers."""
        return self.path / "summary.json"

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def wandb(self) -> Path:
        """Return the folder of W&B's own files."""
        return self.path / "wandb"


def check_writable(outputs: str) -> None:
    """Create the output folder and write to it once, so that a bad path fails before training.

    Raises:
        UserError: the folder can't be created or written.
    """
    probe = Path(outputs) / f".writable-{os.getpid()}-{threading.get_ident()}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(probe, "ok")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"paths.outputs={outputs}: can't write to {Path(outputs).absolute()}: "
            f"{error.strerror or error}; type for example paths.outputs=/some/folder"
        ) from error


def prepare(run: RunDir, config: Mapping[str, Any], **extra: Any) -> None:
    """Make a run's folder ready for a fresh training.

    What an earlier training left there is removed, its status first. A crash in the middle then
    leaves a run without a status, never a complete run with half its files. The status gets a
    `training`, a random token that tells this training from others of the same config.

    Args:
        run: the run's folder.
        config: the resolved configuration as nested plain dicts; written to `config.yaml`.
        extra: further fields of the status.
    """
    clear(run, config)
    token = secrets.token_hex(3)
    write_status(run, "running", step=0, epoch=0, since=_since(0), training=token, **extra)


def clear(run: RunDir, config: Mapping[str, Any]) -> None:
    """Make a run's folder one that hasn't begun: its configuration, and nothing else.

    Args:
        run: the run's folder.
        config: as for `prepare`.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    for file in (run.status, run.config, run.metrics, run.histograms, run.messages, run.summary):
        remove(file)
    for folder in (run.checkpoints, run.wandb, run.path / "tensorboard"):
        remove(folder)
    remove(run.path / "metrics.csv")
    _remove_leftovers(run)
    write_atomic(run.config, OmegaConf.to_yaml(OmegaConf.create(dict(config))))


def reopen(run: RunDir, step: int, epoch: float, **extra: Any) -> None:
    """Make a run's folder ready to go on from a step; what it holds up to there stays.

    Args:
        run: the run's folder.
        step: the step of the checkpoint.
        epoch: the epoch of the last row before it.
        extra: further fields of the status.
    """
    remove(run.summary)
    _remove_leftovers(run)
    before = (read_status(run) or {}).get("resumed", [])
    more = {"resumed": [*before, step], "since": _since(epoch), **extra}
    write_status(run, "running", step=step, epoch=epoch, **more)


def _since(epoch: float) -> dict[str, Any]:
    """Return when, and at which epoch, training began or went on.

    `actsweep status` estimates the time left from it.
    """
    return {"time": datetime.now(UTC).isoformat(timespec="seconds"), "epoch": epoch}


def _remove_leftovers(run: RunDir) -> None:
    """Remove unfinished files that a killed writer left."""
    for leftover in unfinished(run):
        with contextlib.suppress(OSError):
            remove(leftover)


def unfinished(run: RunDir) -> list[Path]:
    """Return the temporary files and folders of this program in a run's folder."""
    return [*run.path.glob(".*.tmp"), *run.checkpoints.glob(".step-*")]


@dataclass(frozen=True)
class RunRecord:
    """A run's status and summary at one moment; None for a file that is missing or unreadable."""

    status: Mapping[str, Any] | None
    summary: Mapping[str, Any] | None

    @property
    def state(self) -> str | None:
        """Return one of `STATES`, or None without a status."""
        return self.status["state"] if self.status else None

    def reusable(
        self, rerun: str, sweep: str, attempt: int, search: str = ""
    ) -> dict[str, Any] | None:
        """Return the summary of a run that `rerun` doesn't ask to train again.

        Args:
            rerun: which runs to train again. `failed`: those that failed or were cut short.
                `none`: those that were cut short. `diverged`: also those that diverged. `all`: all.
            sweep: name of the sweep that asks; it doesn't train again what it has trained itself.
            attempt: number of the sweep's attempt, from 1 on; each retry adds one.
            search: of a sweep that is a search that prunes, its `Search.token`.
        """
        if self.status is None or not keeps(self.status, rerun, sweep, attempt, search):
            return None
        if self.state == "failed":  # an error may have left no summary
            ended = {"state": "failed", "cause": self.status.get("cause")}
            return {**(self.summary or {}), **ended}
        return dict(self.summary) if self.summary else None

    def resumes(self, rerun: str, sweep: str, attempt: int) -> bool:
        """Return whether a run that isn't `reusable` goes on from its checkpoint."""
        cut_short = self.state in ("running", "preempted", "failed", "pruned")
        return cut_short and (rerun != "all" or is_of(self.status or {}, sweep, attempt))


def read_record(run: RunDir) -> RunRecord:
    """Read the status and summary of a run as they are now.

    Raises:
        UserError: the folder holds another run, copied or renamed.
    """
    summary = read_summary(run)
    check_owner(run, summary)
    return RunRecord(read_status(run), summary)


def check_owner(run: RunDir, summary: Mapping[str, Any] | None) -> None:
    """Check that a folder's summary is that of its run.

    Raises:
        UserError: it is another run's.
    """
    other = (summary or {}).get("run_id", run.run_id)
    if other != run.run_id:
        raise UserError(
            f"{run.path}: holds the run {other}, copied or renamed; move it to {run.root}/runs/"
            f"{other}, or away"
        )


def is_of(status: Mapping[str, Any], sweep: str, attempt: int) -> bool:
    """Return whether this attempt of this sweep was the last to train the run."""
    return (status.get("sweep"), status.get("attempt")) == (sweep, attempt)


def keeps(
    status: Mapping[str, Any], rerun: str, sweep: str, attempt: int, search: str = ""
) -> bool:
    """Return whether a run with this status isn't trained again; arguments as for `reusable`.

    What one search has pruned has ended for that search alone, in all its attempts: for any other
    sweep, one of the same name too, it was cut short, and goes on.
    """
    by_this_attempt = is_of(status, sweep, attempt)
    if status["state"] == "pruned":
        same = bool(search) and (status.get("sweep"), status.get("search")) == (sweep, search)
        return same and (rerun != "all" or by_this_attempt)
    kept = {
        "none": ("complete", "diverged", "failed"),
        "failed": ("complete", "diverged"),
        "diverged": ("complete", "diverged") if by_this_attempt else ("complete",),
        "all": ("complete", "diverged") if by_this_attempt else (),
    }
    return status["state"] in kept[rerun]


def write_status(
    run: RunDir,
    state: str,
    *,
    step: int,
    epoch: float,
    cause: str | None = None,
    **extra: Any,
) -> None:
    """Write `status.json`: the state, how far training has got, and which code trains it.

    Args:
        run: the run's folder.
        state: one of `STATES`.
        step: optimiser steps done.
        epoch: epochs done.
        cause: why it diverged, failed, was pruned or preempted.
        extra: further fields; they stay in later statuses of this training.

    Raises:
        ValueError: an unknown state.
    """
    if state not in STATES:
        raise ValueError(f"state={state!r}: must be one of {', '.join(STATES)}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = read_status(run) or {}
    status = {
        "state": state,
        "step": int(step),
        "epoch": epoch,
        "cause": cause,
        "started": before.get("started", now),
        **{key: before[key] for key in LASTING if key in before},
        "updated": now,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        **provenance(),
        **extra,
    }
    write_json(run.status, status)


def read_status(run: RunDir) -> dict[str, Any] | None:
    """Return the run's status, or None if there is none that can be read."""
    status = read_json(run.status)
    return status if status and status.get("state") in STATES else None


def read_summary(run: RunDir) -> dict[str, Any] | None:
    """Return the run's final numbers, or None if there are none that can be read."""
    return read_json(run.summary)


def sweep_dir(outputs: str | Path, name: str) -> Path:
    """Return the folder of one sweep, `<outputs>/sweeps/<name>/`."""
    return Path(outputs) / "sweeps" / name


def write_members_csv(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write a sweep's `members.csv`, one line per run; return its path.

    Args:
        folder: the sweep's folder; created if it is missing.
        rows: dicts with any of `MEMBERS_COLUMNS`; other keys follow as sorted extra columns.
            A list of overrides is joined by spaces; None and missing values stay empty.
    """
    extra = sorted({key for row in rows for key in row} - set(MEMBERS_COLUMNS))
    text = io.StringIO()
    table = csv.DictWriter(text, [*MEMBERS_COLUMNS, *extra], restval="", lineterminator="\n")
    table.writeheader()
    for row in rows:
        overrides = row.get("overrides", "")
        if isinstance(overrides, list | tuple):
            overrides = " ".join(map(str, overrides))
        cells = {**row, "overrides": overrides}
        table.writerow({key: csv_cell(value) for key, value in cells.items()})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "members.csv"
    write_atomic(path, text.getvalue())
    return path


def read_members_csv(folder: Path) -> list[dict[str, Any]]:
    """Return a sweep's members, with numbers as numbers and empty cells as None."""
    with open(folder / "members.csv", newline="") as file:
        return [
            {
                key: csv_text(cell) if key in _TEXT_COLUMNS else _number(cell)
                for key, cell in row.items()
            }
            for row in csv.DictReader(file)
        ]


def _number(cell: str) -> Any:
    for parse in (int, float):
        try:
            return parse(cell)
        except ValueError:
            continue
    return cell or None
