"""Comparison of groups of runs: which is better, and how sure that is. No jax."""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actsweep.config.identity import seeds_in_effect
from actsweep.report.design import (
    Design,
    Entry,
    Label,
    after_tuning,
    check_vary,
    gather,
    lay_out,
    usual_factors,
    where,
)
from actsweep.report.tune import tune
from actsweep.report.values import (
    SUMMARY_KEYS,
    Measure,
    clipped,
    default_metric,
    diverged_runs,
    lost_share,
    make_measure,
    possible_values,
    values_of,
)
from actsweep.stats import factorial, paired
from actsweep.stats.factorial import Optimum
from actsweep.stats.paired import BETTER, EQUIVALENT, WORSE, Cell, Pair, Summary
from actsweep.stats.signs import Signs, count_signs
from actsweep.sweeps import table
from actsweep.sweeps.table import KNOWN
from actsweep.utils.errors import UserError
from actsweep.utils.notebook import as_html

FEW = 4
"""Runs from which on groups are named in their place."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """Groups of runs, their pairs, and the notes to show beside them.

    Attributes:
        measure: what is compared.
        by: titles of the factors that tell groups apart.
        cells: by group, best first, each run's value by cell: its seed, then the other factors.
        groups: summary of each group's values, one a seed. The best are those that end well most
            often, and of these the one with the best mean.
        lost: by group, the seeds with which a run diverged; groups without any are left out.
        pairs: by (a, b) in the order of `groups`; with two factors, those that share the second.
        one_look: their verdicts and intervals are for a number of seeds that was set beforehand.
        interaction: with two factors, p of their interaction.
        across: where the second factor is the data, and there are several, by (a, b), the better
            first: in how many of them a is ahead.
        optima: where each group is best along a swept number: by the number's title, then by the
            group's label without it.
        chosen: the values that were tuned for each group, by title.
        notes: lines on what was averaged, chosen or left out, and on what can't be concluded.
        design: how all the runs are laid out.
        kept: ids of the runs with the values that were chosen for their group.
        tuned: how groups were tuned before, by runs that aren't compared; empty if they weren't.
    """

    measure: Measure
    by: tuple[str, ...]
    cells: Mapping[Label, Mapping[Cell, float]]
    groups: Mapping[Label, Summary]
    lost: Mapping[Label, Collection[Hashable]]
    pairs: Mapping[tuple[Label, Label], Pair]
    one_look: bool
    interaction: float | None
    across: Mapping[tuple[str, str], Signs]
    optima: Mapping[str, Mapping[Label, Optimum]]
    chosen: Mapping[Label, Mapping[str, Any]]
    notes: Sequence[str]
    design: Design
    kept: Collection[str]
    tuned: str = ""

    def __str__(self) -> str:
        """Return what `actsweep compare` prints."""
        from actsweep.report.text import as_text

        return as_text(self)

    def __repr__(self) -> str:
        sizes = f"{len(self.groups)} groups, {len(self.pairs)} pairs"
        return f"<Comparison of {self.measure.metric} by {', '.join(self.by)}: {sizes}>"

    def _repr_html_(self) -> str:
        return as_html(str(self))


@dataclass(frozen=True)
class ReportRequest:
    """The subject of a comparison or a report, as typed for `actsweep compare`.

    Attributes:
        by: one or two factors; by default chosen, see `design.usual_factors`.
        metric, margin, one_look: as for `compare`.
        where: conditions on the runs, such as `depth=4`.
    """

    by: Sequence[str] = ()
    metric: str | None = None
    margin: float | None = None
    where: Sequence[str] = ()
    one_look: bool = False


USUAL = ReportRequest()


def compare_sweeps(folders: Sequence[Path], request: ReportRequest) -> Comparison:
    """Compare groups of the runs of some sweeps, given by their folders; see `compare`.

    Raises:
        UserError: a sweep can't be read, or no run meets a condition; as `compare`.
    """
    entries = where(gather(folders), request.where)
    by = list(request.by) or usual_factors(entries)
    return compare(entries, by, request.metric, request.margin, one_look=request.one_look)


def compare(
    entries: Sequence[Entry],
    by: Sequence[str] = ("act",),
    metric: str | None = None,
    margin: float | None = None,
    *,
    one_look: bool = False,
) -> Comparison:
    """Compare groups of runs.

    Args:
        entries: the runs.
        by: one or two factors that tell groups apart: `act`, `depth`, `init`, `lr`, a config path.
        metric: by default test accuracy; for regressions test loss.
        margin: below which a difference doesn't matter, as the metric is shown (percentage points
            for accuracies); by default 0.5 points, or 5 % of the median run.
        one_look: the number of seeds was set beforehand. By default verdicts hold however often one
            looks.

    Returns:
        The groups, best first, their pairs, and notes.

    Raises:
        UserError: no run is complete; a factor or the metric is unknown; several data sets would be
            averaged; they were tuned by different protocols; or a metrics file is damaged.
    """
    entries, tuned = after_tuning(entries)
    if not any(entry.state == "complete" for entry in entries):
        states = ", ".join(sorted({entry.state for entry in entries})) or "none"
        raise UserError(f"nothing to compare: no run is complete (they are: {states})")
    metric = metric or default_metric(entries)
    values, notes = values_of(entries, metric)
    design = lay_out(entries, by)
    check_vary(design)
    kept, chosen, tuning_notes = tune(design)
    known = {run_id: v for run_id, v in values.items() if v is not None}
    kept_values = [v for run_id, v in known.items() if run_id in kept]
    measure = make_measure(metric, kept_values or [*known.values()], margin)
    diverged, diverged_notes = diverged_runs(entries, measure, kept)
    lost: dict[Label, set[Hashable]] = {}
    for run_id in diverged:
        lost.setdefault(design.labels[run_id], set()).add(design.cell(run_id)[0])
    all_cells = _cells(design, {k: v for k, v in values.items() if k in kept and v is not None})
    cells, missing_notes = _comparable(design, all_cells)
    cells |= {label: {} for label in lost if label not in cells}
    groups = {
        label: _within_possible(paired.summarise([*paired.seed_means(c).values()]), measure)
        for label, c in cells.items()
    }
    order = _order(design, groups, lost, measure)
    cells = {label: cells[label] for label in order}
    oriented = {
        k: {c: (measure.sign or 1) * v for c, v in cells_of_group.items()}
        for k, cells_of_group in cells.items()
    }
    interaction, optima = _interaction(oriented, design), _optima(design, oriented, lost, measure)
    open_notes = _open_questions(design, interaction, optima, measure)
    pairs = _pairs(oriented, measure, lost, one_look)
    return Comparison(
        measure=measure,
        by=tuple(design.factors),
        cells=cells,
        groups={label: groups[label] for label in order},
        lost=lost,
        pairs=pairs,
        one_look=one_look,
        interaction=interaction,
        across=_across(design, pairs, measure),
        optima={
            title: {k: optimum for k, optimum in by_label.items() if optimum}
            for title, by_label in optima.items()
        },
        chosen=chosen,
        notes=[
            *notes,
            *diverged_notes,
            *tuning_notes,
            *_notes(design, metric, all_cells),
            *missing_notes,
            *open_notes,
        ],
        design=design,
        kept=kept,
        tuned=tuned,
    )


def _cells(design: Design, values: Mapping[str, float]) -> dict[Label, dict[Cell, float]]:
    cells: dict[Label, dict[Cell, float]] = {}
    for run_id, value in values.items():
        cells.setdefault(design.labels[run_id], {})[design.cell(run_id)] = value
    return cells


def _comparable(
    design: Design, cells: Mapping[Label, Mapping[Cell, float]]
) -> tuple[dict[Label, Mapping[Cell, float]], list[str]]:
    """Keep only what all groups can be compared on; return it, and notes on what was left out.

    Where other factors are averaged over, these are the values that every group has, and the seeds
    that have all of them: no group's mean is one over easier runs.
    """
    if not design.averaged or len(cells) < 2:
        return dict(cells), []
    values_of_groups = [
        dict.fromkeys(cell[1:] for cell in group_cells) for group_cells in cells.values()
    ]
    common, union = (
        set.intersection(*map(set, values_of_groups)),
        set.union(*map(set, values_of_groups)),
    )
    titles = ", ".join(design.titles[path] for path in design.averaged)
    if not common:
        return dict(cells), [f"groups share no value of {titles}: this may explain the difference"]
    kept: dict[Label, Mapping[Cell, float]] = {}
    for label, group_cells in cells.items():
        full = {
            seed for seed, *_ in group_cells if all((seed, *rest) in group_cells for rest in common)
        }
        if full:
            kept[label] = {c: v for c, v in group_cells.items() if c[0] in full and c[1:] in common}
    if not kept:
        return dict(cells), [f"no seed has all of {titles}: this may explain the difference"]
    notes = [
        f"{' '.join(label)}: no run counts, as no seed has all of {titles}"
        for label in cells
        if label not in kept
    ]
    if common != union:
        shown = ", ".join(
            " ".join(map(str, rest)) for rest in values_of_groups[0] if rest in common
        )
        notes.append(f"compared at {titles} {shown} only, which every group has")
    if any(len(kept.get(label, {})) < len(group_cells) for label, group_cells in cells.items()):
        notes.append(f"a seed counts where its group has all of {titles}")
    return kept, notes


def _pairs(
    oriented: Mapping[Label, Mapping[Cell, float]],
    measure: Measure,
    lost: Mapping[Label, Collection[Hashable]],
    one_look: bool,
) -> dict[tuple[Label, Label], Pair]:
    alike = lambda a, b: a[1:] == b[1:]  # noqa: E731
    pairs = paired.compare(oriented, measure.margin, alike, lost, one_look=one_look)
    return (
        pairs if measure.sign >= 0 else {key: _flip_direction(pair) for key, pair in pairs.items()}
    )


def _within_possible(summary: Summary, measure: Measure) -> Summary:
    """Return a summary whose interval ends at what the metric can be: accuracies at 0 and 1."""
    if summary.low is None or summary.high is None:
        return summary
    least, most = possible_values(measure.metric.rpartition("/")[2])
    possible = (least, None if most is None else most / measure.scale)  # the least is 0, 1 or none
    low, high = (clipped(end, possible) for end in (summary.low, summary.high))
    return replace(summary, low=low, high=high)


def _interaction(oriented: Mapping[Label, Mapping[Cell, float]], design: Design) -> float | None:
    if len(design.factors) != 2:
        return None
    return factorial.interaction(
        {(label[0], label[1]): group_cells for label, group_cells in oriented.items()}
    )


def _across(
    design: Design, pairs: Mapping[tuple[Label, Label], Pair], measure: Measure
) -> dict[tuple[str, str], Signs]:
    """Return by (a, b) in how many data sets a is ahead, those first that are so most often."""
    if len(design.factors) != 2 or [*design.factors][1] != KNOWN["data.name"] or not measure.sign:
        return {}
    signs: dict[tuple[str, str], dict[str, int]] = {}
    for ((a, data), (b, _)), pair in pairs.items():
        if not pair.n and pair.verdict not in (BETTER, WORSE):
            continue
        lead = measure.sign * pair.difference
        by_mean = (lead > 0) - (lead < 0)
        ahead = {BETTER: 1, WORSE: -1, EQUIVALENT: 0}.get(pair.verdict, by_mean)
        signs.setdefault((a, b), {})[data] = ahead
        signs.setdefault((b, a), {})[data] = -ahead
    counted = {names: count_signs(by_data.values()) for names, by_data in signs.items()}
    won: dict[str, float] = {}
    for (a, _), found in counted.items():
        won[a] = won.get(a, 0.0) + found.ahead
    order = sorted(won, key=lambda name: -won[name])
    return {
        (a, b): counted[a, b]
        for a, b in itertools.combinations(order, 2)
        if (a, b) in counted and counted[a, b].of > 1
    }


def _notes(design: Design, metric: str, cells: Mapping[Label, Mapping[Cell, float]]) -> list[str]:
    """Return notes on what was averaged, what is missing, and what can't be concluded."""
    notes = []
    if design.averaged:
        parts = [
            f"{design.titles[path]} ({', '.join(design.values(path))})" for path in design.averaged
        ]
        notes.append(f"each seed's value is its mean over {', '.join(parts)}")
    notes += _dependent(design)
    if metric not in SUMMARY_KEYS:
        notes.append(f"{metric}: each run's last logged value")
    if metric.startswith("val/") and metric in SUMMARY_KEYS:
        notes.append("validation has chosen epochs and tuned values, which flatters it: see test/…")
    for path in design.confounded:
        values = ", ".join(
            f"{' '.join(label)} {value}"
            for label, value in dict.fromkeys(
                (design.labels[run_id], str(flat.get(path))) for run_id, flat in design.flat.items()
            )
        )
        title = KNOWN.get(path, path)
        notes.append(f"groups differ in {title}, too ({values}): this may explain the difference")
    empty = [label for label in dict.fromkeys(design.labels.values()) if label not in cells]
    notes += [f"{' '.join(label)}: no run counts" for label in empty]
    chance = [e.run.run_id for e in design.entries if e.summary.get("at_chance")]
    if len(chance) < FEW:
        notes += [f"{', '.join(chance)}: {table.AT_CHANCE}"] * bool(chance)
    else:
        named = _by_group(design, chance)
        notes.append(f"{named}: {table.AT_CHANCE} (at_chance == true finds them)")
    return [*notes, *_gaps(cells)]


def _dependent(design: Design) -> list[str]:
    """Return a note where runs of a group share a seed that varies within it, as in a grid."""
    groups: dict[Label, list[Mapping[str, int]]] = {}
    for entry in design.entries:
        seeds = seeds_in_effect(entry.config)
        groups.setdefault(design.labels[entry.run.run_id], []).append(seeds)
    for found in groups.values():
        different = {tuple(seeds.items()) for seeds in found}
        for source in ("init", "order"):
            if 1 < len({seeds[source] for seeds in found}) < len(different):
                return [
                    f"runs share seeds.{source}, and count as independent all the same: intervals "
                    "and verdicts are too sure; let every run have seeds of its own"
                ]
    return []


def _by_group(design: Design, run_ids: Sequence[str]) -> str:
    """Return how many of each group some runs are: `relu 8 (3 of 3)`."""
    of, whole = (
        Counter(design.labels[run_id] for run_id in ids) for ids in (run_ids, design.labels)
    )
    return ", ".join(f"{' '.join(label)} ({n} of {whole[label]})" for label, n in of.items())


def _order(
    design: Design,
    groups: Mapping[Label, Summary],
    lost: Mapping[Label, Collection[Hashable]],
    measure: Measure,
) -> list[Label]:
    """Return the groups, best first; numbers, and the second of two factors, in their own order."""
    ranks: list[dict[str, Any]] = []
    for place, title in enumerate(design.factors):
        of_value: dict[str, list[Label]] = {}
        for label in groups:
            of_value.setdefault(label[place], []).append(label)
        sign = measure.sign or 1
        by_rank = {}
        for text, labels in of_value.items():
            means = [groups[label].mean for label in labels if groups[label].n]
            mean = -sign * statistics.fmean(means) if means else math.inf
            by_rank[text] = (statistics.fmean(lost_share(groups, lost, k) for k in labels), mean)
        ranks.append(design.numbers(title) or by_rank)
    key = lambda label: [r[text] for r, text in zip(ranks, label, strict=True)][::-1]  # noqa: E731
    return sorted(groups, key=key)


def _gaps(cells: Mapping[Label, Mapping[Cell, float]]) -> list[str]:
    """Return notes on the cells that a group lacks and others have."""
    all_cells = list(dict.fromkeys(cell for group_cells in cells.values() for cell in group_cells))
    notes = []
    for label, group_cells in cells.items():
        if missing := [cell for cell in all_cells if cell not in group_cells]:
            text = ", ".join(
                f"seed {seed}{' at ' if rest else ''}{', '.join(map(str, rest))}"
                for seed, *rest in missing[:3]
            )
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            notes.append(f"{' '.join(label)} lacks {text}{more}: pairs compare what both have")
    if len({cell[0] for cell in all_cells}) == 1:
        notes.append("one seed says nothing about spread: no verdict; type seed=0,1,2,3,4")
    return notes


def _flip_direction(pair: Pair) -> Pair:
    """Return a pair in the metric's own direction, given one where larger is better."""
    low, high = (None if v is None else -v for v in (pair.high, pair.low))
    effect = None if pair.effect is None else -pair.effect
    return replace(pair, difference=-pair.difference, low=low, high=high, effect=effect)


def _optima(
    design: Design,
    oriented: Mapping[Label, Mapping[Cell, float]],
    lost: Collection[Label],
    measure: Measure,
) -> dict[str, dict[Label, Optimum | None]]:
    """Return where each group is best along each factor that is a swept number.

    Values at which runs diverged aren't candidates.
    """
    optima: dict[str, dict[Label, Optimum | None]] = {}
    for place, title in enumerate(design.factors):
        numbers, path = design.numbers(title), design.factors[title][0]
        integers = all(isinstance(flat.get(path), int) for flat in design.flat.values())
        if len(numbers) < 3 or integers or not measure.sign:
            continue
        curves: dict[Label, dict[float, Mapping[Cell, float]]] = {}
        for label, group_cells in oriented.items():
            curve = curves.setdefault(label[:place] + label[place + 1 :], {})
            if label not in lost:
                curve[numbers[label[place]]] = group_cells
        grid = [*numbers.values()]
        optima[title] = {rest: factorial.optimum(curve, grid) for rest, curve in curves.items()}
    return optima


def _open_questions(
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
    for title, by_label in optima.items():
        lacking = [" ".join(rest) or "all" for rest, optimum in by_label.items() if optimum is None]
        if lacking:
            notes.append(
                f"{', '.join(lacking)}: the best {title} stays unknown: it takes three seeds, the "
                "same at every value"
            )
    return notes
