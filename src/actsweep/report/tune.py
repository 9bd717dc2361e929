"""Tuned values of the optimiser: each group's best in validation. No jax."""

import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from actsweep.report.design import Design, Entry, Label, hashable
from actsweep.stats.paired import Cell
from actsweep.stats.scores import SCORES, TASKS, task_in

Choice = tuple[Hashable, ...]
"""Tuned values, in the order of `Design.tuned`."""
ScoresByChoice = dict[Choice, dict[Cell, float | None]]
"""Each choice's runs, by their place, and their scores in validation; None if a run diverged."""


def tune(design: Design) -> tuple[set[str], dict[Label, dict[str, Any]], list[str]]:
    """Choose each group's tuned values by their mean score in validation.

    A choice counts only with as many runs as the group's most frequent one: the only seed of a rare
    choice may be a lucky one. A choice with a run that a search has pruned doesn't count either:
    the seeds that are left are its lucky ones.

    Returns:
        Ids of the runs with the chosen values; these values by group and title; notes about them.
    """
    if not design.tuned:
        return set(design.flat), {}, []
    scores = _scores(design)
    titles = [design.titles[path] for path in design.tuned]
    notes = [f"{', '.join(titles)}: each group's best in validation"]
    best: dict[Label, Choice] = {}
    eligible, pruned_notes = _eligible(design, scores, titles)
    notes += pruned_notes
    for label, cells_by_choice in eligible.items():
        most = max(map(len, cells_by_choice.values()))
        complete = [choice for choice, cells in cells_by_choice.items() if len(cells) == most]
        best[label] = max(complete, key=lambda at: _rank([*scores[label][at].values()]))
        for choice, cells in cells_by_choice.items():
            if choice not in complete:
                reason = f"{_assignments(titles, choice)} has {len(cells)} of {most} runs"
                notes.append(f"{' '.join(label)}: {reason}: left out of the selection")
    grids = {label: len(cells_by_choice) for label, cells_by_choice in scores.items()}
    if len(set(grids.values())) > 1:
        counts = ", ".join(f"{' '.join(label)} {count}" for label, count in grids.items())
        notes.append(f"groups with more values of {', '.join(titles)} have more chances: {counts}")
    kept = {
        run_id
        for run_id, flat in design.flat.items()
        if best.get(design.labels[run_id]) == _choice(design, flat)
    }
    chosen = {label: dict(zip(titles, choice, strict=True)) for label, choice in best.items()}
    return kept, chosen, [*notes, *_edges(design, best)]


def _rank(scores: Sequence[float | None]) -> tuple[float, float]:
    """Return how good a choice is: the share of runs that ended well, then their mean score."""
    ended = [score for score in scores if score is not None]
    return len(ended) / len(scores), statistics.fmean(ended) if ended else 0.0


def _scores(design: Design) -> dict[Label, ScoresByChoice]:
    scores: dict[Label, ScoresByChoice] = {}
    for entry in design.entries:
        flat, label = design.flat[entry.run.run_id], design.labels[entry.run.run_id]
        score = _validation(entry)
        if score is not None or entry.state == "diverged":
            choices = scores.setdefault(label, {})
            choices.setdefault(_choice(design, flat), {})[design.cell(entry.run.run_id)] = score
    return scores


def _eligible(
    design: Design, scores: Mapping[Label, ScoresByChoice], titles: list[str]
) -> tuple[dict[Label, ScoresByChoice], list[str]]:
    """Return the scores of choices without a pruned run, and notes on the others."""
    pruned: dict[Label, set[Choice]] = {}
    for entry in design.entries:
        if entry.state == "pruned":
            choice = _choice(design, design.flat[entry.run.run_id])
            pruned.setdefault(design.labels[entry.run.run_id], set()).add(choice)
    eligible, notes = dict[Label, ScoresByChoice](), list[str]()
    for label in dict.fromkeys((*scores, *pruned)):
        cells_by_choice, left_out = scores.get(label, {}), pruned.get(label, set())
        if kept := {k: cells for k, cells in cells_by_choice.items() if k not in left_out}:
            eligible[label] = kept
            for choice in (k for k in cells_by_choice if k in left_out):
                notes.append(
                    f"{' '.join(label)}: {_assignments(titles, choice)} has a pruned run: left out "
                    "of the selection"
                )
        else:
            notes.append(
                f"{' '.join(label)}: no {', '.join(titles)} has ended without a pruned run: none "
                "is selected"
            )
    return eligible, notes


def _choice(design: Design, flat: Mapping[str, Any]) -> Choice:
    return tuple(hashable(flat.get(path)) for path in design.tuned)


def _assignments(titles: list[str], choice: Choice) -> str:
    return " ".join(f"{title}={value}" for title, value in zip(titles, choice, strict=True))


def _edges(design: Design, best: Mapping[Label, Choice]) -> list[str]:
    """Return warnings about tuned numbers at the edge of their group's grid."""
    notes = []
    for place, path in enumerate(design.tuned):
        for label, choice in best.items():
            values = [
                flat.get(path) for k, flat in design.flat.items() if design.labels[k] == label
            ]
            grid = sorted({value for value in values if isinstance(value, int | float)})
            if len(grid) > 1 and choice[place] in (grid[0], grid[-1]):
                notes.append(
                    f"{' '.join(label)}: {design.titles[path]}={choice[place]} is at the edge of "
                    "the grid; the best value may lie beyond it"
                )
    return notes


def _validation(entry: Entry) -> float | None:
    """Return how good a run is in validation, larger is better; None if it has no score."""
    if entry.state != "complete":
        return None
    own = TASKS[task_in(entry.summary)].own
    value = entry.summary.get(f"best_val_{own}")
    return None if value is None else SCORES[own].sign * value
