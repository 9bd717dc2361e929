"""A pack in the product's own hands, one epoch at a time, so that it can be timed in rotation."""

import dataclasses
import tempfile
import threading
import time
from collections.abc import Mapping
from typing import Any

import jax
from hydra import compose, initialize_config_dir

from actsweep.config import resolve, schema
from actsweep.loggers import wandb_support
from actsweep.loggers.base import Writers
from actsweep.loggers.wandb_writer import WandbWriter
from actsweep.runs import run_dir
from actsweep.runs.members import Member, make_member, make_pack
from actsweep.runs.metrics_file import MetricsFile
from actsweep.runs.run_dir import RunDir
from actsweep.runtime.distributed import ProcessGroup
from actsweep.train import pack
from actsweep.train.active_set import ActiveSet
from actsweep.train.metric_log import MetricLog
from actsweep.train.schedule import Chunk, due_at, plan
from actsweep.train.setup import PreparedPack
from actsweep.train.types import ChunkReadings
from benchmarks.baselines import ROOT

ENDLESS = ("trainer.epochs=1000", "trainer.patience=null")
DIGITS = ("data=digits", "trainer.batch_size=256")
TOY = (*DIGITS, "depth.widths=[16,16]")


def composed(*overrides: str) -> schema.RunConfig:
    """The resolved config of a command line."""
    resolve.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return resolve.resolve(compose("config", overrides=list(overrides)))


def prepare(size: int, *overrides: str, first_seed: int = 0) -> PreparedPack:
    """Members that differ in their seed, compiled as the product does it.

    Args:
        size: how many.
        overrides: of all of them.
        first_seed: the first one's; the others follow.

    Raises:
        RuntimeError: the machine's memory or open files don't allow so many at once.
    """
    first = composed(*ENDLESS, *overrides)
    runs = [make_member(dataclasses.replace(first, seed=first_seed + i)) for i in range(size)]
    prepared = pack.set_up(make_pack(runs))
    if prepared.memory.population.size < size:
        raise RuntimeError(f"{size} members don't fit at once: {prepared.memory.limit}")
    return prepared


class Pack:
    """Members of a prepared pack, trained without end.

    Args:
        prepared: compiled programs and data; several packs may share them.
        logged: rows go to metrics files and to W&B offline, in a temporary folder.

    Attributes:
        folders: those of the members' rows, if they are logged; they go when it is closed.
    """

    def __init__(self, prepared: PreparedPack, *, logged: bool = False) -> None:
        self.prepared, self.callbacks = prepared, prepared.callbacks
        trainer, examples = prepared.pack.static.trainer, prepared.data
        self.size = len(prepared.pack.members)
        self.steps = len(examples.train_x) // trainer.batch_size
        memory, seeds = prepared.memory, prepared.pack.order_seeds
        one_epoch = dataclasses.replace(trainer, epochs=1)
        self.chunks = plan(one_epoch, len(examples.train_x), self.callbacks)
        longest = max(chunk.n for chunk in self.chunks)
        # Between two epochs of a pack others are timed. To the product, which learns from call to
        # call how long a step takes, that looks like slow steps, and it would divide its chunks.
        undivided = dataclasses.replace(trainer, grace_s=1e9)
        self.active_set = ActiveSet(
            memory.population, memory.sets, examples, undivided, seeds, longest, ProcessGroup()
        )
        self.wandb = WandbWriter("offline", {"project": "benchmark"}) if logged else None
        self.log = MetricLog(self.size, self.callbacks, self._open_writers())
        self._epochs = 0

    def _open_writers(self) -> Writers:
        self._folder = tempfile.TemporaryDirectory(prefix="actsweep-benchmark-")
        self.folders: list[RunDir] = []
        if self.wandb is None:
            return Writers([])
        members = [self._in_folder(member) for member in self.prepared.pack.members]
        infos = [member.info("benchmark") for member in members]
        self.folders = [member.dir for member in members]
        for folder, member in zip(self.folders, members, strict=True):
            run_dir.prepare(folder, resolve.to_dict(member.config))
        # Several packs are open here: their threads must not be the first to import it, at once.
        wandb_support.import_wandb()
        writers = Writers([MetricsFile(), self.wandb])
        writers.open(infos)
        return writers

    def _in_folder(self, member: Member) -> Member:
        paths = dataclasses.replace(member.config.paths, outputs=self._folder.name)
        return make_member(dataclasses.replace(member.config, paths=paths))

    def train(self) -> None:
        """One epoch of training, as the chunks come; neither validation nor probes."""
        for now in self._chunks_of_epoch(evaluate=False, probe=False):
            self._advance(now)
            self.active_set.measure(now)
        jax.block_until_ready(self.active_set.state)

    def train_and_probe(self) -> None:
        """One epoch with everything that the callbacks do, its rows written."""
        self._observed(evaluate=False)

    def everything(self) -> None:
        """One epoch with validation, too."""
        self._observed(evaluate=True)

    def _observed(self, *, evaluate: bool) -> None:
        for now in self._chunks_of_epoch(evaluate=evaluate, probe=True):
            self._advance(now)
            self._log(now, self.active_set.measure(now))
        jax.block_until_ready(self.active_set.state)
        self.log.catch_up()
        self._wait_for_wandb()

    def in_parts(self) -> dict[str, float]:
        """Seconds of an epoch's training, probes and rows, each waited for before the next."""
        clock = time.perf_counter
        spent = {"training": 0.0, "probes": 0.0, "rows": 0.0}
        for now in self._chunks_of_epoch(evaluate=False, probe=True):
            began = clock()
            self._advance(now)
            jax.block_until_ready(self.active_set.state)
            trained = clock()
            parts = jax.block_until_ready(self.active_set.measure(now))
            probed = clock()
            self._log(now, parts)
            self.log.catch_up()
            self._wait_for_wandb()
            spent["training"] += trained - began
            spent["probes"] += probed - trained
            spent["rows"] += clock() - probed
        return spent

    def _log(self, chunk: Chunk, parts: list[Mapping[str, Any]]) -> None:
        epoch = chunk.end / self.steps
        self.log.put(ChunkReadings(chunk.end, epoch, parts, self.active_set.rows))

    def _chunks_of_epoch(self, *, evaluate: bool, probe: bool) -> list[Chunk]:
        first = self._epochs * self.steps
        self._epochs += 1
        return [
            Chunk(
                first + chunk.first,
                chunk.n,
                self._epochs,
                chunk.ends_epoch and evaluate,
                due_at(self.callbacks, first + chunk.end, self.steps) if probe else (),
            )
            for chunk in self.chunks
        ]

    def _advance(self, chunk: Chunk) -> None:
        for _ in self.active_set.advance(chunk, chunk.first):
            pass

    def _wait_for_wandb(self) -> None:
        """Wait until W&B has been told everything: its work belongs to this epoch."""
        if self.wandb is not None:
            told = threading.Event()
            self.wandb._put(told.set)
            told.wait()

    def end_members(self, count: int, *, repack: bool = False) -> None:
        """End the training of the first `count` members; `repack` makes room of their rows.

        Raises:
            RuntimeError: too many are left for the rest to be repacked.
        """
        ended = set(range(count))
        self.active_set.stop(ended)
        if repack and not self.active_set.repack(ended):
            raise RuntimeError(f"{count} of {self.size} have ended, which are too few to repack")

    def close(self) -> None:
        """End W&B, remove the files.

        Raises:
            RuntimeError: W&B didn't take every row, so the times are those of something else.
        """
        self.active_set.close()
        self.log.writers.close()
        self._folder.cleanup()
        if self.wandb is not None and self.wandb.lost_rows:
            raise RuntimeError(f"W&B lacks {self.wandb.lost_rows} rows of this pack")
