"""Networks to look into: composed as for training, drawn by seed or read back from their runs."""

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
KEPT = ("preact", "act", "grads", "preact_grads")
View = Mapping[str, Mapping[str, np.ndarray]]


_COMPOSING = threading.Lock()  # Hydra has one global state


@contextmanager
def _hydra() -> Iterator[None]:
    resolve.register()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def composed(*words: str) -> RunConfig:
    """The run that `actsweep train` would make of these overrides.

    Raises:
        UserError: a value is out of bounds, or a name unknown.
    """
    with _COMPOSING, _hydra():
        try:
            return resolve.resolve(compose("config", overrides=for_hydra(words)))
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain(error)) from error


@dataclass(frozen=True)
class Inside:
    """A network to look into.

    Attributes:
        run: its config.
        params: drawn or trained parameters.
        act_hparams: its numbers that aren't trained.
    """

    run: RunConfig
    params: Any
    act_hparams: Any


class Lab:
    """Looks into networks with the trainer's own functions. Each program is compiled once, each
    data set is loaded once."""

    def __init__(self) -> None:
        self._data: dict[str, Dataset] = {}
        self._draws: dict[str, Callable[..., types.State]] = {}
        self._programs: dict[str, _Program] = {}

    def examples(self, run: RunConfig) -> Dataset:
        """A run's data."""
        key = str(run.data)
        if key not in self._data:
            self._data[key] = data.load(run.data)
        return self._data[key]

    def drawn(self, run: RunConfig) -> Inside:
        """A run's network before training: bitwise what training starts from."""
        state = self._draw(run)
        return Inside(run, state.params, state.act_hparams)

    def trained(self, run: Run, which: str = "best") -> Inside:
        """A finished run's network; `which` is `best`, by validation, or `last`.

        Raises:
            UserError: the checkpoint is missing or damaged.
        """
        return Inside(run.config, *run.parameters(which))

    def view(self, net: Inside, x: np.ndarray, y: np.ndarray) -> View:
        """What a probe sees on a batch: arrays by kind (`KEPT`) and layer; see
        `callbacks.ProbeView`."""
        program, hparams = self._program(net.run), _hparams(net.run)
        state = self._draw(net.run)._replace(params=net.params, act_hparams=net.act_hparams)
        flat = program.probe(state, hparams, types.Examples(jnp.asarray(x), jnp.asarray(y)))
        found: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KEPT}
        for name, value in flat.items():
            kind, _, layer = name.partition("/")
            if kind in found:
                found[kind][layer] = np.asarray(value)
        return {kind: _in_order(layers) for kind, layers in found.items()}

    def first_batch(self, net: Inside, size: int = BATCH) -> View:
        """`view` of the first `size` training examples."""
        examples = self.examples(net.run)
        return self.view(net, examples.train_x[:size], examples.train_y[:size])

    def silent(self, net: Inside) -> dict[str, np.ndarray]:
        """By hidden layer, which units are exactly 0 on all training examples: bool [units]."""
        program, x = self._program(net.run), self.examples(net.run).train_x
        parts = [jnp.asarray(x[i : i + SLICE]) for i in range(0, len(x), SLICE)]
        sums = program.nothing(net.params, net.act_hparams, parts[0])
        for part in parts:
            sums = program.count(net.params, net.act_hparams, sums, part)
        mark = "units|nonzero/"
        own = {k.removeprefix(mark): v for k, v in sums.items() if k.startswith(mark)}
        return _in_order({layer: np.asarray(v) == 0 for layer, v in own.items()})

    def _draw(self, run: RunConfig) -> types.State:
        key = identity.pack_key(run)
        if key not in self._draws:
            init = _functions(run, self.examples(run)).init
            self._draws[key] = _quickly(lambda hparams: init(hparams, jnp.bool_(True)))
        return self._draws[key](_hparams(run))

    def _program(self, run: RunConfig) -> "_Program":
        key = identity.pack_key(replace(run, init=InitConfig()))  # how it was drawn doesn't matter
        if key not in self._programs:
            self._programs[key] = _compile(run, self.examples(run))
        return self._programs[key]


@dataclass(frozen=True)
class _Program:
    probe: Callable[..., Mapping[str, Array]]
    count: Callable[..., dict[str, Array]]
    nothing: Callable[..., dict[str, Array]]


def _functions(run: RunConfig, examples: Dataset) -> step.Functions:
    static = make_pack([make_member(run)]).static
    callbacks = {"inside": Callback(probe=_everything), "units": units()}
    return step.build(static, task_of(run, examples), _hparams(run), callbacks)


def _compile(run: RunConfig, examples: Dataset) -> _Program:
    """The functions of one member, jitted."""
    fns = _functions(run, examples)

    def probe(state: types.State, hparams: Mapping, batch: types.Examples) -> Mapping[str, Array]:
        return fns.probe(state, hparams, batch, jnp.int32(0), ("inside",))

    def count(
        params: Any, act_hparams: Any, sums: dict[str, Array], x: Array
    ) -> Mapping[str, Array]:
        return fns.counts(params, act_hparams, jnp.bool_(True), sums, x)[0]

    return _Program(_quickly(probe), jax.jit(count), _quickly(fns.no_counts))


def _quickly(fn: Callable) -> Callable:
    """Jitted as the trainer does what runs once: compiled fast rather than well."""
    return jax.jit(fn, compiler_options=ONCE)


def _hparams(run: RunConfig) -> Mapping[str, Array]:
    pack = make_pack([make_member(run)])
    return {key: jnp.asarray(value[0]) for key, value in stack_hparams(pack).items()}


def _everything(view: ProbeView) -> Mapping[str, Array]:
    return {f"{k}/{layer}": a for k in KEPT for layer, a in getattr(view, k).items()}


def _in_order(layers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Layers from input to output; jit gives them back sorted by name."""
    return dict(sorted(layers.items(), key=lambda item: layer_order(item[0])))


def over_seeds(words: Sequence[str], count: int) -> list[RunConfig]:
    """The runs of seeds 0, 1, … that `actsweep train` would make of these overrides."""
    first = composed(*words, "seed=0")
    return [replace(first, seed=seed) for seed in range(count)]


def layer_order(name: str) -> tuple[bool, int, str]:
    """A key that sorts layers from input to output, the head last."""
    return name == "head", len(name), name
