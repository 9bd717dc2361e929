"""A training beside a W&B server that misbehaves.

Every round trains the same small pack once with each server, against a loopback test double in a
process of its own, each beside a training that W&B follows offline. What is compared is the time
from the first training step to the last test score, on the clock and of the processor; how long
the command then takes to say good-bye to W&B stands beside it (W&B gets GOODBYE_SECONDS here
instead of 30).
"""

import dataclasses
import functools
import logging
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

from wandb_server import KEY, WandbServer

from actsweep.loggers import wandb_support
from actsweep.runs.members import make_member
from actsweep.train import cohort, pack
from actsweep.train.types import SweepContext
from benchmarks import rig
from benchmarks.baselines import cores, rotate
from benchmarks.harness import Result, median, ratio
from benchmarks.shell import LEAST, scratch

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

    address = {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": KEY}
    try:
        with mock.patch.dict("os.environ", address):
            yield tell
    finally:
        here.send("end")
        process.join()


class Trainings:
    """Trains one pack over and over; remembers how long the training took, and what came after.

    Attributes:
        seconds: of training, by the name of the server.
        busy: seconds of the processor, wandb-core's apart.
        goodbye: seconds after training.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.busy: dict[str, list[float]] = {}
        self.goodbye: dict[str, list[float]] = {}
        self._words, self._train = words, cohort.loop.train

    def one(self, name: str, mode: str, later: Callable[[], None] | None = None) -> None:
        """One training; `later` happens in the middle of it.

        Raises:
            RuntimeError: a run isn't complete.
        """
        self._name, self._later = name, later
        with scratch() as folder, mock.patch.object(cohort.loop, "train", self._timed):
            own = (f"logger={mode}", "logger.console=false", f"paths.outputs={folder}")
            first = rig.composed(*self._words, *own)
            seeds = range(max(2, cores()))
            runs = [make_member(dataclasses.replace(first, seed=seed)) for seed in seeds]
            results = pack.run_pack(runs, SweepContext("benchmark"))
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
        print(f"  {self._name}: {self._ended - began:.2f} s", file=sys.stderr, flush=True)
        return finished


def faults(rounds: int, toy: bool) -> Result:
    """All servers in rotation; ratios to the training beside each that W&B follows offline."""
    words = ("trainer.epochs=2", *LEAST) if toy else ("trainer.epochs=8",)
    trainings = Trainings(words)
    short = mock.patch.multiple(
        wandb_support, FINISH_SECONDS=GOODBYE_SECONDS, INIT_SECONDS=GOODBYE_SECONDS
    )
    quiet = logging.getLogger("actsweep")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with server() as tell, short:
            names = _in_rotation(trainings, tell, FAULTS[:1] if toy else FAULTS, rounds)
    finally:
        quiet.setLevel(level)
    return {
        "words": words,
        "seconds of training": {name: median(trainings.seconds[name][1:]) for name in names},
        "seconds after it": {name: median(trainings.goodbye[name][1:]) for name in names},
        "rounds": trainings.seconds,
        "figures": [
            *(_beside(name, "", trainings.seconds, 1.03) for name in names),
            *(_beside(name, ", processor", trainings.busy, None) for name in names),
        ],
    }


def _in_rotation(
    trainings: Trainings, tell: Callable[[Any], None], broken: Sequence[Any], rounds: int
) -> list[str]:
    """Train beside each server, each time beside a healthy training; their names."""

    def with_server(name: str, mode: str, first: Any, later: Any) -> None:
        tell("start")
        if first is not None:
            tell(first)
        trainings.one(name, mode, functools.partial(tell, later) if later else None)

    plans: dict[str, tuple[str, Any, Any]] = {
        "disabled": ("disabled", None, None),
        "online": ("online", None, None),
    }
    for fault in broken:
        plans[f"{fault} from the start"] = ("online", fault, None)
        plans[f"{fault} from the middle"] = ("online", None, fault)
    calls: dict[str, Callable[[], None]] = {}
    for name, plan in plans.items():
        calls[name] = functools.partial(with_server, name, *plan)
        beside = f"{HEALTHY} beside {name}"
        calls[beside] = functools.partial(with_server, beside, HEALTHY, None, None)
    rotate(calls, rounds)
    return list(plans)


def _beside(name: str, of: str, took: dict[str, list[float]], limit: float | None) -> Result:
    """The figure of a training by the healthy one beside it; the first round, which compiles,
    aside. Nobody promises that W&B costs nothing, only that a broken server costs no more."""
    healthy = took[f"{HEALTHY} beside {name}"]
    held = None if name == "disabled" else limit
    return ratio(f"{name}{of} / {HEALTHY}", took[name][1:], healthy[1:], held)
