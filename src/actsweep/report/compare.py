"""Which group of runs is better, and how sure that is. No jax."""

import statistics
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actsweep import stats
from actsweep.errors import UserError
from actsweep.report.entries import Design, Entry, Label, lay_out
from actsweep.report.values import Measure, measure_of, usual, values_of, with_diverged
from actsweep.stats import Cell, Optimum, Pair, Summary


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, their pairs, and what must be said beside them.

    Attributes:
        measure: what is compared.
        by: titles of the factors that tell groups apart.
        cells: by group, in order (best first), each run's value by cell: seed, then other factors.
        groups: what each group's values are; one a seed.
        pairs: by (a, b) in the order of `groups`; with two factors, those that share the second.
        interaction: with two factors: p of their interaction.
        optima: where each group is best along a swept number; with the number's title as key, then
            the group's label without it.
        chosen: values that were tuned for each group, by title.
        notes: lines: what was averaged, chosen, left out, and what can't be said.
        design: how all the runs are laid out.
        kept: ids of the runs with what was chosen for their group.
    """

    measure: Measure
    by: tuple[str, ...]
    cells: Mapping[Label, Mapping[Cell, float]]
    groups: Mapping[Label, Summary]
    pairs: Mapping[tuple[Label, Label], Pair]
    interaction: float | None
    optima: Mapping[str, Mapping[Label, Optimum]]
    chosen: Mapping[Label, Mapping[str, Any]]
    notes: Sequence[str]
    design: Design
    kept: Collection[str]


def compare(
    entries: Sequence[Entry],
    by: Sequence[str] = ("act",),
    metric: str | None = None,
    margin: float | None = None,
) -> Comparison:
    """Compare groups of runs.

    Args:
        entries: the runs.
        by: one or two factors that tell groups apart: `act`, `depth`, `init`, `lr`, a config path.
        metric: by default test accuracy; for regressions test loss.
        margin: below which a difference doesn't matter, as the metric is shown (percentage points
            for accuracies); by default 0.5 points, or 5 % of the mean.

    Raises:
        UserError: nothing is complete, or there is no such factor or metric; several data sets
            would be averaged; a metrics file is damaged.
    """
    if not any(one.state == "complete" for one in entries):
        states = ", ".join(sorted({one.state for one in entries})) or "none"
        raise UserError(f"nothing to compare: no run is complete (they are: {states})")
    metric = metric or usual(entries)
    values, notes = values_of(entries, metric)
    measure = measure_of(metric, [v for v in values.values() if v is not None], margin)
    values, gone = with_diverged(entries, values, measure)
    design = lay_out(entries, by)
    kept, chosen, tuned = _tune(design)
    cells = _cells(design, {k: v for k, v in values.items() if k in kept and v is not None})
    groups = {label: stats.summarise([*stats.by_seed(c).values()]) for label, c in cells.items()}
    order = _order(design, groups, measure)
    cells = {label: cells[label] for label in order}
    turned = {k: {c: (measure.sign or 1) * v for c, v in own.items()} for k, own in cells.items()}
    return Comparison(
        measure=measure,
        by=tuple(design.factors),
        cells=cells,
        groups={label: groups[label] for label in order},
        pairs=_pairs(turned, measure),
        interaction=_interaction(turned, design),
        optima=_optima(design, turned) if measure.sign else {},
        chosen=chosen,
        notes=[*notes, *gone, *tuned, *_remarks(design, metric, cells)],
        design=design,
        kept=kept,
    )


def _cells(design: Design, values: Mapping[str, float]) -> dict[Label, dict[Cell, float]]:
    cells: dict[Label, dict[Cell, float]] = {}
    for run_id, value in values.items():
        flat = design.flat[run_id]
        cell = (flat["seed"], *(_hashable(flat.get(path)) for path in design.averaged))
        cells.setdefault(design.labels[run_id], {})[cell] = value
    return cells


def _pairs(
    turned: Mapping[Label, Mapping[Cell, float]], measure: Measure
) -> dict[tuple[Label, Label], Pair]:
    pairs = stats.compare(turned, measure.margin, lambda a, b: a[1:] == b[1:])
    return pairs if measure.sign >= 0 else {key: _turned(one) for key, one in pairs.items()}


def _interaction(turned: Mapping[Label, Mapping[Cell, float]], design: Design) -> float | None:
    if len(design.factors) != 2:
        return None
    return stats.interaction({(label[0], label[1]): own for label, own in turned.items()})


def _remarks(design: Design, metric: str, cells: Mapping[Label, Mapping[Cell, float]]) -> list[str]:
    """What was averaged, what is missing, what can't be said."""
    notes = []
    if design.averaged:
        parts = [
            f"{design.titles[path]} ({', '.join(design.values(path))})" for path in design.averaged
        ]
        notes.append(f"each seed's value is its mean over {', '.join(parts)}")
    if metric.startswith("val/"):
        notes.append("validation has chosen epochs and parameters: test/… is what it can't flatter")
    empty = [label for label in dict.fromkeys(design.labels.values()) if label not in cells]
    return [*notes, *(f"{' '.join(label)}: no run counts" for label in empty), *_gaps(cells)]


def _hashable(value: Any) -> Hashable:
    return str(value) if isinstance(value, list | dict) else value


def _tune(design: Design) -> tuple[set[str], dict[Label, dict[str, Any]], list[str]]:
    """The ids of the runs that have their group's values of what was tuned, those that are best in
    validation, the mean over its runs; these values by title; what to say of them."""
    if not design.tuned:
        return set(design.flat), {}, []
    choice = {
        run_id: tuple(_hashable(flat.get(path)) for path in design.tuned)
        for run_id, flat in design.flat.items()
    }
    scores: dict[Label, dict[Cell, list[float]]] = {}
    for one in design.entries:
        run_id, score = one.run.run_id, _validation(one)
        if score is not None:
            own = scores.setdefault(design.labels[run_id], {})
            own.setdefault(choice[run_id], []).append(score)
    best = {label: max(c, key=lambda at: statistics.fmean(c[at])) for label, c in scores.items()}
    kept = {run_id for run_id, own in choice.items() if best.get(design.labels[run_id]) == own}
    titles = [design.titles[path] for path in design.tuned]
    notes = [f"{', '.join(titles)}: each group's best in validation", *_edges(design, best)]
    return kept, {k: dict(zip(titles, own, strict=True)) for k, own in best.items()}, notes


def _edges(design: Design, best: Mapping[Label, Cell]) -> list[str]:
    """Warnings about tuned numbers that lie on the edge of their grid."""
    notes = []
    for place, path in enumerate(design.tuned):
        values = [flat.get(path) for flat in design.flat.values()]
        grid = sorted({value for value in values if isinstance(value, int | float)})
        for label, choice in best.items():
            if len(grid) > 2 and choice[place] in (grid[0], grid[-1]):
                notes.append(
                    f"{' '.join(label)}: {design.titles[path]}={choice[place]} is the edge of the "
                    "grid; its best may lie beyond"
                )
    return notes


def _validation(one: Entry) -> float | None:
    """How good a run is in validation, larger is better; one that diverged as bad as can be."""
    if one.state == "diverged":
        return -1e9
    accuracy, loss = one.summary.get("best_val_accuracy"), one.summary.get("best_val_loss")
    return accuracy if accuracy is not None else None if loss is None else -loss


def _order(design: Design, groups: Mapping[Label, Summary], measure: Measure) -> list[Label]:
    """Best first; numbers in their own order, and so is the second of two factors."""
    ranks: list[dict[str, float]] = []
    for place, title in enumerate(design.factors):
        means: dict[str, list[float]] = {}
        for label, one in groups.items():
            means.setdefault(label[place], []).append(one.mean)
        sign = measure.sign or 1
        by_mean = {text: -sign * statistics.fmean(own) for text, own in means.items()}
        ranks.append(design.numbers(title) or by_mean)
    key = lambda label: [r[text] for r, text in zip(ranks, label, strict=True)][::-1]  # noqa: E731
    return sorted(groups, key=key)


def _gaps(cells: Mapping[Label, Mapping[Cell, float]]) -> list[str]:
    """What groups lack that others have."""
    everything = list(dict.fromkeys(cell for own in cells.values() for cell in own))
    notes = []
    for label, own in cells.items():
        if missing := [cell for cell in everything if cell not in own]:
            text = ", ".join(
                f"seed {seed}{' at ' if rest else ''}{', '.join(map(str, rest))}"
                for seed, *rest in missing[:3]
            )
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            notes.append(f"{' '.join(label)} lacks {text}{more}: pairs compare what both have")
    if len({cell[0] for cell in everything}) == 1:
        notes.append("one seed says nothing about spread: no verdict; type seed=0,1,2,3,4")
    return notes


def _turned(one: Pair) -> Pair:
    """A pair whose values were turned so that larger is better, in their own direction again."""
    low, high = (None if v is None else -v for v in (one.high, one.low))
    effect = None if one.effect is None else -one.effect
    return replace(one, difference=-one.difference, low=low, high=high, effect=effect)


def _optima(
    design: Design, turned: Mapping[Label, Mapping[Cell, float]]
) -> dict[str, dict[Label, Optimum]]:
    """For each factor that is a swept number: where each group is best along it."""
    found: dict[str, dict[Label, Optimum]] = {}
    for place, title in enumerate(design.factors):
        numbers = design.numbers(title)
        if len(numbers) < 3 or all(value == int(value) for value in numbers.values()):
            continue
        curves: dict[Label, dict[float, Mapping[Cell, float]]] = {}
        for label, own in turned.items():
            rest = label[:place] + label[place + 1 :]
            curves.setdefault(rest, {})[numbers[label[place]]] = own
        best = {rest: stats.optimum(curve) for rest, curve in curves.items()}
        found[title] = {rest: one for rest, one in best.items() if one}
    return found
