"""Histograms over fixed bins, on a device or on the host. No jax."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Histogram:
    """Counts over fixed bins, and of what lies outside.

    Attributes:
        counts: integers [bins + 2]: below the first edge, each bin, from the last edge on.
        edges: [bins + 1], increasing; a tuple of floats where JAX traces it.
    """

    counts: Any
    edges: Any


def closed_bins(histogram: Histogram) -> tuple[list[int], list[float]]:
    """Return counts and edges for tools that know no open-ended bins.

    Under- and overflow become two more bins, each as wide as its neighbour.
    """
    edges = histogram.edges.tolist()
    low, high = 2 * edges[0] - edges[1], 2 * edges[-1] - edges[-2]
    return histogram.counts.tolist(), [low, *edges, high]


def quantiles(histogram: Histogram, shares: Sequence[float]) -> list[float]:
    """Return quantiles, as if the values of a bin were spread evenly over it; NaN if it is empty.

    Args:
        histogram: whose under- and overflow are taken for bins, see `closed_bins`.
        shares: the shares of values below, from 0 to 1.
    """
    counts, edges = closed_bins(histogram)
    below = np.concatenate([[0], np.cumsum(counts)])
    if not below[-1]:
        return [float("nan")] * len(shares)
    held = np.flatnonzero(np.diff(below))  # an empty bin holds no quantile
    found = []
    for wanted in np.asarray(shares) * below[-1]:
        index = held[np.searchsorted(below[held + 1], wanted).clip(max=len(held) - 1)]
        part = (wanted - below[index]) / (below[index + 1] - below[index])
        found.append(float(edges[index] + part * (edges[index + 1] - edges[index])))
    return found
