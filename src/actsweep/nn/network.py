"""The model of ONE member as pure functions of its parameters, and what it is asked to do."""

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
from actsweep.nn.models.layers import Capture, HParam, Make, apply

Params = Any
HParams = Mapping[str, Array]


@dataclass(frozen=True)
class Task:
    """What the network is asked to do, and for how long.

    Attributes:
        input_shape: of one example.
        classes: number of classes, or None for regression.
        outputs: width of the head.
        scale, offset: the network reads x * scale + offset.
        total_steps: optimiser steps of the whole training, for the schedule.
    """

    input_shape: tuple[int, ...]
    classes: int | None
    outputs: int
    scale: float
    offset: float
    total_steps: int


class Network:
    """The model as pure functions of params: forward pass, loss, layer names.

    `params` and `act_hparams` are the abstract trees (shapes and types) of what `forward` takes.
    """

    def __init__(self, config: RunConfig, task: Task, hparams: HParams) -> None:
        self.config, self.task = config, task
        abstract = nnx.eval_shape(lambda h: self.draw(h), dict(hparams))
        self.layers: tuple[str, ...] = tuple(abstract.layers)  # from input to output
        self.graph, self.params, self.act_hparams = split(abstract)

    def draw(self, hparams: HParams) -> Any:
        """A freshly drawn model."""
        return models.build(Make(self.config, hparams), self.task.input_shape, self.task.outputs)

    def kernels(self, tree: Params) -> dict[str, Array]:
        """Of params, or of anything shaped like them: each layer's kernel, input to output."""
        return {name: tree["layers"][name]["kernel"][...] for name in self.layers}

    def forward(
        self, params: Params, act_hparams: Params, x: Array, capture: Capture = apply
    ) -> Float[Array, "batch outputs"]:
        """Logits (float32) of stored examples; arithmetic in the configured precision."""
        dtype = jnp.dtype(self.config.trainer.precision)
        cast = lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype), tree)  # noqa: E731
        model = nnx.merge(self.graph, cast(params), cast(act_hparams))
        x = x.astype(jnp.float32) * self.task.scale + self.task.offset
        return model(x.astype(dtype), capture).astype(jnp.float32)

    def losses(self, logits: Array, y: Array) -> tuple[Float[Array, "batch"], Bool[Array, "batch"]]:
        """Each example's loss (cross-entropy in nats, or squared error) and whether it is right."""
        if self.task.classes is None:
            return jnp.mean(jnp.square(logits - y), axis=-1), jnp.zeros(len(y), bool)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return loss, jnp.argmax(logits, axis=-1) == y

    def scores(self, prefix: str, loss: Array, right: Array) -> dict[str, Array]:
        """Mean loss and, for classes, accuracy, by their metric names."""
        readings = {f"{prefix}/loss": loss}
        if self.task.classes is not None:
            readings[f"{prefix}/accuracy"] = right
        return readings


def split(model: nnx.Module) -> tuple[Any, Params, Params]:
    """A model as (graph, trained parameters, untrained numbers)."""
    graph, params, act_hparams = nnx.split(model, nnx.Param, HParam)  # type: ignore[misc]
    return graph, params, act_hparams
