"""Which group of runs is better, and how sure that is. No jax."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actsweep.report.design import Design, Entry, Label, lay_out
from actsweep.report.tune import tune
from actsweep.report.values import SUMMARISED, Measure, measure_of, usual, values_of, with_diverged
from actsweep.stats import factorial, paired
from actsweep.stats.factorial import Optimum
from actsweep.stats.paired import EQUIVALENT, UNDECIDED, Cell, Pair, Summary
from actsweep.sweeps.table import KNOWN
from actsweep.utils.errors import UserError


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
            for accuracies); by default 0.5 points, or 5 % of the median run.

    Raises:
        UserError: nothing is complete, or there is no such factor or metric; several data sets
            would be averaged; a metrics file is damaged.
    """
    if not any(one.state == "complete" for one in entries):
        states = ", ".join(sorted({one.state for one in entries})) or "none"
        raise UserError(f"nothing to compare: no run is complete (they are: {states})")
    metric = metric or usual(entries)
    values, notes = values_of(entries, metric)
    design = lay_out(entries, by)
    kept, chosen, tuned = tune(design)
    known = {run_id: v for run_id, v in values.items() if v is not None}
    own = [v for run_id, v in known.items() if run_id in kept]
    measure = measure_of(metric, own or [*known.values()], margin)
    values, diverged, gone = with_diverged(entries, values, measure, kept)
    everything = _cells(design, {k: v for k, v in values.items() if k in kept and v is not None})
    cells, partial = _comparable(design, everything)
    groups = {label: paired.summarise([*paired.by_seed(c).values()]) for label, c in cells.items()}
    order = _order(design, groups, measure)
    cells = {label: cells[label] for label in order}
    turned = {k: {c: (measure.sign or 1) * v for c, v in own.items()} for k, own in cells.items()}
    interaction, optima = _interaction(turned, design), _optima(design, turned, measure)
    more = _unanswered(design, interaction, optima, measure)
    return Comparison(
        measure=measure,
        by=tuple(design.factors),
        cells=cells,
        groups={label: groups[label] for label in order},
        pairs=_pairs(turned, measure, {design.labels[k] for k in diverged}),
        interaction=interaction,
        optima={title: {k: one for k, one in o.items() if one} for title, o in optima.items()},
        chosen=chosen,
        notes=[*notes, *gone, *tuned, *_remarks(design, metric, everything), *partial, *more],
        design=design,
        kept=kept,
    )


def _cells(design: Design, values: Mapping[str, float]) -> dict[Label, dict[Cell, float]]:
    cells: dict[Label, dict[Cell, float]] = {}
    for run_id, value in values.items():
        cells.setdefault(design.labels[run_id], {})[design.cell(run_id)] = value
    return cells


def _comparable(
    design: Design, cells: Mapping[Label, Mapping[Cell, float]]
) -> tuple[dict[Label, Mapping[Cell, float]], list[str]]:
    """Where other factors are averaged over: only what every group has of them, and seeds that have
    all of it, so that no group's mean is one over easier runs."""
    if not design.averaged or len(cells) < 2:
        return dict(cells), []
    have = [dict.fromkeys(cell[1:] for cell in own) for own in cells.values()]
    common, everything = set.intersection(*map(set, have)), set.union(*map(set, have))
    titles = ", ".join(design.titles[path] for path in design.averaged)
    if not common:
        return dict(cells), [f"groups share no value of {titles}: it may make the difference"]
    kept: dict[Label, Mapping[Cell, float]] = {}
    for label, own in cells.items():
        full = {seed for seed, *_ in own if all((seed, *rest) in own for rest in common)}
        if full:
            kept[label] = {c: v for c, v in own.items() if c[0] in full and c[1:] in common}
    if not kept:
        return dict(cells), [f"no seed has all of {titles}: it may make the difference"]
    notes = [
        f"{' '.join(label)}: no run counts, as no seed has all of {titles}"
        for label in cells
        if label not in kept
    ]
    if common != everything:
        shown = ", ".join(" ".join(map(str, rest)) for rest in have[0] if rest in common)
        notes.append(f"compared at {titles} {shown} alone, which every group has")
    if any(len(kept.get(label, {})) < len(own) for label, own in cells.items()):
        notes.append(f"a seed counts where its group has all of {titles}")
    return kept, notes


def _pairs(
    turned: Mapping[Label, Mapping[Cell, float]], measure: Measure, diverged: Collection[Label]
) -> dict[tuple[Label, Label], Pair]:
    """Groups of which a run diverged are equivalent to none: what it counts as is arbitrary."""
    pairs = paired.compare(turned, measure.margin, lambda a, b: a[1:] == b[1:])
    for (a, b), one in pairs.items():
        if one.verdict == EQUIVALENT and (a in diverged or b in diverged):
            pairs[a, b] = replace(one, verdict=UNDECIDED, more=None)
    return pairs if measure.sign >= 0 else {key: _turned(one) for key, one in pairs.items()}


def _interaction(turned: Mapping[Label, Mapping[Cell, float]], design: Design) -> float | None:
    if len(design.factors) != 2:
        return None
    return factorial.interaction({(label[0], label[1]): own for label, own in turned.items()})


def _remarks(design: Design, metric: str, cells: Mapping[Label, Mapping[Cell, float]]) -> list[str]:
    """What was averaged, what is missing, what can't be said."""
    notes = []
    if design.averaged:
        parts = [
            f"{design.titles[path]} ({', '.join(design.values(path))})" for path in design.averaged
        ]
        notes.append(f"each seed's value is its mean over {', '.join(parts)}")
    if metric not in SUMMARISED:
        notes.append(f"{metric}: each run's last logged value")
    if metric == "val/accuracy":
        notes.append("validation has chosen epochs and parameters: test/… is what it can't flatter")
    for path in design.decided:
        told = ", ".join(
            f"{' '.join(label)} {value}"
            for label, value in dict.fromkeys(
                (design.labels[run_id], str(flat.get(path))) for run_id, flat in design.flat.items()
            )
        )
        title = KNOWN.get(path, path)
        notes.append(f"groups differ in {title}, too ({told}): it may make the difference")
    empty = [label for label in dict.fromkeys(design.labels.values()) if label not in cells]
    return [*notes, *(f"{' '.join(label)}: no run counts" for label in empty), *_gaps(cells)]


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
    design: Design, turned: Mapping[Label, Mapping[Cell, float]], measure: Measure
) -> dict[str, dict[Label, Optimum | None]]:
    """For each factor that is a swept number: where each group is best along it."""
    found: dict[str, dict[Label, Optimum | None]] = {}
    for place, title in enumerate(design.factors):
        numbers, path = design.numbers(title), design.factors[title][0]
        whole = all(isinstance(flat.get(path), int) for flat in design.flat.values())
        if len(numbers) < 3 or whole or not measure.sign:
            continue
        curves: dict[Label, dict[float, Mapping[Cell, float]]] = {}
        for label, own in turned.items():
            rest = label[:place] + label[place + 1 :]
            curves.setdefault(rest, {})[numbers[label[place]]] = own
        found[title] = {rest: factorial.optimum(curve) for rest, curve in curves.items()}
    return found


def _unanswered(
    design: Design,
    interaction: float | None,
    optima: Mapping[str, Mapping[Label, Optimum | None]],
    measure: Measure,
) -> list[str]:
    notes = []
    if len(design.factors) == 2 and interaction is None:
        a, b = design.factors
        notes.append(
            f"whether the effect of {a} depends on {b} can't be tested: not every combination has "
            "the same two or more seeds"
        )
    for title, own in optima.items():
        lacking = [" ".join(rest) or "all" for rest, one in own.items() if one is None]
        if lacking:
            notes.append(
                f"{', '.join(lacking)}: the best {title} is left open: it takes three seeds, the "
                "same at every value"
            )
    return notes
