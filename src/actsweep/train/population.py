"""Functions of one member, batched over a pack, placed on devices and compiled."""

import copy
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from actsweep.callbacks.base import Callback
from actsweep.config.schema import RunConfig, TrainerConfig
from actsweep.data import Dataset
from actsweep.nn.network import Task
from actsweep.nn.precision import matrix_products
from actsweep.train import step, types
from actsweep.train.programs import Kept, Program
from actsweep.train.types import Examples, State
from actsweep.utils.errors import bad_value

# For programs that run once: compile fast rather than optimise. (Level 0 gives results that
# differ in the last bits between packs.)
ONCE = {"xla_backend_optimization_level": 1}
IN_ORDER = {"xla_gpu_deterministic_ops": True}
UNTIMED = {"xla_gpu_autotune_level": 0}
WIDE = 32
MEMBER, SHARED, BATCHES = P("member"), P(), P("member", None, "data")


def make_mesh(members: int, data: int, how: str, devices: Sequence[jax.Device]) -> Mesh:
    """Return the devices as a grid: members first (they never communicate), then `data`.

    Args:
        members: size of the pack.
        data: devices that share one member's batch (`trainer.mesh.data`).
        how: `map` or `vmap`. Under `map` even a single member gets a grid of two rows where there
            are two devices: for one device XLA compiles a program whose results differ by an ulp,
            and a member's numbers must not depend on the other members.
        devices: the devices to use.

    In a process group all devices are in the grid, so that each process has a share.

    Raises:
        UserError: there are fewer than `data` devices, or some would be left over.
    """
    several = len({device.process_index for device in devices}) > 1
    if several and len(devices) % data:
        raise bad_value(
            "trainer.mesh.data",
            data,
            f"a divisor of {len(devices)}, the number of devices of all processes",
            "trainer.mesh.data=1",
        )
    if data > len(devices):
        raise bad_value(
            "trainer.mesh.data",
            data,
            f"at most {len(devices)}, the number of devices",
            "trainer.mesh.data=1",
        )
    rows = min(max(members, 2) if how == "map" else members, len(devices) // data)
    if several:
        rows = len(devices) // data
    return Mesh(np.asarray(devices[: rows * data]).reshape(rows, data), ("member", "data"))


class Sets(NamedTuple):
    """Data set on the devices; `train` is None if its batches are streamed from the host."""

    train: Examples | None
    val: Examples
    test: Examples
    probed: Examples


class Population:
    """Functions of `step`, batched over a leading axis of rows, one row per member.

    Rows that hold no member, where the pack doesn't divide evenly among the devices, are padded
    with members that are stopped from the start. `refill` and `compact` keep compiled functions.

    Attributes:
        size: number of members.
        padded: number of rows, a multiple of the devices along `member`.
        rows: each member's row.
        real: bool [padded], on the devices: whether a row holds a member.
    """

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        hparams: Mapping[str, np.ndarray],
        callbacks: Mapping[str, Callback],
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        self.task = task
        self._made_of = (config, task, callbacks, devices)
        self.how = choose_batching(config.pack.batching)
        size, grid = len(hparams["seed"]), devices or jax.devices()
        self.mesh = make_mesh(size, config.trainer.mesh.data, self.how, grid)
        self._precision = config.trainer.precision
        self._several = len({device.process_index for device in self.mesh.devices.flat}) > 1
        self.padded = -(-size // self.devices) * self.devices
        shapes: dict[str, Any] = {
            key: jax.ShapeDtypeStruct((), value.dtype) for key, value in hparams.items()
        }
        axis = "data" if self.mesh.shape["data"] > 1 else None
        self.functions = step.build(config, task, shapes, callbacks, axis)
        self._compile()
        self._assign_rows(hparams, np.arange(size))

    @property
    def devices(self) -> int:
        """Return the number of devices along the member axis."""
        return self.mesh.shape["member"]

    def _compile(self) -> None:
        f, m, s = self.functions, MEMBER, SHARED
        self.draw = self._batched(f.init, m, m, s, options=ONCE)
        self.train_chunk = self._batched(f.train_chunk, m, m, BATCHES, s, s, donate=True)
        self.evaluate = self._batched(f.evaluate, m, s, s, donate=True, wide=WIDE)
        self.scored = self._batched(f.score, m, m, m, s, wide=WIDE)
        self.counted = self._batched(f.counts, m, m, m, m, s, wide=WIDE)
        self.no_counts = self._batched(f.no_counts, m, m, s, options=ONCE)
        whole = NamedSharding(self.mesh, SHARED)
        self._everywhere = jax.jit(lambda tree: tree, out_shardings=whole)
        self._probes: dict[tuple[str, ...], Program] = {}
        self._conclude: dict[int, Program] = {}
        self._state: State | None = None

    def _assign_rows(self, hparams: Mapping[str, np.ndarray], rows: np.ndarray) -> None:
        self.size, self.rows, self._hparams = len(rows), rows, dict(hparams)
        self.hparams = {key: self.place(self.pad(v)) for key, v in hparams.items()}
        self.real = self.place(np.isin(np.arange(self.padded), rows))

    def refill(self, hparams: Mapping[str, np.ndarray]) -> "Population":
        """Return a population of other members, at most as many, with these compiled functions."""
        other = copy.copy(self)
        other._assign_rows(hparams, np.arange(len(hparams["seed"])))
        return other

    def compact(self, members: Sequence[int]) -> "Population":
        """Return a population of some of the members, in the given order.

        Under `map` a stopped row costs nothing: the compiled functions stay, and the members are
        spread evenly over the devices. Under `vmap` every row costs the same: the functions are
        compiled again for as few rows as possible.
        """
        hparams = {key: value[list(members)] for key, value in self._hparams.items()}
        if self.how == "vmap":
            config, task, callbacks, devices = self._made_of
            return Population(config, task, hparams, callbacks, devices)
        other = copy.copy(self)
        place, device = np.divmod(np.arange(len(members)), self.devices)
        other._assign_rows(hparams, device * (self.padded // self.devices) + place)
        return other

    def init(self, sets: Sets) -> State:
        """Draw every member; return the state."""
        return self.draw(self.hparams, self.real, self.scaled_by(sets))

    def scaled_by(self, sets: Sets) -> jax.Array | None:
        """Return the examples by which initial kernels are scaled, if they are (`init=lsuv`)."""
        config, *_ = self._made_of
        return sets.probed.x if config.init.name == "lsuv" else None

    def member_state(self) -> State:
        """Return the shapes of one member's state."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self.state_shapes()
        )

    def state_shapes(self) -> State:
        """Return the shapes of the state of all rows."""
        if self._state is None:
            self._state = jax.eval_shape(self.draw.jitted, self.hparams, self.real, None)
        return self._state

    def program(self, name: str, *of: Any) -> Program:
        """Return a program: an attribute, or what a method such as `probe_of` returns."""
        found = getattr(self, name)
        return found(*of) if of else found

    def use(self, kept: Kept | None) -> None:
        """Call the programs that were kept on disk, if any, instead of compiling."""
        if kept is None:
            return
        self._state = kept.state
        for (name, shapes), loaded in kept.programs.items():
            self.program(*name).loaded[shapes] = loaded

    def place_states(self, states: State) -> State:
        """Place members' states from the host, [size, ...], in their rows on the devices."""
        placed: State = self.place(jax.tree.map(self.pad, states))
        outcome = jnp.where(self.real, placed.outcome, jnp.int32(types.STOPPED))
        return placed._replace(outcome=outcome)

    def fetch(self, tree: Any) -> Any:
        """Return members' values of a tree with rows, as [size, ...] on the host."""
        whole = jax.device_get(self.shared(tree))
        return jax.tree.map(lambda leaf: np.asarray(leaf)[self.rows], whole)

    def shared(self, tree: Any) -> Any:
        """Return the same values where this process can read all of them.

        In a process group all processes must make the call.
        """
        return self._everywhere(tree) if self._several else tree

    def score(self, params: Any, held: Any, examples: Examples) -> Any:
        """Return mean loss and accuracy over a whole set, one value per row."""
        return self.scored(params, held, self.real, examples)

    def count(self, params: Any, held: Any, sums: Any, x: jax.Array) -> Any:
        """Add a slice of the training set to counts; return them, and whether they are final."""
        return self.counted(params, held, self.real, sums, x)

    def probe(self, state: State, batch: Examples, now: Any, due: tuple[str, ...]) -> Any:
        """Return the readings of the callbacks in `due`, one value per row."""
        return self.probe_of(due)(state, self.hparams, batch, now)

    def probe_of(self, due: tuple[str, ...]) -> Program:
        """Return the batched probe of the callbacks in `due`."""
        if due not in self._probes:
            probe = self.functions.probe_of(due)
            self._probes[due] = self._batched(probe, MEMBER, MEMBER, SHARED, SHARED, wide=WIDE)
        return self._probes[due]

    def conclude(self, sums: Any, examples: int) -> Any:
        """Return readings from counts that were summed over `examples` examples."""
        return self.conclude_of(examples)(sums)

    def conclude_of(self, examples: int) -> Program:
        """Return the batched function that draws readings from counts over `examples` examples."""
        if examples not in self._conclude:
            conclude = functools.partial(self.functions.conclude, examples=examples)
            self._conclude[examples] = self._batched(conclude, MEMBER, options=ONCE)
        return self._conclude[examples]

    def stop(self, state: State, members: set[int]) -> State:
        """Stop some members from the host; return the state."""
        chosen = self.rows[[m in members for m in range(self.size)]]
        stopping = self.place(np.isin(np.arange(self.padded), chosen))
        outcome = jnp.where(
            stopping & (state.outcome == types.ACTIVE), jnp.int32(types.STOPPED), state.outcome
        )
        return state._replace(outcome=outcome)

    def pad(self, column: np.ndarray) -> np.ndarray:
        """Return members' values [size, ...] in their rows; padding repeats the first member's."""
        if self.size == self.padded and np.array_equal(self.rows, np.arange(self.size)):
            return column
        padded = np.repeat(column[:1], self.padded, axis=0)
        padded[self.rows] = column
        return padded

    def place(self, tree: Any, spec: P = MEMBER) -> Any:
        """Put host arrays on the devices as `spec` says: along members, or on all devices."""
        where = NamedSharding(self.mesh, spec)
        if not self._several:
            return jax.device_put(tree, where)

        def feed(leaf: Any) -> jax.Array:
            array = np.asarray(leaf)
            return jax.make_array_from_callback(array.shape, where, lambda part: array[part])

        return jax.tree.map(feed, tree)

    def place_sets(self, data: Dataset, trainer: TrainerConfig, *, stream: bool) -> Sets:
        """Put a data set on every device, with `stream` all but the training set; return it."""

        def everywhere(x: Any, y: Any) -> Examples:
            return self.place(Examples(x, y), SHARED)

        size = min(trainer.probe_examples, len(data.train_x))
        return Sets(
            train=None if stream else everywhere(data.train_x, data.train_y),
            val=everywhere(data.val_x, data.val_y),
            test=everywhere(data.test_x, data.test_y),
            probed=everywhere(data.train_x[:size], data.train_y[:size]),
        )

    def place_batches(self, batches: Any) -> Any:
        """Put a chunk's batches [M, K, B, ...] on the devices of their members."""
        return self.place(jax.tree.map(self.pad, batches), BATCHES)

    def _batched(
        self,
        function: Callable,
        *specs: P,
        donate: bool = False,
        options: Mapping[str, Any] | None = None,
        wide: int | None = None,
    ) -> Program:
        """Return a function of one member, batched; arguments that aren't SHARED have an axis M.

        `wide`: under `vmap`, how many members a device computes at once, which bounds memory.
        """
        batched = [i for i, spec in enumerate(specs) if spec != SHARED]

        def local(*arguments: Any) -> Any:
            def of_member(values: list) -> Any:
                filled = list(arguments)
                for i, value in zip(batched, values, strict=True):
                    filled[i] = value
                with matrix_products(self._precision):  # also backwards, and in probes
                    return function(*filled)

            columns = [arguments[i] for i in batched]
            if self.how == "map":
                return jax.lax.map(of_member, columns)
            if wide is None or self.padded // self.devices <= wide:
                return jax.vmap(of_member)(columns)
            return jax.lax.map(of_member, columns, batch_size=wide)

        mapped = jax.shard_map(
            local, mesh=self.mesh, in_specs=specs, out_specs=MEMBER, check_vma=False
        )
        donated = 0 if donate else ()
        repeatable = _repeatable(self.mesh, convolves=self.functions.convolves)
        compiled = {**repeatable, **(options or {})}
        return Program(jax.jit(mapped, donate_argnums=donated, compiler_options=compiled))


def _repeatable(mesh: Mesh, *, convolves: bool) -> dict[str, Any]:
    """Return compiler options with which a program that is compiled twice computes the same bits.

    By default XLA lets atomic sums add up in any order on a GPU, and times several kernels for each
    product and convolution and takes the fastest, which differs from time to time. Not timing them
    costs nothing where matrices are multiplied. It makes convolutions 25 times as slow (an H100):
    theirs are timed, and XLA keeps which it took with the compiled programs.
    """
    tuned_by_user = "xla_gpu_autotune_level" in os.environ.get("XLA_FLAGS", "")
    if mesh.devices.flat[0].platform != "gpu" or tuned_by_user:
        return {}
    return IN_ORDER if convolves else {**IN_ORDER, **UNTIMED}


def choose_batching(how: str) -> str:
    """Return `map` (bitwise equal to separate runs) on CPUs, `vmap` on accelerators, for `auto`."""
    if how != "auto":
        return how
    return "map" if jax.default_backend() == "cpu" else "vmap"
