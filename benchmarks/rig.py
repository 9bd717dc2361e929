"""A pack in the product's own hands, one epoch at a time, so that it can be timed in rotation."""

import dataclasses
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from hydra import compose, initialize_config_dir

from actsweep import callbacks, data
from actsweep.config import identity, resolve, schema
from actsweep.data import Dataset
from actsweep.loggers.base import Writers
from actsweep.loggers.wandb_writer import WandbWriter
from actsweep.runs.metrics_file import MetricsFile
from actsweep.train.active_set import ActiveSet
from actsweep.train.memory import GIB, MemoryPlan, plan_memory
from actsweep.train.metric_log import MetricLog
from actsweep.train.pack import RunDir, _info, task_of
from actsweep.train.population import Population
from actsweep.train.schedule import Chunk, due_at, plan
from actsweep.train.types import ChunkReadings, SweepContext

__all__ = ["GIB", "Pack", "composed", "fashion", "fitted", "median"]

CONF = Path(__file__).parents[1] / "conf"
ENDLESS = ("trainer.epochs=100000", "trainer.patience=null")


def composed(*overrides: str) -> schema.RunConfig:
    """The resolved config of a command line."""
    resolve.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return resolve.resolve(compose("config", overrides=list(overrides)))


def fashion() -> Dataset:
    """FashionMNIST, in memory."""
    return data.load(composed().data, lambda *said: None)


class Pack:
    """Members that differ in their seed, trained without end.

    Args:
        size: members.
        overrides: as one types them.
        logged: rows go to metrics files and to W&B offline, in a temporary folder.
        examples: the data; FashionMNIST by default.
    """

    def __init__(
        self,
        size: int,
        *overrides: str,
        logged: bool = False,
        examples: Dataset | None = None,
    ) -> None:
        one = composed(*ENDLESS, *overrides)
        runs = [identity.member(dataclasses.replace(one, seed=seed)) for seed in range(size)]
        self.pack = identity.expand(runs)
        self.data = examples or data.load(one.data, lambda *said: None)
        self.looks = callbacks.build(one.callbacks)
        self.trainer, self.size = one.trainer, size
        self.steps = len(self.data.train_x) // one.trainer.batch_size
        task = task_of(self.pack.static, self.data)
        self.population = Population(self.pack.static, task, identity.stack(self.pack), self.looks)
        sets = self.population.place_sets(self.data, one.trainer, stream=False)
        short = dataclasses.replace(one.trainer, epochs=1)
        self.chunks = plan(short, len(self.data.train_x), self.looks)
        longest = max(chunk.n for chunk in self.chunks)
        self.active_set = ActiveSet(
            self.population, sets, self.data, one.trainer, self.pack.seeds, longest
        )
        self.log = MetricLog(size, self.looks, self._writers(logged))
        self.epoch = 0

    def _writers(self, logged: bool) -> Writers:
        self.wandb = WandbWriter("offline", "benchmark") if logged is True else None
        writers = Writers([MetricsFile(), *([self.wandb] if self.wandb else [])] if logged else [])
        self._folder = tempfile.TemporaryDirectory(prefix="actsweep-benchmark-")
        if logged:
            infos = []
            for member in self.pack.members:
                folder = RunDir(Path(self._folder.name), member.run_id)
                folder.path.mkdir(parents=True)
                infos.append(_info(member, folder, SweepContext("benchmark")))
            writers.open(infos)
        return writers

    def train(self) -> None:
        """One epoch of training, as the chunks come; neither validation nor probes."""
        self._epoch(evaluate=False, probe=False)

    def train_and_probe(self) -> None:
        """One epoch with everything that the callbacks do, its rows written."""
        self._epoch(evaluate=False, probe=True)

    def everything(self) -> None:
        """One epoch with validation, too."""
        self._epoch(evaluate=True, probe=True)

    def _epoch(self, *, evaluate: bool, probe: bool) -> None:
        first = self.epoch * self.steps
        for chunk in self.chunks:
            end = first + chunk.end
            now = Chunk(
                first + chunk.first,
                chunk.n,
                self.epoch + 1,
                chunk.ends_epoch and evaluate,
                due_at(self.looks, end, self.steps) if probe else (),
            )
            for _ in self.active_set.advance(now, now.first):
                pass
            parts = self.active_set.look(now)
            if probe:
                self.log.put(ChunkReadings(end, end / self.steps, parts, self.active_set.rows))
        self.epoch += 1
        jax.block_until_ready(self.active_set.state)
        if probe:
            self.log.catch_up()
            self._drain()

    def _drain(self) -> None:
        """Wait until W&B has been told everything: its work belongs to this epoch."""
        while self.wandb is not None and self.wandb._queue.qsize():
            time.sleep(0.001)

    def stop(self, count: int) -> None:
        """End the training of so many members."""
        self.active_set.stop(set(range(count)))

    def close(self) -> None:
        """End W&B, remove the files."""
        self.active_set.close()
        self.log.writers.close()
        self._folder.cleanup()


def fitted(size: int, *overrides: str) -> MemoryPlan:
    """What `pack.size=auto` measures for so many members."""
    one = composed(*overrides)
    runs = [identity.member(dataclasses.replace(one, seed=seed)) for seed in range(size)]
    pack = identity.expand(runs)
    examples = data.load(one.data, lambda *said: None)
    task = task_of(pack.static, examples)
    looks = callbacks.build(one.callbacks)
    return plan_memory(pack.static, task, identity.stack(pack), looks, examples, size)


def median(values: list[float]) -> float:
    """The median, as a plain float."""
    return float(np.median(values))
