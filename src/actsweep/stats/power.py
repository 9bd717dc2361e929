"""How likely seeds are to decide between two groups, and how many it takes. No jax."""

import bisect
import math

from actsweep.stats import fixed, sequential

POWER = 0.8
"""Chance to decide that is asked for."""
MAX_FURTHER_SEEDS = 1_000


def power(effect: float, n: int, alpha: float, *, one_look: bool = True) -> float:
    """Return the power of a test of n seeds, by the noncentral t distribution.

    Args:
        effect: the true effect: mean over standard deviation of the differences.
        n: number of seeds.
        alpha: level of the test.
        one_look: the paired t test; else the sequential one, at n seeds alone: looking before
            finds more.
    """
    critical = (fixed if one_look else sequential).critical(n, alpha)
    if math.isinf(critical):
        return 0.0
    shift = abs(effect) * math.sqrt(n)
    return 1 - _cdf(critical, n, shift) + _cdf(-critical, n, shift)


def _cdf(t: float, n: int, shift: float) -> float:
    """Return the noncentral t distribution's function; 0 where SciPy has no number: far below."""
    from scipy.special import nctdtr

    share = float(nctdtr(n - 1, shift, t))
    return 0.0 if math.isnan(share) else share


def further_seeds(
    n: int, size: float, spread: float, margin: float, alpha: float, *, one_look: bool
) -> int | None:
    """Return how many further seeds would decide, if difference and spread are what they seem.

    To decide is to find a difference, by a test at `alpha`, or that it doesn't matter.

    Args:
        n: number of seeds so far.
        size: the mean difference, without its sign.
        spread: the standard deviation of the differences.
        margin: below which a difference doesn't matter.
        alpha: level of the test.
        one_look: by t tests; else by sequential ones.

    Returns:
        At most `MAX_FURTHER_SEEDS`; None where all differences are the same.
    """
    if spread == 0:
        return None

    def power_of(total: int) -> float:
        different = power(size / spread, total, alpha, one_look=one_look)
        if size >= margin:
            return different
        # Two one-sided t tests; a confidence sequence has both of its sides at once.
        critical = fixed.critical(total, 2 * alpha)
        if not one_look:
            critical = sequential.critical(total, alpha)
        return max(different, _equivalence_power(size, margin, spread, total, critical))

    totals = range(max(n + 1, 3), MAX_FURTHER_SEEDS + n + 1)  # the power grows with them
    return totals[bisect.bisect_left(totals, POWER, key=power_of, hi=len(totals) - 1)] - n


def _equivalence_power(size: float, margin: float, spread: float, n: int, critical: float) -> float:
    """Return the power to find equivalent what differs by less than the margin."""
    if math.isinf(critical):
        return 0.0
    scale = math.sqrt(n) / spread
    below = (_cdf(critical, n, (margin + side * size) * scale) for side in (-1, 1))
    return max(0.0, 1 - sum(below))
