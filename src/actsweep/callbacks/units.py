"""Units that stopped working: dead, silent, weak, saturated; layers that forget their input."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from actsweep.callbacks.base import Callback, CountView, ProbeView, Readings

DEAD_SLOPE = 1e-3
SATURATED_SLOPE = 0.01
WEAK_SHARE = 0.05
ROW_BLOCK = 50


def units(every: int = 1) -> Callback:
    """Dead, silent, weak and saturated units, on the probe batch and over the whole training set.

    A convolution's unit is a channel; its examples are all (image, position) pairs.
    `dead/<layer>`, `dead_frac/<layer>`: units with |f'(z)| < 1e-3 on every example;
    `dead_frac/all` counts the units of all layers.
    `silent_frac/<layer>`: units whose output is exactly 0 on every example.
    `weak_frac/<layer>`: units that fire (z > 0) on some but fewer than 5 % of the examples.
    `saturated_frac/<layer>`: (example, unit) pairs with |f'(z)| < 0.01.
    The whole training set gives the same names behind `exact_`, before training and, for the best
    parameters, at the end.
    """

    def probe(view: ProbeView) -> Readings:
        return _conclude(_count(view), "")

    def conclude(sums: Mapping[str, Array], examples: int) -> Readings:
        del examples
        return _conclude(sums, "exact_")

    return Callback(probe=probe, count=_count, conclude=conclude, every=every)


def similarity(every: int = 1) -> Callback:
    """`cos_sim/<layer>`: mean cosine between the activations of different probed examples.

    1 means that the layer has forgotten its input. With u_i = a_i / |a_i| the mean over i != j is
    (|sum u_i|^2 - n) / (n (n - 1)). Examples whose activations are all 0 are left out; NaN if
    fewer than two are left.
    """

    def probe(view: ProbeView) -> Readings:
        return {f"cos_sim/{name}": mean_cosine(a) for name, a in view.act.items()}

    return Callback(probe=probe, every=every)


def mean_cosine(a: Float[Array, "n ..."]) -> Float[Array, ""]:
    """Mean cosine similarity of different rows; see `similarity`."""
    rows = a.reshape(a.shape[0], -1)
    rows = rows / jnp.maximum(jnp.max(jnp.abs(rows), axis=1, keepdims=True), 1e-30)
    length = jnp.sqrt(jnp.sum(jnp.square(rows), axis=1, keepdims=True))
    alive = length > 0
    unit = jnp.where(alive, rows / jnp.where(alive, length, 1.0), 0.0)
    n = jnp.sum(alive, dtype=jnp.float32)
    total = jnp.sum(jnp.square(jnp.sum(unit, axis=0)))
    return jnp.where(n > 1, (total - n) / jnp.where(n > 1, n * (n - 1), 1.0), jnp.nan)


def _count(view: ProbeView | CountView) -> dict[str, Array]:
    counts: dict[str, Array] = {}
    for name, a in view.act.items():
        drive, slope = view.drive[name], view.slope[name]
        flags = {
            f"moving/{name}": ~(slope < DEAD_SLOPE),
            f"sounding/{name}": a != 0,
            f"firing/{name}": drive > 0,
            f"saturated/{name}": slope < SATURATED_SLOPE,
        }
        counts |= _per_unit({k: v.reshape(-1, a.shape[-1]) for k, v in flags.items()})
        counts[f"seen/{name}"] = jnp.full(a.shape[-1], a.size // a.shape[-1], jnp.int32)
    return counts


def _per_unit(
    flags: Mapping[str, Bool[Array, "rows units"]],
) -> dict[str, Int[Array, "units"]]:
    """Column sums, block of rows by block: on a CPU ten times as fast as letting XLA reduce whole
    columns."""
    rows, units = next(iter(flags.values())).shape
    whole = rows - rows % ROW_BLOCK

    def total(blocks: Mapping[str, Array]) -> dict[str, Array]:
        return {k: jnp.sum(v, axis=0, dtype=jnp.int32) for k, v in blocks.items()}

    def add(sums: dict[str, Array], blocks: dict[str, Array]) -> tuple[dict[str, Array], None]:
        return jax.tree.map(jnp.add, sums, total(blocks)), None

    rest = total({k: v[whole:] for k, v in flags.items()})
    blocks = {k: v[:whole].reshape(-1, ROW_BLOCK, units) for k, v in flags.items()}
    return jax.lax.scan(add, rest, blocks)[0]


def _conclude(sums: Mapping[str, Array], prefix: str) -> Readings:
    readings, all_dead = {}, []
    for name in (key.removeprefix("seen/") for key in sums if key.startswith("seen/")):
        seen = sums[f"seen/{name}"].astype(jnp.float32)
        firing = sums[f"firing/{name}"].astype(jnp.float32)
        dead = sums[f"moving/{name}"] == 0
        all_dead.append(dead)
        weak = (firing > 0) & (firing < WEAK_SHARE * seen)
        saturated = sums[f"saturated/{name}"].astype(jnp.float32) / seen
        readings[f"{prefix}dead/{name}"] = jnp.sum(dead, dtype=jnp.float32)
        readings[f"{prefix}dead_frac/{name}"] = jnp.mean(dead, dtype=jnp.float32)
        readings[f"{prefix}silent_frac/{name}"] = jnp.mean(
            sums[f"sounding/{name}"] == 0, dtype=jnp.float32
        )
        readings[f"{prefix}weak_frac/{name}"] = jnp.mean(weak, dtype=jnp.float32)
        readings[f"{prefix}saturated_frac/{name}"] = jnp.mean(saturated)
    readings[f"{prefix}dead_frac/all"] = jnp.mean(jnp.concatenate(all_dead), dtype=jnp.float32)
    return readings
