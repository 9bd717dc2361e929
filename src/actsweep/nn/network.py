"""One member's model as pure functions of its parameters, and the task that it learns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float

from actsweep.config.schema import RunConfig
from actsweep.nn import models
from actsweep.nn.models.layers import Capture, HParam, LayerFactory, apply
from actsweep.utils.errors import UserError

Params = Any
HParams = Mapping[str, Array]


@dataclass(frozen=True)
class Task:
    """The shape of inputs and outputs, and the length of training.

    Attributes:
        input_shape: the shape of one example.
        classes: number of classes, or None for regression.
        outputs: width of the head.
        scale, offset: the network's input is x * scale + offset.
        total_steps: optimiser steps of the whole training, for the schedule.
    """

    input_shape: tuple[int, ...]
    classes: int | None
    outputs: int
    scale: float
    offset: float
    total_steps: int


class Network:
    """The model as pure functions of params: forward pass and losses.

    Attributes:
        layers: names of the layers with weights, from input to output.
        graph: the static part of the model, as `nnx.split` gives it.
        params: the abstract tree (shapes and types) of the trained parameters.
        act_hparams: the abstract tree of the activations' untrained parameters.
    """

    def __init__(self, config: RunConfig, task: Task, hparams: HParams) -> None:
        self.config, self.task = config, task
        abstract = nnx.eval_shape(lambda values: self.draw(values), dict(hparams))
        _check_model(abstract, config)
        self.layers: tuple[str, ...] = tuple(abstract.layers)
        self.graph, self.params, self.act_hparams = split(abstract)

    def draw(self, hparams: HParams) -> Any:
        """Return a model (an NNX module) with freshly drawn parameters.

        Args:
            hparams: config path -> the member's value; `seed` decides the draws.
        """
        factory = LayerFactory(self.config, hparams)
        return models.build(factory, self.task.input_shape, self.task.outputs)

    def kernels(self, tree: Params) -> dict[str, Array]:
        """Return each layer's kernel, input to output, from params or a tree shaped like them."""
        return {name: tree["layers"][name]["kernel"][...] for name in self.layers}

    def act_params(self, params: Params) -> dict[str, Float[Array, ""]]:
        """Return the trained parameters of activations as `act_param/<layer>/<name>`.

        Of one value for each unit that is the mean, and `<name>_min` and `<name>_max` stand beside.
        """
        readings: dict[str, Array] = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            names = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
            if "numbers" in names:
                place = names.index("numbers")
                name = f"act_param/{names[place - 1]}/{names[place + 1]}"
                readings[name] = jnp.mean(leaf)
                if leaf.ndim:
                    readings |= {f"{name}_min": jnp.min(leaf), f"{name}_max": jnp.max(leaf)}
        return readings

    def forward(
        self, params: Params, act_hparams: Params, x: Array, capture: Capture = apply
    ) -> Float[Array, "batch outputs"]:
        """Return logits in float32; the arithmetic is in `trainer.precision`.

        Args:
            params: trained parameters.
            act_hparams: untrained parameters of the activations.
            x: examples [batch, *input_shape] as stored, before `scale` and `offset`.
            capture: receives every pre-activation; see `models`.
        """
        dtype = jnp.dtype(self.config.trainer.precision)
        cast = lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype), tree)  # noqa: E731
        model = nnx.merge(self.graph, cast(params), cast(act_hparams))
        x = x.astype(jnp.float32) * self.task.scale + self.task.offset
        return model(x.astype(dtype), capture).astype(jnp.float32)

    def losses(self, logits: Array, y: Array) -> tuple[Float[Array, "batch"], Bool[Array, "batch"]]:
        """Return each example's loss, and whether its class is predicted correctly.

        Args:
            logits: Float["batch outputs"].
            y: Int["batch"] labels, or Float["batch outputs"] targets of a regression.

        Returns:
            The cross-entropy in nats, or the squared error averaged over outputs; and for each
            example whether the largest logit is that of its label (False for a regression).
        """
        if self.task.classes is None:
            return jnp.mean(jnp.square(logits - y), axis=-1), jnp.zeros(len(y), bool)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return loss, jnp.argmax(logits, axis=-1) == y

    def scores(self, prefix: str, loss: Array, right: Array) -> dict[str, Array]:
        """Return mean loss and, for classes, accuracy by their metric names.

        Args:
            prefix: `train`, `val` or `test`.
            loss: the mean loss.
            right: the share of examples that are classified correctly.
        """
        readings = {f"{prefix}/loss": loss}
        if self.task.classes is not None:
            readings[f"{prefix}/accuracy"] = right
        return readings


def _check_model(model: Any, config: RunConfig) -> None:
    """Check that a model is made as `models` says, and holds nothing but parameters.

    Raises:
        UserError: it isn't, or does.
    """
    name = f"model._target_={config.model._target_}" if config.model._target_ else "model"
    layers = getattr(model, "layers", None)
    if not isinstance(layers, nnx.Dict) or not all(
        hasattr(layer, "kernel") for layer in layers.values()
    ):
        raise UserError(
            f"{name}: must have `layers`, an nnx.Dict of its weighted layers by name, each with a "
            "kernel, as make.dense and make.conv return them"
        )
    rest: Any = nnx.split(model, nnx.Param, HParam, ...)[-1]
    found = [
        (".".join(map(str, path)), type(leaf).__name__) for path, leaf in nnx.to_flat_state(rest)
    ]
    if found:
        path, kind = found[0]
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise UserError(
            f"{name}: holds {path} ({kind}{more}), which isn't trained: batch normalisation, "
            "dropout and other state are not supported yet; leave it out"
        )


def split(model: nnx.Module) -> tuple[Any, Params, Params]:
    """Divide a model into (graph, trained parameters, untrained parameters of activations)."""
    graph, params, act_hparams = nnx.split(model, nnx.Param, HParam)  # type: ignore[misc]
    return graph, params, act_hparams
