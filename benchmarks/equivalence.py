"""What must not change a result: packs, vmap, callbacks, calls cut short, compiling anew.

Made for a machine that nobody tested: on a new GPU it says what holds there.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from benchmarks import rig
from benchmarks.harness import Result, figure
from benchmarks.rig import Pack, prepare

# Without a kink: a ReLU whose input is zero but for rounding changes a gradient visibly.
MODELS: dict[str, tuple[str, ...]] = {
    "mlp": ("act=gelu",),
    "mlp, 20 layers": ("depth=uniform", "depth.layers=20", "act=tanh", "init=lecun_normal"),
    "cnn": ("model=cnn", "act=gelu"),
}
FEWER_STEPS = ("data.val_size=47200",)  # 50 an epoch
MEMBERS = 4
VMAP_LIMIT = 1e-5

Arrays = list[np.ndarray]


def equivalence(rounds: int, toy: bool) -> Result:
    """Values that differ where none may, and the greatest relative difference under vmap."""
    small = rig.TOY if toy else FEWER_STEPS
    figures = []
    for name in ["mlp"] if toy else MODELS:
        for row in of_model(name, *small):
            print(f"  {row['name']}: {row['value']:.3g}", file=sys.stderr, flush=True)
            figures.append(row)
    return {"figures": figures}


def of_model(name: str, *words: str) -> Iterator[Result]:
    """Compare members' parameters after an epoch of training in different company.

    Args:
        name: a key of `MODELS`.
        words: further overrides.

    Yields:
        The number of values that differ, of each comparison; for `vmap` the greatest
        `|a - b| / |b|`, in norms, over the arrays.
    """
    for what, differing in _comparisons(*MODELS[name], *words):
        limit = VMAP_LIMIT if what.startswith("vmap") else 0
        yield figure(f"{name}: {what}", differing, limit)


def _comparisons(*words: str) -> Iterator[tuple[str, float]]:
    last = MEMBERS - 1
    full, words = words, (*words, "callbacks=none")
    by_map = (*words, "pack.batching=map")
    together = _trained(prepare(MEMBERS, *by_map))
    yield "trained again", _count(together, _trained(prepare(MEMBERS, *by_map)))
    alone = _trained(prepare(1, *by_map, first_seed=last))
    yield "alone / in a pack, map", _count(_member(alone, 0), _member(together, last))
    observed = _trained(prepare(MEMBERS, *full, "pack.batching=map"))
    yield "callbacks on / off", _count(observed, together)
    cut = _trained(prepare(MEMBERS, *by_map, "trainer.chunk_steps=7"))
    yield "calls of 7 steps / longer ones", _count(cut, together)
    with _without_compiled_programs():
        compiled_again = _trained(prepare(MEMBERS, *by_map))
    yield "compiled again", _count(compiled_again, together)
    by_vmap = _trained(prepare(MEMBERS, *words, "pack.batching=vmap"))
    yield "vmap / map, relative difference", _distance(by_vmap, together)


@contextlib.contextmanager
def _without_compiled_programs() -> Iterator[None]:
    """Compile everything: neither this process nor the disk has it."""
    jax.clear_caches()
    compilation_cache.reset_cache()
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
        compilation_cache.reset_cache()


def _trained(prepared: Any) -> Arrays:
    pack = Pack(prepared)
    pack.train()
    params = jax.device_get(pack.active_set.state.params)
    pack.close()
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def _member(arrays: Arrays, member: int) -> Arrays:
    return [array[member] for array in arrays]


def _count(arrays: Arrays, others: Arrays) -> int:
    return sum(int(np.sum(a != b)) for a, b in zip(arrays, others, strict=True))


def _distance(arrays: Arrays, others: Arrays) -> float:
    norm = np.linalg.norm
    pairs = zip(arrays, others, strict=True)
    return max(float(norm(a - b) / max(float(norm(b)), 1e-30)) for a, b in pairs)
