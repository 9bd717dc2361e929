"""Residual networks for small images, and the same networks without their skips."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from actsweep.nn.models import norms
from actsweep.nn.models.cnn import image
from actsweep.nn.models.layers import LayerFactory
from actsweep.utils.errors import UserError

STAGES = 3


class Block(nnx.Module):
    """Two convolutions f, and x + f(x), or f(x) without `skip`.

    With `preact` normalisation and activation stand in front of each convolution, else behind it,
    the last activation behind the sum.
    """

    def __init__(
        self, make: LayerFactory, name: str, inputs: int, units: int, stride: int, options: Any
    ) -> None:
        self.preact, self.skip, self.stride = options["preact"], options["skip"], stride
        norm, bias = options["norm"], options["bias"]
        conv = lambda i, n, s: make.conv(f"{name}.conv_{i}", n, units, stride=s, bias=bias)  # noqa: E731
        self.conv_1, self.conv_2 = conv(1, inputs, stride), conv(2, units, 1)
        self.act_1 = make.act(inputs if self.preact else units, f"{name}.act_1")
        self.act_2 = make.act(units, f"{name}.act_2")
        self.norm_1 = make.norm(norm, f"{name}.norm_1", inputs if self.preact else units)
        self.norm_2 = make.norm(norm, f"{name}.norm_2", units)
        self.gain = nnx.Param(jnp.float32(0.0)) if options["scaled"] else None

    def __call__(self, x: Array) -> Array:
        if self.preact:
            f = self.conv_1(self.act_1(norms.apply(self.norm_1, x)))
            f = self.conv_2(self.act_2(norms.apply(self.norm_2, f)))
            return self._add(x, f)
        f = self.act_1(norms.apply(self.norm_1, self.conv_1(x)))
        return self.act_2(self._add(x, norms.apply(self.norm_2, self.conv_2(f))))

    def _add(self, x: Array, f: Array) -> Array:
        f = f if self.gain is None else f * self.gain[...]
        return shortcut(x, self.stride, f.shape[-1]) + f if self.skip else f


class ResNet(nnx.Module):
    """The network of He et al. 2016 for small images, of 6n + 2 layers with weights.

    "Deep residual learning for image recognition", section 4.2: `stem`, then three stages of n
    blocks of two 3x3 convolutions, each stage with half the image and twice the channels, the mean
    over the image, and `head`. Shortcuts have no parameters (option A). `depth.layers` is 6n + 2,
    `depth.width` the channels of the first stage.

    Args:
        norm: none, batch, group, layer, rms, local_response, dyt, derf, or skipinit: none, but each
            f(x) times a learned number that starts at 0 (De and Smith 2020, "Batch normalization
            biases residual blocks towards the identity function in deep networks").
        skip: without it, the plain network of the same layers.
        preact: normalisation and activation before each convolution (He et al. 2016, "Identity
            mappings in deep residual networks").

    Raises:
        UserError: the examples aren't images, or no such depth, or the activation takes several
            inputs a unit.
    """

    def __init__(
        self,
        make: LayerFactory,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        norm: str = "batch",
        skip: bool = True,
        preact: bool = False,
    ) -> None:
        _, _, channels = image(input_shape, "resnet")
        layers, width = make.equal_widths("resnet")
        if (layers - 2) % (2 * STAGES) or layers < 8:
            near = max(8, 6 * round((layers - 2) / 6) + 2)
            raise UserError(
                f"depth.layers={layers}: model=resnet has 6n + 2 layers; type for example "
                f"depth={near}"
            )
        acts = [f"blocks.{i}.act_{j}" for i in range(layers // 2 - 1) for j in (1, 2)]
        make.check_single_inputs("resnet", "last_act" if preact else "stem_act", *acts)
        scaled = norm == "skipinit"
        norm = "none" if scaled else norm
        options = {"norm": norm, "skip": skip, "preact": preact, "scaled": scaled}
        options["bias"] = norm in ("none", "local_response")
        self.stem = make.conv("stem", channels, width, raw=True, bias=bool(options["bias"]))
        self.stem_norm = None if preact else make.norm(norm, "stem_norm", width)
        self.stem_act = None if preact else make.act(width, "stem_act")
        blocks, inputs = [], width
        for i in range(layers // 2 - 1):
            stage, place = divmod(i, (layers - 2) // (2 * STAGES))
            units, stride = width * 2**stage, 2 if stage and not place else 1
            blocks.append(Block(make, f"blocks.{i}", inputs, units, stride, options))
            inputs = units
        self.blocks = nnx.List(blocks)
        self.last_norm = make.norm(norm, "last_norm", inputs) if preact else None
        self.last_act = make.act(inputs, "last_act") if preact else None
        self.head = make.dense("head", inputs, outputs)

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch outputs"]:
        x = self.stem(x)
        if self.stem_act is not None:
            x = self.stem_act(norms.apply(self.stem_norm, x))
        for block in self.blocks:
            x = block(x)
        if self.last_act is not None:
            x = self.last_act(norms.apply(self.last_norm, x))
        return self.head(jnp.mean(x, axis=(1, 2)))


def shortcut(
    x: Float[Array, "batch height width inputs"], stride: int, units: int
) -> Float[Array, "batch height/stride width/stride units"]:
    """Return every `stride`-th pixel, with channels of zeros: a skip without parameters."""
    if stride == 1 and units == x.shape[-1]:
        return x
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, units - x.shape[-1])))
