"""Whole commands, from the shell: start-up, sweeps, memory, a thousand members."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.baselines import ROOT


@dataclass(frozen=True)
class Done:
    """A finished command: wall seconds, peak memory in MiB, what it printed to stdout."""

    seconds: float
    peak_mib: float
    out: str


def train(*words: str, cache: Path | None = None) -> Done:
    """`python train.py <words>`.

    Args:
        words: overrides.
        cache: the user's cache folder, where compiled programs are kept; by default the real one.

    Raises:
        RuntimeError: it did not exit with 0.
    """
    env = dict(os.environ) | ({"XDG_CACHE_HOME": str(cache)} if cache else {})
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


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="actsweep-benchmark-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
        return float((folder / "first").read_text())


def sweep(cache: Path, words: Sequence[str]) -> Done:
    """A sweep into an empty folder."""
    with scratch() as folder:
        return train("-m", *words, f"paths.outputs={folder}", cache=cache)
