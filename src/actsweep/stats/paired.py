"""Means with intervals, and comparisons of pairs of groups, seed by seed. No jax."""

import itertools
import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from actsweep.stats import fixed, sequential
from actsweep.stats.power import further_seeds
from actsweep.stats.spread import resolution, spread

ALPHA = 0.05

BETTER, WORSE, EQUIVALENT, UNDECIDED = "better", "worse", "equivalent", "cannot tell"


@dataclass(frozen=True)
class Summary:
    """Summary of one group's values.

    `low … high` is Student's 95 % interval of the mean; None where a single value says nothing
    about spread.
    """

    n: int
    mean: float
    median: float
    iqm: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Pair:
    """Comparison of group a with group b over the seeds that both have.

    All p values are two-sided. Those that end in `_holm` are for one look, corrected for all tests
    of the comparison (Holm 1979). Those that end in `_anytime` hold however often one looks: 1 over
    the e-value, which is corrected for the same tests (`sequential.adjust`).

    Attributes:
        n: the number of those seeds.
        difference: mean of a - b.
        low, high: its 95 % interval, not corrected for other pairs: a confidence sequence, or for
            one look Student's. None where few seeds bound nothing yet.
        improvement: share of seeds in which a is ahead, ties half: the probability of improvement.
        ahead_next: probability that a is ahead with a new seed, by Student t.
        effect: mean over standard deviation of the differences, with Hedges' correction.
        p: of the paired t test.
        p_flips: of the paired permutation test (sign flips), which assumes no normal distribution;
            never below 2 / 2^n.
        p_holm, p_flips_holm, p_anytime: whether a and b differ.
        p_equivalent_holm, p_equivalent_anytime: whether they differ by less than the margin.
        verdict: about a: better, worse, equivalent, or cannot tell.
        more: further seeds that would decide it with 80 % power, if the difference is what it
            seems; 1,000 also stands for more; None if there is nothing to say.
        lost: of the seeds that both were trained with, in how many a, and b, didn't end well.
        p_ended: of the exact McNemar test: whether a and b end well equally often.
        p_ended_holm, p_ended_anytime: the same, corrected.
    """

    n: int
    difference: float
    low: float | None
    high: float | None
    improvement: float
    ahead_next: float | None
    effect: float | None
    p: float | None
    p_flips: float | None
    p_holm: float | None
    p_flips_holm: float | None
    p_anytime: float | None
    p_equivalent_holm: float | None
    p_equivalent_anytime: float | None
    verdict: str
    more: int | None
    lost: tuple[int, int] = (0, 0)
    p_ended: float | None = None
    p_ended_holm: float | None = None
    p_ended_anytime: float | None = None


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float | None]:
    """Return the mean and the half-width of its Student t interval: t(n - 1) * s / sqrt(n).

    Args:
        values: [n].
        confidence: of the interval.

    Returns:
        The mean, and the half-width; None for a single value, which says nothing about spread.

    Raises:
        ValueError: there are no values.
    """
    from scipy.special import stdtrit

    n = len(values)
    if n == 0:
        raise ValueError("no values")
    mean = math.fsum(values) / n
    if n == 1:
        return mean, None
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, float(stdtrit(n - 1, 0.5 + confidence / 2)) * spread / math.sqrt(n)


def interquartile_mean(values: Sequence[float]) -> float:
    """Return the mean of the middle half; a value on its edge counts in part.

    Agarwal et al. 2021, arXiv:2108.13264.
    """
    ordered = np.sort(np.asarray(values, float))
    n = len(ordered)
    cut = n / 4
    places = np.arange(n)
    weights = np.clip(np.minimum(places + 1, n - cut) - np.maximum(places, cut), 0, 1)
    return float(np.sum(weights * ordered) / np.sum(weights))


def summarise(values: Sequence[float]) -> Summary:
    """Return the summary of one group's values; of no values, NaN."""
    if not values:
        return Summary(0, math.nan, math.nan, math.nan, None, None)
    mean, half = mean_interval(values)
    return Summary(
        n=len(values),
        mean=mean,
        median=float(np.median(values)),
        iqm=interquartile_mean(values),
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
    )


Cell = tuple[Hashable, ...]
"""A run's place in its group: its seed, then whatever else was swept."""
Group = TypeVar("Group", bound=Hashable)


def seed_means(cells: Mapping[Cell, float]) -> dict[Hashable, float]:
    """Return each seed's mean over its cells: those of one seed share its draws, and count once."""
    seeds: dict[Hashable, list[float]] = {}
    for (seed, *_), value in cells.items():
        seeds.setdefault(seed, []).append(value)
    return {seed: math.fsum(values) / len(values) for seed, values in seeds.items()}


def compare(
    groups: Mapping[Group, Mapping[Cell, float]],
    margin: float,
    among: Callable[[Group, Group], bool] = lambda a, b: True,
    lost: Mapping[Group, Collection[Hashable]] | None = None,
    *,
    one_look: bool = False,
) -> dict[tuple[Group, Group], Pair]:
    """Compare pairs of groups seed by seed in the cells that both have, corrected for their number.

    Three questions are asked of each pair: whether the values differ where both ended well, whether
    they differ by less than the margin, and, if some run didn't end well, whether both end well
    equally often. No value is made up for a run that didn't.

    Args:
        groups: each group's values by cell; larger is better.
        margin: differences below it don't matter.
        among: which pairs to compare; all by default.
        lost: by group, the seeds with which it was trained and didn't end well.
        one_look: the number of seeds was set beforehand. By default verdicts and intervals hold
            however often one looks.

    Returns:
        The pairs by (a, b), in the order of `groups`.
    """
    pairs = [(a, b) for a, b in itertools.combinations(groups, 2) if among(a, b)]
    step = float(resolution([v for cells in groups.values() for v in seed_means(cells).values()]))
    samples = [_sample(groups, lost or {}, a, b, step) for a, b in pairs]
    of_methods = zip(_one_look(samples, margin), _anytime(samples, margin), strict=True)
    flip_ps = [fixed.flip_test(sample.values) for sample in samples]
    corrected = zip(of_methods, flip_ps, fixed.holm(flip_ps), strict=True)
    return {
        pair: _pair(sample, margin, ALPHA / len(pairs), *methods, flips, one_look=one_look)
        for pair, sample, (methods, *flips) in zip(pairs, samples, corrected, strict=True)
    }


@dataclass(frozen=True)
class _Sample:
    """What is known of a pair.

    Attributes:
        values: the difference a - b of each seed with which both ended well.
        spread: their standard deviation, with the rounding.
        alone: in how many seeds a ended well and b didn't, and the other way round.
        lost: in how many seeds a, and b, didn't end well.
    """

    values: Sequence[float]
    spread: float
    alone: tuple[int, int]
    lost: tuple[int, int]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / self.n if self.n else math.nan


@dataclass(frozen=True)
class _Answers:
    """P values of a pair's three questions, corrected; None for one that wasn't asked."""

    different: float | None
    equivalent: float | None
    ended: float | None


def _one_look(samples: Sequence[_Sample], margin: float) -> list[_Answers]:
    """Return the answers by t tests and McNemar's, corrected by Holm."""
    different = [fixed.t_test(s.mean, s.spread, s.n) for s in samples]
    equivalent = [fixed.equivalence_test(s.mean, s.spread, s.n, margin) for s in samples]
    corrected = fixed.holm([*different, *(fixed.ended_test(*s.alone) for s in samples)])
    answers = zip(
        corrected[: len(samples)], fixed.holm(equivalent), corrected[len(samples) :], strict=True
    )
    return [_Answers(*answer) for answer in answers]


def _anytime(samples: Sequence[_Sample], margin: float) -> list[_Answers]:
    """Return the answers by e-values. Pairs without a result yet count: their e-value is 1."""
    n = np.array([sample.n for sample in samples])
    mean = np.array([sample.mean if sample.n else 0.0 for sample in samples])
    deviation = np.array([sample.spread for sample in samples])
    told_apart = [place for place, sample in enumerate(samples) if any(sample.alone)]
    ended = [float(sequential.e_value_ended(*samples[place].alone)) for place in told_apart]
    both = sequential.adjust(np.array([*sequential.e_value(mean, deviation, n), *ended]))
    equivalent = sequential.adjust(sequential.e_value_equivalent(mean, deviation, n, margin))
    p_ended = dict(zip(told_apart, _p_anytime(both[len(samples) :]), strict=True))
    p_values = zip(_p_anytime(both[: len(samples)]), _p_anytime(equivalent), strict=True)
    return [
        _Answers(
            different=p_different if sample.n > 1 else None,
            equivalent=p_equivalent if sample.n > 1 else None,
            ended=p_ended.get(place),
        )
        for place, (sample, (p_different, p_equivalent)) in enumerate(
            zip(samples, p_values, strict=True)
        )
    ]


def _p_anytime(e_values: np.ndarray) -> list[float]:
    return [min(1.0, 1 / float(e_value)) for e_value in e_values]


def _sample(
    groups: Mapping[Group, Mapping[Cell, float]],
    lost: Mapping[Group, Collection[Hashable]],
    a: Group,
    b: Group,
    step: float,
) -> _Sample:
    """Return what is known of a pair; only seeds with which both were trained count."""
    differences = {
        cell: groups[a][cell] - groups[b][cell] for cell in groups[a] if cell in groups[b]
    }
    lost_a, lost_b = set(lost.get(a, ())), set(lost.get(b, ()))
    ended_a = {seed for seed, *_ in groups[a]} - lost_a
    ended_b = {seed for seed, *_ in groups[b]} - lost_b
    both = (ended_a | lost_a) & (ended_b | lost_b)
    values = list(seed_means(differences).values())
    return _Sample(
        values=values,
        spread=float(spread(values, step)),
        alone=(len(ended_a & lost_b), len(ended_b & lost_a)),
        lost=(len(lost_a & both), len(lost_b & both)),
    )


def _pair(
    sample: _Sample,
    margin: float,
    alpha: float,
    once: _Answers,
    anytime: _Answers,
    p_flips: Sequence[float | None],
    *,
    one_look: bool,
) -> Pair:
    n, mean, deviation = sample.n, sample.mean, sample.spread
    method = fixed if one_look else sequential
    half = method.half_width(deviation, n)
    ahead = sum(v > 0 for v in sample.values) + sum(v == 0 for v in sample.values) / 2
    verdict = _verdict(mean, once if one_look else anytime, sample.lost)
    more = None
    if verdict == UNDECIDED and not any(sample.lost):
        more = further_seeds(n, abs(mean), deviation, margin, alpha, one_look=one_look)
    return Pair(
        n=n,
        difference=mean,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        improvement=ahead / n if n else math.nan,
        ahead_next=ahead_next(n, mean, deviation),
        effect=effect_size(mean, deviation, n),
        p=fixed.t_test(mean, deviation, n),
        p_flips=p_flips[0],
        p_holm=once.different,
        p_flips_holm=p_flips[1],
        p_anytime=anytime.different,
        p_equivalent_holm=once.equivalent,
        p_equivalent_anytime=anytime.equivalent,
        verdict=verdict,
        more=more,
        lost=sample.lost,
        p_ended=fixed.ended_test(*sample.alone),
        p_ended_holm=once.ended,
        p_ended_anytime=anytime.ended,
    )


def _verdict(mean: float, answers: _Answers, lost: tuple[int, int]) -> str:
    """Return what can be said of a.

    Who ends well more often is better, unless the values say the opposite. Who ends well less often
    is never better, whatever its values, and only groups that always end well are equivalent.
    """
    ahead = np.sign(lost[1] - lost[0])
    by_endings = ahead if _found(answers.ended) else 0
    by_values = np.sign(mean) if _found(answers.different) else 0
    if by_endings and by_values != -by_endings:
        return BETTER if by_endings > 0 else WORSE
    if _found(answers.equivalent) and not any(lost):
        return EQUIVALENT
    if by_values and ahead != -by_values:
        return BETTER if by_values > 0 else WORSE
    return UNDECIDED


def _found(p: float | None) -> bool:
    return p is not None and p <= ALPHA


def ahead_next(n: int, mean: float, spread: float) -> float | None:
    """Return the probability that a further difference is above 0; None for fewer than two.

    That of Student's prediction, t(n - 1) * spread * sqrt(1 + 1 / n) around the mean: were the
    differences normal, it would be right as often as it says.
    """
    from scipy.special import stdtr

    if n < 2:
        return None
    if spread == 0:
        return (1 + float(np.sign(mean))) / 2
    return float(stdtr(n - 1, mean / spread / math.sqrt(1 + 1 / n)))


def effect_size(mean: float, spread: float, n: int) -> float | None:
    """Return mean over standard deviation, times 1 - 3 / (4 (n - 1) - 1).

    The factor is Hedges', against the bias of few pairs. None for fewer than three pairs or no
    spread.
    """
    if n < 3 or spread == 0:
        return None
    return (1 - 3 / (4 * (n - 1) - 1)) * mean / spread
