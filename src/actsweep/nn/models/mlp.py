"""The multilayer perceptron: dense layers of any widths, each followed by an activation."""

import math

from flax import nnx
from jaxtyping import Array, Float

from actsweep.nn.models.layers import LayerFactory


class MLP(nnx.Module):
    """Dense layers hidden_1 … hidden_L of the widths in `depth`, then the linear `head`."""

    def __init__(self, make: LayerFactory, input_shape: tuple[int, ...], outputs: int) -> None:
        inputs = math.prod(input_shape)
        self.layers, self.acts, inputs = make.hidden(inputs, raw=True)
        self.order = tuple(self.acts)
        self.layers["head"] = make.dense("head", inputs, outputs, after=self.order[-1])

    def __call__(self, x: Float[Array, "batch *example"]) -> Float[Array, "batch outputs"]:
        x = x.reshape(x.shape[0], -1)
        for name in self.order:
            x = self.acts[name](self.layers[name](x))
        return self.layers["head"](x)
