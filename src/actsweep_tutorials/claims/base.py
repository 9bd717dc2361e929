"""Claims, the verdicts on them, and functions that reach a verdict."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actsweep.stats.fixed import ended_test
from actsweep.stats.paired import ALPHA, mean_interval

HOLDS = "holds"
ONLY_IF = "holds only if"
REFUTED = "refuted"
NOISE = "not decidable (noise)"
VERDICTS = (HOLDS, ONLY_IF, REFUTED, NOISE)
TINY = 1e-30  # what is 0 counts as this where a logarithm is taken


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, and the numbers that it rests on."""

    verdict: str
    text: str
    condition: str = ""

    def __str__(self) -> str:
        return f"{self.verdict} {self.condition}".strip()


@dataclass(frozen=True, eq=False)
class Claim:
    """A statement of a source, and how it is decided.

    Attributes:
        key: its source, S0 to S4 or traps, and a name.
        statement: what is claimed, in our words.
        experiment: the experiment that measures it.
        criterion: the quantity that decides, and the tolerance.
        decide: from the experiment's result to the verdict.
        figure: the experiment's figure that shows it; None if there is nothing to see.
        needs_training: whether it needs trained networks.
        reason: why it doesn't simply hold, where it doesn't.
    """

    key: str
    statement: str
    experiment: str
    criterion: str
    decide: Callable[[Any], Verdict]
    figure: str | None = None
    needs_training: bool = False
    reason: str = ""

    @property
    def source(self) -> str:
        """Return the tutorial that states it."""
        return self.key.partition(".")[0]


def holds_if(holds: Any, text: str) -> Verdict:
    """Return the verdict that a claim holds, or else that it is refuted."""
    return Verdict(HOLDS if holds else REFUTED, text)


def within(value: float, claimed: float, tolerance: float, text: str = "") -> Verdict:
    """Return whether a number is what is claimed, within a tolerance."""
    return holds_if(abs(value - claimed) <= tolerance, text or f"{value:.4g}")


def combine(cases: Mapping[str, Verdict], text: str, *, name_all: bool = False) -> Verdict:
    """Combine the verdicts on a claim that was tested under several conditions.

    It holds if it does under all of them. It holds only if some condition is met if it does under
    some: such a condition was found by looking at all, so the cases' verdicts must be corrected for
    that (`looks`). It is refuted if it is refuted under all. Anything else is noise. Where it holds
    in most cases, the condition names the others.

    Args:
        cases: the verdict under each condition.
        text: the numbers that it rests on.
        name_all: name the conditions under which it holds, even if they are most.
    """
    met = [name for name, verdict in cases.items() if verdict.verdict == HOLDS]
    others = [name for name in cases if name not in met]
    if not cases:
        return Verdict(NOISE, text)
    if not others:
        return Verdict(HOLDS, text)
    if len(met) > len(others) and not name_all:
        return Verdict(ONLY_IF, text, f"it isn't {', '.join(others)}")
    if met:
        return Verdict(ONLY_IF, text, ", ".join(met))
    refuted = [verdict.verdict == REFUTED for verdict in cases.values()]
    return Verdict(REFUTED if all(refuted) else NOISE, text)


def of_all(cases: Mapping[str, Verdict]) -> str:
    """Return the verdict on what has to hold in every case: it falls with one.

    Every case must pass a test of its own, so their number needs no correction.
    """
    verdicts = {verdict.verdict for verdict in cases.values()}
    return REFUTED if REFUTED in verdicts else NOISE if NOISE in verdicts else HOLDS


def exceeds(
    a: Mapping[int, float],
    b: Mapping[int, float],
    unit: str = "",
    *,
    by: float = 0.0,
    looks: int = 1,
) -> Verdict:
    """Return whether `a` exceeds `b`, both by seed.

    The interval of the mean difference over the seeds that both have decides. With fewer than two
    such seeds nothing can be decided.

    Args:
        a, b: values by seed.
        unit: of the differences.
        by: what the difference must exceed.
        looks: in how many cases this is tested; the interval's confidence is 1 - 0.05 / looks
            (Bonferroni).
    """
    differences = [a[seed] - b[seed] for seed in a if seed in b]
    if len(differences) < 2:
        return Verdict(NOISE, f"{len(differences)} pairs of seeds")
    mean, half = mean_interval(differences, 1 - ALPHA / looks)
    assert half is not None
    text = f"{mean:+.3g} ± {half:.2g}{unit}, {len(differences)} seeds"
    if mean - half > by:
        return Verdict(HOLDS, text)
    return Verdict(REFUTED if mean + half < by else NOISE, text)


def exceeds_where_both_learn(
    a: Mapping[int, float],
    b: Mapping[int, float],
    trained: Sequence[int],
    *,
    by: float = 0.0,
    looks: int = 1,
) -> Verdict:
    """Return whether `a` exceeds `b`, values by seed of the networks that learned something.

    How often either learns is compared by itself (exact McNemar test). Who learns less often
    exceeds nothing, whatever its values.

    Args:
        a, b: values by seed; a network that diverged or stayed at chance has none.
        trained: the seeds that both were trained with.
        by: what the difference must exceed.
        looks: in how many cases this is tested.
    """
    values = exceeds(a, b, by=by, looks=looks)
    text = f"{values.text} (learned: {len(a)} and {len(b)} of {len(trained)})"
    p = ended_test(len(a.keys() - b.keys()), len(b.keys() - a.keys()))
    more_often = len(a) - len(b)
    if p is not None and p * looks < ALPHA:
        by_learning = HOLDS if more_often > 0 else REFUTED
        agree = values.verdict in (by_learning, NOISE)
        return Verdict(by_learning if agree else NOISE, text)
    contradicted = {HOLDS: more_often < 0, REFUTED: more_often > 0, NOISE: False}
    return Verdict(NOISE if contradicted[values.verdict] else values.verdict, text)


def inside(
    values: Iterable[float], low: float, high: float, unit: str = "", *, looks: int = 1
) -> Verdict:
    """Return whether the mean over networks lies from `low` to `high`: a test of equivalence.

    It does if its interval does, whose two sides each have 95 % confidence (two one-sided tests).
    It is refuted if the interval lies outside, and can't be decided if a bound is in it.

    Args:
        values: one a network.
        low, high: the tolerance; infinite for a bound on one side.
        unit: of the values.
        looks: in how many cases this is tested. To hold in one of them, the error of either side
            is shared among them; to be refuted needs no correction, as all have to be.
    """
    values = list(values)
    if len(values) < 2:
        return Verdict(NOISE, f"{len(values)} networks")
    mean, half = mean_interval(values, 1 - 2 * ALPHA)
    _, corrected = mean_interval(values, 1 - 2 * ALPHA / looks)
    assert half is not None
    assert corrected is not None
    text = f"{mean:.4g} ± {half:.2g}{unit}, {len(values)} seeds"
    if low <= mean - corrected and mean + corrected <= high:
        return Verdict(HOLDS, text)
    return Verdict(REFUTED if mean + half < low or mean - half > high else NOISE, text)


def inside_factor(
    values: Iterable[float], claimed: float, factor: float, *, looks: int = 1
) -> Verdict:
    """Return whether the geometric mean over networks is what is claimed, up to a factor.

    As `inside`, of logarithms. Of several cases one lies near any number: to hold in one of them,
    the tolerance is shared among them as well, and the factor is its root of order `looks`.
    """
    logs = [math.log(max(value, TINY) / claimed) for value in values]
    wide, narrow = math.log(factor), math.log(factor) / looks
    if len(logs) < 2:
        return Verdict(NOISE, f"{len(logs)} networks")
    mean, half = mean_interval(logs, 1 - 2 * ALPHA)
    assert half is not None
    text = f"{claimed * math.exp(mean):.2g} (× or ÷ {math.exp(half):.2f})"
    if inside(logs, -narrow, narrow, looks=looks).verdict == HOLDS:
        return Verdict(HOLDS, text)
    return Verdict(REFUTED if inside(logs, -wide, wide).verdict == REFUTED else NOISE, text)


def one_run(claimed: float, values: Iterable[float], tolerance: float, unit: str = "") -> Verdict:
    """Return whether the number that a source found in one run is ours.

    It holds if the interval of our mean lies within the tolerance of it. It is refuted if no run of
    ours would come that near: where the 95 % prediction interval for one run,
    mean ± t(n - 1) s sqrt(1 + 1 / n), doesn't reach the tolerance. Between these the runs can't
    decide: that a number isn't excluded is no evidence for it.
    """
    values = list(values)
    n = len(values)
    if n < 2:
        return Verdict(NOISE, f"{n} seeds")
    near = inside(values, claimed - tolerance, claimed + tolerance, unit)
    mean, half = mean_interval(values)
    assert half is not None
    reach = half * math.sqrt(n + 1)
    text = f"claimed {claimed:g}; mean {near.text}; one run ± {reach:.2g}{unit}"
    if near.verdict == HOLDS:
        return Verdict(HOLDS, text)
    return Verdict(REFUTED if abs(claimed - mean) > reach + tolerance else NOISE, text)


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean; what is 0 counts as 1e-30."""
    return math.exp(sum(math.log(max(v, TINY)) for v in values) / len(values))


def mean(values: Iterable[float]) -> float:
    """Return the arithmetic mean."""
    values = list(values)
    return math.fsum(values) / len(values)
