"""A small sweep in real processes, to be killed; and all that must be the same at its end."""

import contextlib
import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from actsweep.loggers import wandb_log
from actsweep.runs import checkpoint, run_dir
from actsweep.runs.metrics_file import read_histograms, read_metrics
from actsweep.runs.run_dir import RunDir

Before = Callable[[], None]
Outcome = Callable[[str, str], None]
"""The fixture `outcome`: called with the fault that a test made and what came of it."""

ROOT = Path(__file__).parents[2]
WORDS = (
    *("act=relu,tanh", "seed=0,1,2", "data=digits", "data.val_size=300", "depth=2"),
    *("depth.width=16", "trainer.epochs=3", "trainer.batch_size=64", "trainer.chunk_steps=6"),
    *("trainer.patience=null", "logger.console=false"),
)
ONE_PACK = ("act=relu", *WORDS[1:], "logger=disabled")
"""The first half of the same runs."""
RUNS = 6
ENDINGS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP)
FORKS = multiprocessing.get_context("forkserver")
# A process that has imported what a sweep needs, but hasn't touched a device, is forked for each.
FORKS.set_forkserver_preload(
    [
        *("hydra.main", "hydra_plugins.actsweep_pack.sweeper", "joblib", "orbax.checkpoint.v1"),
        *("requests", "rich.table", "wandb", "wandb.sdk.wandb_init"),
        *("actsweep.launch.finish", "actsweep.loggers.wandb_writer", "actsweep.train.pack"),
    ]
)


def main(folder: Path, words: tuple[str, ...], log: Path, before: Sequence[Before]) -> None:
    """What such a process does: `python train.py -m …`, with outputs in `folder`."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.chdir(ROOT)
    for change in before:
        change()
    sys.argv = ["train.py", "-m", *words, f"paths.outputs={folder}"]
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")


@dataclass(frozen=True)
class Gate:
    """Where a sweep's process waits, after so many chunks of its training, until it is opened."""

    path: Path
    chunks: int

    def __call__(self) -> None:
        """In that process: put the gate up."""
        from actsweep.train.active_set import ActiveSet

        left, advance = [self.chunks], ActiveSet.advance

        def then(*arguments: Any) -> Any:
            readings = advance(*arguments)
            left[0] -= 1
            if left[0] == 0:
                self._file("reached").touch()
                wait_for(self._file("open").exists)
            return readings

        ActiveSet.advance = then  # type: ignore[method-assign]

    def wait(self) -> None:
        """Until the process has come to the gate."""
        wait_for(self._file("reached").exists)

    def open(self) -> None:
        """Let it go on."""
        self._file("open").touch()

    def _file(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.name}-{name}")


@contextlib.contextmanager
def sweep(
    folder: Path,
    *words: str,
    base: tuple[str, ...] = WORDS,
    log: Path | None = None,
    before: Sequence[Before] = (),
) -> Iterator[BaseProcess]:
    """A sweep that has been started; killed, at the latest, when the block is left.

    Args:
        folder: its `paths.outputs`.
        words: what is typed after `base`.
        base: the sweep's words.
        log: what it prints; in its folder by default.
        before: functions that the process calls before it starts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arguments = (folder, (*base, *words), log or folder / "log.txt", before)
    process = FORKS.Process(target=main, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def complete(folder: Path, *words: str, seconds: float = 120.0, **how: Any) -> int | None:
    """Run a sweep to its end; its exit code."""
    with sweep(folder, *words, **how) as process:
        process.join(seconds)
        return process.exitcode


def runs(folder: Path) -> list[RunDir]:
    """Every run in an output folder."""
    return [RunDir(folder, path.name) for path in sorted((folder / "runs").glob("*"))]


def left(run: RunDir) -> dict[str, Any]:
    """All that must be the same whatever happened on the way."""
    (step,) = checkpoint.steps(run.checkpoints)
    flat, about = checkpoint.load(run.checkpoints, step)
    summary = run_dir.read_summary(run) or {}
    series = read_histograms(run.histograms)
    return {
        "run": run.run_id,
        "step": step,
        "parameters": {name: value.tobytes() for name, value in flat.items()},
        "about": {key: value for key, value in about.items() if key != "seconds"},
        "summary": {key: value for key, value in summary.items() if key != "seconds"},
        "metrics": run.metrics.read_bytes(),
        "histograms": {name: (s.counts.tobytes(), s.steps.tobytes()) for name, s in series.items()},
        "status": (run_dir.read_status(run) or {}).get("state"),
    }


def w_and_b(run: RunDir) -> list[int]:
    """The steps in W&B's files, those of all attempts; wandb-core writes the last when the process
    has ended."""

    def steps() -> list[int]:
        (name,) = wandb_log.ids(run.wandb)
        files = wandb_log.fragments(run.wandb, name)
        return [step for file in files for step in wandb_log.read(file).steps]

    wanted = read_metrics(run.metrics)["step"].tolist()
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: steps() == wanted, 5.0)
    return steps()


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    """Until `condition()` holds.

    Raises:
        TimeoutError: it never did.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


def last_steps(folder: Path) -> dict[str, int]:
    """The last step on disk of every run."""
    found = {}
    for path in (folder / "runs").glob("*/metrics.jsonl"):
        lines = path.read_bytes().split(b"\n")[:-1]
        if lines:
            found[path.parent.name] = json.loads(lines[-1])["step"]
    return found
