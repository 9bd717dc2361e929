"""One member's model as pure functions of its parameters, and the task that it learns."""

import functools
import inspect
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.errors import TraceContextError
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from actsweep.config import by_layer
from actsweep.config.schema import RunConfig
from actsweep.nn import losses, models
from actsweep.nn import precision as numeric
from actsweep.nn.models.layers import (
    Act,
    HParam,
    LayerFactory,
    named_key,
)
from actsweep.nn.models.recording import Intermediates, Recorder, recording
from actsweep.nn.models.unit_variance import scaling
from actsweep.stats.scores import TASKS, TaskScores
from actsweep.utils.errors import UserError

Params = Any
Held = tuple[Any, Any]
"""The activations' untrained parameters, and state that changes without a gradient."""
HParams = Mapping[str, Array]


@dataclass(frozen=True)
class Task:
    """The shape of inputs and outputs, and the length of training.

    Attributes:
        input_shape: the shape of one example.
        classes: number of classes, or None where nothing is classified.
        outputs: width of the head.
        scale, offset: the network's input is x * scale + offset, unless it is tokens.
        total_steps: optimiser steps of the whole training, for the schedule.
        vocabulary: how many tokens there are; None where the examples aren't tokens.
        kind: what is learned, a name of `stats.scores.TASKS`; empty, as in older checkpoints, for
            a classification or a regression.
    """

    input_shape: tuple[int, ...]
    classes: int | None
    outputs: int
    scale: float
    offset: float
    total_steps: int
    vocabulary: int | None = None
    kind: str = ""

    @property
    def name(self) -> str:
        """Return what is learned."""
        return self.kind or ("regression" if self.classes is None else "classification")

    @property
    def scores(self) -> TaskScores:
        """Return the scores by which the network is judged."""
        return TASKS[self.name]

    def examples(self, n: int) -> jax.ShapeDtypeStruct:
        """Return the shape of n examples: tokens are integers."""
        dtype = jnp.float32 if self.vocabulary is None else jnp.int32
        return jax.ShapeDtypeStruct((n, *self.input_shape), dtype)

    def labels(self, n: int) -> jax.ShapeDtypeStruct:
        """Return the shape of n examples' labels."""
        shape, dtype = {
            "classification": ((), jnp.int32),
            "next_token": (self.input_shape, jnp.int32),
        }.get(self.name, ((self.outputs,), jnp.float32))
        return jax.ShapeDtypeStruct((n, *shape), dtype)


class Network:
    """The model as pure functions of its arrays: forward pass and losses.

    Besides the trained parameters a model may hold `held` arrays: the activations' untrained
    parameters, and state that training changes without a gradient, such as running averages. Its
    random streams (dropout) are keyed by their path, the member's seed and the step: they are no
    state, so that a member draws the same numbers alone, in a pack, and after an interruption.

    Attributes:
        layers: names of the layers with weights, in the order in which they are called.
        acts: names of the activations, likewise.
        params: the abstract tree (shapes and types) of the trained parameters.
        held: the abstract trees of what else the model holds.
    """

    def __init__(self, config: RunConfig, task: Task, hparams: HParams) -> None:
        self.config, self.task = config, task
        self.loss = losses.loss_of(config.loss, task.name)
        model = nnx.eval_shape(lambda values: self.draw(values), dict(hparams))
        _name_activations(model, config)
        model.train()
        self._train_graph = nnx.graphdef(model)
        model.set_attributes(deterministic=True, raise_if_not_found=False)
        self._probe_graph = nnx.graphdef(model)
        model.eval()
        self.graph, self.params, self.held, self._streams = _divide(model)
        self._takes_capture = "capture" in inspect.signature(type(model).__call__).parameters
        self._paths = self._layer_paths()
        self.layers, self.acts = self._call_order()

    def draw(self, hparams: HParams) -> Any:
        """Return a model (an NNX module) with freshly drawn parameters.

        Args:
            hparams: config path -> the member's value; `seed` decides the draws.
        """
        factory = LayerFactory(self.config, hparams, self.task.vocabulary)
        return models.build(factory, self.task.input_shape, self.task.outputs)

    def unit_variance(self, params: Params, held: Held, x: Array, scale: Array) -> Params:
        """Return parameters with which each layer's output, before its bias, has a given deviation.

        Kernels are scaled in the order of calls, each by one number: the standard deviation over
        all examples and units is `scale` (Mishkin & Matas 2016, "All you need is a good init").
        Normalisation is by the batch, as in training, without dropout, all in float32.

        Args:
            params: as drawn.
            held: what else the model holds.
            x: examples [batch, *input_shape] as stored.
            scale: a scalar.

        Raises:
            UserError: the model calls a layer never, twice, or inside a loop.
        """
        streams = self._keyed(None)
        model = nnx.merge(self._probe_graph, params, *held, streams, copy=True)
        remedy = "type init=orthogonal"
        with scaling(scale) as done, numeric.matrix_products("float32"):
            try:
                self._call(model, self._input(x, jnp.float32))
            except TraceContextError as error:
                raise UserError(
                    f"init=lsuv: this model calls a layer inside a loop (scan), where its kernel "
                    f"can't be scaled; {remedy}"
                ) from error
        for path, module in nnx.iter_modules(model):
            kernel = getattr(module, "kernel", None)
            if isinstance(kernel, nnx.Param) and not any(kernel is k for k in done.kernels):
                raise UserError(
                    f"init=lsuv: scales layers of make.dense and make.conv as they are called, and "
                    f"{_name(path, 'layers')} isn't one; {remedy}"
                )
        return split(model)[0]

    def _layer_paths(self) -> dict[str, tuple[Any, ...]]:
        """Return the path of each layer's kernel, or of an embedding's table, by the layer's name.

        Raises:
            UserError: there is none, or two have one name.
        """
        target = f"model._target_={self.config.model._target_}"
        paths: dict[str, tuple[Any, ...]] = {}
        for path in _kernels(self.params):
            name = _name(path[:-1], "layers")
            if name in paths:
                raise UserError(
                    f"{target}: two layers are named {name}; give one another attribute"
                )
            paths[name] = path
        if not paths:
            raise UserError(
                f"{target}: has no layer with a kernel; make one with make.dense or make.conv, or "
                "take one of flax.nnx"
            )
        return paths

    def kernels(self, tree: Params) -> dict[str, Array]:
        """Return each layer's kernel (of an embedding, its table), in the order of calls.

        Args:
            tree: parameters, or a tree shaped like them.
        """
        found = {
            name: functools.reduce(operator.getitem, self._paths[name], tree)
            for name in self.layers
        }
        return {name: leaf[...] for name, leaf in found.items()}

    def act_params(self, params: Params) -> dict[str, Float[Array, ""]]:
        """Return the trained parameters of activations as `act_param/<activation>/<name>`.

        Of one value for each unit that is the mean, and `<name>_min` and `<name>_max` stand beside.
        """
        readings: dict[str, Array] = {}
        for path, variable in nnx.to_flat_state(params):
            if "numbers" in path:
                leaf = variable[...]
                place = path.index("numbers")
                name = f"act_param/{_name(path[:place], 'acts')}/{path[place + 1]}"
                readings[name] = jnp.mean(leaf)
                if leaf.ndim:
                    readings |= {f"{name}_min": jnp.min(leaf), f"{name}_max": jnp.max(leaf)}
        return readings

    def forward(
        self, params: Params, held: Held, x: Array, recorder: Recorder | None = None
    ) -> Float[Array, "batch outputs"]:
        """Return logits in float32, as the network is used: without dropout, by running averages.

        The arithmetic is in `trainer.precision`.

        Args:
            params: trained parameters.
            held: what else the model holds.
            x: examples [batch, *input_shape] as stored, before `scale` and `offset`; or tokens.
            recorder: receives every activation, see `recording`.
        """
        return self._run(self.graph, params, held, x, None, recorder)[0]

    def train_forward(
        self, params: Params, held: Held, x: Array, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch outputs"], Held]:
        """Return the logits of a training step, and what the model holds after it.

        Args:
            params, held, x: as for `forward`.
            key: of this step; its random streams are derived from it.
        """
        logits, model = self._run(self._train_graph, params, held, x, key, None)
        return logits, (held[0], _divide(model)[2][1])

    def probe_forward(
        self, params: Params, held: Held, x: Array, recorder: Recorder | None = None
    ) -> Float[Array, "batch outputs"]:
        """Return logits as in training (normalised by the batch), but without its randomness."""
        return self._run(self._probe_graph, params, held, x, None, recorder)[0]

    def merge(self, params: Params, held: Held) -> Any:
        """Return the model (an NNX module) as it is used, with these arrays in it."""
        return nnx.merge(self.graph, params, *held, self._keyed(None))

    def _run(
        self,
        graph: Any,
        params: Params,
        held: Held,
        x: Array,
        key: PRNGKeyArray | None,
        recorder: Recorder | None,
    ) -> tuple[Float[Array, "batch outputs"], Any]:
        precision = self.config.trainer.precision
        dtype = numeric.dtype(precision)
        cast = lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype), tree)  # noqa: E731
        hparams, state = held
        arrays = (cast(params), cast(hparams), state, self._keyed(key))
        model = nnx.merge(graph, *arrays, copy=True)
        with recording(recorder), numeric.matrix_products(precision):
            logits = self._call(model, self._input(x, dtype))
        return logits.astype(jnp.float32), model

    def _input(self, x: Array, dtype: Any) -> Array:
        """Return examples as the model takes them: scaled numbers, or tokens as they are."""
        if self.task.vocabulary is not None:
            return x.astype(jnp.int32)
        return (x.astype(jnp.float32) * self.task.scale + self.task.offset).astype(dtype)

    def _call(self, model: Any, x: Array) -> Array:
        if not self._takes_capture:
            return model(x)

        # As models of version 0.1 are written.
        def capture(name: str, z: Array, act: Act) -> Array:
            act.name = name
            return act(z)

        return model(x, capture)

    def _keyed(self, key: PRNGKeyArray | None) -> Any:
        """Return the model's random streams, each keyed by its path."""
        key = jax.random.key(0) if key is None else key
        flat = [
            (path, stream.replace(named_key(key, ".".join(map(str, path)))))
            if isinstance(stream, nnx.RngKey)
            else (path, stream.replace(jnp.uint32(0)))
            for path, stream in nnx.to_flat_state(self._streams)
        ]
        return nnx.from_flat_state(flat)

    def _call_order(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of layers and activations, each in the order of their first use."""
        intermediates = Intermediates()

        def forward(params: Params, held: Held, x: Array) -> Array:
            model = self.merge(params, held)
            with recording(intermediates):
                return self._call(model, x)

        traced = jax.make_jaxpr(forward)(self.params, self.held, self.task.examples(2))
        self._check_outputs([value.shape for value in traced.out_avals])
        self.convolves = _convolves(traced.jaxpr)
        leaves = [path for path, _ in nnx.to_flat_state(self.params)]
        used = [leaves[i] for i in _uses(traced.jaxpr) if i < len(leaves)]
        names = {path: name for name, path in self._paths.items()}
        called = [names[path] for path in used if path in names]
        unused = [name for name in self._paths if name not in called]
        return (*called, *unused), tuple(intermediates.preact)

    def _check_outputs(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Refuse a model that doesn't return logits for each token, where the next is learned."""
        expected = (*self.task.labels(2).shape, self.task.outputs)
        if self.task.name == "next_token" and shapes != [expected]:
            model = self.config.model
            which = f"model._target_={model._target_}" if model._target_ else f"model={model.name}"
            raise UserError(
                f"{which}: returns {', '.join(map(str, shapes))} for 2 examples; the next token is "
                f"learned from logits [batch, length, vocabulary], here {expected}"
            )

    def losses(
        self, logits: Array, y: Array, *, training: bool = False
    ) -> tuple[Float[Array, "batch"], Bool[Array, "batch ..."]]:
        """Return each example's loss, and what of it is predicted correctly.

        Args:
            logits: Float["batch outputs"], or Float["batch length vocabulary"] of next tokens.
            y: Int["batch"] labels, Int["batch length"] next tokens, ["batch outputs"] labels of 0
                or 1 that hold together, or Float["batch outputs"] targets of a regression.
            training: whether labels are smoothed, by `loss.label_smoothing`.

        Returns:
            The loss that the config names, see `nn.losses`; and for each example or token whether
            it is predicted correctly (False for a regression).
        """
        smoothing = self.config.loss.label_smoothing if training else 0.0
        return self.loss.each(logits, y, smoothing), self.loss.right(logits, y)

    def scores(self, prefix: str, loss: Array, right: Array) -> dict[str, Array]:
        """Return mean loss and, but for a regression, the share that is right, by metric name.

        Args:
            prefix: `train`, `val` or `test`.
            loss: the mean loss.
            right: the share of examples, or tokens, that are predicted correctly.
        """
        readings = {f"{prefix}/loss": loss}
        if self.task.scores.right is not None:
            readings[f"{prefix}/{self.task.scores.right}"] = right
        return readings


def split(model: nnx.Module) -> tuple[Params, Held]:
    """Divide a model into its trained parameters and what else it holds, but for its streams."""
    _, params, held, _ = _divide(model)
    return params, held


def _divide(model: nnx.Module) -> tuple[Any, Params, Held, Any]:
    """Return a model's graph, trained parameters, held arrays and random streams."""
    parts: Any = nnx.split(model, nnx.Param, HParam, nnx.RngState, ...)
    graph, params, hparams, streams, state = parts
    return graph, params, (hparams, state), streams


def _name_activations(model: nnx.Module, config: RunConfig) -> None:
    """Name activations by their paths.

    Raises:
        UserError: with `act.by_layer`, one was made by another name; or a pattern matches none.
    """
    names = []
    for path, module in nnx.iter_modules(model):
        if isinstance(module, Act):
            name = _name(path, "acts")
            if by_layer.entries(config.act) and module.name != name:
                raise UserError(
                    f"act.by_layer: model._target_={config.model._target_} has made the activation "
                    f"{name} as {module.name}; write make.act(units, name={name!r}), its path"
                )
            module.name = name
            names.append(name)
    by_layer.check_patterns(config.act, names)


def _name(path: Sequence[Any], group: str) -> str:
    """Return the name of a layer or an activation, by its path: without the group of all, such as
    `layers`, and without a last `act`, which says no more."""
    parts = [str(part) for part in path]
    parts = parts[1:] if parts[:1] == [group] and len(parts) > 1 else parts
    return ".".join(parts[:-1] if group == "acts" and parts[-1] == "act" and parts[1:] else parts)


def _kernels(params: Params) -> list[tuple[Any, ...]]:
    """Return the paths of all kernels and of the tables of embeddings."""
    paths = [path for path, _ in nnx.to_flat_state(params)]
    return [path for path in paths if path[-1] in ("kernel", "embedding")]


def _convolves(jaxpr: Any) -> bool:
    """Return whether a traced function convolves, itself or in a function that it calls."""
    parts = [part for equation in jaxpr.eqns for part in equation.params.values()]
    inner = [getattr(part, "jaxpr", part) for part in parts]
    return any(equation.primitive is lax.conv_general_dilated_p for equation in jaxpr.eqns) or any(
        _convolves(part) for part in inner if hasattr(part, "eqns")
    )


def _uses(jaxpr: Any) -> list[int]:
    """Return the inputs of a traced function by their place, in the order of their first use."""
    places = {var: place for place, var in enumerate(jaxpr.invars)}
    order: dict[int, None] = {}
    for equation in jaxpr.eqns:
        operands = list(equation.invars)
        inner = [getattr(part, "jaxpr", part) for part in equation.params.values()]
        inner = [p for p in inner if hasattr(p, "invars") and len(p.invars) == len(operands)]
        chosen = [operands[i] for i in _uses(inner[0])] if inner else []
        for operand in (*chosen, *operands):
            if not hasattr(operand, "val") and operand in places:  # no literal
                order[places[operand]] = None
    return list(order)
