"""A swept number's best value, and whether two factors depend on each other. No jax."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from actsweep.stats.paired import Cell, by_seed

RESAMPLES = 2_000
LEAST_SEEDS = 3
"""An optimum's interval from fewer would be a point, or nearly."""
One = TypeVar("One", bound=Hashable)
Other = TypeVar("Other", bound=Hashable)


@dataclass(frozen=True)
class Optimum:
    """Where a group is best along a swept number: `low … high` holds it in 95 % of the resamples of
    the seeds. `edge` says that they reach the grid's first or last value, so that the true one may
    lie beyond."""

    best: float
    low: float
    high: float
    edge: bool


def optimum(curve: Mapping[float, Mapping[Cell, float]]) -> Optimum | None:
    """The best of some values of a number, larger is better, with a bootstrap over seeds.

    Args:
        curve: for each value the results by cell.

    Returns:
        None unless all of two or more values share the cells of three seeds.
    """
    levels = sorted(curve)
    if len(levels) < 2:
        return None
    seeds = _shared([curve[level] for level in levels])
    common = list(seeds[0])
    if len(common) < LEAST_SEEDS:
        return None
    table = np.array([[one[seed] for seed in common] for one in seeds])
    drawn = np.random.default_rng(0).integers(0, len(common), (RESAMPLES, len(common)))
    places = np.argmax(table[:, drawn].mean(2), 0)
    low, high = np.percentile(places, [2.5, 97.5], method="closest_observation").astype(int)
    best = int(np.argmax(table.mean(1)))
    edge = bool({low, high, best} & {0, len(levels) - 1})
    return Optimum(levels[best], levels[low], levels[high], edge)


def interaction(table: Mapping[tuple[One, Other], Mapping[Cell, float]]) -> float | None:
    """Whether one factor's order depends on the other: p of the interaction in an analysis of
    variance with repeated measures, both factors within seeds (F = MS_ab / MS_ab x seed), with the
    degrees of freedom of Greenhouse and Geisser (1959), since deep networks scatter more.

    Args:
        table: for each pair of levels the results by cell.

    Returns:
        None unless every combination has been run for the same two or more seeds, or without noise.
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
    # What is left of each seed's table once its rows' and columns' means are taken away.
    rest = cube - cube.mean(0, keepdims=True) - cube.mean(1, keepdims=True)
    rest += cube.mean((0, 1), keepdims=True)
    common = rest.mean(2, keepdims=True)
    noise = (rest - common).reshape(i * j, n)
    scatter = noise @ noise.T / (n - 1)
    freedom, trace = (i - 1) * (j - 1), float(np.trace(scatter))
    if trace == 0:
        return None
    ratio = n * float(np.sum(common**2)) / trace
    even = trace**2 / freedom / float(np.sum(scatter**2))  # 1 if all combinations scatter alike
    return float(fdtrc(even * freedom, even * freedom * (n - 1), ratio))


def _shared(groups: list[Mapping[Cell, float]]) -> list[dict[Hashable, float]]:
    """Each group's means by seed over the cells that all groups have, in the same order."""
    first, *others = groups
    cells = [cell for cell in first if all(cell in one for one in others)]
    return [by_seed({cell: one[cell] for cell in cells}) for one in groups]
