"""Transformers: an encoder of images in patches, a decoder of tokens."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from actsweep.nn.models import norms
from actsweep.nn.models.cnn import image
from actsweep.nn.models.layers import LayerFactory
from actsweep.utils.errors import bad_value


class Attention(nnx.Module):
    """Self-attention with several heads (Vaswani et al. 2017, section 3.2).

    Args:
        causal: each place sees only itself and those before it.
    """

    def __init__(
        self, make: LayerFactory, name: str, width: int, heads: int, *, causal: bool
    ) -> None:
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value, self.out = (
            make.dense(f"{name}.{part}", width, width) for part in ("query", "key", "value", "out")
        )

    def __call__(self, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        divided = (*x.shape[:-1], self.heads, x.shape[-1] // self.heads)
        q, k, v = (part(x).reshape(divided) for part in (self.query, self.key, self.value))
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.reshape(x.shape))


class Feedforward(nnx.Module):
    """W2 f(W1 x), with 4 hidden units for each of the input; gated activations take twice W1."""

    def __init__(self, make: LayerFactory, name: str, width: int) -> None:
        self.up = make.dense(f"{name}.up", width, make.inputs(4 * width, name))
        self.act = make.act(4 * width, name)
        self.down = make.dense(f"{name}.down", 4 * width, width, after=name)

    def __call__(self, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        return self.down(self.act(self.up(x)))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, make: LayerFactory, name: str, width: int, options: Any) -> None:
        self.norm_1 = make.norm(options["norm"], f"{name}.norm_1", width)
        self.norm_2 = make.norm(options["norm"], f"{name}.norm_2", width)
        causal, heads = options["causal"], options["heads"]
        self.attention = Attention(make, f"{name}.attention", width, heads, causal=causal)
        self.mlp = Feedforward(make, f"{name}.mlp", width)
        self.dropout_1 = make.dropout(options["dropout"], f"{name}.dropout_1")
        self.dropout_2 = make.dropout(options["dropout"], f"{name}.dropout_2")

    def __call__(self, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        f = self.attention(norms.apply(self.norm_1, x))
        x = x + norms.apply(self.dropout_1, f)
        f = self.mlp(norms.apply(self.norm_2, x))
        return x + norms.apply(self.dropout_2, f)


class Transformer(nnx.Module):
    """A pre-norm transformer with `depth.layers` blocks of `depth.width`.

    Images are an encoder's (Dosovitskiy et al. 2021, "An image is worth 16x16 words", but for the
    class token: `head` reads the mean over places). Tokens are a decoder's, whose last product is
    with the table of tokens, as GPT-2's (Radford et al. 2019).

    Args:
        heads: of attention; they divide the width.
        patch: height and width of the patches that an image is cut into.
        norm: none, layer, rms, dyt or derf.
        dropout: share of units that are zero in a training step, of every block's two sums.

    Raises:
        UserError: heads or patches that don't divide, or examples that are neither images nor
            tokens.
    """

    def __init__(
        self,
        make: LayerFactory,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        heads: int = 4,
        patch: int = 4,
        norm: str = "layer",
        dropout: float = 0.0,
    ) -> None:
        layers, width = make.equal_widths("transformer")
        if width % heads:
            raise bad_value(
                "model.heads", heads, f"a divisor of depth.width={width}", "model.heads=1"
            )
        if make.vocabulary is None:
            self.patch, (places, features) = patch, _patches(input_shape, patch)
            self.patches = make.dense("patches", features, width, raw=True)
            self.head = make.dense("head", width, outputs)
            self.tokens = None
        else:
            places = input_shape[0]
            self.tokens = make.embedding("tokens", make.vocabulary, width)
        self.places = make.embedding("places", places, width)
        options = {"heads": heads, "norm": norm, "dropout": dropout}
        options["causal"] = make.vocabulary is not None
        self.blocks = nnx.List([Block(make, f"blocks.{i}", width, options) for i in range(layers)])
        self.last_norm = make.norm(norm, "last_norm", width)

    def __call__(
        self, x: Float[Array, "batch height width channels"] | Int[Array, "batch length"]
    ) -> Float[Array, "batch outputs"] | Float[Array, "batch length vocabulary"]:
        x = self.tokens(x) if self.tokens is not None else self.patches(cut(x, self.patch))
        x = x + self.places(jnp.arange(x.shape[1]))[None]
        for block in self.blocks:
            x = block(x)
        x = norms.apply(self.last_norm, x)
        if self.tokens is not None:
            return self.tokens.attend(x)
        return self.head(jnp.mean(x, axis=1))


def cut(
    x: Float[Array, "batch height width channels"], patch: int
) -> Float[Array, "batch patches features"]:
    """Return an image's patches, row by row, each as one vector."""
    batch, height, width, channels = x.shape
    rows, columns = height // patch, width // patch
    x = x.reshape(batch, rows, patch, columns, patch, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, rows * columns, patch * patch * channels)


def _patches(input_shape: tuple[int, ...], patch: int) -> tuple[int, int]:
    """Return the number of an image's patches, and the numbers in each.

    Raises:
        UserError: it isn't an image, or can't be cut into patches of that size.
    """
    height, width, channels = image(input_shape, "transformer")
    if height % patch or width % patch:
        fitting = [n for n in range(2, min(height, width)) if not height % n and not width % n]
        allowed = f"a divisor of this data's images, {height}x{width}"
        raise bad_value("model.patch", patch, allowed, f"model.patch={(fitting or [1])[0]}")
    return (height // patch) * (width // patch), patch * patch * channels
