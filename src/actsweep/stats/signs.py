"""In how many of several data sets a group is ahead, and what that says of another one. No jax."""

from collections.abc import Collection
from dataclasses import dataclass

LEAST = 6
"""Data sets that must all agree before the sign test can tell: 2 / 2⁶ = 0.03."""


@dataclass(frozen=True)
class Signs:
    """Data sets by who is ahead in them.

    Attributes:
        ahead, of: data sets in which a is ahead, ties as halves, and all of them.
        p: of the exact sign test, two-sided, ties left out (Demšar 2006, 3.1.4).
        new: the probability that a is ahead in another data set of the kind: the mean of its
            distribution after these, from Jeffreys' prior.
        low, high: the middle 95 % of that distribution.
    """

    ahead: float
    of: int
    p: float
    new: float
    low: float
    high: float


def count_signs(signs: Collection[int]) -> Signs:
    """Return what the signs of a's leads, one a data set, say; 0 is a tie.

    Data sets count alike, however large the lead: differences of different data sets don't
    compare.
    """
    from scipy.stats import beta, binomtest

    wins, losses = sum(s > 0 for s in signs), sum(s < 0 for s in signs)
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    ahead = wins + (len(signs) - wins - losses) / 2
    after = beta(ahead + 0.5, len(signs) - ahead + 0.5)
    low, high = after.ppf([0.025, 0.975])
    return Signs(ahead, len(signs), p, float(after.mean()), float(low), float(high))
