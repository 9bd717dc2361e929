"""Scores of ONE member over a whole set of examples, slice by slice. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from actsweep.callbacks.base import Readings
from actsweep.nn.network import Held, Network, Params
from actsweep.train.types import Examples

EVAL_SLICE = 2_000

Sums = Mapping[str, Array]


class Measurement(NamedTuple):
    """What a task measures beside its mean loss and the share that is right.

    Attributes:
        sums: logits and labels of a slice -> arrays that are summed over slices.
        scores: the sums, all logits (None unless `keeps_logits`) and all labels -> scores by name.
        keeps_logits: whether the logits of the whole set are kept, for scores that rank them.
    """

    sums: Callable[[Array, Array], Sums]
    scores: Callable[[Sums, Array, Array], Readings]
    keeps_logits: bool = False


def build(net: Network) -> Callable[[Params, Held, Examples], Readings]:
    """Return the function that scores one member, by the scores of its task."""
    measurement, task = MEASUREMENTS[net.task.name], net.task.scores

    def of_slice(logits: Array, y: Array) -> tuple[Array, Array, Sums, Array | None]:
        loss, right = net.losses(logits, y)
        kept = logits if measurement.keeps_logits else None
        return (
            jnp.sum(loss),
            jnp.sum(right, dtype=jnp.int32),
            measurement.sums(logits, y),
            kept,
        )

    def score(params: Params, held: Held, examples: Examples) -> Readings:
        """Return the scores over a whole set by name, and what the activations have learned."""
        measure = lambda x, y: of_slice(net.forward(params, held, x), y)  # noqa: E731
        loss, right, sums, logits = _over_slices(measure, examples)
        n = len(examples.y)
        predictions = examples.y.size if net.task.name == "next_token" else n
        scores = {"loss": loss / n}
        if task.right is not None:
            scores[task.right] = right.astype(jnp.float32) / predictions
        more = measurement.scores({"loss": scores["loss"], **sums}, logits, examples.y)
        return {**scores, **more, **net.act_params(params)}

    return score


def _over_slices(measure: Callable, examples: Examples) -> tuple[Array, Array, Sums, Any]:
    """Return what is measured over a whole set: three sums, and rows in order."""
    n = len(examples.y)
    size = min(EVAL_SLICE, n)
    whole = n - n % size
    slices = jax.tree.map(lambda a: a[:whole].reshape(-1, size, *a.shape[1:]), examples)
    *totals, rows = lax.map(lambda part: measure(*part), slices)
    totals = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), totals)
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)
    if whole < n:
        *rest, last = measure(examples.x[whole:], examples.y[whole:])
        totals = jax.tree.map(jnp.add, totals, rest)
        rows = jax.tree.map(lambda *parts: jnp.concatenate(parts), rows, last)
    loss, right, sums = totals
    return loss, right, sums, rows


def _recalled(logits: Array, y: Array) -> Sums:
    """Return how many examples of each class are predicted correctly."""
    right = jnp.argmax(logits, axis=-1) == y
    return {"recalled": jnp.zeros(logits.shape[-1], jnp.int32).at[y].add(right.astype(jnp.int32))}


def _balanced(sums: Sums, logits: Array, y: Array) -> Readings:
    """Return the mean over classes of the share that is predicted correctly.

    Classes without an example don't count.
    """
    del logits
    recalled = sums["recalled"]
    of_class: Int[Array, classes] = jnp.zeros_like(recalled).at[y].add(1)
    recall = recalled / jnp.maximum(of_class, 1)
    present = jnp.sum(of_class > 0, dtype=jnp.float32)
    return {"balanced_accuracy": jnp.sum(recall) / present}


def _residual(logits: Array, y: Array) -> Sums:
    return {"residual": jnp.sum(jnp.square(logits - y), axis=0)}


def _determination(sums: Sums, logits: Array, y: Array) -> Readings:
    """Return R² = 1 - residual / total sum of squares, the mean over outputs.

    Of a target that is the same everywhere it is 1 if it is predicted exactly, else 0.
    """
    del logits
    residual, total = sums["residual"], jnp.sum(jnp.square(y - jnp.mean(y, 0)[None]), axis=0)
    varies = total > 0
    share = 1 - residual / jnp.where(varies, total, 1.0)
    return {"r2": jnp.mean(jnp.where(varies, share, (residual == 0).astype(jnp.float32)))}


def average_precision(scores: Float[Array, "n"], holds: Float[Array, "n"]) -> Float[Array, ""]:
    """Return the area under the steps of precision against recall; NaN if no label holds.

    That is the mean, over the examples for which the label holds, of the precision among those with
    at least the same score.
    """
    order = jnp.argsort(scores)
    ascending = scores[order]
    below = jnp.searchsorted(ascending, scores)  # with a lower score
    holding_below = jnp.concatenate([jnp.zeros(1), jnp.cumsum(holds[order])])[below]
    precision = (jnp.sum(holds) - holding_below) / (len(scores) - below).astype(jnp.float32)
    return jnp.sum(precision * holds) / jnp.sum(holds)


def _ranked(sums: Sums, logits: Array, y: Array) -> Readings:
    """Return the mean average precision over the labels that hold for some example."""
    del sums
    each = jax.vmap(average_precision, in_axes=1)(logits, y.astype(jnp.float32))
    return {"mean_average_precision": jnp.nanmean(each)}


MEASUREMENTS: Mapping[str, Measurement] = {
    "classification": Measurement(_recalled, _balanced),
    "regression": Measurement(_residual, _determination),
    "multilabel": Measurement(lambda logits, y: {}, _ranked, keeps_logits=True),
    "next_token": Measurement(
        lambda logits, y: {}, lambda sums, logits, y: {"perplexity": jnp.exp(sums["loss"])}
    ),
}
