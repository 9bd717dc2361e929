"""What one GPU makes of packs: sizes, precisions, models, diagnostics, in about six minutes."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from actsweep.nn.precision import dtype, matrix_products
from actsweep.train.memory import GIB
from benchmarks import baselines, kernels, rig
from benchmarks.architectures import plain_loop
from benchmarks.harness import Result, figure, median, ratio
from benchmarks.rig import Pack, prepare

BUDGET_S = 330.0
"""After this many seconds no further pack is begun; what is left out is named."""

FEWER_STEPS = ("data.val_size=47200",)  # 50 an epoch
MODELS: dict[str, tuple[str, ...]] = {
    "mlp": (),
    "cnn": ("model=cnn",),
    "transformer": ("model=transformer", "act=gelu"),
}


class Case(NamedTuple):
    """A pack to be timed: a key of `MODELS`, `trainer.precision`, members."""

    model: str
    precision: str
    size: int


PRECISIONS = ("float32", "tf32", "bfloat16")
FIRST = [Case("mlp", p, n) for n in (1, 16, 256, 1024) for p in PRECISIONS]
OTHER_MODELS = [Case(m, p, n) for m in ("cnn", "transformer") for p in PRECISIONS for n in (1, 64)]
LAST = [Case("mlp", p, n) for n in (4, 64) for p in PRECISIONS]
OBSERVED = 64  # members whose diagnostics are timed


def gpu(rounds: int, toy: bool) -> Iterator[Result]:
    """The result after each measurement, so that one cut short leaves what it has."""
    began, result = time.perf_counter(), Result(packs=[], seconds={}, left_out=[], figures=[])
    measurements = _toys() if toy else _measurements()
    for name, measure in measurements.items():
        if time.perf_counter() - began > BUDGET_S:
            result["left_out"].append(name)
            continue
        start = time.perf_counter()
        measured = measure(rounds)
        result["seconds"][name] = time.perf_counter() - start
        result["packs"] += measured.get("packs", [])
        result |= {key: value for key, value in measured.items() if key not in result}
        result["figures"] = [*result["figures"], *measured.get("figures", [])]
        print(f"  {name}: {measured}", file=sys.stderr, flush=True)
        yield result
    result["figures"] = [*result["figures"], *_best(result["packs"])]
    yield result


def _measurements() -> dict[str, Callable[[int], Result]]:
    peaks = {precision: matrix_peak(precision) for precision in PRECISIONS}
    print(f"  matrix peak, TFLOP/s: { ({k: v / 1e12 for k, v in peaks.items()}) }", file=sys.stderr)

    def packs(cases: list[Case]) -> dict[str, Callable[[int], Result]]:
        return {
            " ".join(map(str, case)): partial(
                _pack, case, words=FEWER_STEPS, peak=peaks[case.precision]
            )
            for case in cases
        }

    return {
        "matrix peak": lambda _: {"FLOP/s of a large product": peaks},
        **packs(FIRST),
        "diagnostics": lambda rounds: _diagnostics(OBSERVED, rounds, FEWER_STEPS),
        "kernels chosen by timing": lambda rounds: _tuned(rounds, FEWER_STEPS),
        **packs(OTHER_MODELS),
        "histograms": lambda rounds: {"histograms": kernels.histograms(rounds, False)},
        **packs(LAST),
    }


def _toys() -> dict[str, Callable[[int], Result]]:
    size = jax.device_count()
    case = Case("mlp", "float32", size)
    return {
        "a pack": partial(_pack, case, words=rig.TOY, peak=None),
        "diagnostics": lambda rounds: _diagnostics(size, rounds, rig.TOY),
    }


def _pack(case: Case, rounds: int, *, words: tuple[str, ...], peak: float | None) -> Result:
    """A run-epoch of one pack beside a plain loop over steps of the same network."""
    began, before = time.perf_counter(), _in_use()
    precision = f"trainer.precision={case.precision}"
    pack = Pack(prepare(case.size, *MODELS[case.model], precision, "callbacks=none", *words))
    pack.train()
    first_epoch = time.perf_counter() - began
    in_use = _in_use() - before
    with matrix_products(case.precision):
        calls = {"pack": pack.train, "plain loop": plain_loop(pack)}
        took = baselines.rotate(calls, rounds)
    pack.close()
    each = median(took["pack"]) / case.size / pack.steps
    speedup = [a / b for a, b in zip(took["plain loop"], took["pack"], strict=True)]
    row = {
        **case._asdict(),
        "batching": pack.prepared.memory.population.how,
        "microseconds per run and step": 1e6 * each,
        "run-epochs a second, of 234 steps": 1 / (each * 234),
        "plain loop / run-epoch": median(speedup) * case.size,
        "seconds to the end of the first epoch": first_epoch,
        "GiB planned": pack.prepared.memory.need / GIB,
        "GiB in use between steps": in_use / GIB,
        "GiB at most, of all packs until here": _in_use("peak_bytes_in_use") / GIB,
        "rounds": took,
    }
    if peak and case.model == "mlp":
        row["share of the matrix peak"] = step_flops() / each / peak
    return {"packs": [row]}


def _diagnostics(size: int, rounds: int, words: tuple[str, ...]) -> Result:
    """What the callbacks cost, nothing being written."""
    packs = {
        "none": Pack(prepare(size, "callbacks=none", *words)),
        "default": Pack(prepare(size, *words)),
    }
    took = baselines.rotate({name: pack.train_and_probe for name, pack in packs.items()}, rounds)
    for pack in packs.values():
        pack.close()
    name = f"diagnostics of {size} / none, {packs['none'].steps} steps an epoch"
    return {"figures": [ratio(name, took["default"], took["none"])]}


def _tuned(rounds: int, words: tuple[str, ...]) -> Result:
    """What compiling to the same bits again costs: XLA times no kernels then."""
    figures = []
    for model, size in (("mlp", OBSERVED), ("cnn", 1), ("cnn", OBSERVED)):
        own = (*MODELS[model], "callbacks=none", *words)
        packs = {"repeatable": Pack(prepare(size, *own))}
        with _kernels_chosen_by_timing():
            packs["tuned"] = Pack(prepare(size, *own))
        took = baselines.rotate({name: pack.train for name, pack in packs.items()}, rounds)
        for pack in packs.values():
            pack.close()
        figures.append(
            ratio(f"{model}, {size}: repeatable / tuned", took["repeatable"], took["tuned"])
        )
    return {"figures": figures}


@contextlib.contextmanager
def _kernels_chosen_by_timing() -> Iterator[None]:
    """What the product compiles here is compiled as XLA would by default."""
    before = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{before or ''} --xla_gpu_autotune_level=4"
    try:
        yield
    finally:
        if before is None:
            del os.environ["XLA_FLAGS"]
        else:
            os.environ["XLA_FLAGS"] = before


def _best(packs: list[Result]) -> list[Result]:
    mlp = [row for row in packs if row["model"] == "mlp"]
    best = max(row["plain loop / run-epoch"] for row in mlp)
    figures = [figure("mlp: plain loop / run-epoch, best pack", best, 100, at_most=False)]
    shares = [row["share of the matrix peak"] for row in mlp if "share of the matrix peak" in row]
    if shares:
        name = "mlp: share of the measured matrix peak, best pack"
        figures.append(figure(name, max(shares), 0.5, at_most=False))
    return figures


def _in_use(which: str = "bytes_in_use") -> int:
    """Bytes on the first device; 0 where the backend doesn't say."""
    return (jax.devices()[0].memory_stats() or {}).get(which, 0)


def step_flops() -> float:
    """Of the matrix products of one training step of the default MLP."""
    pairs = list(zip(baselines.WIDTHS, baselines.WIDTHS[1:], strict=False))
    products = [3 * a * b for a, b in pairs]
    return 2.0 * baselines.BATCH * (sum(products) - pairs[0][0] * pairs[0][1])


def matrix_peak(precision: str) -> float:
    """Measured FLOP/s of one large matrix product."""
    n = 8192
    a = jax.random.normal(jax.random.key(0), (n, n), dtype(precision))
    product = jax.jit(jnp.matmul)
    with matrix_products(precision):
        took = baselines.rotate({"product": lambda: jax.block_until_ready(product(a, a))}, 10)
    return 2 * n**3 / min(took["product"])
