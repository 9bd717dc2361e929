"""Callbacks: observers of training, built by name, or from a user's `_target_`."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from actsweep.callbacks.base import (
    Callback,
    CountView,
    EarlyStop,
    Hook,
    LogMessage,
    ProbeView,
    StepView,
)
from actsweep.callbacks.gradients import gradients
from actsweep.callbacks.health import health
from actsweep.callbacks.histograms import histograms
from actsweep.callbacks.moments import moments
from actsweep.callbacks.theory import theory
from actsweep.callbacks.units import similarity, units
from actsweep.stats.histogram import Histogram
from actsweep.utils import imports
from actsweep.utils.errors import CallbackError, UserError, cause_of, unknown_name

__all__ = [
    "Callback",
    "CountView",
    "EarlyStop",
    "Histogram",
    "Hook",
    "LogMessage",
    "ProbeView",
    "StepView",
    "build",
]

RENAMED = {"Binned": "Histogram", "Say": "LogMessage", "Stop": "EarlyStop"}
"""Names of version 0.1 -> today's names, for callbacks that were written for it."""

CALLBACKS: dict[str, Callable[..., Callback]] = {
    "gradients": gradients,
    "moments": moments,
    "units": units,
    "similarity": similarity,
    "histograms": histograms,
    "health": health,
    "theory": theory,
}


def build(entries: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Callback]:
    """Build the callbacks that the config lists.

    Args:
        entries: name -> arguments of the factory, among them `_target_` for the dotted path of a
            user's factory. An entry of None switches that callback off.

    Returns:
        The callbacks by name.

    Raises:
        UserError: a name is unknown, an import fails, or a factory refuses its arguments.
    """
    return {
        name: _build_one(name, dict(options))
        for name, options in entries.items()
        if options is not None
    }


def _build_one(name: str, options: dict[str, Any]) -> Callback:
    path = f"callbacks.{name}"
    target = options.pop("_target_", None)
    if target is not None:
        factory = imports.import_target(path, str(target))
    elif name in CALLBACKS:
        factory = CALLBACKS[name]
    else:
        raise unknown_name("callbacks", name, CALLBACKS)
    try:
        callback = factory(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}={options}: {error}") from error
    if not isinstance(callback, Callback):
        kind = type(callback).__name__
        raise UserError(
            f"{path}: {target or name} returned a {kind}; it must return an "
            f"actsweep.callbacks.Callback"
        )
    return _checked(callback, path) if target else callback


def _checked(callback: Callback, path: str) -> Callback:
    """Return a user's callback whose parts on the device say what is wrong, and where."""
    parts: dict[str, Any] = {
        name: _checked_part(part, path, name)
        for name in ("on_step", "probe", "conclude")
        if (part := getattr(callback, name))
    }
    return replace(callback, **parts)


def _checked_part(part: Callable[..., Any], path: str, kind: str) -> Callable[..., Any]:
    def measure(*args: Any) -> Any:
        """Raise UserError for what no row can hold, CallbackError for what the part raises."""
        try:
            readings = part(*args)
        except Exception as error:
            raise CallbackError(f"{path}: {cause_of(error)}") from error
        if not isinstance(readings, Mapping):
            raise UserError(
                f"{path}: its {kind} returns {type(readings).__name__}, not a mapping of names to "
                "numbers; return for example {'norm/hidden_1': value}"
            )
        for name, value in readings.items():
            shape = () if isinstance(value, Histogram) else jnp.shape(value)
            if shape:
                raise UserError(
                    f"{path}: {name} of its {kind} is an array of shape {shape}, not a number; "
                    "return its mean, or a Histogram"
                )
        return readings

    return measure


def __getattr__(name: str) -> Any:
    """Return what version 0.1 called `name`, with a DeprecationWarning that gives the new name."""
    if name not in RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{name} is now {RENAMED[name]}", DeprecationWarning, stacklevel=2)
    return globals()[RENAMED[name]]
