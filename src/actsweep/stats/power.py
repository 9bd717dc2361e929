"""How likely seeds are to decide between two groups, and how many it takes. No jax."""

import bisect
import math

POWER = 0.8
"""Chance to decide that is asked for."""
MAX_FURTHER_SEEDS = 1_000


def power(effect: float, n: int, alpha: float) -> float:
    """Return the power of a paired t test of n seeds, by the noncentral t distribution.

    Args:
        effect: the true effect: mean over standard deviation of the differences.
        n: number of seeds.
        alpha: level of the test.
    """
    from scipy.special import stdtrit
    from scipy.stats import nct

    critical = float(stdtrit(n - 1, 1 - alpha / 2))
    shift = abs(effect) * math.sqrt(n)
    opposite_tail = float(nct.cdf(-critical, n - 1, shift))  # NaN where it is too small for SciPy
    opposite_tail = 0.0 if math.isnan(opposite_tail) else opposite_tail
    return float(nct.sf(critical, n - 1, shift)) + opposite_tail


def further_seeds(n: int, size: float, spread: float, margin: float, alpha: float) -> int | None:
    """Return how many further seeds would decide, if difference and spread are what they seem.

    To decide is to find a difference, by a t test at `alpha`, or that it doesn't matter.

    Args:
        n: number of seeds so far.
        size: the mean difference, without its sign.
        spread: the standard deviation of the differences.
        margin: below which a difference doesn't matter.
        alpha: level of the test.

    Returns:
        At most `MAX_FURTHER_SEEDS`; None where all differences are the same.
    """
    if spread == 0:
        return None

    def power_of(total: int) -> float:
        equivalence = _equivalence_power(size, margin, spread, total) if size < margin else 0.0
        return max(power(size / spread, total, alpha), equivalence)

    totals = range(max(n + 1, 3), MAX_FURTHER_SEEDS + n + 1)  # the power grows with them
    return totals[bisect.bisect_left(totals, POWER, key=power_of, hi=len(totals) - 1)] - n


def _equivalence_power(size: float, margin: float, spread: float, n: int) -> float:
    """Return the power to find equivalent what differs by less than the margin."""
    from scipy.special import stdtrit
    from scipy.stats import nct

    critical, scale = float(stdtrit(n - 1, 0.95)), math.sqrt(n) / spread
    tails = (float(nct.sf(critical, n - 1, (margin + side * size) * scale)) for side in (-1, 1))
    return max(0.0, sum(tails) - 1)
