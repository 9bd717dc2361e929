"""A multilayer perceptron with a function behind its last layer."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from actsweep.nn.models.layers import LayerFactory
from actsweep.nn.models.mlp import MLP


def log_odds(z: Float[Array, "batch outputs"]) -> Float[Array, "batch outputs"]:
    """Return log(p / (1 - p)) with p the softmax of z: z_j - log(sum of exp(z_k) over k != j)."""
    outputs = z.shape[-1]
    others = jnp.broadcast_to(z[:, None], (len(z), outputs, outputs))
    own = jnp.eye(outputs, dtype=bool)[None]
    return z - jax.nn.logsumexp(jnp.where(own, -jnp.inf, others), axis=-1)


OUTPUTS: Mapping[str, Callable[[Array], Array]] = {
    "linear": lambda z: z,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "log_odds": log_odds,
    "log_sigmoid": jax.nn.log_sigmoid,
}
"""Functions of the head's outputs. A loss of logits brings a sigmoid or softmax of its own: of
`log_odds` its sigmoid is a softmax, of `log_sigmoid` its softmax is sigmoids over their sum."""


class OutputMLP(MLP):
    """An MLP whose head is followed by a function.

    Args:
        output: one of `OUTPUTS`.
    """

    def __init__(
        self, make: LayerFactory, input_shape: tuple[int, ...], outputs: int, *, output: str
    ) -> None:
        super().__init__(make, input_shape, outputs)
        self.output = output

    def __call__(self, x: Float[Array, "batch *example"]) -> Float[Array, "batch outputs"]:
        return OUTPUTS[self.output](super().__call__(x))
