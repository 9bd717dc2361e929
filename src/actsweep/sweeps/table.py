"""The table at the end of a sweep: a line for each group of runs that differ only in the seed."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from actsweep.config.by_layer import flat_act
from actsweep.config.identity import flatten, without_seeds
from actsweep.config.schema import CRITICAL_INITS, USUAL_VARY
from actsweep.formulas.rescaling import found_by_transform
from actsweep.stats.scores import SCORES, TASKS, Score, tasks_in

if TYPE_CHECKING:
    from rich.console import Console

Result = Mapping[str, Any]

# Columns that tell groups apart, best known first; others follow by their config path.
KNOWN = {
    "act.name": "act",
    "model.name": "model",
    "data.name": "data",
    "depth.layers": "depth",
    "init.name": "init",
    "optim.name": "optim",
    "optim.lr": "lr",
}
FOUND = ("init.sigma_w", "init.sigma_b")
UNLIMITED = 10_000
AT_CHANCE = "not better than chance"
"""Of runs whose test score is no better than the majority class's, or than the targets' mean's."""


def show(
    results: Sequence[Result],
    configs: Mapping[str, Mapping[str, Any]],
    stream: TextIO | None = None,
    width: int | None = None,
) -> None:
    """Print the groups' means with 95 % intervals (Student t), best first, and what failed.

    The column `old` counts the runs that were complete before.

    Args:
        results: the summaries, with `run_id` and `state`.
        configs: run id -> resolved config as nested plain values. Runs whose configs differ in
            anything but the seed are never averaged.
        stream: the stream to print to; standard output by default.
        width: columns of text; by default those of the terminal, without limit if it isn't one.
    """
    from rich.table import Table

    console = plain_console(stream, width)
    swept = columns([configs[r["run_id"]] for r in results])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in swept.values():
        table.add_column(title, overflow="fold")
    scores = _scores(results)
    mixed = 0 < sum(bool(r.get("reused")) for r in results) < len(results)
    for title in (
        "seeds",
        *["old"] * mixed,
        *scores.values(),
        "best\nepoch",
        "dead\nunits, %",
        "seconds",
    ):
        table.add_column(title, justify="right", no_wrap=True)
    groups = _groups(results, configs, tuple(swept))
    for group, members in sorted(groups.items(), key=lambda item: _rank(item[1], scores)):
        table.add_row(*map(_name, group), *_cells(members, scores, mixed))
    console.print(table)
    for line in _notes(results):
        console.print(line, style="yellow")


def plain_console(stream: TextIO | None = None, width: int | None = None) -> "Console":
    """Return a console that prints text as it is; `stream` and `width` as in `show`."""
    from rich.console import Console

    stream = stream or sys.stdout
    if width is None and not stream.isatty():
        width = UNLIMITED
    return Console(
        file=stream,
        highlight=False,
        markup=False,
        emoji=False,
        width=width,
        force_jupyter=False,  # else a notebook shows it, wherever the text should go
    )


def columns(configs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the fewest config paths that tell all groups apart, with their titles.

    A field that another one decides, such as the learning rate that comes with `optim=adam`, gets
    no column. The activation always does.

    Args:
        configs: resolved configs as nested plain values.
    """
    flat = [flatten_groups(without_seeds(config)) for config in configs]
    paths = sorted({path for config in flat for path in config})
    differ = [p for p in paths if len({_key(config.get(p)) for config in flat}) > 1]
    order = {path: place for place, path in enumerate(KNOWN)}
    kept = sorted(differ, key=lambda path: (order.get(path, len(order)), path))

    def count_groups(subset: Sequence[str]) -> int:
        return len({tuple(_key(config.get(path)) for path in subset) for config in flat})

    for path in reversed(kept):
        without = [p for p in kept if p != path]
        if path != "act.name" and count_groups(without) == count_groups(kept):
            kept = without
    return {p: KNOWN.get(p, p) for p in dict.fromkeys(["act.name", *kept])}


def flatten_groups(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted path -> leaf, as runs are told apart: `act.name` says what acts in which layer.

    So a run with `act.by_layer` is `relu, hidden_1 tanh`, and never averaged with those of relu.
    What `init=critical` and `act.transform` find follows from the rest, and tells no runs apart.
    """
    flat = flat_act(flatten(config), config.get("act") or {})
    found = FOUND if flat.get("init.name") in CRITICAL_INITS else ()
    found = (*found, *(f"act.{key}" for key in found_by_transform(config.get("act") or {})))
    kept = {path: value for path, value in flat.items() if path not in found}
    return kept | {"vary": kept.get("vary") or USUAL_VARY}


def _key(value: Any) -> Any:
    """Return something hashable in the place of a leaf."""
    return repr(value) if isinstance(value, list | Mapping) else value


def _groups(
    results: Sequence[Result], configs: Mapping[str, Mapping[str, Any]], paths: tuple[str, ...]
) -> dict[tuple, list[Result]]:
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        flat = flatten_groups(configs[result["run_id"]])
        groups.setdefault(tuple(_key(flat.get(path)) for path in paths), []).append(result)
    return groups


def _scores(results: Sequence[Result]) -> dict[str, str]:
    """Return the scores to show: those of each task that occurs, such as accuracy for classes."""
    done = [result for result in results if result["state"] == "complete"]
    tasks = tasks_in(done) or ["regression"]
    shown = dict.fromkeys(name for task in tasks for name in TASKS[task].shown)
    return {f"test_{name}": f"test\n{SCORES[name].title}" for name in shown}


def _rank(members: Sequence[Result], scores: Mapping[str, str]) -> tuple[float, ...]:
    """Return a key that sorts groups, best first.

    First those of which fewest runs diverged, as in `actsweep compare`; of these the one with the
    best mean. Those without a score come last.
    """
    states = [member["state"] for member in members]
    ended, diverged = states.count("complete"), states.count("diverged")
    means = {key: _mean(members, key) for key in scores}
    ranks = (math.inf if m is None else -_of(key).sign * m for key, m in means.items())
    return (diverged / (ended + diverged) if diverged else 0.0, *ranks)


def _of(key: str) -> Score:
    """Return the score that stands at a key of the summary."""
    return SCORES[key.removeprefix("test_")]


def _cells(members: Sequence[Result], scores: Mapping[str, str], mixed: bool) -> list[str]:
    done = sum(member["state"] == "complete" for member in members)
    dead = _mean(members, "dead_frac")
    return [
        str(done) if done == len(members) else f"{done} of {len(members)}",
        *[str(sum(bool(member.get("reused")) for member in members))] * mixed,
        *(_score(members, key) for key in scores),
        _text(_mean(members, "best_epoch"), 1),
        _text(None if dead is None else 100 * dead, 2),
        _text(_mean(members, "seconds"), 1),
    ]


def _score(members: Sequence[Result], key: str) -> str:
    values = _column(members, key)
    if not values:
        return "–"
    scale, digits = _of(key).scale, _of(key).digits
    from actsweep.stats.paired import (
        mean_interval,  # needs NumPy, which bad input is answered without
    )

    mean, half = mean_interval(values)
    cell = f"{scale * mean:.{digits}f}"
    return cell if half is None else f"{cell} ± {scale * half:.{digits}f}"


def _notes(results: Sequence[Result]) -> list[str]:
    reused = sum(bool(result.get("reused")) for result in results)
    lines = []
    if reused:
        lines.append(f"{reused} of {len(results)} runs were complete already (rerun=all repeats)")
    for difference in dict.fromkeys(r["other_code"] for r in results if r.get("other_code")):
        run_ids = [r["run_id"] for r in results if r.get("other_code") == difference]
        lines.append(f"{name_runs(run_ids)} made by other code: {difference}")
    if chance := [r["run_id"] for r in results if r.get("at_chance")]:
        lines.append(f"{name_runs(chance)}: {AT_CHANCE}")
    return lines + causes(results)


def causes(results: Sequence[Result]) -> list[str]:
    """Return lines on why runs aren't complete, one for all that share a state and a cause."""
    lines = []
    by_cause: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result["state"] != "complete":
            cause = " ".join(str(result.get("cause") or "").split())
            by_cause.setdefault((result["state"], cause), []).append(result["run_id"])
    for (state, cause), run_ids in by_cause.items():
        lines.append(f"{name_runs(run_ids)} {state}{': ' + cause if cause else ''}")
    return lines


def name_runs(run_ids: Sequence[str]) -> str:
    """Return the names of a few runs, or the first and how many more there are."""
    few = len(run_ids) < 4
    return ", ".join(run_ids) if few else f"{run_ids[0]} and {len(run_ids) - 1} more"


def _column(members: Sequence[Result], key: str) -> list[float]:
    """Return the values of the complete members; a run that diverged has no final score."""
    complete = [member for member in members if member["state"] == "complete"]
    values = [float(m[key]) for m in complete if m.get(key) is not None]
    return [value for value in values if not math.isnan(value)]


def _mean(members: Sequence[Result], key: str) -> float | None:
    values = _column(members, key)
    return sum(values) / len(values) if values else None


def _text(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _name(value: Any) -> str:
    return "–" if value is None else str(value)
