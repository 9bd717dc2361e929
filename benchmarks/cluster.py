"""What SLURM adds, on a private cluster here. Needs what tests/slurm_cluster.py needs.

Seconds from the command that submits to the first training step; from a job of higher priority,
which takes no time itself, to the next step of the job that it displaced; and what a task of an
array costs beside the same pack in one process, where one comes after another. At last a training
of two processes with a device each beside one process with two: all that they agree on, and the
gathering of what is logged.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import slurm_cluster
from slurm_cluster import Cluster

from benchmarks.baselines import ROOT
from benchmarks.harness import Result, figure, median, ratio
from benchmarks.shell import scratch

SMALL = (
    "data=digits",
    "trainer.batch_size=256",
    "depth.widths=[8]",
    "callbacks=light",
    "logger=disabled",
    "trainer.patience=null",
)
SLURM = ("hydra/launcher=slurm", "slurm.gpus=0", "slurm.cpus=1")


def train(own: Cluster, outputs: Path, *words: str) -> float:
    """Seconds that train.py takes with these words."""
    given = ["train.py", "-m", *SMALL, f"paths.outputs={outputs}", *words]
    began = time.monotonic()
    subprocess.run([sys.executable, *given], cwd=ROOT, env=own.env, check=True, capture_output=True)
    return time.monotonic() - began


def until(ready: Callable[[], bool], seconds: float = 120) -> float:
    """Seconds until something is so."""
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > seconds:
            raise TimeoutError
        time.sleep(0.02)
    return time.monotonic() - began


def rows(outputs: Path) -> int:
    """Rows that the runs of a folder have written."""
    return sum(file.read_bytes().count(b"\n") for file in outputs.glob("runs/*/metrics.jsonl"))


def first_step(own: Cluster, folder: Path) -> tuple[float, float, float]:
    """Seconds of the submitting command, from its start to the first step, and from a preemption to
    the next."""
    endless = ("act=relu", "trainer.epochs=100000", "trainer.save_every_s=1", "slurm.wait=false")
    began = time.monotonic()
    submitted = train(own, folder, *endless, *SLURM)
    until(lambda: rows(folder) > 1)
    first = time.monotonic() - began
    urgent = ("-p", "urgent", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "true")
    own.ask("sbatch", *urgent)
    status = next(folder.glob("runs/*/status.json"))
    preempted = until(lambda: '"preempted"' in status.read_text())
    before = rows(folder)
    again = preempted + until(lambda: rows(folder) > before)
    own.ask("scancel", "--me")
    until(lambda: not own.ask("squeue", "-h"))
    return submitted, first, again


def several(folder: Path, processes: int, epochs: int) -> float:
    """Seconds of training that so many processes need for a pack, on two devices in all."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
    swept = ("act=relu", "seed=0,1", f"trainer.epochs={epochs}", f"paths.outputs={folder}")
    flags = f"--xla_force_host_platform_device_count={2 // processes}"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "train.py", "-m", *SMALL, *swept]
    asked = [f"trainer.distributed={at}", f"trainer.processes={processes}"]
    several = [[*command, *asked, f"trainer.process={rank}"] for rank in range(processes)]
    started = [
        subprocess.Popen(
            own, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for own in (several if processes > 1 else [command])
    ]
    codes = [process.wait() for process in started]
    if any(codes):
        raise RuntimeError(f"{processes} processes ended with {codes}")
    return sum(json.loads(f.read_text())["seconds"] for f in folder.glob("runs/*/summary.json"))


def cluster(rounds: int, toy: bool) -> Result:
    """What SLURM and a second process add, in seconds and as a ratio."""
    tasks, epochs = (2, 20) if toy else (6, 300)
    keys = ("submit", "first", "again", "task", "one process", "two processes")
    took: dict[str, list[float]] = {key: [] for key in keys}
    with slurm_cluster.cluster(nodes=2) as own, scratch() as folder:
        at = Path(folder)
        own.env.update(JAX_COMPILATION_CACHE_DIR=str(at / "cache"), JAX_PLATFORMS="cpu")
        swept = ("act=relu", f"seed=range(0,{tasks})", "pack.size=1", "trainer.epochs=2")
        train(own, at / "warm", *swept)
        for number in range(rounds):
            times = first_step(own, at / f"steps-{number}")
            for key, value in zip(("submit", "first", "again"), times, strict=True):
                took[key].append(value)
            one = train(own, at / f"one-{number}", *swept)
            array = train(own, at / f"array-{number}", *swept, *SLURM, "slurm.max_parallel=1")
            took["task"].append((array - one) / tasks)
            for count, name in ((1, "one process"), (2, "two processes")):
                took[name].append(several(at / f"{name}-{number}", count, epochs))
    return {
        "rounds": took,
        "figures": [
            figure("submitting command, seconds", median(took["submit"])),
            figure("from submit to the first step, seconds", median(took["first"])),
            figure("from preemption to the next step, seconds", median(took["again"])),
            figure("a task beside a pack in one process, seconds", median(took["task"])),
            ratio("two processes / one", took["two processes"], took["one process"]),
        ],
    }
