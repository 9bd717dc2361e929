"""Which group of runs is better, and how sure that is. No jax."""

import difflib
import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from actsweep import ledger, overview, stats, sweeps, table
from actsweep.errors import UserError
from actsweep.ledger import RunDir
from actsweep.stats import BETTER, EQUIVALENT, UNDECIDED, WORSE, Cell, Optimum, Pair, Summary
from actsweep.writers.metrics_file import read_metrics

Label = tuple[str, ...]
"""A group's values of the factors that are compared, as text."""

SUMMARISED = {
    "test/accuracy": "test_accuracy",
    "test/loss": "test_loss",
    "train/loss": "train_loss",
    "val/accuracy": "best_val_accuracy",
    "exact_dead_frac/all": "dead_frac",
    "best_epoch": "best_epoch",
    "epochs": "epochs",
    "seconds": "seconds",
}
"""Metrics of a run's summary: those of the parameters that were best in validation."""
MARGINS = {"accuracy": 0.005}
RELATIVE_MARGIN = 0.05
FEW = 21  # pairs that are all shown


@dataclass(frozen=True)
class Entry:
    """One run of the sweeps that are compared: its config as nested plain values, its state as
    `actsweep status` shows it, its summary once it has ended, and why it isn't complete."""

    run: RunDir
    config: Mapping[str, Any]
    state: str
    summary: Mapping[str, Any]
    cause: str | None


@dataclass(frozen=True)
class Measure:
    """What is compared.

    Attributes:
        metric: its name.
        sign: 1 if larger is better, -1 if smaller is, 0 if neither.
        scale: from its own unit to what is shown: 100 for accuracies.
        unit: of what is shown.
        margin: differences below it don't matter, in its own unit.
    """

    metric: str
    sign: int
    scale: float
    unit: str
    margin: float

    def text(self, value: float | None, *, signed: bool = False) -> str:
        """A value as it is shown."""
        if value is None or not math.isfinite(value):
            return "–"
        digits = ".2f" if self.scale == 100 else ".4g"
        return format(self.scale * value, f"{'+' if signed else ''}{digits}")

    def word(self, verdict: str) -> str:
        """A verdict in words; where neither direction is better, which is higher."""
        return verdict if self.sign else {BETTER: "higher", WORSE: "lower"}.get(verdict, verdict)


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
        entries: all runs.
        labels: each run's group.
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
    entries: Sequence[Entry]
    labels: Mapping[str, Label]


def gather(folders: Sequence[Path]) -> list[Entry]:
    """The runs of some sweeps, each once.

    Raises:
        UserError: a sweep's plan can't be read.
    """
    found: dict[str, Entry] = {}
    for folder in folders:
        plans = sweeps.frozen(folder)["members"]
        for seen in overview.look(folder).runs:
            status = seen.status or {}
            summary = ledger.read_summary(seen.run) if seen.state in ledger.ENDED else None
            entry = Entry(
                seen.run,
                plans[seen.run.run_id]["config"],
                seen.state,
                summary or {},
                status.get("cause"),
            )
            known = found.get(seen.run.run_id)
            if known is None or entry.state == "complete":
                found[seen.run.run_id] = entry
    return list(found.values())


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
        states = ", ".join(sorted({one.state for one in entries}))
        raise UserError(f"nothing to compare: no run is complete (they are: {states})")
    flat = [table.flatten(one.config) for one in entries]
    swept = table.columns([one.config for one in entries])
    factors = _factors(by, swept, flat)
    metric = metric or _usual(entries)
    values, notes = _values(entries, metric)
    measure = _measure(metric, [v for v in values.values() if v is not None], margin)
    values, more = _with_diverged(entries, values, measure)
    notes += more
    used = {path for paths in factors.values() for path in paths}
    others = [path for path in swept if path not in used and path != "seed"]
    if "data.name" in others:
        names = ", ".join(sorted({str(one["data.name"]) for one in flat}))
        raise UserError(
            f"the runs are of several data sets ({names}), whose mean says nothing; type "
            "--by act,data, or --where data=<name>"
        )
    labels = {
        one.run.run_id: tuple(_label(known, paths) for paths in factors.values())
        for one, known in zip(entries, flat, strict=True)
    }
    tuned = [path for path in others if path.startswith("optim.")]
    kept, chosen, more = _tune(entries, flat, labels, tuned, {p: swept[p] for p in tuned})
    notes += more
    if metric.startswith("val/"):
        notes.append("validation has chosen epochs and parameters: test/… is what it can't flatter")
    averaged = [path for path in others if path not in tuned]
    cells: dict[Label, dict[Cell, float]] = {}
    for one, known in zip(entries, flat, strict=True):
        label, value = labels[one.run.run_id], values[one.run.run_id]
        group = cells.setdefault(label, {})
        if value is not None and one.run.run_id in kept:
            group[known["seed"], *(_hashable(known.get(path)) for path in averaged)] = value
    empty = [label for label, group in cells.items() if not group]
    notes += [f"{' '.join(label)}: no run is complete" for label in empty]
    cells = {label: group for label, group in cells.items() if group}
    groups = {label: stats.summarise([*stats.by_seed(c).values()]) for label, c in cells.items()}
    order = _order(groups, factors, flat, measure)
    cells, groups = {k: cells[k] for k in order}, {k: groups[k] for k in order}
    if averaged:
        notes.append(f"each seed's value is its mean over {_spans(averaged, swept, flat)}")
    notes += _gaps(cells)
    turned = {k: {c: (measure.sign or 1) * v for c, v in cs.items()} for k, cs in cells.items()}
    pairs = stats.compare(turned, measure.margin, lambda a, b: a[1:] == b[1:])
    if measure.sign < 0:
        pairs = {key: _turned(one) for key, one in pairs.items()}
    two = len(factors) == 2
    return Comparison(
        measure=measure,
        by=tuple(factors),
        cells=cells,
        groups=groups,
        pairs=pairs,
        interaction=stats.interaction({(a[0], a[1]): c for a, c in turned.items()})
        if two
        else None,
        optima=_optima(factors, flat, turned) if measure.sign else {},
        chosen=chosen,
        notes=notes,
        entries=entries,
        labels=labels,
    )


def where(entries: Sequence[Entry], conditions: Sequence[str]) -> list[Entry]:
    """The runs that meet conditions such as `depth=4` or `act=relu,elu`.

    Raises:
        UserError: no such factor, or no run meets them.
    """
    flat = {one.run.run_id: table.flatten(one.config) for one in entries}
    swept = table.columns([one.config for one in entries]) if entries else {}
    kept = list(entries)
    for text in conditions:
        name, _, wanted = text.partition("=")
        path = _path(f"--where {text}", name, swept, [*flat.values()])
        values = {one.run.run_id: str(flat[one.run.run_id].get(path)) for one in kept}
        chosen = [one for one in kept if values[one.run.run_id] in wanted.split(",")]
        if not chosen:
            known = ", ".join(sorted(set(values.values())))
            raise UserError(f"--where {text}: no run has it; there are: {known}")
        kept = chosen
    return kept


def _factors(
    by: Sequence[str], swept: Mapping[str, str], flat: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Config paths by title; `act` takes the activation's parameters with it, and so on."""
    found = {}
    for name in by:
        path = _path(f"--by {name}", name, swept, flat)
        if path == "seed":
            raise UserError("--by seed: seeds are what is averaged over; type --by act")
        own = [p for p in swept if p.startswith(f"{name}.") and p != path]
        found[table.KNOWN.get(path, path)] = [path, *own]
    if len(found) > 2:
        raise UserError(f"--by {','.join(by)}: must be one or two factors")
    return found


def _path(
    typed: str, name: str, swept: Mapping[str, str], flat: Sequence[Mapping[str, Any]]
) -> str:
    """The config path of a factor's title."""
    known = {path for one in flat for path in one}
    titles = {title: path for path, title in {**table.KNOWN, **swept}.items() if path in known}
    path = titles.get(name, name)
    if path not in known:
        near = difflib.get_close_matches(name, [*titles, *sorted(known)], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        usual = ", ".join(swept.values())
        raise UserError(f"{typed}: no such factor; {hint}These runs differ in: {usual}")
    return path


def _label(known: Mapping[str, Any], paths: Sequence[str]) -> str:
    """A factor's value as text, with those parameters that differ."""
    main, *rest = paths
    text = str(known.get(main))
    return " ".join([text, *(f"{p.rpartition('.')[2]}={known[p]}" for p in rest if p in known)])


def _hashable(value: Any) -> Hashable:
    return str(value) if isinstance(value, list | dict) else value


def _usual(entries: Sequence[Entry]) -> str:
    classify = any(one.summary.get("test_accuracy") is not None for one in entries)
    return "test/accuracy" if classify else "test/loss"


def _values(entries: Sequence[Entry], metric: str) -> tuple[dict[str, float | None], list[str]]:
    """Each run's value, None without one; and which runs don't count.

    Raises:
        UserError: no run has the metric, or a metrics file is damaged.
    """
    values: dict[str, float | None] = {}
    for one in entries:
        found: float | None = None
        if one.state == "complete":
            key = SUMMARISED.get(metric)
            found = one.summary.get(key) if key else _last(one, metric)
        values[one.run.run_id] = found
    if all(value is None for value in values.values()):
        _refuse(metric, entries)
    notes = []
    for state in dict.fromkeys(one.state for one in entries):
        gone = [one.run.run_id for one in entries if one.state == state]
        if state not in ("complete", "diverged"):
            notes.append(f"not counted: {table.who(gone)} {state}")
    lacking = [
        one.run.run_id
        for one in entries
        if one.state == "complete" and values[one.run.run_id] is None
    ]
    if lacking:
        notes.append(f"not counted: {table.who(lacking)} without {metric}")
    return values, notes


def _last(one: Entry, metric: str) -> float | None:
    """The last value that a run has logged."""
    column = read_metrics(one.run.metrics).get(metric)
    known = column[np.isfinite(column)] if column is not None else []
    return float(known[-1]) if len(known) else None


def _refuse(metric: str, entries: Sequence[Entry]) -> None:
    one = next(one for one in entries if one.state == "complete")
    logged = list(read_metrics(one.run.metrics))
    options = sorted({*SUMMARISED, *logged} - {"step"})
    near = difflib.get_close_matches(metric, options, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    groups = ", ".join(dict.fromkeys(name.partition("/")[0] for name in options))
    raise UserError(f"--metric {metric}: no run has it; {hint}They have: {groups}")


def _measure(metric: str, values: Sequence[float], margin: float | None) -> Measure:
    kind = metric.rpartition("/")[2]
    sign = {"accuracy": 1, "loss": -1, "seconds": -1}.get(kind, 0)
    scale, unit = (100.0, "points") if kind == "accuracy" else (1.0, "")
    if margin is not None:
        if margin < 0:
            raise UserError(
                f"--margin {margin:g}: must be 0 or more; type for example --margin 0.5"
            )
        return Measure(metric, sign, scale, unit, margin / scale)
    own = MARGINS.get(kind, RELATIVE_MARGIN * abs(statistics.fmean(values)))
    return Measure(metric, sign, scale, unit, own)


def _with_diverged(
    entries: Sequence[Entry], values: Mapping[str, float | None], measure: Measure
) -> tuple[dict[str, float | None], list[str]]:
    """A run that has diverged counts as accuracy 0, or as the worst value of all."""
    gone = [one.run.run_id for one in entries if one.state == "diverged"]
    if not gone:
        return dict(values), []
    who = f"{table.who(gone)} diverged"
    if not measure.sign:
        return dict(values), [f"not counted: {who}"]
    known = [measure.sign * v for v in values.values() if v is not None]
    floor = 0.0 if measure.scale == 100 else measure.sign * min(known)
    worst = f"{measure.text(floor)} {'%' if measure.scale == 100 else '(the worst of all)'}"
    return {**values, **dict.fromkeys(gone, floor)}, [f"{who}: counted as {worst}"]


def _tune(
    entries: Sequence[Entry],
    flat: Sequence[Mapping[str, Any]],
    labels: Mapping[str, Label],
    tuned: Sequence[str],
    titles: Mapping[str, str],
) -> tuple[set[str], dict[Label, dict[str, Any]], list[str]]:
    """For each group the values of `tuned` that are best in validation, the mean over its runs; the
    ids of the runs that have them."""
    if not tuned:
        return {one.run.run_id for one in entries}, {}, []
    scores: dict[Label, dict[Cell, list[float]]] = {}
    for one, known in zip(entries, flat, strict=True):
        score = _validation(one)
        if score is not None:
            choice = tuple(_hashable(known.get(path)) for path in tuned)
            scores.setdefault(labels[one.run.run_id], {}).setdefault(choice, []).append(score)
    best = {label: max(c, key=lambda at: statistics.fmean(c[at])) for label, c in scores.items()}
    kept = {
        one.run.run_id
        for one, known in zip(entries, flat, strict=True)
        if best.get(labels[one.run.run_id]) == tuple(_hashable(known.get(p)) for p in tuned)
    }
    chosen = {
        label: dict(zip(titles.values(), choice, strict=True)) for label, choice in best.items()
    }
    notes = [f"{', '.join(titles.values())}: each group's best in validation"]
    for place, path in enumerate(tuned):
        grid = sorted({known[path] for known in flat if isinstance(known.get(path), int | float)})
        for label, choice in best.items():
            if len(grid) > 2 and choice[place] in (grid[0], grid[-1]):
                notes.append(
                    f"{' '.join(label)}: {titles[path]}={choice[place]:g} is the edge of the grid; "
                    "its best may lie beyond"
                )
    return kept, chosen, notes


def _validation(one: Entry) -> float | None:
    """How good a run is in validation, larger is better; one that diverged as bad as can be."""
    if one.state == "diverged":
        return -1e9
    accuracy, loss = one.summary.get("best_val_accuracy"), one.summary.get("best_val_loss")
    return accuracy if accuracy is not None else None if loss is None else -loss


def _order(
    groups: Mapping[Label, Summary],
    factors: Mapping[str, Sequence[str]],
    flat: Sequence[Mapping[str, Any]],
    measure: Measure,
) -> list[Label]:
    """Best first; numbers in their own order, and so is the second of two factors."""
    ranks: list[dict[str, float]] = []
    for paths in factors.values():
        found = {_label(one, paths): one.get(paths[0]) for one in flat}
        numeric = all(isinstance(value, int | float) for value in found.values())
        means: dict[str, list[float]] = {}
        for label, one in groups.items():
            means.setdefault(label[len(ranks)], []).append(one.mean)
        sign = measure.sign or 1
        ranks.append(
            {text: float(value) for text, value in found.items() if value is not None}
            if numeric
            else {text: -sign * statistics.fmean(known) for text, known in means.items()}
        )
    key = lambda label: [r[text] for r, text in zip(ranks, label, strict=True)][::-1]  # noqa: E731
    return sorted(groups, key=key)


def _spans(
    paths: Sequence[str], swept: Mapping[str, str], flat: Sequence[Mapping[str, Any]]
) -> str:
    parts = []
    for path in paths:
        values = list(dict.fromkeys(str(one.get(path)) for one in flat))
        parts.append(f"{swept[path]} ({', '.join(values)})")
    return ", ".join(parts)


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
    factors: Mapping[str, Sequence[str]],
    flat: Sequence[Mapping[str, Any]],
    cells: Mapping[Label, Mapping[Cell, float]],
) -> dict[str, dict[Label, Optimum]]:
    """For each factor that is a number: where each group is best along it."""
    found: dict[str, dict[Label, Optimum]] = {}
    for place, (title, paths) in enumerate(factors.items()):
        values = {_label(one, paths): one.get(paths[0]) for one in flat}
        numbers = {text: v for text, v in values.items() if isinstance(v, float)}
        if len(numbers) < len(values) or len(numbers) < 3:
            continue
        curves: dict[Label, dict[float, Mapping[Cell, float]]] = {}
        for label, own in cells.items():
            rest = label[:place] + label[place + 1 :]
            curves.setdefault(rest, {})[numbers[label[place]]] = own
        best = {rest: stats.optimum(curve) for rest, curve in curves.items()}
        found[title] = {rest: one for rest, one in best.items() if one}
    return found


def words(found: Comparison) -> list[str]:
    """The answer in sentences: how the best group stands to each other one."""
    measure, lines = found.measure, []
    seconds = list(dict.fromkeys(label[1:] for label in found.groups))
    for rest in seconds:
        own = [label for label in found.groups if label[1:] == rest]
        where_ = f" at {found.by[1]} {rest[0]}" if rest else ""
        best = max(own, key=lambda label: (measure.sign or 1) * found.groups[label].mean)
        one = found.groups[best]
        extreme = "best" if measure.sign else "highest"
        name = best[0] if found.by[0] == "act" else f"{found.by[0]} {best[0]}"
        lines.append(
            f"{extreme} mean {measure.metric}{where_}: {name}, "
            f"{interval_text(measure, one.mean, one.low, one.high)} ({_count(one.n, 'seed')})"
        )
        lines += [f"  {line}" for line in _against(found, best, own)]
    if found.interaction is not None:
        a, b = found.by
        says = "depends" if found.interaction < stats.ALPHA else "isn't shown to depend"
        lines.append(f"the effect of {a} {says} on {b} (interaction: p = {found.interaction:.2g})")
    for title, optima in found.optima.items():
        for rest, best_at in optima.items():
            lines.append(
                f"{' '.join(rest) or 'all'}: best {title} {best_at.best:g}, 95 % of resamples in "
                f"{best_at.low:g} … {best_at.high:g}"
                + ("; the edge of the grid: try beyond" if best_at.edge else "")
            )
    return lines


def _against(found: Comparison, best: Label, own: Sequence[Label]) -> list[str]:
    """What the best group is to the others, those alike in one line."""
    sorts: dict[str, list[str]] = {BETTER: [], WORSE: [], EQUIVALENT: [], UNDECIDED: []}
    for other in own:
        if other == best:
            continue
        pair, turn = found.pairs.get((best, other)), False
        if pair is None:
            pair, turn = found.pairs[other, best], True
        verdict = {BETTER: WORSE, WORSE: BETTER}.get(pair.verdict, pair.verdict)
        sign = -1 if turn else 1
        text = f"{other[0]} ({found.measure.text(sign * pair.difference, signed=True)}"
        if pair.verdict == UNDECIDED and pair.more:
            text += f"; about {_count(pair.more, 'further seed')} would decide"
        sorts[verdict if turn else pair.verdict].append(f"{text})")
    margin = f"{found.measure.text(found.measure.margin)} {found.measure.unit}".strip()
    starts = {
        BETTER: f"{found.measure.word(BETTER)} than",
        WORSE: f"{found.measure.word(WORSE)} than",
        EQUIVALENT: f"equivalent, within {margin}, to",
        UNDECIDED: "can't be told from",
    }
    return [f"{starts[sort]} {', '.join(those)}" for sort, those in sorts.items() if those]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def interval_text(
    measure: Measure, mean: float, low: float | None, high: float | None, *, signed: bool = False
) -> str:
    """A mean with its interval, `88.85 [88.53, 89.17]`."""
    text = measure.text(mean, signed=signed)
    if low is None or high is None:
        return text
    ends = (measure.text(v, signed=signed) for v in (low, high))
    return f"{text} [{', '.join(ends)}]"


def show(
    found: Comparison,
    stream: TextIO | None = None,
    width: int | None = None,
    *,
    every: bool = False,
) -> None:
    """Print groups, pairs, and the answer in words.

    Args:
        found: the comparison.
        stream: where to; standard output by default.
        width: columns of text; by default the terminal's.
        every: all pairs, also if they are many; else those of the best group.
    """
    from rich.table import Table

    console = table.plain_console(stream, width)
    measure = found.measure
    title = f"{measure.metric}{', %' if measure.scale == 100 else ''}"
    group_table = Table(box=None, pad_edge=False, header_style="bold")
    tuned = list(dict.fromkeys(key for one in found.chosen.values() for key in one))
    for name in (*found.by, *tuned):
        group_table.add_column(name, overflow="fold")
    for name in ("seeds", f"{title}\nmean [95 %]", "bootstrap\n[95 %]", "median", "IQM"):
        group_table.add_column(name, justify="right", no_wrap=True)
    for label, one in found.groups.items():
        bca = "–"
        if one.bca_low is not None:
            bca = f"[{measure.text(one.bca_low)}, {measure.text(one.bca_high)}]"
        group_table.add_row(
            *label,
            *(f"{found.chosen.get(label, {}).get(key, '–')}" for key in tuned),
            str(one.n),
            interval_text(measure, one.mean, one.low, one.high),
            bca,
            measure.text(one.median),
            measure.text(one.iqm),
        )
    console.print(group_table)
    shown = found.pairs
    if len(shown) > FEW and not every:
        best = {next(k for k in found.groups if k[1:] == label[1:]) for label in found.groups}
        shown = {pair: one for pair, one in shown.items() if best & {*pair}}
    if shown:
        console.print()
        console.print(_pairs_table(found, shown))
        if len(shown) < len(found.pairs):
            console.print(f"and {len(found.pairs) - len(shown)} more pairs (--all)")
    console.print()
    for line in words(found):
        console.print(line, soft_wrap=True)
    for note in found.notes:
        console.print(note, style="yellow", soft_wrap=True)


def _pairs_table(found: Comparison, shown: Mapping[tuple[Label, Label], Pair]) -> Any:
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in (f"{found.by[0]}\na", "\nb", *found.by[1:]):
        made.add_column(name, overflow="fold")
    columns = ("difference\na − b [95 %]", "share of\nseeds a ahead", "effect\nsize", "p\n(Holm)")
    for name in columns:
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("\na is")
    measure = found.measure
    for (a, b), one in shown.items():
        made.add_row(
            a[0],
            b[0],
            *a[1:],
            interval_text(measure, one.difference, one.low, one.high, signed=True),
            "–" if math.isnan(one.improvement) else f"{one.improvement:.2f}",
            "–" if one.effect is None else f"{one.effect:+.1f}",
            "–" if one.p_holm is None else f"{one.p_holm:.2g}",
            measure.word(one.verdict),
        )
    return made
