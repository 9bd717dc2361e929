"""Convolutional networks: stages of (conv, act), pooled, then dense layers and the head."""

from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from actsweep.nn.models import norms
from actsweep.nn.models.layers import LayerFactory
from actsweep.utils.errors import UserError

POOLS: dict[str, Any] = {"avg": nnx.avg_pool, "max": nnx.max_pool}


class CNN(nnx.Module):
    """Stages of convolutions, then dense layers; by default the network of the Flax tutorials.

    Stage i has `convs` convolutions of `model.channels[i]` channels, conv_1 … conv_n in all, each
    followed by the activation, and ends with a 2x2 pool. Then come the dense layers of `depth` and
    the linear `head`. With convs=2 and pool=max it is like VGG (Simonyan and Zisserman 2015, "Very
    deep convolutional networks for large-scale image recognition", table 1).

    Args:
        convs: convolutions a stage.
        kernel: their height and width.
        stride: that of each stage's first convolution.
        pool: avg, max or none.
        norm: normalises each convolution's output: none, batch, layer, rms, group, local_response.
        dropout: share of units that are zero in a training step, after each dense activation.

    Raises:
        UserError: the examples aren't images, or are too small to be pooled n times.
    """

    def __init__(
        self,
        make: LayerFactory,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        convs: int = 1,
        kernel: int = 3,
        stride: int = 1,
        pool: str = "avg",
        norm: str = "none",
        dropout: float = 0.0,
    ) -> None:
        channels = make.config.model.channels or [32, 64]
        shrinking = stride * (1 if pool == "none" else 2)
        height, width, depth = _image(input_shape, len(channels), shrinking)
        self.layers: nnx.Dict = nnx.Dict()
        self.acts: nnx.Dict = nnx.Dict()
        self.norms: nnx.Dict = nnx.Dict()
        self.dropouts: nnx.Dict = nnx.Dict()
        self.pool = POOLS.get(pool)
        ends = range(convs - 1, len(channels) * convs, convs) if self.pool else range(0)
        self.pooled = tuple(f"conv_{i + 1}" for i in ends)
        after = None
        for i in range(len(channels) * convs):
            name, units = f"conv_{i + 1}", channels[i // convs]
            now, inputs = stride if i % convs == 0 else 1, make.inputs(units, name)
            self.layers[name] = make.conv(
                name, depth, inputs, raw=i == 0, after=after, kernel=kernel, stride=now
            )
            self.acts[name], depth, after = make.act(units, name), units, name
            if norm != "none":
                self.norms[name] = make.norm(norm, f"norms.{name}", inputs)
            height, width = -(-height // now), -(-width // now)
            if name in self.pooled:
                height, width = height // 2, width // 2
        layers, acts, features = make.hidden(height * width * depth, after=after)
        self.layers.update(layers)
        self.acts.update(acts)
        if dropout:
            self.dropouts.update({n: make.dropout(dropout, f"dropouts.{n}") for n in acts})
        self.order = tuple(self.acts)
        self.layers["head"] = make.dense("head", features, outputs, after=self.order[-1])

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch outputs"]:
        for name in self.order:
            if name.startswith("hidden"):
                x = x.reshape(x.shape[0], -1)
            z = norms.apply(self.norms.get(name), self.layers[name](x))
            x = norms.apply(self.dropouts.get(name), self.acts[name](z))
            if name in self.pooled and self.pool:
                x = self.pool(x, (2, 2), (2, 2))
        return self.layers["head"](x.reshape(x.shape[0], -1))


def _image(input_shape: tuple[int, ...], stages: int, shrinking: int) -> tuple[int, int, int]:
    height, width, depth = image(input_shape, "cnn")
    least = shrinking**stages
    if min(height, width) < least:
        raise UserError(
            f"model.channels: {stages} poolings need images of at least {least}x{least}, but "
            f"this data's are {height}x{width}; type for example model.channels=[32]"
        )
    return height, width, depth


def image(input_shape: tuple[int, ...], model: str) -> tuple[int, int, int]:
    """Return height, width and channels of an example.

    Raises:
        UserError: the examples aren't images.
    """
    if len(input_shape) != 3:
        raise UserError(
            f"model={model}: needs images [height, width, channels], but this data's examples have "
            f"shape {list(input_shape)}; type for example data=fashion_mnist, or model=mlp"
        )
    height, width, depth = input_shape
    return height, width, depth
