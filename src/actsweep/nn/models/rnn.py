"""Recurrent networks: simple, LSTM and GRU cells, over the rows of images or over tokens."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from actsweep.nn.models import norms
from actsweep.nn.models.layers import LayerFactory
from actsweep.nn.models.recording import scan
from actsweep.utils.errors import UserError

GATES = {"simple": 1, "lstm": 4, "gru": 3}


class Cell(nnx.Module):
    """One layer of recurrent units; f is the activation, s the logistic function.

    - simple: h' = f(W x + U h) (Elman 1990)
    - lstm: c' = s(q) c + s(i) f(g), h' = s(o) f(c') (Hochreiter and Schmidhuber 1997, with the
      forget gate q of Gers et al. 2000); each of i, q, g, o is W x + U h with its own W, U
    - gru: n = f(W x + r U h), h' = (1 - z) n + z h, r = s(…), z = s(…) (Cho et al. 2014, as in
      cuDNN)
    """

    def __init__(self, make: LayerFactory, name: str, inputs: int, units: int, kind: str) -> None:
        self.kind, self.units = kind, units
        self.input = make.dense(f"{name}.input", inputs, GATES[kind] * units)
        self.recurrent = make.dense(f"{name}.recurrent", units, GATES[kind] * units)
        acts = [name, f"{name}.state_act"][: 2 if kind == "lstm" else 1]
        make.check_single_inputs("rnn", *acts)
        self.act = make.act(units, name)
        self.state_act = make.act(units, acts[1]) if kind == "lstm" else None

    def __call__(self, x: Float[Array, "batch time inputs"]) -> Float[Array, "batch time units"]:
        """Return h of every step; the first h, and c, are 0."""
        zeros = jnp.zeros((x.shape[0], self.units), x.dtype)
        carry = (zeros, zeros) if self.kind == "lstm" else zeros
        steps: dict[str, Any] = {"simple": self._simple, "lstm": self._lstm, "gru": self._gru}
        acts = [act for act in (self.act, self.state_act) if act is not None]
        _, h = scan(steps[self.kind], carry, jnp.moveaxis(self.input(x), 1, 0), acts)
        return jnp.moveaxis(h, 0, 1)

    def _simple(self, h: Array, x: Array) -> tuple[Array, Array]:
        h = self.act(x + self.recurrent(h))
        return h, h

    def _lstm(self, carry: tuple[Array, Array], x: Array) -> tuple[Any, Array]:
        h, c = carry
        i, q, g, o = jnp.split(x + self.recurrent(h), 4, axis=-1)
        c = jax.nn.sigmoid(q) * c + jax.nn.sigmoid(i) * self.act(g)
        h = jax.nn.sigmoid(o) * self.state_act(c)  # type: ignore[misc]
        return (h, c), h

    def _gru(self, h: Array, x: Array) -> tuple[Array, Array]:
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (
            jnp.split(part, 3, -1) for part in (x, self.recurrent(h))
        )
        r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
        h = (1 - z) * self.act(x_n + r * h_n) + z * h
        return h, h


class RNN(nnx.Module):
    """`depth.layers` recurrent layers of `depth.width` units.

    They read the rows of an image from the top, or tokens. Of an image `head` reads the last step
    (with `bidirectional` that of either direction), of tokens every step.

    Args:
        cell: simple, lstm or gru.
        bidirectional: a second layer beside each reads backwards.
        dropout: share of units that are zero in a training step, between layers.

    Raises:
        UserError: examples without steps; tokens in both directions, which would see the token that
            they predict; an activation with several inputs a unit.
    """

    def __init__(
        self,
        make: LayerFactory,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        cell: str = "simple",
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        layers, width = make.equal_widths("rnn")
        if make.vocabulary is not None:
            if bidirectional:
                raise UserError(
                    "model.bidirectional=True: would see the token that it predicts; type "
                    "model.bidirectional=false"
                )
            tokens: Any = make.embedding("tokens", make.vocabulary, width)
            inputs = width
        else:
            tokens, inputs = None, _features(input_shape)
        self.tokens = tokens
        directions = 2 if bidirectional else 1
        cells, backwards = [], []
        for i in range(layers):
            cells.append(Cell(make, f"cells.{i}", inputs, width, cell))
            if bidirectional:
                backwards.append(Cell(make, f"backwards.{i}", inputs, width, cell))
            inputs = directions * width
        self.cells, self.backwards = nnx.List(cells), nnx.List(backwards)
        self.dropouts = nnx.List(
            [make.dropout(dropout, f"dropouts.{i}") for i in range(layers - 1) if dropout]
        )
        self.head = make.dense("head", inputs, outputs)

    def __call__(
        self, x: Float[Array, "batch height width channels"] | Int[Array, "batch length"]
    ) -> Float[Array, "batch outputs"] | Float[Array, "batch length vocabulary"]:
        x = self.tokens(x) if self.tokens is not None else x.reshape(*x.shape[:2], -1)
        for i, cell in enumerate(self.cells):
            h = cell(x)
            if self.backwards:
                back = jnp.flip(self.backwards[i](jnp.flip(x, axis=1)), axis=1)
                h = jnp.concatenate([h, back], axis=-1)
            x = norms.apply(self.dropouts[i] if i < len(self.dropouts) else None, h)
        if self.tokens is not None:
            return self.head(x)
        if not self.backwards:
            return self.head(x[:, -1])
        units = x.shape[-1] // 2
        return self.head(jnp.concatenate([x[:, -1, :units], x[:, 0, units:]], axis=-1))


def _features(input_shape: tuple[int, ...]) -> int:
    """Return how many numbers a step has: a row of an image, or a feature of a table."""
    features = 1
    for size in input_shape[1:]:
        features *= size
    return features
