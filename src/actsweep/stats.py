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
        p_holm: `p` corrected for all pairs of the comparison (Holm 1979).
        verdict: about a: better, worse, equivalent (the 90 % interval lies within the margin), or
            cannot tell.
        more: further seeds that would decide it with 80 % power, if the difference is what it
            seems; None if there is nothing to say, or it would take more than 1,000.
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
Other = TypeVar("Other", bound=Hashable)


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
    differences = {(a, b): _differences(groups[a], groups[b]) for a, b in pairs}
    raw = {pair: t_test(values) for pair, values in differences.items()}
    corrected = dict(zip(raw, holm(list(raw.values())), strict=True))
    return {
        pair: _pair(values, raw[pair], corrected[pair], margin, len(pairs))
        for pair, values in differences.items()
    }


def _differences(a: Mapping[Cell, float], b: Mapping[Cell, float]) -> list[float]:
    return list(by_seed({cell: a[cell] - b[cell] for cell in a if cell in b}).values())


def _pair(
    values: Sequence[float], p: float | None, p_holm: float | None, margin: float, tests: int
) -> Pair:
    n = len(values)
    if n == 0:
        return Pair(0, math.nan, None, None, math.nan, None, None, None, None, UNDECIDED, None)
    mean, half = mean_interval(values)
    _, narrow = mean_interval(values, 0.9)
    ahead = sum(v > 0 for v in values) + sum(v == 0 for v in values) / 2
    verdict = UNDECIDED
    if narrow is not None and abs(mean) + narrow <= margin:
        verdict = EQUIVALENT
    elif p_holm is not None and p_holm < ALPHA:
        verdict = BETTER if mean > 0 else WORSE
    more = _more(values, margin, ALPHA / tests) if verdict == UNDECIDED else None
    return Pair(
        n=n,
        difference=mean,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        improvement=ahead / n,
        effect=effect_size(values),
        p=p,
        p_flips=flip_test(values),
        p_holm=p_holm,
        verdict=verdict,
        more=more,
    )


def t_test(differences: Sequence[float]) -> float | None:
    """The two-sided p of the paired t test; None for fewer than two pairs. Differences that are all
    the same have p = 0, or 1 where they are 0."""
    from scipy.special import stdtr

    n = len(differences)
    if n < 2:
        return None
    mean = math.fsum(differences) / n
    spread = float(np.std(differences, ddof=1))
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
    far = abs(values.sum()) * (1 - 1e-12)
    count = int(np.sum(np.abs(signs @ values) >= far))
    return count / len(signs) if n <= EXACT else (count + 1) / (FLIPS + 1)


def effect_size(differences: Sequence[float]) -> float | None:
    """Mean over standard deviation, times Hedges' 1 - 3 / (4 (n - 1) - 1) against the bias of few
    pairs; None for fewer than two, or without spread."""
    n = len(differences)
    spread = float(np.std(differences, ddof=1)) if n > 1 else 0.0
    if spread == 0:
        return None
    correction = 1 - 3 / (4 * (n - 1) - 1) if n > 2 else 1.0
    return correction * math.fsum(differences) / n / spread


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


def _more(differences: Sequence[float], margin: float, alpha: float) -> int | None:
    """Further seeds that would decide: a difference, if it is larger than the margin, by a t test
    at `alpha`; else equivalence, by an interval that fits within the margin."""
    n = len(differences)
    spread = float(np.std(differences, ddof=1)) if n > 1 else 0.0
    if spread == 0:
        return None
    size = abs(math.fsum(differences) / n)
    if size > margin:
        chance = lambda total: power(size / spread, total, alpha)  # noqa: E731
    else:
        chance = lambda total: _equivalence_power(margin, spread, total)  # noqa: E731
    totals = range(max(n + 1, 3), MOST_SEEDS + 1)  # the chance grows with them
    found = bisect.bisect_left(totals, POWER, key=chance)
    return totals[found] - n if found < len(totals) else None


def _equivalence_power(margin: float, spread: float, n: int) -> float:
    """The chance that two groups without a difference are found to be equivalent."""
    from scipy.special import stdtr, stdtrit

    reach = margin * math.sqrt(n) / spread - float(stdtrit(n - 1, 0.95))
    return max(0.0, 2 * float(stdtr(n - 1, reach)) - 1)


@dataclass(frozen=True)
class Optimum:
    """Where a group is best along a swept number: `low … high` holds it in 95 % of the resamples of
    the seeds. `edge` says that it is the grid's first or last value, so the true one may lie
    beyond."""

    best: float
    low: float
    high: float
    edge: bool


def optimum(curve: Mapping[float, Mapping[Cell, float]]) -> Optimum | None:
    """The best of some values of a number, larger is better, with a bootstrap over seeds.

    Args:
        curve: for each value the results by cell.

    Returns:
        None unless two values share a seed.
    """
    levels = sorted(curve)
    seeds = [by_seed(curve[level]) for level in levels]
    common = [seed for seed in seeds[0] if all(seed in one for one in seeds)] if seeds else []
    if len(levels) < 2 or not common:
        return None
    table = np.array([[one[seed] for seed in common] for one in seeds])
    drawn = np.random.default_rng(0).integers(0, len(common), (RESAMPLES // 5, len(common)))
    places = np.argmax(table[:, drawn].mean(2), 0)
    low, high = np.percentile(places, [2.5, 97.5], method="closest_observation").astype(int)
    best = int(np.argmax(table.mean(1)))
    return Optimum(levels[best], levels[low], levels[high], best in (0, len(levels) - 1))


def interaction(table: Mapping[tuple[Group, Other], Mapping[Cell, float]]) -> float | None:
    """Whether one factor's order depends on the other: p of the interaction in an analysis of
    variance with repeated measures, both factors within seeds (F = MS_ab / MS_ab x seed).

    Args:
        table: for each pair of levels the results by cell.

    Returns:
        None unless every combination has been run for the same two or more seeds, or without noise.
    """
    from scipy.special import fdtrc

    firsts = list(dict.fromkeys(a for a, _ in table))
    seconds = list(dict.fromkeys(b for _, b in table))
    means = {key: by_seed(cells) for key, cells in table.items()}
    seeds = [s for s in next(iter(means.values()), {}) if all(s in one for one in means.values())]
    i, j, n = len(firsts), len(seconds), len(seeds)
    if len(means) != i * j or min(i, j, n) < 2:
        return None
    cube = np.array([[[means[a, b][s] for s in seeds] for b in seconds] for a in firsts])
    # What is left of each seed's table once its rows' and columns' means are taken away.
    rest = cube - cube.mean(0, keepdims=True) - cube.mean(1, keepdims=True)
    rest += cube.mean((0, 1), keepdims=True)
    common = rest.mean(2, keepdims=True)
    freedom = (i - 1) * (j - 1)
    noise = float(np.sum((rest - common) ** 2)) / (freedom * (n - 1))
    if noise == 0:
        return None
    ratio = n * float(np.sum(common**2)) / freedom / noise
    return float(fdtrc(freedom, freedom * (n - 1), ratio))
