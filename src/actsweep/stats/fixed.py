"""Tests for a number of seeds that was set beforehand: one look. No jax."""

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

MAX_EXACT = 14  # seeds up to which all sign flips are tried
RANDOM_FLIPS = 20_000  # sign flips for more seeds
TIE = 1e-4  # sums closer than this share of the differences' size are ties: float32's rounding


def t_test(mean: float, spread: float, n: int) -> float | None:
    """Return the two-sided p of the paired t test; None for fewer than two pairs.

    Differences that are all the same have p = 0, or 1 where they are 0, unless values are known to
    be rounded.

    Args:
        mean: of the differences.
        spread: their standard deviation, with the rounding.
        n: their number.
    """
    from scipy.special import stdtr

    if n < 2:
        return None
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * float(stdtr(n - 1, -abs(mean) * math.sqrt(n) / spread))


def equivalence_test(mean: float, spread: float, n: int, margin: float) -> float | None:
    """Return the p of two one-sided t tests; None for fewer than two pairs.

    Their hypothesis is a mean difference of the margin or more, on either side (Schuirmann 1987).

    Args:
        mean: of the differences.
        spread: their standard deviation, with the rounding.
        n: their number.
        margin: differences below it don't matter.
    """
    from scipy.special import stdtr

    if n < 2:
        return None
    inside = margin - abs(mean)
    if spread == 0:
        return 0.0 if inside > 0 else 1.0
    return float(stdtr(n - 1, -inside * math.sqrt(n) / spread))


def ended_test(a_alone: int, b_alone: int) -> float | None:
    """Return the two-sided p of the exact McNemar test; None where no seed tells a from b.

    Args:
        a_alone: seeds with which a ended well and b didn't.
        b_alone: seeds with which b ended well and a didn't.
    """
    from scipy.stats import binomtest

    n = a_alone + b_alone
    return float(binomtest(a_alone, n).pvalue) if n else None


def flip_test(differences: Sequence[float]) -> float | None:
    """Return the two-sided p of the paired permutation test; None for fewer than two pairs.

    It is how often the sum of the differences is at least as far from 0 when each sign is drawn:
    over all draws up to 14 pairs, over 20,000 random ones beyond.
    """
    values = np.asarray(differences, float)
    n = len(values)
    if n < 2:
        return None
    signs = _signs(n)
    threshold = abs(values.sum()) - TIE * np.abs(values).sum()
    count = int(np.sum(np.abs(signs @ values) >= threshold))
    return count / len(signs) if n <= MAX_EXACT else (count + 1) / (RANDOM_FLIPS + 1)


@functools.lru_cache(maxsize=8)
def _signs(n: int) -> np.ndarray:
    """Return all signs of n differences, or many random ones, [draws, n]."""
    if n <= MAX_EXACT:
        return np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    return np.random.default_rng(0).choice((-1.0, 1.0), (RANDOM_FLIPS, n))


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


def critical(n: int, alpha: float) -> float:
    """Return the least |t| with which the two-sided t test rejects."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 1 - alpha / 2))


def half_width(spread: float, n: int, confidence: float = 0.95) -> float | None:
    """Return the half-width of the mean's Student t interval; None for fewer than two values."""
    return None if n < 2 else critical(n, 1 - confidence) * spread / math.sqrt(n)
