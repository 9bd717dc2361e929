"""What packs buy, in ratios: python benchmarks/speed.py --out FILE.json [--only NAME]

Each section measures the product beside a baseline, in one process and in rotation, and says which
target it is held against. Medians over rounds; see docs/performance.md for what came out.
"""

import argparse
import datetime
import importlib.metadata
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from actsweep.runtime.devices import set_up_devices
from benchmarks import baselines, kernels, shell
from benchmarks.rig import GIB, Pack, fashion, fitted, median

Result = dict[str, Any]
MEMBERS = max(4, baselines.cores())  # as many on every core
SWEEP = ("act=relu,elu,swish,tanh,gelu,leaky_relu", "seed=0,1,2", "trainer.epochs=3")


def target(name: str, value: float, limit: float, at_most: bool = True) -> Result:
    """One row of the table: a ratio, what it is held against, and whether it is met."""
    met = value <= limit if at_most else value >= limit
    return {"name": name, "value": value, "limit": limit, "at_most": at_most, "met": bool(met)}


def training(rounds: int) -> Result:
    """A run-epoch inside a pack, beside the floor of its matrix products and other loops."""
    data = fashion()
    x, y = data.train_x, data.train_y
    plain = Pack(MEMBERS, "callbacks=none", examples=data)
    full = Pack(MEMBERS, logged=True, examples=data)
    calls: dict[str, Callable[[], object]] = {
        "floor": baselines.matrix_products(x),
        "floor, sharded": baselines.matrix_products_sharded(x, members=MEMBERS),
        "pack": plain.train,
        "pack, diagnostics": full.train_and_probe,
        "pack, everything": full.everything,
        "numpy-fed step": baselines.jitted_step_fed_by_numpy(x, y),
        "tutorial loop": baselines.tutorial_loop(x, y),
    }
    try:
        calls["PyTorch"] = baselines.pytorch(x, y)
    except ImportError:
        print("PyTorch isn't installed: baseline (d) is left out", file=sys.stderr)
    seconds = baselines.rotate(calls, rounds)
    each = {
        name: median(took) / (MEMBERS if "pack" in name or "sharded" in name else 1)
        for name, took in seconds.items()
    }
    full.close()
    floor, product = each["floor"], each["pack, diagnostics"]
    targets = [
        target("run-epoch, diagnostics and W&B on / floor", product / floor, 1.05),
        target("the same with validation / floor", each["pack, everything"] / floor, 1.15),
        target("numpy-fed step / run-epoch", each["numpy-fed step"] / product, 1.2, False),
        target("tutorial loop / run-epoch", each["tutorial loop"] / product, 1.5, False),
    ]
    if "PyTorch" in each:
        targets.append(target("PyTorch / run-epoch", each["PyTorch"] / product, 1.3, False))
    return {
        "members": MEMBERS,
        "seconds per run-epoch": each,
        "rounds": seconds,
        "targets": targets,
    }


def diagnostics(rounds: int) -> Result:
    """What the callbacks cost: per epoch, every 50 steps with histograms, and the exact counts."""

    data = fashion()
    packs = {
        "none": Pack(MEMBERS, "callbacks=none", logged=True, examples=data),
        "default": Pack(MEMBERS, logged=True, examples=data),
        "dense": Pack(
            MEMBERS, "callbacks=dense", "trainer.probe_examples=256", logged=True, examples=data
        ),
    }
    calls: dict[str, Callable[[], object]] = {k: p.train_and_probe for k, p in packs.items()}
    for act in ("relu", "swish"):
        pack = packs["default"] if act == "relu" else Pack(MEMBERS, f"act={act}", examples=data)
        calls[f"exact counts, {act}"] = lambda pack=pack: jax.block_until_ready(
            evaluation.train_set_statistics(
                pack.population,
                pack.active_set.state.params,
                pack.active_set.state.act_hparams,
                data,
                pack.looks,
            )
        )
    seconds = baselines.rotate(calls, rounds)
    each = {name: median(took) / MEMBERS for name, took in seconds.items()}
    for pack in packs.values():
        pack.close()
    # Of each round's neighbours, so that a slow minute of the machine hits both.
    share = {
        name: median([b / a - 1 for a, b in zip(seconds["none"], seconds[name], strict=True)])
        for name in ("default", "dense")
    }
    return {
        "seconds per run-epoch": each,
        "share of training": share,
        "rounds": seconds,
        "targets": [
            target("diagnostics, default cadence, share", share["default"], 0.03),
            target("every 50 steps with histograms, share", share["dense"], 0.06),
        ],
    }


def histograms(rounds: int) -> Result:
    """Kernels that count 512 x 512 values into 64 bins; each must find the same counts."""
    found = kernels.compare(rounds)
    used = found["used"]
    best = min(found["milliseconds"].values())
    ratio = found["milliseconds"][used] / best
    return found | {"targets": [target(f"{used} / the fastest kernel", ratio, 1.25)]}


def repacking(rounds: int) -> Result:
    """What members cost that have ended: eight, of which four are frozen, beside four alone."""
    data = fashion()
    packs = {
        name: Pack(
            8 if "8" in name else 4, "callbacks=none", f"pack.batching={batching}", examples=data
        )
        for batching in ("map", "vmap")
        for name in (
            f"8, {batching}",
            f"4, {batching}",
            f"8, 4 frozen, {batching}",
            f"8, repacked, {batching}",
        )
    }
    for batching in ("map", "vmap"):
        packs[f"8, 4 frozen, {batching}"].stop(4)
        packs[f"8, repacked, {batching}"].stop(4)
        assert packs[f"8, repacked, {batching}"].active_set.repack({0, 1, 2, 3})
    seconds = baselines.rotate({name: pack.train for name, pack in packs.items()}, rounds)
    each = {name: median(took) for name, took in seconds.items()}
    ratios = {
        batching: each[f"8, repacked, {batching}"] / each[f"4, {batching}"]
        for batching in ("map", "vmap")
    }
    return {
        "seconds per epoch of the pack": each,
        "rounds": seconds,
        "targets": [
            target(f"8 repacked to 4 / 4 alone, {batching}", ratio, 1.05)
            for batching, ratio in ratios.items()
        ],
    }


def packs(rounds: int) -> Result:
    """Cost of a run-epoch against the size of the pack, and the memory that a pack needs."""
    gpu = jax.default_backend() != "cpu"
    sizes = [2**i for i in range(11 if gpu else 5)]
    data, found = fashion(), []
    precisions = ("float32", "tf32", "bfloat16") if gpu else ("float32",)
    for precision in precisions:
        jax.config.update(
            "jax_default_matmul_precision", "tensorfloat32" if precision == "tf32" else "highest"
        )
        words = ("callbacks=none", *(["trainer.precision=bfloat16"] if precision[0] == "b" else []))
        peak = matrix_peak(precision) if gpu else None
        for size in sizes:
            pack = Pack(size, *words, examples=data)
            numpy_fed = baselines.jitted_step_fed_by_numpy(data.train_x, data.train_y)
            took = baselines.rotate({"pack": pack.train, "numpy-fed step": numpy_fed}, rounds)
            each = median(took["pack"]) / size
            row = {
                "size": size,
                "precision": precision,
                "seconds per run-epoch": each,
                "numpy-fed step / run-epoch": median(took["numpy-fed step"]) / each,
                "GiB": fitted(size, *words).need / GIB,
            }
            if peak:
                row["share of the matrix peak"] = step_flops() * pack.steps / each / peak
            found.append(row)
            print(f"  {row}", file=sys.stderr, flush=True)
    result: Result = {"sizes": found}
    if gpu:
        best = max(row["numpy-fed step / run-epoch"] for row in found)
        share = max(row["share of the matrix peak"] for row in found)
        result["targets"] = [
            target("numpy-fed step / run-epoch, best pack", best, 100, False),
            target("share of the measured matrix peak, best pack", share, 0.5, False),
        ]
    else:
        per_member = np.diff([row["GiB"] for row in found[-3:]]) / np.diff(sizes[-3:])
        linear = float(per_member[1] / per_member[0])
        result["targets"] = [target("memory a member, 8-16 / 4-8 members", linear, 1.1)]
    return result


def step_flops() -> float:
    """Of the matrix products of one training step."""
    pairs = list(zip(baselines.WIDTHS, baselines.WIDTHS[1:], strict=False))
    products = [3 * a * b for a, b in pairs]
    return 2.0 * baselines.BATCH * (sum(products) - pairs[0][0] * pairs[0][1])


def matrix_peak(precision: str) -> float:
    """Measured FLOP/s of one large matrix product."""
    n, dtype = 8192, jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    a = jax.random.normal(jax.random.key(0), (n, n), dtype)
    product = jax.jit(jnp.matmul)
    took = baselines.rotate({"product": lambda: jax.block_until_ready(product(a, a))}, 10)
    return 2 * n**3 / min(took["product"])


def start(rounds: int) -> Result:
    """Seconds from the shell to the first training step; cold is without compiled programs."""
    cold, warm = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(shell.first_step(Path(cache)))
            warm.append(shell.first_step(Path(cache)))
    return {
        "cold": cold,
        "warm": warm,
        "targets": [target("first training step, cold, seconds", median(cold), 6.0)],
    }


def sweep(rounds: int) -> Result:
    """6 activations x 3 seeds x 3 epochs, everything on, beside a process for each run."""
    pack = Pack(3, "callbacks=none", examples=fashion())
    epoch = median(baselines.rotate({"epoch": pack.train}, 5)["epoch"])
    pure = 6 * 3 * epoch
    cold, warm, apart = [], [], []
    acts, seeds, epochs = SWEEP
    one_by_one = [
        [f"act={act}", f"seed={seed}", epochs]
        for act in acts.removeprefix("act=").split(",")
        for seed in seeds.removeprefix("seed=").split(",")
    ]
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(shell.sweep(Path(cache), SWEEP).seconds)
            warm.append(shell.sweep(Path(cache), SWEEP).seconds)
        with tempfile.TemporaryDirectory() as outputs:
            apart.append(baselines.process_per_run(one_by_one, Path(outputs)))
    return {
        "pure training": pure,
        "cold": cold,
        "warm": warm,
        "a process a run": apart,
        "targets": [
            target("a process a run / sweep", median(apart) / median(warm), 3.0, False),
            target("sweep / its pure training", median(warm) / pure, 1.25),
            target("the same, nothing compiled before", median(cold) / pure, 1.25),
        ],
    }


def memory(rounds: int) -> Result:
    """Peak memory of whole commands: flat in the members of a sweep, linear in the pack's size."""
    del rounds
    words = ("data=digits", "trainer.epochs=1", "logger.mode=disabled")
    with tempfile.TemporaryDirectory() as cache:

        def peak(seeds: int, size: int) -> float:
            sweep = (*words, f"seed=range({seeds})", f"pack.size={size}")
            return shell.sweep(Path(cache), sweep).peak_mib

        for size in (8, 32, 64, 128):  # compiling needs memory of its own
            peak(size, size)
        sweeps = {seeds: peak(seeds, 8) for seeds in (16, 32, 64)}
        sizes = {size: peak(size, size) for size in (32, 64, 128)}
    growth = (sizes[128] - sizes[64]) / max(1.0, 2 * (sizes[64] - sizes[32]))
    return {
        "MiB by members of the sweep, packs of 8": sweeps,
        "MiB by size of one pack": sizes,
        "targets": [
            target("64 members in packs of 8 / 16 members", sweeps[64] / sweeps[16], 1.1),
            target("128 - 64 / twice (64 - 32)", growth, 1.25),
        ],
    }


def thousand(rounds: int) -> Result:
    """1,000 members on digits, one epoch, nothing compiled before: what each costs beside its
    training."""
    del rounds
    words = ("data=digits", "trainer.epochs=1", "seed=range(1000)")
    pack = Pack(100, "data=digits", "callbacks=none")
    training = 10 * median(baselines.rotate({"epoch": pack.train}, 5)["epoch"])
    with tempfile.TemporaryDirectory() as cache:
        done = shell.sweep(Path(cache), words)
    assert " 1000 " in done.out, done.out
    overhead = (done.seconds - training) / 1000
    return {
        "seconds": done.seconds,
        "training": training,
        "peak MiB": done.peak_mib,
        "targets": [target("overhead a member, milliseconds", 1000 * overhead, 60)],
    }


SECTIONS: dict[str, tuple[Callable[[int], Result], int]] = {
    "training": (training, 7),
    "diagnostics": (diagnostics, 15),
    "histograms": (histograms, 15),
    "repacking": (repacking, 5),
    "packs": (packs, 3),
    "start": (start, 2),
    "sweep": (sweep, 1),
    "memory": (memory, 1),
    "thousand": (thousand, 1),
}


def machine() -> Result:
    """What was measured on, when, and with which versions."""
    versions = {
        name: importlib.metadata.version(name)
        for name in ("actsweep", "jax", "jaxlib", "flax", "optax", "wandb", "numpy")
    }
    device = jax.devices()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": f"{jax.device_count()} x {device.device_kind}",
        "cores": baselines.cores(),
        "processor": _processor(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor()


def show(section: str, result: Result) -> None:
    """One section's targets as a table."""
    for row in result.get("targets", []):
        held = f"{'<=' if row['at_most'] else '>='} {row['limit']:g}"
        word = "met" if row["met"] else "NOT met"
        print(f"{section:12} {row['name']:52} {row['value']:9.3f}  {held:9} {word}", flush=True)


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON; sections that it holds already stay")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="may be repeated")
    parser.add_argument("--rounds", type=int, help="instead of each section's own number")
    options = parser.parse_args()
    set_up_devices()
    found: Result = json.loads(options.out.read_text()) if _there(options.out) else {}
    for name in options.only or SECTIONS:
        section, rounds = SECTIONS[name]
        began = time.perf_counter()
        result = section(options.rounds or rounds)
        result |= {"machine": machine(), "took": time.perf_counter() - began}
        show(name, result)
        found[name] = result
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(found, indent=1) + "\n")


def _there(path: Path | None) -> bool:
    return path is not None and path.exists()


if __name__ == "__main__":
    main()
