"""The small convolutional network of the Flax tutorials: (conv, act, pool) x n, dense, head."""

from flax import nnx
from jaxtyping import Array, Float

from actsweep.nn.models.layers import LayerFactory
from actsweep.utils.errors import UserError


class CNN(nnx.Module):
    """A network of n convolutions, then dense layers.

    conv_1 … conv_n (3x3, `model.channels`) are each followed by the activation and a 2x2 average
    pool; then come the dense layers of `depth` and the linear `head`.

    Raises:
        UserError: the examples aren't images, or are too small to be pooled n times.
    """

    def __init__(self, make: LayerFactory, input_shape: tuple[int, ...], outputs: int) -> None:
        channels = make.config.model.channels or [32, 64]
        height, width, depth = _image(input_shape, len(channels))
        self.layers: nnx.Dict = nnx.Dict()
        self.acts: nnx.Dict = nnx.Dict()
        after = None
        for i, units in enumerate(channels, 1):
            name = f"conv_{i}"
            outputs_of = make.inputs(units, name)
            self.layers[name] = make.conv(name, depth, outputs_of, raw=i == 1, after=after)
            self.acts[name] = make.act(units, name)
            height, width, depth, after = height // 2, width // 2, units, name
        layers, acts, features = make.hidden(height * width * depth, after=after)
        self.layers.update(layers)
        self.acts.update(acts)
        self.order = tuple(self.acts)
        self.layers["head"] = make.dense("head", features, outputs, after=self.order[-1])

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch outputs"]:
        for name in self.order:
            if name.startswith("hidden"):
                x = x.reshape(x.shape[0], -1)
            x = self.acts[name](self.layers[name](x))
            if name.startswith("conv"):
                x = nnx.avg_pool(x, (2, 2), (2, 2))
        return self.layers["head"](x.reshape(x.shape[0], -1))


def _image(input_shape: tuple[int, ...], pools: int) -> tuple[int, int, int]:
    if len(input_shape) != 3:
        raise UserError(
            f"model=cnn: needs images [height, width, channels], but this data's examples have "
            f"shape {list(input_shape)}; type for example data=fashion_mnist, or model=mlp"
        )
    height, width, depth = input_shape
    if min(height, width) < 2**pools:
        raise UserError(
            f"model.channels: {pools} poolings need images of at least {2**pools}x{2**pools}, but "
            f"this data's are {height}x{width}; type for example model.channels=[32]"
        )
    return height, width, depth
