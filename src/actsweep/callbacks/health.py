"""A monitor that speaks up when gradients vanish, explode or stop being numbers."""

import math
import statistics
from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from actsweep.callbacks.base import Callback, Hook, LogMessage, ProbeView, Readings

SINGLE = 3  # layers of one kind that are told of one by one


def health(
    ratio: float = 100.0,
    absolute: bool = False,
    low: float = 1e-3,
    high: float = 100.0,
    every: int = 1,
) -> Callback:
    """Warn, once a layer and kind, from what the `gradients` callback measures.

    Scale-free: a layer vanishes when its `grad_rms` is `ratio` times below the median of the other
    layers, and explodes when it is `ratio` times above it. A gradient that isn't finite at some
    step always warns.
    With `absolute`, the textbook's thresholds come on top: mean |dL/dw| (`grad_abs/<layer>`, on
    the probe batch) under `low` or over `high`; these depend on the loss's and the layers' scale.
    """
    if ratio <= 1:
        raise ValueError(f"ratio={ratio} must be above 1; type callbacks.health.ratio=100")

    def probe(view: ProbeView) -> Readings:
        return {f"grad_abs/{name}": jnp.mean(jnp.abs(g)) for name, g in view.grads.items()}

    def hook() -> Hook:
        return _monitor(ratio, (low, high) if absolute else None)

    return Callback(probe=probe if absolute else None, hook=hook, every=every)


def _monitor(ratio: float, bounds: tuple[float, float] | None) -> Hook:
    said: set[tuple[str, str]] = set()

    def look(step: int, epoch: float, readings: Mapping[str, float]) -> LogMessage | None:
        del step
        steps = _family(readings, "grad_norm_max/")
        found = _broken(steps) + _relative(_family(readings, "grad_rms/"), ratio)
        if bounds is not None:
            found += _absolute(_family(readings, "grad_abs/"), *bounds)
        new = [(layer, kind, why) for layer, kind, why in found if (layer, kind) not in said]
        said.update((layer, kind) for layer, kind, _ in new)
        if not new:
            return None
        return LogMessage(f"epoch {epoch:g}: {_told(new)}")

    return look


def _told(new: Sequence[tuple[str, str, str]]) -> str:
    """Each layer; of more than three that share a kind, the first and how many."""
    parts = []
    for kind in dict.fromkeys(kind for _, kind, _ in new):
        own = [(layer, why) for layer, own_kind, why in new if own_kind == kind]
        if len(own) > SINGLE:
            (layer, why), more = own[0], len(own) - 1
            parts.append(f"gradient of {layer} and {more} more layers {kind}: {layer} {why}")
        else:
            parts += [f"gradient of {layer} {kind}: {why}" for layer, why in own]
    return "; ".join(parts)


def _family(readings: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {k.removeprefix(prefix): v for k, v in readings.items() if k.startswith(prefix)}


def _broken(norms: Mapping[str, float]) -> list[tuple[str, str, str]]:
    return [
        (layer, "is not finite", f"L2 norm {value}")
        for layer, value in norms.items()
        if not math.isfinite(value)
    ]


def _relative(rms: Mapping[str, float], ratio: float) -> list[tuple[str, str, str]]:
    found = []
    finite = {layer: value for layer, value in rms.items() if math.isfinite(value)}
    for layer, value in finite.items():
        others = [v for name, v in finite.items() if name != layer]
        if not others:
            continue
        median = statistics.median(others)
        why = f"RMS {value:.1e}, the other layers' median {median:.1e}"
        if value * ratio < median:
            found.append((layer, "vanishes", why))
        elif value > ratio * median:
            found.append((layer, "explodes", why))
    return found


def _absolute(size: Mapping[str, float], low: float, high: float) -> list[tuple[str, str, str]]:
    found = []
    for layer, value in size.items():
        if value < low:
            found.append((layer, "is small", f"mean |dL/dw| {value:.1e} < {low:g}"))
        elif value > high:
            found.append((layer, "is large", f"mean |dL/dw| {value:.1e} > {high:g}"))
    return found
