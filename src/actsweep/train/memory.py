"""Number of members that train at once: measured by compiling, against the devices' memory."""

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax.sharding import NamedSharding, PartitionSpec

from actsweep.callbacks.base import Callback
from actsweep.config.schema import RunConfig
from actsweep.data import Dataset
from actsweep.nn.network import Task
from actsweep.runtime.distributed import ProcessGroup
from actsweep.train import programs
from actsweep.train.population import BATCHES, MEMBER, SHARED, Population, Sets
from actsweep.train.schedule import due_at, longest_call, plan
from actsweep.train.types import COUNT_SLICE, Examples, Span

ACCELERATOR_SHARE = 0.9
HOST_SHARE = 0.5  # the rest is for checkpoints' copy of the state, W&B, and other programs
GIB = 2**30


@dataclass(frozen=True)
class MemoryPlan:
    """A compiled population that fits, the data on its devices, and the memory measured.

    `need` and `room` are bytes on each device, `need` with the data. `limit` says in words why
    not all members of a pack train at once.
    """

    population: Population
    sets: Sets
    need: int
    room: int
    limit: str

    def parts(self, members: int) -> list[slice]:
        """Divide so many members evenly; return cohorts of at most the population's size."""
        cohorts = math.ceil(members / self.population.size)
        edges = [members * i // cohorts for i in range(cohorts + 1)]
        return [slice(low, high) for low, high in itertools.pairwise(edges)]


def plan_memory(
    config: RunConfig,
    task: Task,
    hparams: Mapping[str, np.ndarray],
    callbacks: Mapping[str, Callback],
    data: Dataset,
    most: int,
    group: ProcessGroup | None = None,
    *,
    estimate: bool = False,
    keep: bool = False,
) -> MemoryPlan:
    """Compile the largest population of these members that fits; return it with its memory.

    Args:
        config, task, hparams, callbacks: as for `Population`.
        data: the examples, on the host.
        most: members at once that the limit on open files allows.
        group: the processes that train distributed; the coordinator's measurement counts.
        estimate: compile once; if that doesn't fit, return the population that should.
        keep: whether to use, and leave, compiled programs on disk.
    """
    group = group or ProcessGroup()
    members = len(hparams["seed"])
    cohorts, limit = math.ceil(members / most), "the limit on open files (ulimit -n) allows no more"
    while True:
        size = math.ceil(members / cohorts)
        first = {key: value[:size] for key, value in hparams.items()}
        population = Population(config, task, first, callbacks)
        room = _room(population.mesh.local_devices[0], len(population.mesh.local_devices))
        sets = population.place_sets(data, config.trainer, stream=config.data.stream)
        shared = _bytes(sets, SHARED, population)
        needed = compile_all(population, sets, config, data, callbacks, keep=keep)
        room, shared, needed = group.broadcast([room, shared, needed])
        if shared + needed <= room or size == 1:
            return MemoryPlan(population, sets, shared + needed, room, limit)
        limit = (
            f"{size} need {(shared + needed) / GIB:.2f} GiB of the {room / GIB:.2f} GiB that may "
            "be used on a device"
        )
        # Memory is linear in the members: try the size that should fit; add at least one cohort.
        fitting = max(1, int(size * max(0, room - shared) / needed))
        cohorts = max(cohorts + 1, math.ceil(members / fitting))
        if estimate:
            fewer = math.ceil(members / cohorts)
            first = {key: value[:fewer] for key, value in hparams.items()}
            need = shared + needed * fewer // size
            return MemoryPlan(Population(config, task, first, callbacks), sets, need, room, limit)


def compile_all(
    population: Population,
    sets: Sets,
    config: RunConfig,
    data: Dataset,
    callbacks: Mapping[str, Callback],
    *,
    keep: bool = False,
) -> int:
    """Compile all programs of training in parallel; return the bytes needed on each device.

    These are the bytes of the members' states and batches, and the most that one of the programs
    needs in addition while it runs. The data aren't included.

    Args:
        keep: whether to use, and leave, compiled programs on disk.
    """
    batches = _batches(population, config, data, callbacks)
    key, kept = "", None
    if keep:
        train = jax.ShapeDtypeStruct(data.train_x.shape, data.train_x.dtype)
        arguments = (population.hparams, population.real, sets, batches, train)
        key = programs.key_of(config, population.task, population.how, callbacks, arguments)
        kept = programs.load(key, [*population.mesh.devices.flat])
        population.use(kept)
    state = _abstract(population.state_shapes(), MEMBER, population)
    calls = _calls(population, sets, state, batches, config, data, callbacks)
    pool = ThreadPoolExecutor(os.cpu_count())  # XLA releases the interpreter lock
    try:
        compiling = {}
        for name, args in calls:
            program = population.program(*name)
            if not program.has(*args):
                future = pool.submit(programs.compile_lowered, program.lower(*args))
                compiling[name, programs.shapes_of(*args)] = future
        compiled = {which: future.result() for which, future in compiling.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # a signal mustn't wait for the rest
    if kept:
        return kept.need
    need = _need(population, state, batches, [program for program, _ in compiled.values()])
    programs.save(key, need, state, {k: program for k, (program, new) in compiled.items() if new})
    return need


def _need(population: Population, state: Any, batches: Any, compiled: Iterable[Any]) -> int:
    stats = [program.memory_analysis() for program in compiled]
    working = max(
        s.temp_size_in_bytes + max(0, s.output_size_in_bytes - s.alias_size_in_bytes)
        for s in stats
        if s is not None
    )
    lasting = _bytes((state, population.hparams), MEMBER, population)
    return lasting + 2 * _bytes(batches, BATCHES, population) + working


def _calls(
    population: Population,
    sets: Sets,
    state: Any,
    batches: Any,
    config: RunConfig,
    data: Dataset,
    callbacks: Mapping[str, Callback],
) -> Iterator[tuple[tuple, tuple]]:
    """Yield every program's name (`Population.program`) with its arguments or their shapes.

    The slowest to compile comes first.
    """
    p, number = population, jax.ShapeDtypeStruct((), jnp.int32)
    for due in _dues(config, data, callbacks):
        yield ("probe_of", due), (state, p.hparams, sets.probed, number)
    yield ("train_chunk",), (state, p.hparams, batches, sets.train, Span(*[number] * 4))
    yield ("draw",), (p.hparams, p.real, p.scaled_by(sets))
    if any(callback.count for callback in callbacks.values()):
        for n in {min(COUNT_SLICE, len(data.train_x)), len(data.train_x) % COUNT_SLICE} - {0}:
            x = jax.ShapeDtypeStruct((n, *data.train_x.shape[1:]), data.train_x.dtype)
            x = _abstract(x, SHARED, p)
            sums = _abstract(
                jax.eval_shape(p.no_counts.jitted, state.params, state.held, x), MEMBER, p
            )
            yield ("counted",), (state.params, state.held, p.real, sums, x)
            yield ("no_counts",), (state.params, state.held, x)
        yield ("conclude_of", len(data.train_x)), (sums,)
    yield ("evaluate",), (state, sets.val, number)
    for examples in {part.x.shape: part for part in (sets.val, sets.test)}.values():
        yield ("scored",), (state.params, state.held, p.real, examples)


def _dues(
    config: RunConfig, data: Dataset, callbacks: Mapping[str, Callback]
) -> Iterable[tuple[str, ...]]:
    """Return every set of callbacks whose probes are ever due at the same step."""
    chunks = plan(config.trainer, len(data.train_x), callbacks)
    due_sets = {due_at(callbacks, 0, 1), *(chunk.due for chunk in chunks)}
    return sorted(due_sets - {()}, key=len, reverse=True)


def _batches(
    population: Population, config: RunConfig, data: Dataset, callbacks: Mapping[str, Callback]
) -> Any:
    """Return the shapes of a chunk's batches, as `Feed.chunk` makes them."""
    chunks = plan(config.trainer, len(data.train_x), callbacks)
    rows, batch, streamed = population.padded, config.trainer.batch_size, config.data.stream
    longest = longest_call(chunks, data, batch, rows, streamed=bool(streamed))
    shape = (rows, longest, batch)
    ids = jax.ShapeDtypeStruct(shape, jnp.int32)
    if not config.data.stream:
        return _abstract(ids, BATCHES, population)
    x: Any = jax.ShapeDtypeStruct(shape + data.train_x.shape[1:], data.train_x.dtype)
    y: Any = jax.ShapeDtypeStruct(shape + data.train_y.shape[1:], data.train_y.dtype)
    return _abstract(Examples(x, y), BATCHES, population)


def _abstract(tree: Any, spec: PartitionSpec, population: Population) -> Any:
    """Return the shapes of a tree, placed on the devices as `spec` says."""
    where = NamedSharding(population.mesh, spec)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree
    )


def _bytes(tree: Any, spec: PartitionSpec, population: Population) -> int:
    """Return the bytes on each device of a tree that is placed as `spec` says."""
    where = NamedSharding(population.mesh, spec)
    return sum(
        math.prod(where.shard_shape(leaf.shape)) * jnp.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    )


def _room(device: jax.Device, devices: int) -> int:
    """Return the bytes that may be used on each of so many devices like this one."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(ACCELERATOR_SHARE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    return int(HOST_SHARE * _host_memory() / devices)


def _host_memory() -> int:
    """Return the bytes of main memory free for this process, in its machine or its cgroup."""
    free = psutil.virtual_memory().available
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such cgroup, or "max"
            continue
    return max(0, free)
