"""Networks to inspect: composed as by train.py, initialised from a seed or read from their runs."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from jaxtyping import Array
from omegaconf.errors import OmegaConfBaseException

from actsweep import data
from actsweep.callbacks.base import Callback, ProbeView
from actsweep.callbacks.units import units
from actsweep.config import identity, resolve
from actsweep.config.conf_dir import conf_dir
from actsweep.config.error_messages import explain
from actsweep.config.overrides import for_hydra
from actsweep.config.schema import InitConfig, RunConfig
from actsweep.data.dataset import Dataset
from actsweep.runs.load import Run
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.train import step, types
from actsweep.train.population import ONCE
from actsweep.train.setup import task_of
from actsweep.utils.errors import UserError

SLICE = 10_000
BATCH = 256
KINDS = ("preact", "act", "grads", "preact_grads")
View = Mapping[str, Mapping[str, np.ndarray]]


_COMPOSING = threading.Lock()  # Hydra has one global state


@contextmanager
def _hydra() -> Iterator[None]:
    resolve.register()
    previous = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = previous


def compose_run(*words: str) -> RunConfig:
    """Return the run that `actsweep train` would make of these overrides.

    Raises:
        UserError: a value is out of bounds, or a name is unknown.
    """
    with _COMPOSING, _hydra():
        try:
            return resolve.resolve(compose("config", overrides=for_hydra(words)))
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain(error)) from error


@dataclass(frozen=True)
class Network:
    """A network to inspect.

    Attributes:
        run: its config.
        params: its parameters, initial or trained.
        held: what else it holds, such as its activations' numbers that aren't trained.
    """

    run: RunConfig
    params: Any
    held: Any


class NetworkInspector:
    """Inspection of networks with the trainer's own functions.

    Each program is compiled once, each data set is loaded once.
    """

    def __init__(self) -> None:
        self._data: dict[str, Dataset] = {}
        self._initialisers: dict[str, Callable[..., types.State]] = {}
        self._last_initial: tuple[RunConfig, types.State] | None = None
        self._programs: dict[str, _Programs] = {}

    def dataset(self, run: RunConfig) -> Dataset:
        """Return a run's data."""
        key = str(run.data)
        if key not in self._data:
            self._data[key] = data.load(run.data)
        return self._data[key]

    def initialised(self, run: RunConfig) -> Network:
        """Return a run's network before training: bitwise what train.py starts from."""
        state = self._initial_state(run)
        return Network(run, state.params, state.held)

    def trained(self, run: Run, which: str = "best") -> Network:
        """Return a finished run's network.

        Args:
            run: the run.
            which: the parameters: `best`, by validation, or `last`.

        Raises:
            UserError: the checkpoint is missing or damaged.
        """
        return Network(run.config, *run.parameters(which))

    def probe(self, network: Network, x: np.ndarray, y: np.ndarray) -> View:
        """Return what a probe sees on a batch: arrays by kind (`KINDS`) and layer.

        See `callbacks.ProbeView`.
        """
        program, hparams = self._program(network.run), _hparams(network.run)
        state = self._initial_state(network.run)._replace(
            params=network.params, act_hparams=network.held[0], model_state=network.held[1]
        )
        flat = program.probe(state, hparams, types.Examples(jnp.asarray(x), jnp.asarray(y)))
        arrays: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KINDS}
        for name, value in flat.items():
            kind, _, layer = name.partition("/")
            if kind in arrays:
                arrays[kind][layer] = np.asarray(value)
        return {kind: _sort_layers(layers) for kind, layers in arrays.items()}

    def probe_first_batch(self, network: Network, size: int = BATCH) -> View:
        """Return `probe` of the first `size` training examples."""
        examples = self.dataset(network.run)
        return self.probe(network, examples.train_x[:size], examples.train_y[:size])

    def silent_units(self, network: Network) -> dict[str, np.ndarray]:
        """Return which units are exactly 0 on all training examples: bool [units], by layer."""
        program, x = self._program(network.run), self.dataset(network.run).train_x
        parts = [jnp.asarray(x[i : i + SLICE]) for i in range(0, len(x), SLICE)]
        sums = program.no_counts(network.params, network.held, parts[0])
        prefix = "units|nonzero/"
        silent: dict[str, np.ndarray] = {}
        for part in parts:
            sums = program.count(network.params, network.held, sums, part)
            nonzero = {k.removeprefix(prefix): v for k, v in sums.items() if k.startswith(prefix)}
            silent = {layer: np.asarray(v) == 0 for layer, v in nonzero.items()}
            if not any(mask.any() for mask in silent.values()):
                break  # no further example can change that
        return _sort_layers(silent)

    def _initial_state(self, run: RunConfig) -> types.State:
        if self._last_initial is None or self._last_initial[0] != run:  # one network, many batches
            key = identity.program_key(run)
            if key not in self._initialisers:
                init = _functions(run, self.dataset(run)).init
                self._initialisers[key] = _jit_once(lambda hparams: init(hparams, jnp.bool_(True)))
            self._last_initial = run, self._initialisers[key](_hparams(run))
        return self._last_initial[1]

    def _program(self, run: RunConfig) -> "_Programs":
        key = identity.program_key(
            replace(run, init=InitConfig())
        )  # how it was drawn doesn't matter
        if key not in self._programs:
            self._programs[key] = _compile(run, self.dataset(run))
        return self._programs[key]


@dataclass(frozen=True)
class _Programs:
    probe: Callable[..., Mapping[str, Array]]
    count: Callable[..., dict[str, Array]]
    no_counts: Callable[..., dict[str, Array]]


def _functions(run: RunConfig, examples: Dataset) -> step.Functions:
    static = make_pack([make_member(run)]).static
    callbacks = {"inside": Callback(probe=_everything), "units": units()}
    return step.build(static, task_of(run, examples), _hparams(run), callbacks)


def _compile(run: RunConfig, examples: Dataset) -> _Programs:
    """Return the jitted functions of one member."""
    fns = _functions(run, examples)

    def probe(state: types.State, hparams: Mapping, batch: types.Examples) -> Mapping[str, Array]:
        return fns.probe_of(("inside",))(state, hparams, batch, jnp.int32(0))

    def count(params: Any, held: Any, sums: dict[str, Array], x: Array) -> Mapping[str, Array]:
        return fns.counts(params, held, jnp.bool_(True), sums, x)[0]

    return _Programs(_jit_once(probe), jax.jit(count), _jit_once(fns.no_counts))


def _jit_once(fn: Callable) -> Callable:
    """Jit as the trainer does for what runs once: compiled fast rather than well."""
    return jax.jit(fn, compiler_options=ONCE)


def _hparams(run: RunConfig) -> Mapping[str, Array]:
    pack = make_pack([make_member(run)])
    return {key: jnp.asarray(value[0]) for key, value in stack_hparams(pack).items()}


def _everything(view: ProbeView) -> Mapping[str, Array]:
    return {f"{k}/{layer}": a for k in KINDS for layer, a in getattr(view, k).items()}


def _sort_layers(layers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sort layers from input to output; jit returns them sorted by name."""
    return dict(sorted(layers.items(), key=lambda item: layer_sort_key(item[0])))


def compose_seeds(words: Sequence[str], count: int) -> list[RunConfig]:
    """Return the runs of seeds 0, 1, … that `train.py` would make of these overrides."""
    first = compose_run(*words, "seed=0")
    return [replace(first, seed=seed) for seed in range(count)]


def layer_sort_key(name: str) -> tuple[bool, int, str]:
    """Return a key that sorts layers from input to output, the head last."""
    return name == "head", len(name), name
