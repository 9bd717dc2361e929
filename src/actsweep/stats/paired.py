"""Means with intervals, and pairs of groups compared seed by seed. No jax."""

import bisect
import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

ALPHA, POWER = 0.05, 0.8
EXACT = 14  # seeds up to which all sign flips are tried
FLIPS = 20_000  # random ones beyond
SAME = 1e-4  # float32's rounding, of the differences' size: sums that close are ties
RESAMPLES = 10_000
MOST_SEEDS = 1_000

BETTER, WORSE, EQUIVALENT, UNDECIDED = "better", "worse", "equivalent", "cannot tell"


@dataclass(frozen=True)
class Summary:
    """One group's values: `low … high` is Student's 95 % interval of the mean, `bca_low … bca_high`
    the bootstrap's. None where a single value says nothing about spread."""

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
    """Group a against group b over the seeds that both have.

    Attributes:
        n: those seeds.
        difference: mean of a - b.
        low, high: its 95 % interval (Student t), not corrected for other pairs.
        improvement: share of seeds in which a is ahead, ties half: the probability of improvement.
        effect: mean over standard deviation of the differences, with Hedges' correction.
        p: two-sided, of the paired t test.
        p_flips: two-sided, of the paired permutation test (sign flips), which assumes no
            normal distribution; never below 2 / 2^n.
        p_holm, p_flips_holm: these corrected for all pairs of the comparison (Holm 1979).
        verdict: about a: better, worse, equivalent (the 90 % interval lies within the margin), or
            cannot tell.
        more: further seeds that would decide it with 80 % power, if the difference is what it
            seems; 1,000 also stands for more; None if there is nothing to say.
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


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float | None]:
    """Mean and half-width of its Student t interval: t(n - 1) * s / sqrt(n).

    Returns:
        The half-width is None for a single value: it says nothing about spread.

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
    """The mean of the middle half, a value on its edge counted in part (Agarwal et al. 2021,
    arXiv:2108.13264)."""
    ordered = np.sort(np.asarray(values, float))
    n = len(ordered)
    cut = n / 4
    places = np.arange(n)
    weights = np.clip(np.minimum(places + 1, n - cut) - np.maximum(places, cut), 0, 1)
    return float(np.sum(weights * ordered) / np.sum(weights))


def summarise(values: Sequence[float]) -> Summary:
    """What one group's values are.

    Raises:
        ValueError: there are no values.
    """
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
    """The bias-corrected and accelerated bootstrap interval of the mean (Efron 1987)."""
    from scipy.stats import bootstrap

    if len(values) < 2 or len(set(values)) == 1:
        return (None, None) if len(values) < 2 else (float(values[0]), float(values[0]))
    found = bootstrap(
        (np.asarray(values, float),),
        np.mean,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


Cell = tuple[Hashable, ...]
"""A run's place beside its group: its seed, then whatever else was swept."""
Group = TypeVar("Group", bound=Hashable)


def by_seed(cells: Mapping[Cell, float]) -> dict[Hashable, float]:
    """Each seed's mean over its cells: those of one seed share its draws, and count once."""
    seeds: dict[Hashable, list[float]] = {}
    for (seed, *_), value in cells.items():
        seeds.setdefault(seed, []).append(value)
    return {seed: math.fsum(values) / len(values) for seed, values in seeds.items()}


def compare(
    groups: Mapping[Group, Mapping[Cell, float]],
    margin: float,
    among: Callable[[Group, Group], bool] = lambda a, b: True,
) -> dict[tuple[Group, Group], Pair]:
    """Pairs of groups, compared seed by seed in the cells that both have, corrected for their
    number.

    Args:
        groups: each one's values by cell; larger is better.
        margin: differences below it don't matter.
        among: which pairs; all by default.

    Returns:
        By (a, b), in the order of `groups`.
    """
    pairs = [(a, b) for a, b in itertools.combinations(groups, 2) if among(a, b)]
    fine = resolution([value for cells in groups.values() for value in by_seed(cells).values()])
    differences = {(a, b): _differences(groups[a], groups[b]) for a, b in pairs}
    ps = [t_test(values, fine) for values in differences.values()]
    flips = [flip_test(values) for values in differences.values()]
    corrected = zip(ps, flips, holm(ps), holm(flips), strict=True)
    return {
        pair: _pair(values, p, margin, ALPHA / len(pairs), fine)
        for (pair, values), p in zip(differences.items(), corrected, strict=True)
    }


def resolution(values: Sequence[float]) -> float:
    """The least difference between two of some values, float32's rounding aside: accuracies of 300
    examples lie on a grid of 1/300. 0 if all are alike."""
    ordered = np.sort(np.asarray(values, float))
    gaps = np.diff(ordered)
    gaps = gaps[gaps > 1e-6 * np.maximum(np.abs(ordered[1:]), np.abs(ordered[:-1]))]
    return float(np.min(gaps, initial=math.inf)) if len(gaps) else 0.0


def _differences(a: Mapping[Cell, float], b: Mapping[Cell, float]) -> list[float]:
    return list(by_seed({cell: a[cell] - b[cell] for cell in a if cell in b}).values())


def _spread(differences: Sequence[float], resolution: float) -> float:
    """Their standard deviation, the rounding of both values (variance resolution² / 12 each) taken
    as a part of it: few differences that happen to be the same don't mean that all would be."""
    if len(differences) < 2:
        return 0.0
    return math.sqrt(float(np.var(differences, ddof=1)) + resolution**2 / 6)


def _pair(
    values: Sequence[float],
    ps: tuple[float | None, float | None, float | None, float | None],
    margin: float,
    alpha: float,
    fine: float,
) -> Pair:
    n = len(values)
    p, p_flips, p_holm, p_flips_holm = ps
    mean = math.fsum(values) / n if n else math.nan
    wide = narrow = None
    if n > 1:
        wide, narrow = (_half(values, fine, confidence) for confidence in (0.95, 0.9))
    ahead = sum(v > 0 for v in values) + sum(v == 0 for v in values) / 2
    verdict = UNDECIDED
    if narrow is not None and abs(mean) + narrow <= margin:
        verdict = EQUIVALENT
    elif p_holm is not None and p_holm < ALPHA:
        verdict = BETTER if mean > 0 else WORSE
    return Pair(
        n=n,
        difference=mean,
        low=None if wide is None else mean - wide,
        high=None if wide is None else mean + wide,
        improvement=ahead / n if n else math.nan,
        effect=effect_size(values, fine),
        p=p,
        p_flips=p_flips,
        p_holm=p_holm,
        p_flips_holm=p_flips_holm,
        verdict=verdict,
        more=_more(values, margin, alpha, fine) if verdict == UNDECIDED else None,
    )


def _half(differences: Sequence[float], resolution: float, confidence: float) -> float:
    """The half-width of the mean's interval."""
    from scipy.special import stdtrit

    n = len(differences)
    reach = float(stdtrit(n - 1, 0.5 + confidence / 2))
    return reach * _spread(differences, resolution) / math.sqrt(n)


def t_test(differences: Sequence[float], resolution: float = 0.0) -> float | None:
    """The two-sided p of the paired t test; None for fewer than two pairs. Differences that are all
    the same have p = 0, or 1 where they are 0, unless values are known to be rounded."""
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
    """The two-sided p of the paired permutation test: how often the sum of the differences is at
    least as far from 0 when each one's sign is drawn; all draws up to 14 pairs, else 20,000 of
    them. None for fewer than two pairs."""
    values = np.asarray(differences, float)
    n = len(values)
    if n < 2:
        return None
    if n <= EXACT:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), (FLIPS, n))
    far = abs(values.sum()) - SAME * np.abs(values).sum()
    count = int(np.sum(np.abs(signs @ values) >= far))
    return count / len(signs) if n <= EXACT else (count + 1) / (FLIPS + 1)


def effect_size(differences: Sequence[float], resolution: float = 0.0) -> float | None:
    """Mean over standard deviation, times Hedges' 1 - 3 / (4 (n - 1) - 1) against the bias of few
    pairs; None for fewer than three, or without spread."""
    n = len(differences)
    spread = _spread(differences, resolution)
    if n < 3 or spread == 0:
        return None
    return (1 - 3 / (4 * (n - 1) - 1)) * math.fsum(differences) / n / spread


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Corrected p values (Holm 1979): the family-wise error stays below the level. None stays."""
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        corrected[place] = least
    return corrected


def power(effect: float, n: int, alpha: float = ALPHA) -> float:
    """The chance that a paired t test of n seeds finds a true effect (mean over standard deviation
    of the differences), by the noncentral t distribution."""
    from scipy.special import stdtrit
    from scipy.stats import nct

    limit = float(stdtrit(n - 1, 1 - alpha / 2))
    shift = abs(effect) * math.sqrt(n)
    other_way = float(nct.cdf(-limit, n - 1, shift))  # NaN where it is too small for SciPy
    return float(nct.sf(limit, n - 1, shift)) + (0.0 if math.isnan(other_way) else other_way)


def _more(
    differences: Sequence[float], margin: float, alpha: float, resolution: float
) -> int | None:
    """Further seeds that would decide, were the difference and its spread what they seem: that
    there is one, by a t test at `alpha`, or that it doesn't matter."""
    n, spread = len(differences), _spread(differences, resolution)
    if spread == 0:
        return None
    size = abs(math.fsum(differences) / n)

    def chance(total: int) -> float:
        alike = _equivalence_power(size, margin, spread, total) if size < margin else 0.0
        return max(power(size / spread, total, alpha), alike)

    totals = range(max(n + 1, 3), MOST_SEEDS + n + 1)  # the chance grows with them
    return totals[bisect.bisect_left(totals, POWER, key=chance, hi=len(totals) - 1)] - n


def _equivalence_power(size: float, margin: float, spread: float, n: int) -> float:
    """The chance that groups that differ by less than the margin are found to be equivalent."""
    from scipy.special import stdtrit
    from scipy.stats import nct

    limit, scale = float(stdtrit(n - 1, 0.95)), math.sqrt(n) / spread
    ends = (float(nct.sf(limit, n - 1, (margin + side * size) * scale)) for side in (-1, 1))
    return max(0.0, sum(ends) - 1)
