"""A comparison as sentences and tables, for the terminal. No jax."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from actsweep.report.design import Label
from actsweep.report.values import Measure, lost_share
from actsweep.stats import paired
from actsweep.stats.paired import BETTER, EQUIVALENT, UNDECIDED, WORSE, Pair
from actsweep.stats.power import MAX_FURTHER_SEEDS
from actsweep.stats.signs import LEAST
from actsweep.sweeps import table

if TYPE_CHECKING:
    from actsweep.report.compare import Comparison

FIRST = 4
"""Seeds before which the sequential test finds no difference, whatever they say."""
MAX_PAIRS = 21
"""Pairs up to which all are shown."""


def as_text(comparison: "Comparison") -> str:
    """Return what `show` prints, for as many columns as it takes."""
    stream = io.StringIO()
    show(comparison, stream, table.UNLIMITED)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def words(comparison: "Comparison") -> list[str]:
    """Return the answer in sentences: how the best group compares with each other one."""
    measure, lines = comparison.measure, [comparison.tuned] * bool(comparison.tuned)
    seconds = list(dict.fromkeys(label[1:] for label in comparison.groups))
    for rest in seconds:
        labels = [label for label in comparison.groups if label[1:] == rest]
        where_ = f" at {comparison.by[1]} {rest[0]}" if rest else ""
        best = _best(comparison, labels)
        summary = comparison.groups[best]
        extreme = "best" if measure.sign else "highest"
        name = best[0] if comparison.by[0] == "act" else f"{comparison.by[0]} {best[0]}"
        lines.append(
            f"{extreme} mean {measure.metric}{where_}: {name}, "
            f"{interval_text(measure, summary.mean, summary.low, summary.high)} "
            f"({seeds_text(comparison, best)} seed{'s' * (summary.n != 1)})"
        )
        lines += [f"  {line}" for line in _against_others(comparison, best, labels)]
    if comparison.interaction is not None:
        a, b = comparison.by
        verb = "depends" if comparison.interaction < paired.ALPHA else "isn't shown to depend"
        orders = {
            tuple(label[0] for label in _by_mean(comparison, rest)) for rest in seconds if rest
        }
        order = f"means are in {'the same' if len(orders) == 1 else 'another'} order at each {b}"
        lines.append(
            f"how far the groups of {a} lie apart {verb} on {b} (interaction: p = "
            f"{comparison.interaction:.2g}); {order}"
        )
    lines += _across(comparison)
    for title, optima in comparison.optima.items():
        for rest, best_at in optima.items():
            lines.append(
                f"{' '.join(rest) or 'all'}: best {title} {best_at.best:g}, 95 % of resamples in "
                f"{best_at.low:g} … {best_at.high:g}"
                + ("; the edge of the grid: try beyond" if best_at.edge else "")
            )
    return [*lines, _guarantee(comparison)] if comparison.pairs else lines


def _by_mean(comparison: "Comparison", rest: Label) -> list[Label]:
    """Return the groups of one value of the second factor, by their means."""
    labels = [label for label in comparison.groups if label[1:] == rest]
    return sorted(labels, key=lambda label: -comparison.groups[label].mean)


def _across(comparison: "Comparison") -> list[str]:
    """Return in how many data sets each group is ahead of those below, and what that says."""
    across = comparison.across
    if not across:
        return []
    most = max(found.of for found in across.values())
    shown = {names: found for names, found in across.items() if len(across) <= MAX_PAIRS}
    shown = shown or {n: found for n, found in across.items() if n[0] == next(iter(across))[0]}
    tells = f"{LEAST} must agree before this can tell" if most < LEAST else "p for one look"
    lines = [f"over {most} data sets ({tells}):"]
    for (a, b), found in shown.items():
        p = f", p = {found.p:.2g}" if found.of >= LEAST else ""
        lines.append(
            f"  {a} ahead of {b} in {found.ahead:g} of {found.of}{p}; on another one with "
            f"probability {found.new:.2f} [{found.low:.2f}, {found.high:.2f}]"
        )
    return lines


def _guarantee(comparison: "Comparison") -> str:
    """Return what is compared at once, and when the verdicts hold."""
    when = "after every seed, however often you look"
    few = max((pair.n for pair in comparison.pairs.values()), default=0) < FIRST
    if few:
        when += f"; no difference is found before the {FIRST}th seed"
    if comparison.one_look:
        when = "for one look, at a number of seeds that was set beforehand"
    return (
        f"compared at once: {_count(len(comparison.pairs), 'pair')}, in "
        f"{comparison.measure.metric} alone; verdicts hold {when}"
    )


def _best(comparison: "Comparison", labels: Sequence[Label]) -> Label:
    """Return the group with the best mean over the seeds that all have, if there are any.

    Of the groups whose runs end well most often.
    """
    shares = {label: lost_share(comparison.groups, comparison.lost, label) for label in labels}
    labels = [label for label in labels if shares[label] == min(shares.values())]
    means = {label: paired.seed_means(comparison.cells[label]) for label in labels}
    common = [
        seed for seed in means[labels[0]] if all(seed in by_seed for by_seed in means.values())
    ]
    sign = comparison.measure.sign or 1

    def score(label: Label) -> float:
        if not common:
            return sign * comparison.groups[label].mean
        return sign * math.fsum(means[label][seed] for seed in common)

    return max(labels, key=score)


def _against_others(comparison: "Comparison", best: Label, labels: Sequence[Label]) -> list[str]:
    """Return how the best group compares with the others, a line for each verdict."""
    by_verdict: dict[str, list[str]] = {BETTER: [], WORSE: [], EQUIVALENT: [], UNDECIDED: []}
    for other in labels:
        if other == best:
            continue
        pair, flipped = comparison.pairs.get((best, other)), False
        if pair is None:
            pair, flipped = comparison.pairs[other, best], True
        verdict = {BETTER: WORSE, WORSE: BETTER}.get(pair.verdict, pair.verdict)
        sign = -1 if flipped else 1
        text = f"{other[0]} ({comparison.measure.text(sign * pair.difference, signed=True)}"
        if pair.verdict == UNDECIDED and pair.more:
            text += f"; {_further_text(pair.more)} would decide"
        if other in comparison.lost or best in comparison.lost:
            text += f"; {seeds_text(comparison, other)} seeds ended well"
        by_verdict[verdict if flipped else pair.verdict].append(f"{text})")
    margin = (
        f"{comparison.measure.text(comparison.measure.margin)} {comparison.measure.unit}".strip()
    )
    starts = {
        BETTER: f"{comparison.measure.word(BETTER)} than",
        WORSE: f"{comparison.measure.word(WORSE)} than",
        EQUIVALENT: f"equivalent, within {margin}, to",
        UNDECIDED: "can't be told from",
    }
    return [
        f"{starts[verdict]} {', '.join(others)}" for verdict, others in by_verdict.items() if others
    ]


def seeds_text(comparison: "Comparison", label: Label) -> str:
    """Return a group's number of seeds, and of how many if runs diverged: `4 of 5`."""
    n, lost = comparison.groups[label].n, len(comparison.lost.get(label, ()))
    return f"{n} of {n + lost}" if lost else str(n)


def _further_text(seeds: int) -> str:
    if seeds >= MAX_FURTHER_SEEDS:
        return f"{MAX_FURTHER_SEEDS:,} or more further seeds"
    return f"about {_count(seeds, 'further seed')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def interval_text(
    measure: Measure, mean: float, low: float | None, high: float | None, *, signed: bool = False
) -> str:
    """Return a mean with its interval, `88.85 [88.53, 89.17]`."""
    text = measure.text(mean, signed=signed)
    if low is None or high is None:
        return text
    ends = (measure.text(v, signed=signed) for v in (low, high))
    return f"{text} [{', '.join(ends)}]"


def show(
    comparison: "Comparison",
    stream: TextIO | None = None,
    width: int | None = None,
    *,
    every: bool = False,
) -> None:
    """Print groups, pairs, and the answer in sentences.

    Args:
        comparison: the comparison.
        stream: the stream to print to; standard output by default.
        width: columns of text; by default the terminal's.
        every: show all pairs, even if they are many; else those of the best group.
    """
    from rich.table import Table

    console = table.plain_console(stream, width)
    measure = comparison.measure
    title = f"{measure.metric}{', %' if measure.scale == 100 else ''}"
    group_table = Table(box=None, pad_edge=False, header_style="bold")
    tuned = list(dict.fromkeys(key for values in comparison.chosen.values() for key in values))
    for name in (*comparison.by, *tuned):
        group_table.add_column(name, overflow="fold")
    for name in ("seeds", f"{title}\nmean [95 %]", "median", "IQM"):
        group_table.add_column(name, justify="right", no_wrap=True)
    for label, summary in comparison.groups.items():
        group_table.add_row(
            *label,
            *(f"{comparison.chosen.get(label, {}).get(key, '–')}" for key in tuned),
            seeds_text(comparison, label),
            interval_text(measure, summary.mean, summary.low, summary.high),
            measure.text(summary.median),
            measure.text(summary.iqm),
        )
    console.print(group_table)
    shown = comparison.pairs
    if len(shown) > MAX_PAIRS and not every:
        rests = {label[1:] for label in comparison.groups}
        best = {
            _best(comparison, [label for label in comparison.groups if label[1:] == rest])
            for rest in rests
        }
        shown = {labels: pair for labels, pair in shown.items() if best & {*labels}}
    if shown:
        console.print()
        console.print(_pairs_table(comparison, shown))
        if len(shown) < len(comparison.pairs):
            console.print(f"and {len(comparison.pairs) - len(shown)} more pairs (--all)")
    console.print()
    for line in words(comparison):
        console.print(line, soft_wrap=True)
    for note in comparison.notes:
        console.print(note, style="yellow", soft_wrap=True)


def _pairs_table(comparison: "Comparison", pairs: Mapping[tuple[Label, Label], Pair]) -> Any:
    from rich.table import Table

    pairs_table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (f"{comparison.by[0]}\na", "\nb", *comparison.by[1:]):
        pairs_table.add_column(name, overflow="fold")
    counts = {group.n for group in comparison.groups.values()} | {pair.n for pair in pairs.values()}
    if unequal := len(counts) > 1:
        pairs_table.add_column("\nseeds", justify="right")
    lost = any(any(pair.lost) for pair in pairs.values())
    once = comparison.one_look
    p_title = "p\n(Holm)" if once else "p, any\ntime"
    columns = ["difference\na − b [95 %]", "share of\nseeds a ahead", "a ahead,\nnew seed"]
    columns += ["effect\nsize", p_title, *["p, ended\nas often"] * lost]
    for name in columns:
        pairs_table.add_column(name, justify="right", no_wrap=True)
    pairs_table.add_column("\na is")
    measure = comparison.measure
    for (a, b), pair in pairs.items():
        pairs_table.add_row(
            a[0],
            b[0],
            *a[1:],
            *([str(pair.n)] if unequal else []),
            interval_text(measure, pair.difference, pair.low, pair.high, signed=True),
            "–" if math.isnan(pair.improvement) else f"{pair.improvement:.2f}",
            _cell(pair.ahead_next, ".2f"),
            _cell(pair.effect, "+.1f"),
            _cell(pair.p_holm if once else pair.p_anytime, ".2g"),
            *([_cell(pair.p_ended_holm if once else pair.p_ended_anytime, ".2g")] if lost else []),
            measure.word(pair.verdict),
        )
    return pairs_table


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
