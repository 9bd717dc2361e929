"""Whole commands, from the shell: start-up, a sweep, its memory, what a member costs."""

import functools
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import baselines
from benchmarks.baselines import ROOT
from benchmarks.harness import Result, figure, median
from benchmarks.rig import DIGITS, TOY, Pack, prepare

LEAST = (*TOY, "callbacks=none")  # of a toy
APART = ("ACTSWEEP_", "JAX_COMPILATION", "JAX_PERSISTENT", "XLA_FLAGS")
"""How the names begin of the environment variables that no command gets: a suite of tests asks for
other programs and no report; here it is as a user has it."""
ACTS = ("relu", "elu", "swish", "tanh", "gelu", "leaky_relu")
RUNS_APART = ("relu", "swish")  # those activations whose programs take least and most to make


@dataclass(frozen=True)
class Done:
    """A finished command: wall seconds, peak memory in MiB, what it printed to stdout."""

    seconds: float
    peak_mib: float
    out: str


def train(*words: str, cache: Path) -> Done:
    """`python train.py <words>`, with the report at the sweep's end.

    Args:
        words: overrides.
        cache: the user's cache folder, where compiled programs are kept.

    Raises:
        RuntimeError: it did not exit with 0.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(APART)}
    env["XDG_CACHE_HOME"] = str(cache)
    before = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [sys.executable, "train.py", *words]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=err, text=True)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - before
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{err.read()[-2000:]}")
        return Done(seconds, usage.ru_maxrss / 1024, out.read())


def scratch() -> tempfile.TemporaryDirectory[str]:
    """An empty folder, removed afterwards."""
    return tempfile.TemporaryDirectory(prefix="actsweep-benchmark-", ignore_cleanup_errors=True)


def first_step(cache: Path, *words: str) -> float:
    """Seconds from the shell to the first training step done, of one run."""
    with scratch() as folder:
        train(
            *("trainer.epochs=1", "trainer.chunk_steps=1", f"paths.outputs={folder}"),
            "+callbacks.clock._target_=benchmarks.clock.first_step",
            f"+callbacks.clock.file={folder}/first",
            f"+callbacks.clock.began={time.time()}",
            *words,
            cache=cache,
        )
        return float(Path(folder, "first").read_text())


def train_sweep(cache: Path, *words: str) -> Done:
    """A sweep into an empty folder."""
    with scratch() as folder:
        return train("-m", *words, f"paths.outputs={folder}", cache=cache)


def start(rounds: int, toy: bool) -> Result:
    """Seconds from the shell to the first training step; cold is without compiled programs."""
    words = LEAST if toy else ()
    cold, warm = [], []
    for _ in range(rounds):
        with scratch() as cache:
            cold.append(first_step(Path(cache), *words))
            warm.append(first_step(Path(cache), *words))
    return {
        "cold": cold,
        "warm": warm,
        "figures": [
            figure("first training step, cold, seconds", median(cold), 6.0),
            figure("first training step, compiled before, seconds", median(warm)),
        ],
    }


def sweep(rounds: int, toy: bool) -> Result:
    """Activations x 3 seeds x 3 epochs, everything on, beside a process for each run.

    Of the processes those of two activations are timed, one seed each, and stand for the others.
    """
    words = LEAST if toy else ()
    acts, lone = (RUNS_APART[:1],) * 2 if toy else (ACTS, RUNS_APART)
    runs, epochs = 3 * len(acts), 3
    pack = Pack(prepare(3, "callbacks=none", *words))
    epoch = median(baselines.rotate({"epoch": pack.train}, 2 if toy else 5)["epoch"])
    pack.close()
    pure = len(acts) * epochs * epoch
    swept = (f"act={','.join(acts)}", "seed=0,1,2", f"trainer.epochs={epochs}", *words)
    cold, warm, apart = [], [], []
    for _ in range(rounds):
        with scratch() as cache, scratch() as outputs:
            cold.append(train_sweep(Path(cache), *swept))
            warm.append(train_sweep(Path(cache), *swept))
            own = (f"trainer.epochs={epochs}", f"paths.outputs={outputs}", *words)
            for act in lone:  # a pack of one is another program: compiled before it is timed
                train(f"act={act}", "seed=3", *own, cache=Path(cache))
            each = [train(f"act={act}", "seed=0", *own, cache=Path(cache)) for act in lone]
            apart.append(runs * median([done.seconds for done in each]))
    took = {
        "cold": [done.seconds for done in cold],
        "warm": [done.seconds for done in warm],
        "a process a run": apart,
    }
    each_apart, warm_sweep, cold_sweep = map(median, (apart, took["warm"], took["cold"]))
    return {
        "runs": runs,
        "pure training": pure,
        **took,
        "figures": [
            figure("a process a run / sweep", each_apart / warm_sweep, 3.0, at_most=False),
            figure("sweep / its pure training", warm_sweep / pure, 1.25),
            figure("the same, nothing compiled before", cold_sweep / pure, 1.25),
        ],
    }


def memory(rounds: int, toy: bool) -> Result:
    """Peak memory of whole commands: flat in the members of a sweep, linear in the pack's size."""
    del rounds  # it hardly differs from one to the next
    words = (*DIGITS, "trainer.epochs=1", "logger=disabled", *(LEAST if toy else ()))
    small, middle, large = sizes = (2, 4, 8) if toy else (16, 32, 64)
    few, many, size = (4, 8, 4) if toy else (16, 64, 8)
    with scratch() as cache:

        @functools.cache
        def peak(seeds: int, size: int) -> float:
            swept = (f"seed=range({seeds})", f"pack.size={size}")
            return train_sweep(Path(cache), *words, *swept).peak_mib

        for once in () if toy else {*sizes, size}:  # compiling needs memory of its own
            peak(once, once)
        sweeps = {seeds: peak(seeds, size) for seeds in (few, many)}
        packs = {size: peak(size, size) for size in sizes}
    growth = max(1.0, packs[large] - packs[middle]) / max(1.0, 2 * (packs[middle] - packs[small]))
    return {
        f"MiB by members of the sweep, packs of {size}": sweeps,
        "MiB by size of one pack": packs,
        "figures": [
            figure(f"{many} members in packs of {size} / {few}", sweeps[many] / sweeps[few], 1.1),
            figure(f"{large} - {middle} / twice ({middle} - {small})", growth, 1.25),
        ],
    }


def many(rounds: int, toy: bool) -> Result:
    """Many members on digits, one epoch, nothing compiled before: what each costs beside its
    training."""
    del rounds  # it takes long, and all members together are a mean already
    words = (*DIGITS, *(LEAST if toy else ()))
    count, at_once = (8, 8) if toy else (500, 100)
    pack = Pack(prepare(at_once, "callbacks=none", *words))
    epoch = median(baselines.rotate({"epoch": pack.train}, 5)["epoch"])
    pack.close()
    training = count / at_once * epoch
    with scratch() as cache:
        done = train_sweep(Path(cache), *words, "trainer.epochs=1", f"seed=range({count})")
    if f" {count} " not in done.out:
        raise RuntimeError(f"not all of {count} runs are in the table:\n{done.out}")
    overhead = (done.seconds - training) / count
    return {
        "members": count,
        "seconds": done.seconds,
        "training": training,
        "peak MiB": done.peak_mib,
        "figures": [figure("beside training, a member, milliseconds", 1000 * overhead, 60)],
    }
