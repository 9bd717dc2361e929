"""A user's own code that raises, each in its way."""

from typing import Any

import jax.numpy as jnp

from actsweep.callbacks.base import Callback, Hook, ProbeView, Readings


def activation(z: Any) -> Any:
    """Raises when it is traced."""
    raise ZeroDivisionError("my activation can't be traced\nas it stands")


def callback(probe: bool = False, hook: int | None = None) -> Callback:
    """Its probe raises when it is traced, or the hook of the second member does at some step."""

    def look(view: ProbeView) -> Readings:
        if probe:
            raise ZeroDivisionError("my probe can't be traced")
        return {}

    made = []

    def make() -> Hook:
        made.append(1)
        mine = len(made) == 2

        def see(step: int, epoch: float, readings: Any) -> None:
            if mine and step == hook:
                raise ZeroDivisionError("my hook is broken")

        return see

    return Callback(probe=look, hook=make)


def wrong(what: str) -> Callback:
    """Its probe returns what no row can hold."""
    answers: dict[str, Any] = {
        "array": {"norm/hidden_1": jnp.ones(3)},
        "number": 5,
        "name": {"norm": 1.0},
    }
    return Callback(probe=lambda view: answers[what])
