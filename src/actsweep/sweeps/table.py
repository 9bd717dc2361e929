"""The table at the end of a sweep: one line for all that was swept but the seed."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from actsweep.config.identity import what_counts

if TYPE_CHECKING:
    from rich.console import Console

Result = Mapping[str, Any]

# What tells groups apart, best known first; whatever else differs follows by its config path.
KNOWN = {
    "act.name": "act",
    "model.name": "model",
    "data.name": "data",
    "depth.layers": "depth",
    "init.name": "init",
    "optim.name": "optim",
    "optim.lr": "lr",
}
UNLIMITED = 10_000


def show(
    results: Sequence[Result],
    configs: Mapping[str, Mapping[str, Any]],
    stream: TextIO | None = None,
    width: int | None = None,
) -> None:
    """Print the groups' means with 95 % intervals (Student t), best first, and what failed. `old`
    counts the runs that were complete before.

    Args:
        results: the summaries, with `run_id` and `state`.
        configs: run id -> resolved config as nested plain values. Runs whose configs differ in
            anything but the seed are never averaged.
        stream: where to; standard output by default.
        width: columns of text; by default those of the terminal, without limit where it is none.
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
    for line in _remarks(results):
        console.print(line, style="yellow")


def plain_console(stream: TextIO | None = None, width: int | None = None) -> "Console":
    """A console that prints text as it is; `stream` and `width` as in `show`."""
    from rich.console import Console

    stream = stream or sys.stdout
    if width is None and not stream.isatty():
        width = UNLIMITED
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=width)


def columns(configs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The fewest config paths that tell all groups apart, with their titles.

    A field that another one decides, such as the learning rate that comes with `optim=adam`, is no
    column. The activation always is.
    """
    flat = [flatten(what_counts(config)) for config in configs]
    paths = sorted({path for one in flat for path in one} - {"seed"})
    differ = [p for p in paths if len({_key(one.get(p)) for one in flat}) > 1]
    order = {path: place for place, path in enumerate(KNOWN)}
    kept = sorted(differ, key=lambda path: (order.get(path, len(order)), path))
    count = lambda chosen: len({tuple(_key(one.get(p)) for p in chosen) for one in flat})  # noqa: E731
    for path in reversed(kept):
        without = [p for p in kept if p != path]
        if path != "act.name" and count(without) == count(kept):
            kept = without
    return {p: KNOWN.get(p, p) for p in dict.fromkeys(["act.name", *kept])}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted path -> leaf. An empty group is a leaf: `callbacks.units: {}` is there, or not."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _key(value: Any) -> Any:
    """Something hashable in the place of a leaf."""
    return repr(value) if isinstance(value, list | Mapping) else value


def _groups(
    results: Sequence[Result], configs: Mapping[str, Mapping[str, Any]], paths: tuple[str, ...]
) -> dict[tuple, list[Result]]:
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        flat = flatten(configs[result["run_id"]])
        groups.setdefault(tuple(_key(flat.get(path)) for path in paths), []).append(result)
    return groups


def _scores(results: Sequence[Result]) -> dict[str, str]:
    """Accuracy for classes, loss for regression, both for a sweep over both."""
    done = [result for result in results if result["state"] == "complete"]
    found = {}
    if any(result.get("test_accuracy") is not None for result in done):
        found["test_accuracy"] = "test\naccuracy, %"
    if not found or any(result.get("test_accuracy") is None for result in done):
        found["test_loss"] = "test\nloss"
    return found


def _rank(members: Sequence[Result], scores: Mapping[str, str]) -> tuple[float, ...]:
    """Best first; groups without a score last."""
    means = {key: _mean(members, key) for key in scores}
    signs = {"test_accuracy": -1.0, "test_loss": 1.0}
    return tuple(math.inf if m is None else signs[key] * m for key, m in means.items())


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
    scale, digits = (100.0, 2) if key == "test_accuracy" else (1.0, 5)
    from actsweep.stats.paired import (
        mean_interval,  # needs NumPy, which bad input is answered without
    )

    mean, half = mean_interval(values)
    cell = f"{scale * mean:.{digits}f}"
    return cell if half is None else f"{cell} ± {scale * half:.{digits}f}"


def _remarks(results: Sequence[Result]) -> list[str]:
    reused = sum(bool(result.get("reused")) for result in results)
    lines = []
    if reused:
        lines.append(f"{reused} of {len(results)} runs were complete already (rerun=all repeats)")
    for how in dict.fromkeys(r["other_code"] for r in results if r.get("other_code")):
        made = [r["run_id"] for r in results if r.get("other_code") == how]
        lines.append(f"{who(made)} made by other code: {how}")
    return lines + causes(results)


def causes(results: Sequence[Result]) -> list[str]:
    """Why runs aren't complete, a line for all that share a state and a cause."""
    lines = []
    alike: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result["state"] != "complete":
            why = " ".join(str(result.get("cause") or "").split())
            alike.setdefault((result["state"], why), []).append(result["run_id"])
    for (state, why), run_ids in alike.items():
        lines.append(f"{who(run_ids)} {state}{': ' + why if why else ''}")
    return lines


def who(run_ids: Sequence[str]) -> str:
    few = len(run_ids) < 4
    return ", ".join(run_ids) if few else f"{run_ids[0]} and {len(run_ids) - 1} more"


def _column(members: Sequence[Result], key: str) -> list[float]:
    """Values of the complete members; one that diverged has no final score."""
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
