"""A model of tokens: each is embedded, averaged with those before it, and sent through a layer."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from actsweep.nn.models.layers import LayerFactory

UNITS = 12


class Bigram(nnx.Module):
    """Logits of the next token [batch, length, vocabulary], from the tokens up to here."""

    def __init__(self, make: LayerFactory, input_shape: tuple[int, ...], outputs: int) -> None:
        assert make.vocabulary == outputs
        self.embed = nnx.Embed(outputs, UNITS, rngs=make.rngs("embed"))
        self.up = make.dense("up", UNITS, make.inputs(UNITS))
        self.act = make.act(UNITS)
        self.head = make.dense("head", UNITS, outputs)

    def __call__(self, x: Any) -> Any:
        assert jnp.issubdtype(x.dtype, jnp.integer)
        tokens = self.embed(x)
        count = jnp.arange(1, x.shape[1] + 1, dtype=tokens.dtype)
        before = jnp.cumsum(tokens, axis=1) / count[None, :, None]
        return self.head(self.act(self.up(tokens + before)))


class Flat(Bigram):
    """Logits of one token for each example, which is too few."""

    def __call__(self, x: Any) -> Any:
        return super().__call__(x)[:, -1]
