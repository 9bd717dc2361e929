"""Tests that hold however often one looks: e-values, and the intervals they make. No jax.

An e-value is what a bet against a hypothesis has made of 1. If the hypothesis is true, it ever
reaches 1/alpha with probability alpha at most (Ville 1939), so whoever looks after every seed and
stops where it suits is wrong no more often. It depends on the seeds so far, not on their order.
"""

import math

import numpy as np
from jaxtyping import Float

Numbers = float | Float[np.ndarray, "..."]
PRIOR_VARIANCE = 6.0
"""Variance of the effect (mean over standard deviation) under the alternative.

Differences between activations are often of several standard deviations: a smaller variance finds
those later, a larger one finds those of one standard deviation later.
"""


def e_value(mean: Numbers, spread: Numbers, n: Numbers) -> Float[np.ndarray, "..."]:
    """Return the e-value against differences that have mean 0, of the sequential t test.

    With nu = n - 1, r = 1 + n * PRIOR_VARIANCE and t = sqrt(n) * mean / spread it is

        r^(-1/2) * ((1 + t^2 / nu) / (1 + t^2 / (nu * r)))^(n / 2):

    the likelihood ratio of t, with the right Haar prior for the unknown variance and a normal one
    for the effect (Lai 1976; Wang and Ramdas 2025, arXiv:2310.03722, section 4; Lindon et al.,
    arXiv:2210.08589). A martingale if the differences are normal, whatever their variance.

    Args:
        mean: of the differences.
        spread: their standard deviation.
        n: their number; 1 is returned for fewer than two.
    """
    mean, spread, n = np.asarray(mean, float), np.asarray(spread, float), np.asarray(n, float)
    r = 1 + n * PRIOR_VARIANCE
    within, between = (n - 1) * spread**2, n * mean**2
    total = np.where(within + between > 0, within + between, 1.0)
    # (within + between / r) / total, from 1 down to 1 / r
    log_ratio = -np.log1p(between / total * (1 / r - 1))
    log_e = n / 2 * log_ratio - np.log(r) / 2
    return np.where(n < 2, 1.0, np.exp(np.minimum(log_e, 700.0)))


def e_value_equivalent(
    mean: Numbers, spread: Numbers, n: Numbers, margin: Numbers
) -> Float[np.ndarray, "..."]:
    """Return the e-value against a mean difference of the margin or more, on either side.

    It is the least of the e-values against all such means: 1/alpha is reached where the confidence
    sequence of level 1 - alpha lies within the margin.
    """
    return e_value(np.maximum(np.asarray(margin) - np.abs(mean), 0.0), spread, n)


def e_value_ended(a_alone: Numbers, b_alone: Numbers) -> Float[np.ndarray, "..."]:
    """Return the e-value against a and b ending well equally often.

    Of the seeds that tell a from b each is heads or tails; the alternative is a uniform prior for
    the share (Robbins 1970): 2^n / ((n + 1) * binomial(n, a_alone)).

    Args:
        a_alone: seeds with which a ended well and b didn't.
        b_alone: seeds with which b ended well and a didn't.
    """
    from scipy.special import betaln

    a_alone, b_alone = np.asarray(a_alone, float), np.asarray(b_alone, float)
    log_e = (a_alone + b_alone) * math.log(2) + betaln(a_alone + 1, b_alone + 1)
    return np.asarray(np.exp(np.minimum(log_e, 700.0)))


def adjust(e_values: Float[np.ndarray, "*batch m"]) -> Float[np.ndarray, "*batch m"]:
    """Return e-values corrected for their number: the family-wise error stays below the level.

    Closed testing: a hypothesis is rejected where each set of hypotheses that holds it is, by the
    mean of the set's e-values, which is one under any dependence. At least as large as by e-Holm
    (Vovk and Wang 2021, arXiv:1912.06116, algorithm 1).
    """
    order = np.argsort(e_values, -1)
    ordered = np.take_along_axis(np.asarray(e_values, float), order, -1)
    smaller = np.cumsum(ordered, -1)
    least = ordered.copy()
    for k in range(1, ordered.shape[-1]):  # with the k smallest of the others
        mean = (ordered[..., k:] + smaller[..., k - 1, None]) / (k + 1)
        least[..., k:] = np.minimum(least[..., k:], mean)
    adjusted = np.empty_like(least)
    np.put_along_axis(adjusted, order, least, -1)
    return adjusted


def critical(n: int, alpha: float) -> float:
    """Return the least |t| with which the e-value reaches 1/alpha; infinite if none does."""
    if n < 2:
        return math.inf
    r = 1 + n * PRIOR_VARIANCE
    ratio = (r / alpha**2) ** (1 / n)
    if ratio >= r:
        return math.inf
    return math.sqrt((n - 1) * (ratio - 1) / (1 - ratio / r))


def half_width(spread: float, n: int, confidence: float = 0.95) -> float | None:
    """Return the half-width of the mean's confidence sequence.

    All intervals, after 2, 3, … seeds, hold the mean at once with this confidence.

    Returns:
        None where n differences bound nothing yet.
    """
    least = critical(n, 1 - confidence)
    return None if math.isinf(least) else least * spread / math.sqrt(n)
