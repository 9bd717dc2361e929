"""Observers of training, by name. A user's own comes in by `_target_`."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from actsweep.callbacks.base import Callback, EarlyStop, LogMessage, ProbeView, StepView
from actsweep.callbacks.gradients import gradients
from actsweep.callbacks.health import health
from actsweep.callbacks.histograms import histograms
from actsweep.callbacks.moments import moments
from actsweep.callbacks.units import similarity, units
from actsweep.stats.histogram import Histogram
from actsweep.utils import imports
from actsweep.utils.errors import UserError, unknown_name

__all__ = ["Callback", "EarlyStop", "Histogram", "LogMessage", "ProbeView", "StepView", "build"]

RENAMED = {"Binned": "Histogram", "Say": "LogMessage", "Stop": "EarlyStop"}
"""Names of version 0.1, for callbacks that were written for it."""

CALLBACKS: dict[str, Callable[..., Callback]] = {
    "gradients": gradients,
    "moments": moments,
    "units": units,
    "similarity": similarity,
    "histograms": histograms,
    "health": health,
}


def build(entries: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Callback]:
    """The callbacks that the config lists.

    Args:
        entries: name -> the factory's arguments; with `_target_`, the dotted path of a user's own
            factory. An entry of None switches that callback off.

    Raises:
        UserError: an unknown name, an import that fails, arguments that don't fit.
    """
    return {
        name: _one(name, dict(options)) for name, options in entries.items() if options is not None
    }


def _one(name: str, options: dict[str, Any]) -> Callback:
    path = f"callbacks.{name}"
    own = options.pop("_target_", None)
    if own is not None:
        factory = imports.find(path, str(own))
    elif name in CALLBACKS:
        factory = CALLBACKS[name]
    else:
        raise unknown_name("callbacks", name, CALLBACKS)
    try:
        callback = factory(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}={options}: {error}") from error
    if not isinstance(callback, Callback):
        raise UserError(f"{path}: {own or name} returned {type(callback).__name__}, not a Callback")
    return callback


def __getattr__(name: str) -> Any:
    """What a callback of version 0.1 imports by its old name; a warning says the new one."""
    if name not in RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{name} is now {RENAMED[name]}", DeprecationWarning, stacklevel=2)
    return globals()[RENAMED[name]]
