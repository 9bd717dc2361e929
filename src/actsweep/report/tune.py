"""What of the optimiser was tuned, and each group's best in validation. No jax."""

import statistics
from collections.abc import Hashable, Mapping
from typing import Any

from actsweep.report.design import Design, Entry, Label, hashable
from actsweep.stats.paired import Cell

DIVERGED = -1e9
Choice = tuple[Hashable, ...]
"""Values of what was tuned, in the order of `Design.tuned`."""


def tune(design: Design) -> tuple[set[str], dict[Label, dict[str, Any]], list[str]]:
    """Choose each group's values of what was tuned, by their mean score in validation.

    Only choices with as many runs as the group's fullest count: the only seed of a rare one may
    be a lucky one.

    Returns:
        Ids of the runs with what was chosen; the chosen values by title; what to say of them.
    """
    if not design.tuned:
        return set(design.flat), {}, []
    scores = _scores(design)
    titles = [design.titles[path] for path in design.tuned]
    notes = [f"{', '.join(titles)}: each group's best in validation"]
    best: dict[Label, Choice] = {}
    for label, own in scores.items():
        most = max(map(len, own.values()))
        full = [choice for choice, cells in own.items() if len(cells) == most]
        best[label] = max(full, key=lambda at: statistics.fmean(scores[label][at].values()))
        for choice, cells in own.items():
            if choice not in full:
                notes.append(
                    f"{' '.join(label)}: {_told(titles, choice)} has {len(cells)} of {most} runs: "
                    "it wasn't to be chosen"
                )
    grids = {label: len(own) for label, own in scores.items()}
    if len(set(grids.values())) > 1:
        told = ", ".join(f"{' '.join(label)} {count}" for label, count in grids.items())
        notes.append(f"more choices are more chances: {told} of {', '.join(titles)}")
    kept = {
        run_id
        for run_id, flat in design.flat.items()
        if best.get(design.labels[run_id]) == _choice(design, flat)
    }
    chosen = {label: dict(zip(titles, one, strict=True)) for label, one in best.items()}
    return kept, chosen, [*notes, *_edges(design, best)]


def _scores(design: Design) -> dict[Label, dict[Choice, dict[Cell, float]]]:
    scores: dict[Label, dict[Choice, dict[Cell, float]]] = {}
    for one in design.entries:
        flat, label = design.flat[one.run.run_id], design.labels[one.run.run_id]
        if (score := _validation(one)) is not None:
            choices = scores.setdefault(label, {})
            choices.setdefault(_choice(design, flat), {})[design.cell(one.run.run_id)] = score
    return scores


def _choice(design: Design, flat: Mapping[str, Any]) -> Choice:
    return tuple(hashable(flat.get(path)) for path in design.tuned)


def _told(titles: list[str], choice: Choice) -> str:
    return " ".join(f"{title}={value}" for title, value in zip(titles, choice, strict=True))


def _edges(design: Design, best: Mapping[Label, Choice]) -> list[str]:
    """Warnings about tuned numbers that lie on the edge of their group's grid."""
    notes = []
    for place, path in enumerate(design.tuned):
        for label, choice in best.items():
            own = [flat.get(path) for k, flat in design.flat.items() if design.labels[k] == label]
            grid = sorted({value for value in own if isinstance(value, int | float)})
            if len(grid) > 1 and choice[place] in (grid[0], grid[-1]):
                notes.append(
                    f"{' '.join(label)}: {design.titles[path]}={choice[place]} is the edge of the "
                    "grid; its best may lie beyond"
                )
    return notes


def _validation(one: Entry) -> float | None:
    """How good a run is in validation, larger is better; one that diverged as bad as can be."""
    if one.state == "diverged":
        return DIVERGED
    if one.state != "complete":
        return None
    accuracy, loss = one.summary.get("best_val_accuracy"), one.summary.get("best_val_loss")
    return accuracy if accuracy is not None else None if loss is None else -loss
