"""A pack in one process, in rotation with its baselines: training, diagnostics, sizes."""

import sys
from collections.abc import Callable

import jax
import numpy as np

from actsweep.train import evaluation
from actsweep.train.memory import GIB
from benchmarks import baselines, rig
from benchmarks.baselines import Work
from benchmarks.harness import Result, figure, median, ratio
from benchmarks.rig import Pack, prepare

FEWER_STEPS = ("data.val_size=47200",)  # 50 an epoch; where only training is timed


def members() -> int:
    """Members of a pack: as many on every device, and four where that is enough."""
    return -(-4 // jax.device_count()) * jax.device_count()


def training(rounds: int, toy: bool) -> Result:
    """A run-epoch inside a pack, beside the floor of its matrix products and other loops."""
    words, size = (rig.TOY if toy else ()), members()
    plain = Pack(prepare(size, "callbacks=none", *words))
    full = Pack(prepare(size, *words), logged=True)
    work = _work(plain)
    calls: dict[str, Callable[[], object]] = {
        "floor": baselines.matrix_products(work),
        "floor, sharded": baselines.matrix_products_sharded(work, size),
        "pack": plain.train,
        "pack, diagnostics": full.train_and_probe,
        "pack, everything": full.everything,
        "numpy-fed step": baselines.jitted_step_fed_by_numpy(work),
        "tutorial loop": baselines.tutorial_loop(work),
    }
    try:
        calls["PyTorch"] = baselines.pytorch(work)
    except ImportError:
        print("PyTorch isn't installed: its baseline is left out", file=sys.stderr)
    took = baselines.rotate(calls, rounds)
    plain.close()
    full.close()
    for name in ("floor, sharded", "pack", "pack, diagnostics", "pack, everything"):
        took[name] = [seconds / size for seconds in took[name]]
    floor, product = took["floor"], took["pack, diagnostics"]
    figures = [
        ratio("run-epoch, diagnostics and W&B on / floor", product, floor, 1.05),
        ratio("the same with validation / floor", took["pack, everything"], floor, 1.15),
        ratio("run-epoch without diagnostics / floor", took["pack"], floor),
        ratio("the floor in a pack / floor", took["floor, sharded"], floor),
    ]
    limits = {"numpy-fed step": 1.2, "tutorial loop": 1.5, "PyTorch": 1.3}
    figures += [
        ratio(f"{name} / run-epoch", took[name], product, limit, at_most=False)
        for name, limit in limits.items()
        if name in took
    ]
    return {
        "members": size,
        "seconds per run-epoch": {name: median(seconds) for name, seconds in took.items()},
        "rounds": took,
        "figures": figures,
    }


def _work(pack: Pack) -> Work:
    """What a pack trains on, for a baseline."""
    static, data = pack.prepared.pack.static, pack.prepared.data
    widths = (int(np.prod(data.train_x.shape[1:])), *static.widths, 10)
    params = baselines.draw(widths)
    return Work(data.train_x[:], data.train_y, static.trainer.batch_size, params)


def diagnostics(rounds: int, toy: bool) -> Result:
    """What the callbacks cost: per epoch, every 50 steps with histograms, and the exact counts."""
    words, size = (rig.TOY if toy else ()), members()
    often = ("callbacks.gradients.every_steps=2", "callbacks.histograms.every_steps=2")
    dense = ("callbacks=dense", "trainer.probe_examples=256", *(often if toy else ()))
    prepared = prepare(size, *words)
    packs = {
        "none": Pack(prepare(size, "callbacks=none", *words), logged=True),
        "default": Pack(prepared, logged=True),
        "default, not written": Pack(prepared),
        "dense": Pack(prepare(size, *dense, *words), logged=True),
    }
    took = baselines.rotate({k: pack.train_and_probe for k, pack in packs.items()}, rounds)
    parts = [packs["default"].in_parts() for _ in range(rounds)]
    none = took["none"]
    figures = [
        ratio("default diagnostics / none", took["default"], none, 1.03),
        ratio("default diagnostics, nothing written / none", took["default, not written"], none),
        ratio("every 50 steps with histograms / none", took["dense"], none, 1.06),
    ]
    for part in ("probes", "rows"):
        own, base = ([one[name] for one in parts] for name in (part, "training"))
        figures.append(ratio(f"{part} alone / training", own, base))
    counted = {"relu": packs["default"], "swish": Pack(prepare(size, "act=swish", *words))}
    counts = {act: _seconds_of_counts(pack, rounds) for act, pack in counted.items()}
    for pack in (*packs.values(), counted["swish"]):
        pack.close()
    return {
        "members": size,
        "seconds per run-epoch": {name: median(own) / size for name, own in took.items()},
        "seconds of exact counts a run": {act: median(own) / size for act, own in counts.items()},
        "rounds": took | {f"exact counts, {act}": own for act, own in counts.items()},
        "parts of an epoch": parts,
        "figures": figures,
    }


def _seconds_of_counts(pack: Pack, rounds: int) -> list[float]:
    def count() -> None:
        state, prepared = pack.active_set.state, pack.prepared
        jax.block_until_ready(
            evaluation.train_set_statistics(
                prepared.memory.population,
                state.params,
                state.held,
                prepared.data,
                prepared.callbacks,
            )
        )

    return baselines.rotate({"counts": count}, rounds)["counts"]


def repacking(rounds: int, toy: bool) -> Result:
    """What members cost that have ended: of a pack, half are frozen, beside half as many alone."""
    words = rig.TOY if toy else FEWER_STEPS
    many, few = 2 * members(), members()
    packs: dict[str, Pack] = {}
    for batching in ("map", "vmap"):
        own = ("callbacks=none", f"pack.batching={batching}", *words)
        whole = prepare(many, *own)
        packs |= {
            f"{batching}: all": Pack(whole),
            f"{batching}: half frozen": Pack(whole),
            f"{batching}: repacked": Pack(whole),
            f"{batching}: half alone": Pack(prepare(few, *own)),
        }
        packs[f"{batching}: half frozen"].end_members(few)
        packs[f"{batching}: repacked"].end_members(few, repack=True)
    took = baselines.rotate({name: pack.train for name, pack in packs.items()}, rounds)
    for pack in packs.values():
        pack.close()
    steps = packs["map: all"].steps
    return {
        "members": many,
        "milliseconds per step of the pack": {
            name: 1e3 * median(own) / steps for name, own in took.items()
        },
        "rounds": took,
        "figures": [
            ratio(
                f"{many} repacked to {few} / {few} alone, {batching}",
                took[f"{batching}: repacked"],
                took[f"{batching}: half alone"],
                1.05,
            )
            for batching in ("map", "vmap")
        ],
    }


def packs(rounds: int, toy: bool) -> Result:
    """Cost of a run-epoch against the size of the pack, and the memory that a pack needs."""
    least = jax.device_count() if toy else 1
    sizes = [least * 2**i for i in range(3 if toy else 5)]
    rows = []
    for size in sizes:
        row = _pack_of(size, rounds, rig.TOY if toy else FEWER_STEPS)
        rows.append(row)
        print(f"  {row}", file=sys.stderr, flush=True)
    per_member = np.diff([row["GiB"] for row in rows[-3:]]) / np.diff(sizes[-3:])
    small, middle, large = sizes[-3:]
    name = f"memory a member, {middle}-{large} / {small}-{middle} members"
    return {"sizes": rows, "figures": [figure(name, per_member[1] / per_member[0], 1.1)]}


def _pack_of(size: int, rounds: int, words: tuple[str, ...]) -> Result:
    pack = Pack(prepare(size, "callbacks=none", *words))
    numpy_fed = baselines.jitted_step_fed_by_numpy(_work(pack))
    took = baselines.rotate({"pack": pack.train, "numpy-fed step": numpy_fed}, rounds)
    pack.close()
    each = median(took["pack"]) / size / pack.steps
    return {
        "size": size,
        "milliseconds per run and step": 1e3 * each,
        "numpy-fed step / run-epoch": median(took["numpy-fed step"]) / pack.steps / each,
        "GiB": pack.prepared.memory.need / GIB,
    }
