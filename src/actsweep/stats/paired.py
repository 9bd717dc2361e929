"""Means with intervals, and comparisons of pairs of groups, seed by seed. No jax."""

import itertools
import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from actsweep.stats.power import further_seeds

ALPHA = 0.05
MAX_EXACT = 14  # seeds up to which all sign flips are tried
RANDOM_FLIPS = 20_000  # sign flips for more seeds
TIE = 1e-4  # sums closer than this share of the differences' size are ties: float32's rounding
RESAMPLES = 10_000

BETTER, WORSE, EQUIVALENT, UNDECIDED = "better", "worse", "equivalent", "cannot tell"


@dataclass(frozen=True)
class Summary:
    """Summary of one group's values.

    `low … high` is Student's 95 % interval of the mean, `bca_low … bca_high` the bootstrap's. They
    are None where a single value says nothing about spread.
    """

    n: int
    mean: float
    median: float
    iqm: float
    low: float | None
    high: float | None
    bca_low: float | None
    bca_high: float | None


@dataclass(frozen=True)
class Pair:
    """Comparison of group a with group b over the seeds that both have.

    Attributes:
        n: the number of those seeds.
        difference: mean of a - b.
        low, high: its 95 % interval (Student t), not corrected for other pairs.
        improvement: share of seeds in which a is ahead, ties half: the probability of improvement.
        effect: mean over standard deviation of the differences, with Hedges' correction.
        p: two-sided, of the paired t test.
        p_flips: two-sided, of the paired permutation test (sign flips), which assumes no
            normal distribution; never below 2 / 2^n.
        p_holm, p_flips_holm: these corrected for all tests of the comparison (Holm 1979).
        verdict: about a: better, worse, equivalent (the 90 % interval lies within the margin), or
            cannot tell.
        more: further seeds that would decide it with 80 % power, if the difference is what it
            seems; 1,000 also stands for more; None if there is nothing to say.
        lost: of the seeds that both were trained with, in how many a, and b, didn't end well.
        p_ended: two-sided, of the exact McNemar test: whether a and b end well equally often.
        p_ended_holm: this corrected for all tests of the comparison.
    """

    n: int
    difference: float
    low: float | None
    high: float | None
    improvement: float
    effect: float | None
    p: float | None
    p_flips: float | None
    p_holm: float | None
    p_flips_holm: float | None
    verdict: str
    more: int | None
    lost: tuple[int, int] = (0, 0)
    p_ended: float | None = None
    p_ended_holm: float | None = None


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
        return Summary(0, math.nan, math.nan, math.nan, None, None, None, None)
    mean, half = mean_interval(values)
    bca = _bca(values)
    return Summary(
        n=len(values),
        mean=mean,
        median=float(np.median(values)),
        iqm=interquartile_mean(values),
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        bca_low=bca[0],
        bca_high=bca[1],
    )


def _bca(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the bias-corrected and accelerated bootstrap interval of the mean (Efron 1987)."""
    from scipy.stats import bootstrap

    if len(values) < 2 or len(set(values)) == 1:
        return (None, None) if len(values) < 2 else (float(values[0]), float(values[0]))
    interval = bootstrap(
        (np.asarray(values, float),),
        np.mean,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


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
) -> dict[tuple[Group, Group], Pair]:
    """Compare pairs of groups seed by seed in the cells that both have, corrected for their number.

    Two questions are asked of each pair: whether the values differ where both ended well, and, if
    some run didn't, whether both end well equally often. No value is made up for a run that didn't.

    Args:
        groups: each group's values by cell; larger is better.
        margin: differences below it don't matter.
        among: which pairs to compare; all by default.
        lost: by group, the seeds with which it was trained and didn't end well.

    Returns:
        The pairs by (a, b), in the order of `groups`.
    """
    pairs = [(a, b) for a, b in itertools.combinations(groups, 2) if among(a, b)]
    spacing = resolution(
        [value for cells in groups.values() for value in seed_means(cells).values()]
    )
    differences = {(a, b): _differences(groups[a], groups[b]) for a, b in pairs}
    ps = [t_test(values, spacing) for values in differences.values()]
    flip_ps = [flip_test(values) for values in differences.values()]
    endings = [_endings(groups, lost or {}, a, b) for a, b in pairs]
    ended_ps = [ended_test(*alone) for alone, _ in endings]
    holm_ps = holm([*ps, *ended_ps])
    corrected = zip(ps, flip_ps, holm_ps[: len(ps)], holm(flip_ps), strict=True)
    of_endings = zip((both for _, both in endings), ended_ps, holm_ps[len(ps) :], strict=True)
    return {
        pair: _pair(values, p, margin, ALPHA / len(pairs), spacing, *ended)
        for (pair, values), p, ended in zip(differences.items(), corrected, of_endings, strict=True)
    }


def _endings(
    groups: Mapping[Group, Mapping[Cell, float]],
    lost: Mapping[Group, Collection[Hashable]],
    a: Group,
    b: Group,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return in how many seeds a, and b, alone ended well; and in how many each did not.

    Only seeds with which both were trained count.
    """
    lost_a, lost_b = set(lost.get(a, ())), set(lost.get(b, ()))
    ended_a = {seed for seed, *_ in groups[a]} - lost_a
    ended_b = {seed for seed, *_ in groups[b]} - lost_b
    both = (ended_a | lost_a) & (ended_b | lost_b)
    return (len(ended_a & lost_b), len(ended_b & lost_a)), (len(lost_a & both), len(lost_b & both))


def ended_test(a_alone: int, b_alone: int) -> float | None:
    """Return the two-sided p of the exact McNemar test; None where no seed tells a from b.

    Args:
        a_alone: seeds with which a ended well and b didn't.
        b_alone: seeds with which b ended well and a didn't.
    """
    from scipy.stats import binomtest

    n = a_alone + b_alone
    return float(binomtest(a_alone, n).pvalue) if n else None


def resolution(values: Sequence[float]) -> float:
    """Return the least difference between two of some values, float32's rounding aside.

    Accuracies of 300 examples lie on a grid of 1/300, for example. 0 if all values are the same.
    """
    ordered = np.sort(np.asarray(values, float))
    gaps = np.diff(ordered)
    gaps = gaps[gaps > 1e-6 * np.maximum(np.abs(ordered[1:]), np.abs(ordered[:-1]))]
    return float(np.min(gaps, initial=math.inf)) if len(gaps) else 0.0


def _differences(a: Mapping[Cell, float], b: Mapping[Cell, float]) -> list[float]:
    return list(seed_means({cell: a[cell] - b[cell] for cell in a if cell in b}).values())


def _spread(differences: Sequence[float], resolution: float) -> float:
    """Return the standard deviation of differences, including the rounding of both values.

    The rounding has variance resolution² / 12 for each value: few differences that happen to be the
    same don't mean that all would be.
    """
    if len(differences) < 2:
        return 0.0
    return math.sqrt(float(np.var(differences, ddof=1)) + resolution**2 / 6)


def _pair(
    values: Sequence[float],
    ps: tuple[float | None, float | None, float | None, float | None],
    margin: float,
    alpha: float,
    resolution: float,
    lost: tuple[int, int],
    p_ended: float | None,
    p_ended_holm: float | None,
) -> Pair:
    n = len(values)
    p, p_flips, p_holm, p_flips_holm = ps
    mean = math.fsum(values) / n if n else math.nan
    half_95 = half_90 = None
    if n > 1:
        half_95, half_90 = (
            _half_width(values, resolution, confidence) for confidence in (0.95, 0.9)
        )
    ahead = sum(v > 0 for v in values) + sum(v == 0 for v in values) / 2
    verdict = _verdict(mean, half_90, margin, p_holm, lost, p_ended_holm)
    decidable = verdict == UNDECIDED and not any(lost)
    return Pair(
        n=n,
        difference=mean,
        low=None if half_95 is None else mean - half_95,
        high=None if half_95 is None else mean + half_95,
        improvement=ahead / n if n else math.nan,
        effect=effect_size(values, resolution),
        p=p,
        p_flips=p_flips,
        p_holm=p_holm,
        p_flips_holm=p_flips_holm,
        verdict=verdict,
        more=further_seeds(n, abs(mean), _spread(values, resolution), margin, alpha)
        if decidable
        else None,
        lost=lost,
        p_ended=p_ended,
        p_ended_holm=p_ended_holm,
    )


def _verdict(
    mean: float,
    half_90: float | None,
    margin: float,
    p_holm: float | None,
    lost: tuple[int, int],
    p_ended_holm: float | None,
) -> str:
    """Return what can be said of a.

    Who ends well more often is better, unless the values say the opposite. Who ends well less often
    is never better, whatever its values, and only groups that always end well are equivalent.
    """
    ahead = np.sign(lost[1] - lost[0])
    by_endings = ahead if p_ended_holm is not None and p_ended_holm < ALPHA else 0
    by_values = np.sign(mean) if p_holm is not None and p_holm < ALPHA else 0
    if by_endings and by_values != -by_endings:
        return BETTER if by_endings > 0 else WORSE
    if half_90 is not None and abs(mean) + half_90 <= margin and not any(lost):
        return EQUIVALENT
    if by_values and ahead != -by_values:
        return BETTER if by_values > 0 else WORSE
    return UNDECIDED


def _half_width(differences: Sequence[float], resolution: float, confidence: float) -> float:
    """Return the half-width of the mean's interval."""
    from scipy.special import stdtrit

    n = len(differences)
    quantile = float(stdtrit(n - 1, 0.5 + confidence / 2))
    return quantile * _spread(differences, resolution) / math.sqrt(n)


def t_test(differences: Sequence[float], resolution: float = 0.0) -> float | None:
    """Return the two-sided p of the paired t test; None for fewer than two pairs.

    Differences that are all the same have p = 0, or 1 where they are 0, unless values are known to
    be rounded.

    Args:
        differences: a - b of each pair.
        resolution: the least difference between two values; 0 if they aren't rounded.
    """
    from scipy.special import stdtr

    n = len(differences)
    if n < 2:
        return None
    mean = math.fsum(differences) / n
    spread = _spread(differences, resolution)
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * float(stdtr(n - 1, -abs(mean) * math.sqrt(n) / spread))


def flip_test(differences: Sequence[float]) -> float | None:
    """Return the two-sided p of the paired permutation test; None for fewer than two pairs.

    It is how often the sum of the differences is at least as far from 0 when each sign is drawn:
    over all draws up to 14 pairs, over 20,000 random ones beyond.
    """
    values = np.asarray(differences, float)
    n = len(values)
    if n < 2:
        return None
    if n <= MAX_EXACT:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), (RANDOM_FLIPS, n))
    threshold = abs(values.sum()) - TIE * np.abs(values).sum()
    count = int(np.sum(np.abs(signs @ values) >= threshold))
    return count / len(signs) if n <= MAX_EXACT else (count + 1) / (RANDOM_FLIPS + 1)


def effect_size(differences: Sequence[float], resolution: float = 0.0) -> float | None:
    """Return mean over standard deviation, times 1 - 3 / (4 (n - 1) - 1).

    The factor is Hedges', against the bias of few pairs. None for fewer than three pairs or no
    spread.
    """
    n = len(differences)
    spread = _spread(differences, resolution)
    if n < 3 or spread == 0:
        return None
    return (1 - 3 / (4 * (n - 1) - 1)) * math.fsum(differences) / n / spread


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return p values corrected by Holm (1979): the family-wise error stays below the level.

    None stays None, and doesn't count.
    """
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[place] = largest
    return corrected
