"""A training beside a W&B server that misbehaves: python benchmarks/faults.py --out FILE.json

Every round trains the same small pack once with each server, against a loopback test double in a
process of its own, each beside a training that W&B follows offline. What is compared is the time
from the first training step to the last test score, on the clock and of the processor; how long
the command then takes to say good-bye to W&B stands beside it (W&B gets GOODBYE_SECONDS here
instead of 30). Overrides follow `--`.
"""

import argparse
import dataclasses
import functools
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from wandb_server import KEY, WandbServer

from actsweep.loggers import wandb_support
from actsweep.runtime.devices import set_up_devices
from actsweep.train import pack, types
from benchmarks.baselines import cores, rotate
from benchmarks.rig import composed, median
from benchmarks.speed import machine, show, target

Result = dict[str, Any]
GOODBYE_SECONDS = 2.0
FAULTS = (401, 500, 429, "silent", "close", "down")
HEALTHY = "offline"


def serve(port: int, orders: Connection) -> None:
    """The server's process: starts, breaks and stops as it is told."""
    server = WandbServer()
    server.port = port
    while (order := orders.recv()) != "end":
        if order == "start":
            server.fault, server.runs = None, {}
            server.asked.clear()
            if server.stopped:
                server.start()
        elif order == "down":
            server.stop()
        else:
            server.fault = order
        orders.send("done")


@contextmanager
def server() -> Iterator[Callable[[Any], None]]:
    """A server that wandb is pointed to; what is yielded tells it what to do."""
    port = WandbServer().port
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(port, there))
    process.start()

    def tell(order: Any) -> None:
        here.send(order)
        here.recv()

    os.environ |= {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": KEY}
    try:
        yield tell
    finally:
        here.send("end")
        process.join()


class Trainings:
    """Trains one pack over and over; remembers how long the training took, and what came after."""

    def __init__(self, words: list[str]) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.busy: dict[str, list[float]] = {}
        """Seconds of the processor, wandb-core's apart."""
        self.goodbye: dict[str, list[float]] = {}
        self._words = words
        self._train, pack.loop.train = pack.loop.train, self._timed

    def one(self, name: str, mode: str, later: Callable[[], None] | None = None) -> None:
        """One training; `later` happens in the middle of it."""
        self._name, self._later = name, later
        with tempfile.TemporaryDirectory(prefix="actsweep-benchmark-") as folder:
            own = (f"logger={mode}", "logger.console=false", f"paths.outputs={folder}")
            first = composed(*self._words, *own)
            runs = [dataclasses.replace(first, seed=seed) for seed in range(max(2, cores()))]
            results = pack.run_pack(runs, types.SweepContext("benchmark"))
        if any(result["state"] != "complete" for result in results):
            raise RuntimeError(f"{name}: not every run is complete")
        self.goodbye.setdefault(name, []).append(time.perf_counter() - self._ended)

    def _timed(self, *args: Any, **options: Any) -> Any:
        known = [took for values in self.seconds.values() for took in values]
        timer = threading.Timer(median(known) / 2 if known else 1.0, self._later or (lambda: None))
        timer.start()
        began, busy = time.perf_counter(), time.process_time()
        finished = self._train(*args, **options)
        self._ended = time.perf_counter()
        timer.cancel()
        self.busy.setdefault(self._name, []).append(time.process_time() - busy)
        self.seconds.setdefault(self._name, []).append(self._ended - began)
        print(f"{self._name}: {self._ended - began:.2f} s", file=sys.stderr, flush=True)
        return finished


def measure(words: list[str], rounds: int) -> Result:
    """All servers in rotation; ratios to a training that W&B follows offline."""
    wandb_support.FINISH_SECONDS = wandb_support.INIT_SECONDS = GOODBYE_SECONDS
    trainings = Trainings(words)
    calls: dict[str, Callable[[], None]] = {}
    with server() as tell:

        def add(name: str, mode: str, first: Any = None, later: Any = None) -> None:
            def call() -> None:
                tell("start")
                if first is not None:
                    tell(first)
                trainings.one(name, mode, functools.partial(tell, later) if later else None)

            calls[name] = call

        for mode in ("disabled", "online"):
            add(mode, mode)
        for fault in FAULTS:
            add(f"{fault} from the start", "online", first=fault)
            add(f"{fault} from the middle", "online", later=fault)
        names = list(calls)
        for name in names:
            add(f"{HEALTHY} beside {name}", HEALTHY)
        beside = {one: calls[one] for name in names for one in (name, f"{HEALTHY} beside {name}")}
        rotate(beside, rounds)
    return {
        "words": words,
        "seconds of training": {name: median(trainings.seconds[name][1:]) for name in names},
        "seconds after it": {name: median(trainings.goodbye[name][1:]) for name in names},
        "processor / offline": {name: ratio(trainings.busy, name) for name in names},
        "rounds": trainings.seconds,
        "targets": [
            target(f"{name} / {HEALTHY}", ratio(trainings.seconds, name), 1.03)
            for name in names
            if name != "disabled"
        ],
    }


def ratio(took: dict[str, list[float]], name: str) -> float:
    """The median over the rounds of one training to the offline one beside it; the first round,
    which compiles, aside."""
    pairs = zip(took[name][1:], took[f"{HEALTHY} beside {name}"][1:], strict=True)
    return median([one / other for one, other in pairs])


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("words", nargs="*", default=["trainer.epochs=8"], help="overrides")
    options = parser.parse_args()
    logging.getLogger("actsweep").setLevel(logging.ERROR)
    set_up_devices()
    began = time.perf_counter()
    result = measure(options.words, options.rounds)
    result |= {"machine": machine(), "took": time.perf_counter() - began}
    for name, seconds in result["seconds of training"].items():
        busy, after = result["processor / offline"][name], result["seconds after it"][name]
        print(f"{name:24} {seconds:8.3f} s, processor {busy:6.3f}, then {after:6.2f} s")
    show("faults", result)
    if options.out:
        options.out.write_text(json.dumps({"faults": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
