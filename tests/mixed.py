"""A model with all that a model may hold: nested blocks, running averages, shared streams."""

import math
from typing import Any

from flax import nnx

from actsweep.nn.models.layers import LayerFactory


class Block(nnx.Module):
    """x + dropout(f(norm(x W + b))), without the skip where the width changes."""

    def __init__(self, make: LayerFactory, name: str, inputs: int, units: int, rngs: Any) -> None:
        # Not in the order in which they are called.
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.act = make.act(units)
        self.norm = nnx.BatchNorm(make.inputs(units), momentum=0.9, rngs=make.rngs(f"{name}.norm"))
        self.up = make.dense(f"{name}.up", inputs, make.inputs(units))

    def __call__(self, x: Any) -> Any:
        a = self.dropout(self.act(self.norm(self.up(x))))
        return x + a if x.shape == a.shape else a


class Mixed(nnx.Module):
    """Two blocks, which share a random stream, and a layer of flax's own in front."""

    def __init__(self, make: LayerFactory, input_shape: tuple[int, ...], outputs: int) -> None:
        rngs = make.rngs("dropout")
        self.head = make.dense("head", 12, outputs)
        self.blocks = nnx.List([Block(make, f"blocks.{i}", 12, 12, rngs) for i in range(2)])
        self.a_last_norm = nnx.LayerNorm(12, rngs=make.rngs("a_last_norm"))
        self.stem = nnx.Linear(math.prod(input_shape), 12, rngs=make.rngs("stem"))

    def __call__(self, x: Any) -> Any:
        x = self.stem(x.reshape(x.shape[0], -1))
        for block in self.blocks:
            x = block(x)
        return self.head(self.a_last_norm(x))
