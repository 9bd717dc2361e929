"""Ways to count values into fixed bins: which is fast, on this device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from actsweep.callbacks.histograms import VALUE_EDGES, histogram
from benchmarks.baselines import rotate

BINS = len(VALUE_EDGES) - 1
Counts = Int[Array, "bins+2"]


def _index(x: Float[Array, "..."]) -> Int[Array, "n"]:
    place = jnp.floor(x.ravel() / 0.25) + 32
    return jnp.clip(place, -1, BINS).astype(jnp.int32) + 1


def scatter(x: Array) -> Counts:
    """What the product does: one scatter-add into all bins."""
    return histogram(x, VALUE_EDGES).counts


def bincount(x: Array) -> Counts:
    """`jnp.bincount`."""
    return jnp.bincount(_index(x), length=BINS + 2).astype(jnp.int32)


def private(x: Array, parts: int = 16) -> Counts:
    """Scatter-add into 16 histograms, then their sum: fewer collisions where adds are atomic."""
    rows = _index(x).reshape(parts, -1)
    offset = jnp.arange(parts)[:, None] * (BINS + 2)
    flat = jnp.zeros(parts * (BINS + 2), jnp.int32).at[(rows + offset).ravel()].add(1)
    return flat.reshape(parts, BINS + 2).sum(axis=0)


def compare_all(x: Array) -> Counts:
    """Compare every value with every edge, at once."""
    edges = jnp.asarray(VALUE_EDGES)
    below = jnp.sum(x.ravel()[None, :] < edges[:, None], axis=1, dtype=jnp.int32)
    return jnp.diff(below, prepend=0, append=x.size)


def compare_each(x: Array) -> Counts:
    """Compare every value with one edge after the other."""
    below = lax.map(lambda edge: jnp.sum(x < edge, dtype=jnp.int32), jnp.asarray(VALUE_EDGES))
    return jnp.diff(below, prepend=0, append=x.size)


def one_hot(x: Array) -> Counts:
    """Sum one-hot rows, 256 values at a time."""
    rows = _index(x).reshape(-1, 256)
    start = jnp.zeros(BINS + 2, jnp.float32)
    add = lambda total, row: (total + jax.nn.one_hot(row, BINS + 2).sum(axis=0), None)  # noqa: E731
    return lax.scan(add, start, rows)[0].astype(jnp.int32)


def product(x: Array) -> Counts:
    """A matrix product of coarse and fine one-hots: [9, n] @ [n, 8]."""
    coarse, fine = jnp.divmod(_index(x), 8)
    left = (coarse[None, :] == jnp.arange(9)[:, None]).astype(jnp.float32)
    right = (fine[:, None] == jnp.arange(8)[None, :]).astype(jnp.float32)
    return (left @ right).ravel()[: BINS + 2].astype(jnp.int32)


def search(x: Array) -> Counts:
    """Sort the values, then look the edges up."""
    below = jnp.searchsorted(jnp.sort(x.ravel()), jnp.asarray(VALUE_EDGES)).astype(jnp.int32)
    return jnp.diff(below, prepend=0, append=x.size)


KERNELS: dict[str, Callable[[Array], Counts]] = {
    "scatter-add": scatter,
    "bincount": bincount,
    "16 private scatter-adds": private,
    "compare with all edges": compare_all,
    "compare with one edge at a time": compare_each,
    "one-hot rows": one_hot,
    "product of one-hots": product,
    "sort and search": search,
}


def compare(rounds: int) -> dict[str, Any]:
    """Milliseconds of each kernel on 512 x 512 normal values; all must agree with NumPy."""
    x = jax.random.normal(jax.random.key(0), (512, 512)) * 3
    inside, _ = np.histogram(np.asarray(x), VALUE_EDGES)
    calls = {}
    for name, kernel in KERNELS.items():
        jitted = jax.jit(kernel)
        found = np.asarray(jitted(x))
        # NumPy's last bin holds its right edge; no value lies on it here.
        assert np.array_equal(found[1:-1], inside), name
        assert found.sum() == x.size, name
        calls[name] = lambda jitted=jitted: jax.block_until_ready(jitted(x))
    seconds = rotate(calls, rounds)
    return {
        "used": "scatter-add",
        "milliseconds": {name: 1e3 * float(np.median(took)) for name, took in seconds.items()},
    }
