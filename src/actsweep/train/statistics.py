"""Statistics that callbacks count over the whole training set, for ONE member. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from actsweep.callbacks.base import Callback, CountView, Readings
from actsweep.nn.models.recording import Intermediates
from actsweep.nn.network import Held, Network, Params
from actsweep.utils.errors import UserError


def counting(net: Network, callbacks: Mapping[str, Callback]) -> tuple[Callable, Callable]:
    """Return `counts` and `no_counts` of one member.

    The first adds what callbacks count over a slice of the training set; the second gives zeros.
    """
    observers = {name: c for name, c in callbacks.items() if c.count is not None}

    def all_final(sums: Mapping[str, Array]) -> Bool[Array, ""]:
        final = [c.settled(_of(sums, n)) if c.settled else False for n, c in observers.items()]
        return jnp.all(jnp.asarray(final))

    @jax.jit  # traced once for each size of a slice
    def of_slice(params: Params, held: Held, x: Array) -> dict[str, Array]:
        intermediates = Intermediates()
        net.forward(params, held, x, intermediates)
        view = CountView(**captured(intermediates))
        return {
            f"{name}|{key}": value
            for name, callback in observers.items()
            if callback.count is not None
            for key, value in callback.count(view).items()
        }

    def counts(
        params: Params, held: Held, real: Array, sums: dict[str, Array], x: Array
    ) -> tuple[dict[str, Array], Bool[Array, ""]]:
        """Add a slice of the training set to integer counts; return them, and if they are final.

        The keys of `sums` are `callback|count`. Final counts stay as they are; those of a row that
        holds no member are always final.
        """

        def add(sums: dict[str, Array]) -> dict[str, Array]:
            return jax.tree.map(jnp.add, sums, of_slice(params, held, x))

        sums = lax.cond(all_final(sums) | ~real, lambda sums: sums, add, sums)
        return sums, all_final(sums) | ~real

    def no_counts(params: Params, held: Held, x: Array) -> dict[str, Array]:
        """Return counts of zero; the arguments give the shapes."""
        shapes = jax.eval_shape(of_slice, params, held, x)
        return {key: jnp.zeros(leaf.shape, leaf.dtype) for key, leaf in shapes.items()}

    return counts, no_counts


def concluding(callbacks: Mapping[str, Callback]) -> Callable:
    """Return `conclude` of one member, which turns counts into readings."""

    def conclude(sums: Mapping[str, Array], examples: int) -> Readings:
        """Return readings from the counts over `examples` examples."""
        readings: dict[str, Any] = {}
        for name, callback in callbacks.items():
            if callback.conclude is not None:
                add_readings(readings, callback.conclude(_of(sums, name), examples), name)
        return readings

    return conclude


def _of(sums: Mapping[str, Array], callback: str) -> dict[str, Array]:
    """Return the counts of one callback."""
    return {k.partition("|")[2]: v for k, v in sums.items() if k.startswith(f"{callback}|")}


def add_readings(readings: dict[str, Any], new: Readings, callback: str) -> None:
    """Add a callback's readings to `readings`.

    Raises:
        UserError: a name is used already, or isn't `family/layer`.
    """
    for name in new:
        if "/" not in name or name in readings:
            why = "is measured already" if name in readings else "must be family/layer"
            raise UserError(f"callbacks.{callback}: the metric {name} {why}; give it another name")
    readings.update(new)


def captured(intermediates: Intermediates) -> dict[str, dict[str, Array]]:
    """Return the captured intermediates, in float32."""
    kept = {
        "preact": intermediates.preact,
        "act": intermediates.act,
        "abs_derivative": intermediates.abs_derivative,
        "gate_input": intermediates.gate_input,
    }
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), kept)
