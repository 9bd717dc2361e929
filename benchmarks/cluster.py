"""What SLURM adds, on a private cluster here: python benchmarks/cluster.py --out FILE.json

Needs what tests/slurm_cluster.py needs. Each figure is the median of several rounds: seconds from
the command that submits to the first training step; from a job of higher priority, which takes no
time itself, to the next step of the job that it displaced; and what a task of an array costs beside
the same pack in one process, where one comes after another. At last a training of two processes
with a device each beside one process with two: all that they agree on, and the gathering of what is
logged.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import slurm_cluster
from slurm_cluster import Cluster

from benchmarks.rig import median
from benchmarks.speed import machine

ROOT = Path(__file__).parents[1]
SMALL = (
    "data=digits",
    "depth.widths=[8]",
    "callbacks=light",
    "logger=disabled",
    "trainer.patience=null",
)
SLURM = ("hydra/launcher=slurm", "slurm.gpus=0", "slurm.cpus=1")
TASKS = 6


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


def several(folder: Path, processes: int) -> float:
    """Seconds of training that so many processes need for a pack, on two devices in all."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
    swept = ("act=relu", "seed=0,1", "trainer.epochs=300", f"paths.outputs={folder}")
    flags = f"--xla_force_host_platform_device_count={2 // processes}"
    given = [sys.executable, "train.py", "-m", *SMALL, *swept]
    asked = [f"trainer.distributed={at}", f"trainer.processes={processes}"]
    commands = [[*given, *asked, f"trainer.process={rank}"] for rank in range(processes)]
    started = [
        subprocess.Popen(
            command if processes > 1 else given,
            cwd=ROOT,
            env={**os.environ, "XLA_FLAGS": flags},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    codes = [process.wait() for process in started]
    assert not any(codes), codes
    return sum(json.loads(f.read_text())["seconds"] for f in folder.glob("runs/*/summary.json"))


def measure(rounds: int) -> dict[str, Any]:
    """All figures."""
    with slurm_cluster.cluster(nodes=2) as own, tempfile.TemporaryDirectory() as folder:
        at, cache = Path(folder), Path(folder) / "cache"
        own.env["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        swept = ("act=relu", f"seed=range(0,{TASKS})", "pack.size=1", "trainer.epochs=2")
        train(own, at / "warm", *swept)
        keys = ("submit", "first", "again", "task", "one process", "two processes")
        found: dict[str, list[float]] = {key: [] for key in keys}
        for turn in range(rounds):
            times = first_step(own, at / f"steps-{turn}")
            for key, value in zip(("submit", "first", "again"), times, strict=True):
                found[key].append(value)
            one = train(own, at / f"one-{turn}", *swept)
            array = train(own, at / f"array-{turn}", *swept, *SLURM, "slurm.max_parallel=1")
            found["task"].append((array - one) / TASKS)
            for count, name in ((1, "one process"), (2, "two processes")):
                found[name].append(several(at / f"{name}-{turn}", count))
    return {
        "submitting command, s": median(found["submit"]),
        "from submit to the first step, s": median(found["first"]),
        "from preemption to the next step, s": median(found["again"]),
        "a task beside a pack in one process, s": median(found["task"]),
        "two processes, by one": median(found["two processes"]) / median(found["one process"]),
        "rounds": found,
    }


def main() -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    result = {"machine": machine(), "cluster": measure(options.rounds)}
    print(json.dumps(result, indent=2))
    for name, value in result["cluster"].items():
        if name != "rounds":
            print(f"{name:45} {value:8.2f}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
