"""Checks of a user's own activation and model before anything is trained."""

import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from actsweep import activations
from actsweep.activations import Activation
from actsweep.config import by_layer
from actsweep.config.schema import RunConfig
from actsweep.nn.network import Network, Task, split
from actsweep.utils.errors import UserError

POINTS = (-100.0, -1.0, -0.5, 0.0, 0.5, 1.0, 100.0)
IMPURE = (
    "gives another result each time it is traced (np.random, a counter, the time?); what is "
    "compiled would keep one of them, so two trainings under one id would differ. Leave it out"
)

log = logging.getLogger(__name__)


def check(config: RunConfig, task: Task, hparams: Mapping[str, np.ndarray]) -> None:
    """Check what the config names by a `_target_`: the activations and the model.

    Args:
        config: the static config of a pack.
        task: shapes and length.
        hparams: config path -> values of the members, [M].

    Raises:
        UserError: the activation doesn't return an array of the right shape, or one of the two
            isn't a function of its arguments alone.
    """
    first = {path: jnp.asarray(values[0]) for path, values in hparams.items()}
    if config.act.get("_target_"):
        numbers = {p.removeprefix("act."): v for p, v in first.items() if p.startswith("act.")}
        bound, params = activations.bind(config.act | dict.fromkeys(numbers, 1.0))
        check_activation(bound, {**params, **numbers}, str(config.act["_target_"]))
    for pattern, entry in by_layer.entries(config.act).items():
        if entry.get("_target_"):
            bound, params = activations.bind(entry, by_layer.path_of(pattern))
            check_activation(bound, params, str(entry["_target_"]))
    if config.model._target_:
        network = Network(config, task, first)
        traces = [_trace_model(network, first) for _ in range(2)]
        if not _same(*traces):
            raise UserError(f"model._target_={config.model._target_}: {IMPURE}")
        _check_draws(network, first)


def check_activation(activation: Activation, params: Mapping[str, Any], target: str) -> None:
    """Check one activation on a few points; warn of values and derivatives that aren't finite.

    Raises:
        UserError: as `check`.
    """
    inputs = activations.inputs_per_unit(activation, params)
    z = jnp.tile(jnp.asarray(POINTS, jnp.float32)[:, None], (1, 2 * inputs))
    name = f"act._target_={target}"
    try:
        with jax.disable_jit():  # so that Python's part runs each time
            values = [activation.fn(z, **params) for _ in range(2)]
    except TypeError as error:
        if "must return an array" not in str(error):
            return
        raise UserError(f"{name}: {error}") from error
    except Exception:  # compiling meets it again: a failure, with its traceback in the log
        return
    expected = (len(POINTS), 2)
    if not all(isinstance(value, jax.Array) and value.shape == expected for value in values):
        actual = getattr(values[0], "shape", type(values[0]).__name__)
        raise UserError(
            f"{name}: must return an array of shape {expected} for z of shape {z.shape}, not "
            f"{actual}"
        )
    if not np.array_equal(values[0], values[1], equal_nan=True):
        raise UserError(f"{name}: {IMPURE}")
    a, backward = jax.vjp(lambda z: activation.fn(z, **params), z)  # as training takes it
    for what, found in (("value", a), ("derivative", backward(jnp.ones_like(a))[0])):
        finite = np.isfinite(np.asarray(found)).all(axis=1)
        bad = [f"{point:g}" for point, good in zip(POINTS, finite, strict=True) if not good]
        if bad:
            log.warning("%s: its %s isn't finite at z = %s", name, what, ", ".join(bad))


def _check_draws(network: Network, hparams: Mapping[str, jax.Array]) -> None:
    """Check that the initial weights depend on the seed, except where all are the same number."""
    draw = jax.jit(lambda seed: network.kernels(split(network.draw({**hparams, "seed": seed}))[0]))
    one, other = (draw(jnp.uint32(seed)) for seed in (0, 1))
    for name, kernel in one.items():
        if jnp.array_equal(kernel, other[name]) and jnp.ptp(kernel) > 0:
            raise UserError(
                f"model._target_={network.config.model._target_}: the layer {name} starts the same "
                f"with every seed; draw it with make.dense or make.conv, or give it "
                f"rngs=make.rngs({name!r})"
            )


def _trace_model(network: Network, hparams: Mapping[str, jax.Array]) -> Any:
    x = network.task.examples(1)
    return (
        jax.make_jaxpr(lambda values: network.draw(values) and None)(dict(hparams)),
        jax.make_jaxpr(network.forward)(network.params, network.held, x),
    )


def _same(first: Any, second: Any) -> bool:
    """Return whether two traces are the same program with the same constants."""
    return all(
        str(a) == str(b)
        and len(a.consts) == len(b.consts)
        and all(np.array_equal(x, y) for x, y in zip(a.consts, b.consts, strict=True))
        for a, b in zip(first, second, strict=True)
    )
