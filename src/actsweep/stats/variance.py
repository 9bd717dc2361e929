"""How much of the scatter of results comes from where: deviations, shares, what pairing buys.

Sources of randomness are told apart by runs that vary one of them, and runs that vary all
(Bouthillier et al. 2021, "Accounting for variance in machine learning benchmarks"). No jax.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from actsweep.stats.power import MAX_FURTHER_SEEDS, POWER

LEAST = 5
"""Runs from which intervals are shown: of fewer, Bonett's isn't defined."""
FAR = 5.0
"""Robust deviations from the median beyond which a run lies far off, and intervals aren't shown."""
LEVEL = 0.95
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; `low` and `high` are None where none is shown."""

    value: float
    low: float | None = None
    high: float | None = None


def deviation(values: Sequence[float]) -> Estimate:
    """Return the standard deviation of independent runs.

    Its interval is the wider one, at either end, of chi-square's, which is exact for normal values,
    and that of Bonett (2006, "Approximate confidence interval for standard deviation of nonnormal
    distributions"). None is shown for fewer than `LEAST` runs, or where one of them lies far off.

    Args:
        values: a score a run, at least two.
    """
    x = np.asarray(values, float)
    found = float(x.std(ddof=1))
    if not shows_intervals(x):
        return Estimate(found)
    low, high = variance_interval(x)
    return Estimate(found, math.sqrt(low), math.sqrt(high))


def variance_ratio(part: Sequence[float], whole: Sequence[float]) -> Estimate:
    """Return the variance of some runs over that of others.

    The interval is the wider one, at either end, of F's, which is exact for normal values, and that
    of Bonett (2006, "Robust confidence interval for a ratio of standard deviations").

    Args:
        part, whole: a score a run, at least two.
    """
    x, y = np.asarray(part, float), np.asarray(whole, float)
    below = float(y.var(ddof=1))
    found = float(x.var(ddof=1)) / below if below else math.nan
    if not (shows_intervals(x) and shows_intervals(y)):
        return Estimate(found)
    low, high = ratio_interval(x, y)
    return Estimate(found, float(low), float(high))


def pairing(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Return Var(a - b) / (Var a + Var b): 1 where pairing buys nothing, 0.5 where it halves.

    With equal variances it is one minus the correlation. The interval is that of the ratio of
    Var(a - b) to Var(a + b), from which it follows; where a and b scatter unequally these two are
    correlated, and it is wider than it needs to be.

    Args:
        a, b: scores of two groups, run by run with the same seeds.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    apart, joint = x - y, x + y
    whole = float(x.var(ddof=1) + y.var(ddof=1))
    found = float(apart.var(ddof=1)) / whole if whole else math.nan
    if not (shows_intervals(apart) and shows_intervals(joint)):
        return Estimate(found)
    low, high = (2 * ratio / (1 + ratio) for ratio in ratio_interval(apart, joint))
    return Estimate(found, float(low), float(high))


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the correlation of two groups' scores with the same seeds; NaN if one is constant."""
    x, y = np.asarray(a, float), np.asarray(b, float)
    if not (np.ptp(x) and np.ptp(y)):
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def error_of_mean(single: float, whole: float, n: int) -> float:
    """Return the standard error of a mean of n runs that vary one source only.

    It is sqrt(V/n + (n-1)/n rho V), where V is the variance by all sources and rho the correlation
    of runs that share all but that source (Bouthillier et al. 2021): here rho V = V - V_single, at
    least 0. What isn't varied doesn't average out.

    Args:
        single: the variance by that source alone.
        whole: the variance by all sources.
        n: the number of runs.
    """
    shared = max(0.0, whole - single)
    return math.sqrt((whole - shared) / n + shared)


def seeds_to_tell(difference: float, deviation: float, *, paired: bool) -> int | None:
    """Return how many seeds of each group find a difference with 80 % power, by a t test at 5 %.

    Args:
        difference: the true difference of the means.
        deviation: of the differences, if paired; else of the runs of a group.
        paired: whether both groups have the same seeds: n - 1 degrees of freedom, not 2n - 2.

    Returns:
        At most `MAX_FURTHER_SEEDS`; None where nothing differs, or nothing scatters.
    """
    from scipy.special import nctdtr, stdtrit

    if not (difference and deviation):
        return None
    effect = abs(difference) / deviation

    def power_of(n: int) -> float:
        degrees = n - 1 if paired else 2 * n - 2
        shift = effect * math.sqrt(n if paired else n / 2)
        critical = float(stdtrit(degrees, 1 - SIGNIFICANCE / 2))
        below = float(nctdtr(degrees, shift, critical))
        return 1.0 if math.isnan(below) else 1 - below

    totals = range(2, MAX_FURTHER_SEEDS + 1)  # the power grows with them
    return totals[bisect.bisect_left(totals, POWER, key=power_of, hi=len(totals) - 1)]


def shows_intervals(x: Float[np.ndarray, "... n"]) -> Bool[np.ndarray, "..."]:
    """Return whether scores are such that intervals of variances hold: enough, none far off.

    A run lies far off if it is more than `FAR` times 1.4826 MAD from the median.
    """
    apart = np.abs(x - np.median(x, axis=-1, keepdims=True))
    robust = 1.4826 * np.median(apart, axis=-1)
    return np.asarray((x.shape[-1] >= LEAST) & (robust > 0) & (apart.max(axis=-1) <= FAR * robust))


def variance_interval(x: Float[np.ndarray, "... n"]) -> Float[np.ndarray, "2 ..."]:
    """Return the interval of `deviation`, of the variance, along the last axis."""
    from scipy.special import chdtri

    degrees = x.shape[-1] - 1
    squares = degrees * x.var(axis=-1, ddof=1)
    tail = (1 - LEVEL) / 2
    exact = squares / chdtri(degrees, tail), squares / chdtri(degrees, 1 - tail)
    log, error = _log_variance(x)
    half = _normal_quantile() * error
    robust = np.exp(log - half), np.exp(log + half)
    return np.stack([np.minimum(exact[0], robust[0]), np.maximum(exact[1], robust[1])])


def ratio_interval(
    x: Float[np.ndarray, "... n"], y: Float[np.ndarray, "... m"]
) -> Float[np.ndarray, "2 ..."]:
    """Return the interval of `variance_ratio` along the last axes."""
    from scipy.special import fdtri

    ratio = x.var(axis=-1, ddof=1) / y.var(axis=-1, ddof=1)
    n, m, tail = x.shape[-1] - 1, y.shape[-1] - 1, (1 - LEVEL) / 2
    exact = ratio / fdtri(n, m, 1 - tail), ratio / fdtri(n, m, tail)
    (log_x, error_x), (log_y, error_y) = _log_variance(x), _log_variance(y)
    half = _normal_quantile() * np.hypot(error_x, error_y)
    robust = np.exp(log_x - log_y - half), np.exp(log_x - log_y + half)
    return np.stack([np.minimum(exact[0], robust[0]), np.maximum(exact[1], robust[1])])


def _log_variance(
    x: Float[np.ndarray, "... n"],
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Return the logarithm of Bonett's variance, and its standard error.

    With c = n/(n - z): log(c s^2) and c sqrt((kurtosis - (n-3)/n) / (n-1)), where the kurtosis
    n sum (x - m)^4 / (sum (x - mean)^2)^2 is about m, the mean without the outermost shares of
    1 / (2 sqrt(n-4)).
    """
    n = x.shape[-1]
    c = n / (n - _normal_quantile())
    cut = int(n / (2 * math.sqrt(n - 4)))
    kept = np.sort(x, axis=-1)[..., cut : n - cut] if 2 * cut < n else x
    fourth = ((x - kept.mean(axis=-1, keepdims=True)) ** 4).sum(axis=-1)
    squares = ((x - x.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    excess = np.maximum(n * fourth / squares**2 - (n - 3) / n, 0.0)
    return np.log(c * squares / (n - 1)), c * np.sqrt(excess / (n - 1))


def _normal_quantile() -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + LEVEL) / 2))
