"""Histograms over fixed bins, on a device or on the host. No jax."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Histogram:
    """Counts over fixed bins, and of what lies outside.

    Attributes:
        counts: integers [bins + 2]: below the first edge, each bin, from the last edge on.
        edges: [bins + 1], increasing; a tuple of floats where JAX traces it.
    """

    counts: Any
    edges: Any
