"""Scores of settings that were tried: the best, what a budget buys, how wide it is. No jax.

Everywhere larger is better, and NaN stands for a setting that gave no score, as it diverged.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float

Group = TypeVar("Group", bound=Hashable)
Task = TypeVar("Task", bound=Hashable)


def choose(scores: Float[np.ndarray, " settings"]) -> int | None:
    """Return the place of the best score, the first of equal ones; None if there is no score."""
    return None if np.isnan(scores).all() else int(np.nanargmax(scores))


def expected_best(scores: Float[np.ndarray, " settings"]) -> Float[np.ndarray, " settings"]:
    """Return the expected best score of k of these settings, for k = 1, 2, …, n.

    The mean over all subsets of size k, in which each appears once: with the scores in rising order

        sum_i score_i * binomial(i - 1, k - 1) / binomial(n, k),

    which is unbiased for k settings drawn from where these were (Tang et al. 2020,
    arXiv:2004.13705, section 3; Dodge et al. 2019, arXiv:1909.03004, draw with replacement, which
    is biased). Subsets without any score don't count: their probability is `binomial(lost, k) /
    binomial(n, k)`. NaN where no subset has a score.
    """
    from scipy.special import gammaln

    n = len(scores)
    known = np.sort(scores[~np.isnan(scores)])
    best = np.full(n, np.nan)
    ranks = np.arange(n - len(known), n)  # scores that are lower, and those that are lost
    for k in range(1, n + 1):
        if (possible := ranks >= k - 1).any():
            logs = gammaln(ranks[possible] + 1) - gammaln(ranks[possible] - k + 2)
            weights = np.exp(logs - logs.max())  # binomial(rank, k - 1), but for a factor
            best[k - 1] = float(weights @ known[possible] / weights.sum())
    return best


def good_settings(scores: Float[np.ndarray, "seeds settings"]) -> Bool[np.ndarray, " settings"]:
    """Return which settings are within one standard deviation of the best, by mean over seeds.

    The standard deviation is that of seeds, the median over settings. A setting counts only if
    every seed has a score.
    """
    means = scores.mean(0)
    if np.isnan(means).all():
        return np.zeros(scores.shape[1], bool)
    deviation = np.nanmedian(scores.std(0, ddof=1)) if len(scores) > 1 else 0.0
    return np.asarray(means >= np.nanmax(means) - deviation)


def profile(
    scores: Mapping[Task, Mapping[Group, float]], tolerances: Sequence[float]
) -> dict[Group, list[float]]:
    """Return each group's performance profile: the share of tasks where it is near the best.

    Dolan and Moré 2002, with differences instead of ratios.

    Args:
        scores: by task, each group's score; NaN for a group without one, which is near nothing.
        tolerances: how far from a task's best score counts as near it.
    """
    groups = list(dict.fromkeys(group for by_group in scores.values() for group in by_group))
    shares: dict[Group, list[float]] = {}
    for group in groups:
        behind = [
            np.nanmax([*by_group.values()]) - by_group.get(group, math.nan)
            for by_group in scores.values()
        ]
        shares[group] = [float(np.mean(np.array(behind) <= t)) for t in tolerances]
    return shares
