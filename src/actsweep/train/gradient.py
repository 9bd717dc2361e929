"""The gradient of a training step, in less memory where that is asked for. Pure."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PRNGKeyArray

from actsweep.nn.network import Held, Params


def gradient_of(mean_loss: Callable, parts: int) -> Callable:
    """Return what computes a batch's mean loss and its gradient.

    With several parts (`trainer.accumulate`) the batch is cut into so many equal ones, which follow
    each other: their gradients are averaged; what isn't trained goes from one part to the next,
    such as running statistics; each part has random streams of its own. A norm over the batch is
    one over a part.

    Args:
        mean_loss: `(params, held, x, y, key) -> loss, (share that is right, held)`.
        parts: of a batch.

    Returns:
        `(params, held, x [B, ...], y [B, ...], key) -> (loss, (right, held)), gradient`.
    """
    gradient = jax.value_and_grad(mean_loss, has_aux=True)
    if parts == 1:
        return gradient

    def averaged(params: Params, held: Held, x: Array, y: Array, key: PRNGKeyArray) -> Any:
        act_hparams, model_state = held

        def add(carry: tuple[Any, Any], part: tuple[Array, Array, Array]) -> tuple[Any, None]:
            model_state, sums = carry
            number, x, y = part
            (loss, (right, (_, model_state))), grads = gradient(
                params, (act_hparams, model_state), x, y, jax.random.fold_in(key, number)
            )
            return (model_state, jax.tree.map(jnp.add, sums, (loss, right, grads))), None

        xs, ys = (leaf.reshape(parts, -1, *leaf.shape[1:]) for leaf in (x, y))
        zero = jnp.float32(0.0)
        sums: Any = (zero, zero, jax.tree.map(jnp.zeros_like, params))
        numbers = jnp.arange(parts, dtype=jnp.int32)
        (model_state, sums), _ = lax.scan(add, (model_state, sums), (numbers, xs, ys))
        loss, right, grads = jax.tree.map(lambda total: total / parts, sums)
        return (loss, (right, (act_hparams, model_state))), grads

    return averaged
