"""Histograms of pre-activations, activations and gradients on fixed edges."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from actsweep.callbacks.base import Callback, ProbeView, Readings
from actsweep.stats.histogram import Histogram

VALUE_EDGES = tuple(-8.0 + 0.25 * i for i in range(65))  # z and f(z)
GRAD_EDGES = tuple(-12.0 + 0.25 * i for i in range(57))  # log10 |dL/dw|


def histograms(every: int = 1, every_steps: int | None = None, examples: int = 512) -> Callback:
    """Counts of entries in fixed bins, those outside counted apart, so that nothing is lost.

    `hist/preact/<layer>` and `hist/act/<layer>`: z and f(z) of the first `examples` probed
    examples, 64 bins of 0.25 on [-8, 8). `hist/grad/<layer>`: log10 |dL/dw| of the probe batch, 56
    bins of 0.25 on [-12, 2); exact zeros count as underflow.
    """

    def probe(view: ProbeView) -> Readings:
        readings: dict[str, Histogram] = {}
        for name in view.preact:
            readings[f"hist/preact/{name}"] = binned(view.preact[name][:examples], VALUE_EDGES)
            readings[f"hist/act/{name}"] = binned(view.act[name][:examples], VALUE_EDGES)
        for name, grad in view.grads.items():
            size = jnp.log10(jnp.abs(grad))
            readings[f"hist/grad/{name}"] = binned(size, GRAD_EDGES)
        return readings

    return Callback(probe=probe, every=every, every_steps=every_steps)


def binned(x: Float[Array, "..."], edges: tuple[float, ...]) -> Histogram:
    """Count entries between equally spaced edges.

    Bin i of `counts` holds edges[i-1] <= x < edges[i]; the first holds x < edges[0], the last
    x >= edges[-1]. NaN counts as overflow. The edges are multiples of their distance, a power of
    two, so that no rounding moves an entry across one.

    Raises:
        ValueError: they aren't.
    """
    bins = len(edges) - 1
    width = (edges[-1] - edges[0]) / bins
    if math.frexp(width)[0] != 0.5 or edges != tuple(edges[0] + i * width for i in range(bins + 1)):
        raise ValueError(f"edges {edges} must be equally spaced, by a power of two")
    first = edges[0] / width
    if not first.is_integer():
        raise ValueError(f"edges[0]={edges[0]} must be a multiple of the bins' width {width}")
    return Histogram(_count(jnp.ravel(x), int(first), bins, width), edges)


def _count(x: Float[Array, "n"], first: int, bins: int, width: float) -> Int[Array, "bins+2"]:
    place = jnp.floor(x / width) - first
    place = jnp.where(jnp.isnan(place), bins, place)
    index = jnp.clip(place, -1, bins).astype(jnp.int32) + 1
    return jnp.zeros(bins + 2, jnp.int32).at[index].add(1)
