"""The `histograms` callback: pre-activations, activations and gradients on fixed edges."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from actsweep.callbacks.base import Callback, ProbeView, Readings
from actsweep.stats.histogram import Histogram

VALUE_EDGES = tuple(-8.0 + 0.25 * i for i in range(65))  # z and f(z)
GRAD_EDGES = tuple(-12.0 + 0.25 * i for i in range(57))  # log10 |dL/dw|


def histograms(every: int = 1, every_steps: int | None = None, examples: int = 512) -> Callback:
    """Count entries in fixed bins; those outside are counted separately, so that none is lost.

    `hist/preact/<layer>` and `hist/act/<layer>`: z and f(z), 64 bins of 0.25 on [-8, 8).
    `hist/grad/<layer>`: log10 |dL/dw| of the probe batch, 56 bins of 0.25 on [-12, 2); exact zeros
    count as underflow.

    Args:
        every: epochs between probes.
        every_steps: optimiser steps between probes, instead of epochs.
        examples: examples of the probe batch whose z and f(z) are counted.
    """

    def probe(view: ProbeView) -> Readings:
        readings: dict[str, Histogram] = {}
        for name in view.preact:
            readings[f"hist/preact/{name}"] = histogram(view.preact[name][:examples], VALUE_EDGES)
            readings[f"hist/act/{name}"] = histogram(view.act[name][:examples], VALUE_EDGES)
        for name, grad in view.grads.items():
            readings[f"hist/grad/{name}"] = histogram(jnp.log10(jnp.abs(grad)), GRAD_EDGES)
        return readings

    return Callback(probe=probe, every=every, every_steps=every_steps)


def histogram(x: Float[Array, "..."], edges: tuple[float, ...]) -> Histogram:
    """Count the entries of an array between equally spaced edges.

    Args:
        x: values of any shape.
        edges: multiples of their distance, which is a power of two, so that no rounding moves an
            entry across an edge.

    Returns:
        Counts [bins + 2]: entry i holds edges[i-1] <= x < edges[i], the first x < edges[0], the
        last x >= edges[-1]. NaN counts as overflow.

    Raises:
        ValueError: the edges aren't equally spaced, or not such multiples.
    """
    bins = len(edges) - 1
    width = (edges[-1] - edges[0]) / bins
    if math.frexp(width)[0] != 0.5 or edges != tuple(edges[0] + i * width for i in range(bins + 1)):
        raise ValueError(f"edges {edges} must be equally spaced, by a power of two")
    first = edges[0] / width
    if not first.is_integer():
        raise ValueError(f"edges[0]={edges[0]} must be a multiple of the bins' width {width}")
    return Histogram(_count(jnp.ravel(x), int(first), bins, width), edges)


@functools.partial(jax.jit, static_argnames=("first", "bins", "width"))
def _count(x: Float[Array, "n"], first: int, bins: int, width: float) -> Int[Array, "bins+2"]:
    position = jnp.floor(x / width) - first
    position = jnp.where(jnp.isnan(position), bins, position)
    index = jnp.clip(position, -1, bins).astype(jnp.int32) + 1
    return jnp.zeros(bins + 2, jnp.int32).at[index].add(1)
