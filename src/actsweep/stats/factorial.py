"""The best value of a swept number, and the interaction of two factors. No jax."""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from actsweep.stats.paired import Cell, seed_means

RESAMPLES = 2_000
MIN_SEEDS = 3
"""From fewer seeds an optimum's interval would be a point, or nearly one."""
First = TypeVar("First", bound=Hashable)
Second = TypeVar("Second", bound=Hashable)


@dataclass(frozen=True)
class Optimum:
    """The best value of a swept number for a group.

    `low … high` holds it in 95 % of the resamples of the seeds. `edge` says that one of the three
    is the grid's first or last value, so that the true optimum may lie beyond.
    """

    best: float
    low: float
    high: float
    edge: bool


def optimum(
    curve: Mapping[float, Mapping[Cell, float]], grid: Collection[float] | None = None
) -> Optimum | None:
    """Return the best of some values of a number, larger is better, with a bootstrap over seeds.

    Args:
        curve: for each value the results by cell.
        grid: all values that were tried, also those at which runs diverged; by default the curve's.

    Returns:
        None unless all of two or more values share the cells of three seeds.
    """
    levels = sorted(curve)
    if len(levels) < 2:
        return None
    seeds = _shared([curve[level] for level in levels])
    common = list(seeds[0])
    if len(common) < MIN_SEEDS:
        return None
    table = np.array([[by_seed[seed] for seed in common] for by_seed in seeds])
    resampled = np.random.default_rng(0).integers(0, len(common), (RESAMPLES, len(common)))
    places = np.argmax(table[:, resampled].mean(2), 0)
    low, high = np.percentile(places, [2.5, 97.5], method="closest_observation").astype(int)
    best = int(np.argmax(table.mean(1)))
    ends = {min(grid or levels), max(grid or levels)}
    edge = bool({levels[place] for place in (low, high, best)} & ends)
    return Optimum(levels[best], levels[low], levels[high], edge)


def interaction(table: Mapping[tuple[First, Second], Mapping[Cell, float]]) -> float | None:
    """Test whether the effect of one factor depends on the other; return p.

    The test is that of the interaction in an analysis of variance with repeated measures, both
    factors within seeds (F = MS_ab / MS_ab x seed), with the degrees of freedom of Greenhouse and
    Geisser (1959), since deep networks scatter more.

    Args:
        table: for each pair of levels the results by cell.

    Returns:
        None unless every combination was run for the same two or more seeds, with some noise.
    """
    from scipy.special import fdtrc

    firsts = list(dict.fromkeys(a for a, _ in table))
    seconds = list(dict.fromkeys(b for _, b in table))
    i, j = len(firsts), len(seconds)
    if len(table) != i * j or min(i, j) < 2:
        return None
    means = dict(zip(table, _shared([*table.values()]), strict=True))
    n = len(next(iter(means.values())))
    if n < 2:
        return None
    cube = np.array([[[*means[a, b].values()] for b in seconds] for a in firsts])
    # Each seed's table without the means of its rows and columns: the interaction and the noise.
    rest = cube - cube.mean(0, keepdims=True) - cube.mean(1, keepdims=True)
    rest += cube.mean((0, 1), keepdims=True)
    common = rest.mean(2, keepdims=True)
    noise = (rest - common).reshape(i * j, n)
    covariance = noise @ noise.T / (n - 1)
    df, trace = (i - 1) * (j - 1), float(np.trace(covariance))
    if trace == 0:
        return None
    ratio = n * float(np.sum(common**2)) / trace
    # Greenhouse and Geisser's epsilon: 1 if all combinations have the same variance.
    epsilon = trace**2 / df / float(np.sum(covariance**2))
    return float(fdtrc(epsilon * df, epsilon * df * (n - 1), ratio))


def _shared(groups: list[Mapping[Cell, float]]) -> list[dict[Hashable, float]]:
    """Return each group's means by seed over the cells that all groups have, in the same order."""
    first, *others = groups
    cells = [cell for cell in first if all(cell in other for other in others)]
    return [seed_means({cell: group[cell] for cell in cells}) for group in groups]
