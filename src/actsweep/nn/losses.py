"""Losses by name: what each example costs, and what of it is predicted correctly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from actsweep.config.schema import LossConfig
from actsweep.utils.errors import UserError, bad_value, unknown_name


@dataclass(frozen=True)
class Loss:
    """A loss.

    Attributes:
        task: what it trains.
        each: logits [batch, ...], y and the label smoothing -> each example's loss [batch].
        right: logits and y -> what is predicted correctly: Bool["batch"], or of each token.
        smooths: whether labels can be smoothed.
    """

    task: str
    each: Callable[[Array, Array, float], Float[Array, "batch"]]
    right: Callable[[Array, Array], Bool[Array, "batch ..."]]
    smooths: bool = True


def cross_entropy(logits: Array, y: Array, smoothing: float) -> Float[Array, "..."]:
    """Return -sum_k q_k log softmax(logits)_k in nats, for each label.

    q is 1 at the label. Smoothed, it is (1 - s) there and s / K more everywhere (Szegedy et al.,
    2016, https://arxiv.org/abs/1512.00567).

    Args:
        logits: Float["... classes"].
        y: Int["..."].
        smoothing: s.
    """
    y = y.astype(jnp.int32)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    if not smoothing:
        return loss
    even = jax.nn.logsumexp(logits, axis=-1) - jnp.mean(logits, axis=-1)
    return (1 - smoothing) * loss + smoothing * even


def next_token(logits: Array, y: Array, smoothing: float) -> Float[Array, "batch"]:
    """Return the mean cross-entropy of an example's tokens, in nats per token.

    Args:
        logits: Float["batch length vocabulary"].
        y: Int["batch length"].
        smoothing: as in `cross_entropy`.
    """
    return jnp.mean(cross_entropy(logits, y, smoothing), axis=-1)


def binary_cross_entropy(logits: Array, y: Array, smoothing: float) -> Float[Array, "batch"]:
    """Return -q log p - (1 - q) log(1 - p) in nats, the mean over labels that may hold together.

    p is the sigmoid of the logit; q is y, or smoothed (1 - s) y + s / 2.

    Args:
        logits: Float["batch labels"].
        y: 0 or 1, ["batch labels"].
        smoothing: s.
    """
    q = y.astype(jnp.float32)
    q = (1 - smoothing) * q + smoothing / 2 if smoothing else q
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, q), axis=-1)


def squared_error(logits: Array, y: Array, smoothing: float) -> Float[Array, "batch"]:
    """Return the squared error, the mean over outputs.

    Args:
        logits, y: Float["batch outputs"].
        smoothing: 0.
    """
    del smoothing
    return jnp.mean(jnp.square(logits - y), axis=-1)


def _largest(logits: Array, y: Array) -> Bool[Array, "..."]:
    """Return whether the largest logit is that of the label."""
    return jnp.argmax(logits, axis=-1) == y.astype(jnp.int32)


def _all_labels(logits: Array, y: Array) -> Bool[Array, "batch"]:
    """Return whether exactly the labels that hold have a probability above a half."""
    return jnp.all((logits > 0) == (y > 0), axis=-1)


def _none(logits: Array, y: Array) -> Bool[Array, "batch"]:
    """Return False for each example: no number is predicted exactly."""
    del logits
    return jnp.zeros(len(y), bool)


LOSSES: Mapping[str, Loss] = {
    "cross_entropy": Loss("classification", cross_entropy, _largest),
    "binary_cross_entropy": Loss("multilabel", binary_cross_entropy, _all_labels),
    "squared_error": Loss("regression", squared_error, _none, smooths=False),
    "next_token": Loss("next_token", next_token, _largest),
}


def loss_of(config: LossConfig, task: str) -> Loss:
    """Return the loss that a config names; `auto` is that of the task.

    Raises:
        UserError: an unknown name, or a loss that doesn't train this task.
    """
    fitting = next(name for name, loss in LOSSES.items() if loss.task == task)
    name = fitting if config.name == "auto" else config.name
    if name not in LOSSES:
        raise unknown_name("loss.name", name, ("auto", *LOSSES))
    if LOSSES[name].task != task:
        allowed = f"{fitting}, since these data are for {task.replace('_', '-')}"
        raise bad_value("loss.name", name, allowed, "loss.name=auto")
    if config.label_smoothing and not LOSSES[name].smooths:
        raise UserError(
            f"loss.label_smoothing={config.label_smoothing}: {name} has no labels to smooth; type "
            "loss.label_smoothing=0"
        )
    return LOSSES[name]
