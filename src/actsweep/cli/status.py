"""What `actsweep status` shows: sweeps, their runs, how far they are, what to type. No jax."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from actsweep.runs import run_dir
from actsweep.sweeps import find, plan, slurm_jobs, table
from actsweep.sweeps.status import RunStatus, SweepSnapshot, take_snapshot
from actsweep.utils.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

NEWEST = 10  # sweeps that are listed
STYLES = {
    "complete": "green",
    "running": "cyan",
    "failed": "red",
    "diverged": "red",
    "interrupted": "yellow",
    "preempted": "yellow",
    "starting": "cyan",
    "queued": "",
}
TAILS = (1 << 14, 1 << 17, 1 << 20)  # bytes of a metrics file's end, as many as it takes
SPANS = ((86400, "day"), (3600, "h"), (60, "min"), (1, "s"))


def show(
    outputs: Path, name: str | None, stream: TextIO | None = None, width: int | None = None
) -> None:
    """Print one sweep's runs; without a name the newest sweeps, and the runs of the last.

    Args:
        outputs: `paths.outputs`.
        name: of a sweep, a path, or `last`.
        stream: where to; standard output by default.
        width: columns of text; by default the terminal's.

    Raises:
        UserError: there is no such sweep, or none at all.
    """
    console = table.plain_console(stream, width)
    last = find.find_sweep(outputs, name or find.LAST)
    if name is None:
        listed = find.newest(outputs)
        console.print(_list(listed[:NEWEST], console.width))
        if len(listed) > NEWEST:
            console.print(f"and {len(listed) - NEWEST} before these, in {outputs}/sweeps")
        console.print()
    sweep = take_snapshot(last)
    console.print(sweep.command, style="bold", no_wrap=True, overflow="ellipsis")
    console.print(_members(sweep))
    console.print(f"\n{sweep.folder.name}: {sweep.counts()}")
    for line in table.causes([_result(one) for one in sweep.runs if one.state in run_dir.ENDED]):
        console.print(line, style="yellow", soft_wrap=True)
    for line in [*_deaths(sweep), *_next(sweep)]:
        console.print(line, soft_wrap=True)


def _deaths(sweep: SweepSnapshot) -> list[str]:
    """Jobs that are over, with runs that they should have trained: what they have said last."""
    dead = {
        one.job.name: one.job for one in sweep.runs if one.left and one.job and not one.job.live
    }
    lines = [f"SLURM can't be asked: {sweep.trouble}"] if sweep.trouble else []
    for job in dead.values():
        said = slurm_jobs.last_lines(job.log)
        lines.append(f"{job.where()}: {job.state}{f'; {job.log} ends:' if said else ''}")
        lines += [f"    {line}" for line in said]
    return lines


def _list(folders: Sequence[Path], width: int) -> "Table":
    """Name, states and command of sweeps; the command is cut to what is left of the width."""
    rows = []
    for folder in folders:
        try:
            one = take_snapshot(folder)
            rows.append((folder.name, one.counts(), one.command))
        except (UserError, KeyError) as error:
            rows.append((folder.name, "?", str(error)))
    left = width - 4 - max(len(row[0]) for row in rows) - max(len(row[1]) for row in rows)
    found = _table()
    found.add_column("sweep", no_wrap=True)
    found.add_column("runs", min_width=16)
    found.add_column("command", no_wrap=True)
    for name, counts, command in rows:
        found.add_row(name, counts, textwrap.shorten(command, max(left, 16), placeholder=" …"))
    return found


def _table() -> "Table":
    from rich.table import Table

    return Table(box=None, pad_edge=False, header_style="bold")


def _members(sweep: SweepSnapshot) -> "Table":
    from rich.text import Text

    found = _table()
    found.add_column("run", overflow="fold")
    found.add_column("state", no_wrap=True)
    rows = [last_values(one.run.metrics) if one.status else {} for one in sweep.runs]
    scores = _scores(rows)
    ends = [_left(one, row) for one, row in zip(sweep.runs, rows, strict=True)]
    timed = any(ends)
    for title in ("epoch", *scores.values(), *["left"] * timed):
        found.add_column(title, justify="right", no_wrap=True)
    found.add_column("where, when", no_wrap=True)
    now = datetime.now(UTC)
    for one, row, end in zip(sweep.runs, rows, ends, strict=True):
        state = Text(one.state, STYLES.get(one.state, ""))
        known = {} if one.state == "waiting" else row
        cells = [_score(known.get(key), key) for key in scores] + [end or "–"] * timed
        found.add_row(one.run.run_id, state, _epoch(one, known), *cells, _where(one, now))
    return found


def _scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Accuracy for classes, loss for regression, both for a sweep over both."""
    shown = {
        "val/accuracy": "val\nacc, %",
        "val/loss": "val\nloss",
        "train/loss": "train\nloss",
    }
    classes = [row for row in rows if "val/accuracy" in row]
    others = [row for row in rows if "val/loss" in row and "val/accuracy" not in row]
    if not others:
        del shown["val/loss"]
    elif not classes:
        del shown["val/accuracy"]
    return shown


def _score(value: float | None, key: str) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.2f}" if key == "val/accuracy" else f"{value:.4g}"


def _epoch(one: RunStatus, row: Mapping[str, Any]) -> str:
    reached = row.get("epoch", 0 if one.state == "running" else None)
    return "–" if reached is None else f"{round(reached, 1):g}/{one.epochs}"


def _left(one: RunStatus, row: Mapping[str, Any]) -> str:
    """How long a run in training will take, from the epochs since it began or went on."""
    since = one.status.get("since")
    if not one.owner or not since or "epoch" not in row:
        return ""
    written = datetime.fromtimestamp(one.run.metrics.stat().st_mtime, UTC)
    took = (written - datetime.fromisoformat(since["time"])).total_seconds()
    done = row["epoch"] - since["epoch"]
    return span(took / done * (one.epochs - row["epoch"])) if done > 0 else ""


def _where(one: RunStatus, now: datetime) -> str:
    if one.job and one.job.live and one.left:
        again = one.job.queued and one.status
        return f"{'queued again: ' if again else ''}{one.job.where()}"
    if one.owner:
        return f"{one.owner.host}:{one.owner.pid}"
    if one.state == "waiting" or "updated" not in one.status:
        return "–"
    return ago((now - datetime.fromisoformat(one.status["updated"])).total_seconds())


def ago(seconds: float) -> str:
    """An age in words, such as `3 min ago`."""
    return f"{span(seconds)} ago" if seconds >= 1 else "now"


def span(seconds: float) -> str:
    """A time in words, such as `3 min`."""
    for length, unit in SPANS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return "0 s"


def _result(one: RunStatus) -> dict[str, Any]:
    return {"run_id": one.run.run_id, "state": one.state, "cause": one.status.get("cause")}


def _next(sweep: SweepSnapshot) -> list[str]:
    name = plan.name_of(sweep.folder)
    lines = []
    dead = any(one.left and not one.owner and one.job and not one.job.live for one in sweep.runs)
    if dead or (any(one.left for one in sweep.runs) and not sweep.tended):
        lines.append(f"go on:  actsweep resume {name}")
    if any(one.state == "failed" for one in sweep.runs) and not sweep.tended:
        lines.append(f"retry:  actsweep retry {name}")
    if any(one.job and one.job.live for one in sweep.runs):
        lines.append(f"stop:   actsweep cancel {name}")
    elif not any(one.left for one in sweep.runs):
        lines.append(f"table:  actsweep table {name}")
    return lines


def last_values(path: Path) -> dict[str, Any]:
    """The newest epoch, training loss and validation of a metrics file, read from its end.

    Returns:
        `epoch`, `train/loss`, `val/loss` and `val/accuracy`, as far as there are any. A last line
        that was cut short doesn't count.
    """
    found: dict[str, Any] = {}
    try:
        with open(path, "rb") as file:
            end = file.seek(0, 2)
            for size in TAILS:
                start = file.seek(max(0, end - size))
                lines = file.read(end - start).split(b"\n")[:-1]
                found = _newest_values(lines[1:] if start else lines)
                if start == 0 or ("val/loss" in found and "train/loss" in found):
                    break
    except OSError:
        pass
    return found


def _newest_values(lines: Sequence[bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, dict):
            continue
        if "val/loss" in row and "val/loss" not in found:
            found["val/accuracy"] = row.get("val/accuracy")
        for key in ("epoch", "train/loss", "val/loss"):
            if key in row:
                found.setdefault(key, row[key])
        if "train/loss" in found and "val/loss" in found:
            break
    return {key: value for key, value in found.items() if value is not None}
