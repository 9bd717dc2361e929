"""The multilayer perceptron: dense layers of any widths, each followed by an activation."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from actsweep.nn.models import norms
from actsweep.nn.models.layers import LayerFactory


class MLP(nnx.Module):
    """Dense layers hidden_1 … hidden_L of the widths in `depth`, then the linear `head`.

    Args:
        norm: normalises each pre-activation: none, batch, layer, rms.
        residual: adds a layer's input to its output where both have one width.
        dropout: share of units that are zero in a training step, after each activation.
    """

    # What a subclass has that draws its layers itself.
    residual = False
    norms: Mapping[str, Any] = MappingProxyType({})
    dropouts: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        make: LayerFactory,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        norm: str = "none",
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        inputs = math.prod(input_shape)
        self.layers, self.acts, last = make.hidden(inputs, raw=True)
        self.order, self.residual = tuple(self.acts), residual
        self.layers["head"] = make.dense("head", last, outputs, after=self.order[-1])
        widths = dict(zip(self.order, make.config.widths, strict=True))
        self.norms = nnx.Dict(
            {
                name: make.norm(norm, f"norms.{name}", make.inputs(units, name))
                for name, units in widths.items()
                if norm != "none"
            }
        )
        self.dropouts = nnx.Dict(
            {name: make.dropout(dropout, f"dropouts.{name}") for name in widths if dropout}
        )

    def __call__(self, x: Float[Array, "batch *example"]) -> Float[Array, "batch outputs"]:
        x = x.reshape(x.shape[0], -1)
        for name in self.order:
            z = norms.apply(self.norms.get(name), self.layers[name](x))
            a = self.acts[name](z)
            a = norms.apply(self.dropouts.get(name), a)
            x = x + a if self.residual and x.shape == a.shape else a
        return self.layers["head"](x)
