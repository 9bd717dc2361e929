"""A comparison in words and tables, for the terminal. No jax."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from actsweep.report.compare import Comparison
from actsweep.report.design import Label
from actsweep.report.values import Measure
from actsweep.stats import paired
from actsweep.stats.paired import BETTER, EQUIVALENT, UNDECIDED, WORSE, Pair
from actsweep.sweeps import table

FEW = 21
"""Pairs that are all shown."""


def words(found: Comparison) -> list[str]:
    """The answer in sentences: how the best group stands to each other one."""
    measure, lines = found.measure, []
    seconds = list(dict.fromkeys(label[1:] for label in found.groups))
    for rest in seconds:
        own = [label for label in found.groups if label[1:] == rest]
        where_ = f" at {found.by[1]} {rest[0]}" if rest else ""
        best = _best(found, own)
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
        says = "depends" if found.interaction < paired.ALPHA else "isn't shown to depend"
        lines.append(f"the effect of {a} {says} on {b} (interaction: p = {found.interaction:.2g})")
    for title, optima in found.optima.items():
        for rest, best_at in optima.items():
            lines.append(
                f"{' '.join(rest) or 'all'}: best {title} {best_at.best:g}, 95 % of resamples in "
                f"{best_at.low:g} … {best_at.high:g}"
                + ("; the edge of the grid: try beyond" if best_at.edge else "")
            )
    return lines


def _best(found: Comparison, own: Sequence[Label]) -> Label:
    """The one with the best mean over the seeds that all have, if there are any."""
    means = {label: paired.by_seed(found.cells[label]) for label in own}
    common = [seed for seed in means[own[0]] if all(seed in one for one in means.values())]
    sign = found.measure.sign or 1

    def score(label: Label) -> float:
        if not common:
            return sign * found.groups[label].mean
        return sign * math.fsum(means[label][seed] for seed in common)

    return max(own, key=score)


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
            text += f"; {_further(pair.more)} would decide"
        sorts[verdict if turn else pair.verdict].append(f"{text})")
    margin = f"{found.measure.text(found.measure.margin)} {found.measure.unit}".strip()
    starts = {
        BETTER: f"{found.measure.word(BETTER)} than",
        WORSE: f"{found.measure.word(WORSE)} than",
        EQUIVALENT: f"equivalent, within {margin}, to",
        UNDECIDED: "can't be told from",
    }
    return [f"{starts[sort]} {', '.join(those)}" for sort, those in sorts.items() if those]


def _further(seeds: int) -> str:
    if seeds >= paired.MOST_SEEDS:
        return f"{paired.MOST_SEEDS:,} or more further seeds"
    return f"about {_count(seeds, 'further seed')}"


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
        rests = {label[1:] for label in found.groups}
        best = {_best(found, [k for k in found.groups if k[1:] == rest]) for rest in rests}
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
    if unequal := len({one.n for one in found.groups.values()} | {p.n for p in shown.values()}) > 1:
        made.add_column("\nseeds", justify="right")
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
            *([str(one.n)] if unequal else []),
            interval_text(measure, one.difference, one.low, one.high, signed=True),
            "–" if math.isnan(one.improvement) else f"{one.improvement:.2f}",
            "–" if one.effect is None else f"{one.effect:+.1f}",
            "–" if one.p_holm is None else f"{one.p_holm:.2g}",
            measure.word(one.verdict),
        )
    return made
