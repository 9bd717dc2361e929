"""The `moments` callback: means, standard deviations and quantiles of every layer."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from actsweep.callbacks.base import Callback, ProbeView, Readings

QUANTILES = {"q05": 0.05, "q50": 0.50, "q95": 0.95}


def moments(
    every: int = 1, every_steps: int | None = None, quantile_examples: int = 128
) -> Callback:
    """Measure moments and quantiles over all (example, unit) pairs of the probe batch.

    `preact_mean|std/<layer>`: of z; the head's are those of the logits.
    `act_mean|std/<layer>`: of f(z).
    `act_q05|q50|q95/<layer>`: quantiles of f(z) over the first `quantile_examples` examples.

    Args:
        every: epochs between probes.
        every_steps: optimiser steps between probes, instead of epochs.
        quantile_examples: examples of the probe batch over which quantiles are taken.
    """

    def probe(view: ProbeView) -> Readings:
        readings = {}
        for name, z in (*view.preact.items(), ("head", view.logits)):
            readings[f"preact_mean/{name}"] = jnp.mean(z)
            readings[f"preact_std/{name}"] = jnp.std(z)
        for name, a in view.act.items():
            readings[f"act_mean/{name}"] = jnp.mean(a)
            readings[f"act_std/{name}"] = jnp.std(a)
            values = quantiles(a[:quantile_examples], tuple(QUANTILES.values()))
            for key, value in zip(QUANTILES, values, strict=True):
                readings[f"act_{key}/{name}"] = value
        return readings

    return Callback(probe=probe, every=every, every_steps=every_steps)


@functools.partial(jax.jit, static_argnames="shares")
def quantiles(x: Float[Array, "..."], shares: tuple[float, ...]) -> Float[Array, "shares"]:
    """Return quantiles: the least entry that at least a share q of all entries doesn't exceed.

    The same as NumPy's method `inverted_cdf`. Computed by bisection on the bits of the ordered
    floats: 32 passes that compare and count. It is exact, several times faster than a sort on a CPU
    and as fast on a GPU.

    Args:
        x: float32 values of any shape.
        shares: each in (0, 1].

    Returns:
        One value for each share; NaN if any entry is NaN.
    """
    bits = jax.lax.bitcast_convert_type(jnp.ravel(x), jnp.int32)
    keys = jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # in the order of the floats
    needed = jnp.asarray([max(1, math.ceil(q * keys.size - 1e-6)) for q in shares], jnp.int32)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low & high) + ((low ^ high) >> 1)
        count = jnp.sum(keys[None, :] <= middle[:, None], axis=1, dtype=jnp.int32)
        enough = count >= needed
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    low = jnp.full(needed.shape, jnp.iinfo(jnp.int32).min, jnp.int32)
    _, least = jax.lax.fori_loop(0, 32, halve, (low, ~low))
    values = jax.lax.bitcast_convert_type(
        jnp.where(least < 0, least ^ 0x7FFFFFFF, least), jnp.float32
    )
    return jnp.where(jnp.any(jnp.isnan(x)), jnp.nan, values)
