"""A sweep as it is now, as text and as plain values: runs, progress, what to type next. No jax."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from actsweep.runs import run_dir
from actsweep.stats.scores import SCORES
from actsweep.sweeps import plan, slurm_jobs, table
from actsweep.sweeps.progress import last_values, seconds_left, span

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from actsweep.sweeps.status import RunStatus, SweepSnapshot

STYLES = {
    "complete": "green",
    "pruned": "green",
    "running": "cyan",
    "failed": "red",
    "diverged": "red",
    "interrupted": "yellow",
    "preempted": "yellow",
    "starting": "cyan",
    "queued": "",
}


def as_text(sweep: "SweepSnapshot") -> str:
    """Return what `actsweep status NAME` prints, for as many columns as it takes."""
    stream = io.StringIO()
    describe(sweep, table.plain_console(stream, table.UNLIMITED))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def describe(sweep: "SweepSnapshot", console: "Console") -> None:
    """Print a sweep's command, its runs, why some ended early, and what to type next."""
    console.print(sweep.command, style="bold", no_wrap=True, overflow="ellipsis")
    if sweep.about:
        console.print(sweep.about, soft_wrap=True)
    console.print(_members(sweep))
    console.print(f"\n{sweep.folder.name}: {sweep.counts()}")
    ended = [_result(member) for member in sweep.runs if member.state in run_dir.ENDED]
    for line in table.causes(ended):
        console.print(line, style="yellow", soft_wrap=True)
    for line in [*_dead_jobs(sweep), *_next(sweep)]:
        console.print(line, soft_wrap=True)


def as_plain(sweep: "SweepSnapshot") -> dict[str, Any]:
    """Return a snapshot as plain values, as `actsweep status --json` prints it.

    Returns:
        `sweep`, its folder's name; `about`, its name, notes and tags as text; `folder`; `command`;
        `counts`, the number of runs by state; `supervised`,
        whether a process trains it or SLURM has jobs; `next`, lines on what to type; and `runs`,
        each with `run_id`, `settings` (what tells runs apart beside their ids, such as `lr`),
        `state`, `left` (whether the sweep would still train it), `epoch`, `epochs`, `seconds_left`
        (estimated, or None), `scores` (the newest, by metric), `where` (host, process or job),
        `updated` (ISO 8601, or None) and `cause`.
    """
    settings = _settings(sweep)
    return {
        "sweep": sweep.folder.name,
        "about": sweep.about,
        "folder": str(sweep.folder),
        "command": sweep.command,
        "counts": dict(Counter(run.state for run in sweep.runs)),
        "supervised": sweep.supervised,
        "next": [*_dead_jobs(sweep), *_next(sweep)],
        "runs": [_plain_run(run, settings.get(run.run.run_id, {})) for run in sweep.runs],
    }


def _plain_run(run: "RunStatus", settings: Mapping[str, Any]) -> dict[str, Any]:
    values = last_values(run.run.metrics) if run.status and run.state != "waiting" else {}
    job = run.job.where() if run.job and run.job.live and run.left else None
    owner = f"{run.owner.host}:{run.owner.pid}" if run.owner else None
    return {
        "run_id": run.run.run_id,
        "settings": dict(settings),
        "state": run.state,
        "left": run.left,
        "epoch": values.pop("epoch", None),
        "epochs": run.epochs,
        "seconds_left": seconds_left(run, last_values(run.run.metrics)) if run.status else None,
        "scores": values,
        "where": job or owner,
        "updated": run.status.get("updated"),
        "cause": run.status.get("cause"),
    }


def _dead_jobs(sweep: "SweepSnapshot") -> list[str]:
    """Describe jobs that ended before their runs did, with the last lines of their logs."""
    dead = {
        member.job.name: member.job
        for member in sweep.runs
        if member.left and member.job and not member.job.live
    }
    lines = [f"SLURM doesn't answer: {sweep.trouble}"] if sweep.trouble else []
    for job in dead.values():
        tail = slurm_jobs.last_lines(job.log)
        lines.append(f"{job.where()}: {job.state}{f'; last lines of {job.log}:' if tail else ''}")
        lines += [f"    {line}" for line in tail]
    return lines


def _table() -> "Table":
    from rich.table import Table

    return Table(box=None, pad_edge=False, header_style="bold")


IN_ID = ("act.name", "model.name", "depth.layers", "init.name")
"""What a run's id tells already, beside the seed."""


def _settings(sweep: "SweepSnapshot") -> dict[str, dict[str, Any]]:
    """Return by run id what tells the runs apart and their ids don't show, such as `lr`."""
    titles = table.columns([*sweep.configs.values()]) if sweep.configs else {}
    shown = {path: title for path, title in titles.items() if path not in IN_ID}
    if not shown:
        return {run_id: {} for run_id in sweep.configs}
    return {
        run_id: {title: table.flatten_groups(config).get(path) for path, title in shown.items()}
        for run_id, config in sweep.configs.items()
    }


def _members(sweep: "SweepSnapshot") -> "Table":
    from rich.text import Text

    members = _table()
    members.add_column("run", overflow="fold")
    settings = _settings(sweep)
    differ = list(next(iter(settings.values()), {}))
    for title in differ:
        members.add_column(title, overflow="fold")
    members.add_column("state", no_wrap=True)
    rows = [last_values(member.run.metrics) if member.status else {} for member in sweep.runs]
    scores = _scores(rows)
    times = [_time_left(member, row) for member, row in zip(sweep.runs, rows, strict=True)]
    timed = any(times)
    for title in ("epoch", *scores.values(), *["left"] * timed):
        members.add_column(title, justify="right", no_wrap=True)
    members.add_column("where, when", no_wrap=True)
    now = datetime.now(UTC)
    for member, row, time_left in zip(sweep.runs, rows, times, strict=True):
        state = Text(member.state, STYLES.get(member.state, ""))
        values = {} if member.state == "waiting" else row
        cells = [_score(values.get(key), key) for key in scores] + [time_left or "–"] * timed
        epoch, where = _epoch(member, values), _where(member, now)
        own = settings.get(member.run.run_id, {})
        texts = ["–" if own.get(title) is None else str(own[title]) for title in differ]
        members.add_row(member.run.run_id, *texts, state, epoch, *cells, where)
    return members


def _scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the columns of scores: those by which each run is judged, and the training loss."""
    titles = {
        "val/accuracy": "val\nacc, %",
        "val/mean_average_precision": "val\nmAP, %",
        "val/loss": "val\nloss",
        "val/perplexity": "val\nperplexity",
        "train/loss": "train\nloss",
    }
    judged = {key for row in rows for key in _judged_by(row)} or {"val/accuracy"}
    return {key: title for key, title in titles.items() if key in (*judged, "train/loss")}


def _judged_by(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the scores by which a run is judged: it has perplexity if it learns tokens."""
    if "val/perplexity" in row:
        return "val/loss", "val/perplexity"
    keys = ("val/accuracy", "val/mean_average_precision", "val/loss")
    return tuple(key for key in keys if key in row)[:1]


def _score(value: float | None, key: str) -> str:
    if value is None:
        return "–"
    scale = SCORES[key.partition("/")[2]].scale
    return f"{scale * value:.2f}" if scale == 100 else f"{value:.4g}"


def _epoch(member: "RunStatus", row: Mapping[str, Any]) -> str:
    epoch = row.get("epoch", 0 if member.state == "running" else None)
    return "–" if epoch is None else f"{round(epoch, 1):g}/{member.epochs}"


def _time_left(member: "RunStatus", row: Mapping[str, Any]) -> str:
    seconds = seconds_left(member, row)
    return "" if seconds is None else span(seconds)


def _where(member: "RunStatus", now: datetime) -> str:
    if member.job and member.job.live and member.left:
        requeued = member.job.queued and member.status
        return f"{'queued again: ' if requeued else ''}{member.job.where()}"
    if member.owner:
        return f"{member.owner.host}:{member.owner.pid}"
    if member.state == "waiting" or "updated" not in member.status:
        return "–"
    return ago((now - datetime.fromisoformat(member.status["updated"])).total_seconds())


def ago(seconds: float) -> str:
    """Return an age in words, such as `3 min ago`."""
    return f"{span(seconds)} ago" if seconds >= 1 else "now"


def _result(member: "RunStatus") -> dict[str, Any]:
    cause = member.status.get("cause")
    return {"run_id": member.run.run_id, "state": member.state, "cause": cause}


def _next(sweep: "SweepSnapshot") -> list[str]:
    """Return the commands to type next."""
    name = plan.name_of(sweep.folder)
    lines = []
    unfinished = [member for member in sweep.runs if member.left]
    dead = any(m.job and not m.job.live and not m.owner for m in unfinished)
    if dead or (unfinished and not sweep.supervised):
        lines.append(f"go on:  actsweep resume {name}")
    if any(member.state == "failed" for member in sweep.runs) and not sweep.supervised:
        lines.append(f"retry:  actsweep retry {name}")
    if any(member.job and member.job.live for member in sweep.runs):
        lines.append(f"stop:   actsweep cancel {name}")
    elif not unfinished:
        lines.append(f"table:  actsweep table {name}")
    return lines
