"""Lifts the functions of one member over a pack, places them on devices and compiles them."""

import contextlib
import functools
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from actsweep import step
from actsweep.callbacks.base import Callback
from actsweep.config import RunConfig
from actsweep.errors import bad_value
from actsweep.network import Task
from actsweep.step import Examples, State

CACHE_BYTES = 2**30
# For what runs once: compile fast rather than well. (Level 0 isn't bitwise the same in any pack.)
ONCE = {"xla_backend_optimization_level": 1}
MEMBER, SHARED, BATCHES = P("member"), P(), P("member", None, "data")


def set_up_devices() -> None:
    """One JAX device a CPU core, and compiled programs kept in the user's cache folder.

    Must come before anything else touches jax; where the backend has started already, its devices
    stay as they are. `XLA_FLAGS` and `JAX_COMPILATION_CACHE_DIR` of the environment win.
    """
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        with contextlib.suppress(RuntimeError):  # the backend has started
            jax.config.update("jax_num_cpu_devices", cores or 1)
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation")
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "actsweep" / "xla"))
        jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def make_mesh(members: int, data: int, how: str, devices: Sequence[jax.Device]) -> Mesh:
    """The devices as a grid: members first (they never talk to each other), then `data`.

    Args:
        members: size of the pack.
        data: devices that share one member's batch (`trainer.mesh.data`).
        how: `map` or `vmap`. Under `map` even a single member gets a grid of two rows where there
            are two devices: XLA compiles programs for one device otherwise, by an ulp, and a
            member's numbers must not depend on its company.
        devices: those to use.

    Raises:
        UserError: there are fewer than `data` devices.
    """
    if data > len(devices):
        raise bad_value(
            "trainer.mesh.data",
            data,
            f"at most {len(devices)}, the number of devices",
            "trainer.mesh.data=1",
        )
    rows = min(max(members, 2) if how == "map" else members, len(devices) // data)
    return Mesh(np.asarray(devices[: rows * data]).reshape(rows, data), ("member", "data"))


class Population:
    """The functions of `step`, over a leading member axis.

    A pack that doesn't divide among the devices is padded with members that are born stopped.
    Compiled functions are kept, so that packs of the same program compile once.
    """

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        hparams: Mapping[str, np.ndarray],
        callbacks: Mapping[str, Callback],
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        self.size = len(hparams["seed"])
        self.how = choose_lift(config.pack.lift)
        grid = devices or jax.devices()
        self.mesh = make_mesh(self.size, config.trainer.mesh.data, self.how, grid)
        rows = self.mesh.shape["member"]
        self.padded = -(-self.size // rows) * rows
        one: dict[str, Any] = {
            key: jax.ShapeDtypeStruct((), value.dtype) for key, value in hparams.items()
        }
        axis = "data" if self.mesh.shape["data"] > 1 else None
        self.one = step.build(config, task, one, callbacks, axis)
        self._compile()
        self.hparams = {key: self.place(self.pad(v)) for key, v in hparams.items()}

    def _compile(self) -> None:
        f, m, s = self.one, MEMBER, SHARED
        self._init = self._lift(f.init, m, m, options=ONCE)
        self.train_chunk = self._lift(f.train_chunk, m, m, BATCHES, s, s, s, donate=True)
        self.evaluate = self._lift(f.evaluate, m, s, s, donate=True)
        self.score = self._lift(f.score, m, m, s)
        self.count = self._lift(f.counts, m, m, s)
        self.add = jax.jit(lambda a, b: jax.tree.map(jnp.add, a, b), donate_argnums=0)
        self._probes: dict[tuple[str, ...], Callable] = {}
        self._conclude: dict[int, Callable] = {}

    def init(self) -> State:
        """Draw every member."""
        return self._init(self.hparams, self.place(np.arange(self.padded) < self.size))

    def probe(self, state: State, batch: Examples, now: Any, due: tuple[str, ...]) -> Any:
        """Readings of the callbacks in `due`, with a leading member axis."""
        if due not in self._probes:
            look = functools.partial(self.one.probe, due=due)
            self._probes[due] = self._lift(look, MEMBER, MEMBER, SHARED, SHARED)
        return self._probes[due](state, self.hparams, batch, now)

    def conclude(self, sums: Any, examples: int) -> Any:
        """Readings from counts that were summed over `examples` examples."""
        if examples not in self._conclude:
            end = functools.partial(self.one.conclude, examples=examples)
            self._conclude[examples] = self._lift(end, MEMBER, options=ONCE)
        return self._conclude[examples](sums)

    def stop(self, state: State, members: set[int]) -> State:
        """End the training of some members from the host."""
        which = self.place(np.isin(np.arange(self.padded), list(members)))
        ended = jnp.where(
            which & (state.outcome == step.ACTIVE), jnp.int32(step.STOPPED), state.outcome
        )
        return state._replace(outcome=ended)

    def pad(self, column: np.ndarray) -> np.ndarray:
        """Repeat the first row until the devices divide the rows."""
        extra = self.padded - self.size
        return np.concatenate([column, np.repeat(column[:1], extra, axis=0)]) if extra else column

    def place(self, tree: Any, spec: P = MEMBER) -> Any:
        """Put host arrays where `spec` says: along members, or shared by all devices."""
        return jax.device_put(tree, NamedSharding(self.mesh, spec))

    def place_batches(self, batches: Any) -> Any:
        """Put a chunk's batches [M, K, B, ...] on the devices of their members."""
        return self.place(jax.tree.map(self.pad, batches), BATCHES)

    def _lift(
        self,
        function: Callable,
        *specs: P,
        donate: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> Callable:
        """`function` of one member, over arguments of which those not SHARED have an axis M."""
        own = [i for i, spec in enumerate(specs) if spec != SHARED]

        def local(*arguments: Any) -> Any:
            def one(mine: list) -> Any:
                filled = list(arguments)
                for i, value in zip(own, mine, strict=True):
                    filled[i] = value
                return function(*filled)

            mine = [arguments[i] for i in own]
            return jax.vmap(one)(mine) if self.how == "vmap" else jax.lax.map(one, mine)

        mapped = jax.shard_map(
            local, mesh=self.mesh, in_specs=specs, out_specs=MEMBER, check_vma=False
        )
        donated = 0 if donate else ()
        return jax.jit(mapped, donate_argnums=donated, compiler_options=dict(options or {}))


def choose_lift(how: str) -> str:
    """`map` (bitwise equal to separate runs) on CPUs, `vmap` (one wide program) on accelerators."""
    if how != "auto":
        return how
    return "map" if jax.default_backend() == "cpu" else "vmap"
