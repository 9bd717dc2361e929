"""The `health` callback: warnings when gradients vanish, explode or aren't finite."""

import math
import statistics
from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from actsweep.callbacks.base import Callback, Hook, LogMessage, ProbeView, Readings

MAX_LISTED = 3  # layers with the same problem that a message names one by one

Problem = tuple[str, str, str]  # layer, kind, reason


def health(
    ratio: float = 100.0,
    absolute: bool = False,
    low: float = 1e-3,
    high: float = 100.0,
    every: int = 1,
) -> Callback:
    """Warn once per layer and kind of problem, from what the `gradients` callback measures.

    A layer's gradient vanishes when its `grad_rms` is `ratio` times below the median of the other
    layers, and explodes when it is `ratio` times above; both are independent of scale. Where most
    layers have a gradient of zero, these vanish. A gradient that isn't finite at some step always
    gives a warning.

    Args:
        ratio: above 1.
        absolute: also compare mean |dL/dw| (`grad_abs/<layer>`, on the probe batch) with `low` and
            `high`, as textbooks do. Its size depends on the scale of the loss and of the layers.
        low: the threshold for small gradients.
        high: the threshold for large gradients.
        every: epochs between probes.

    Raises:
        ValueError: `ratio` isn't above 1.
    """
    if ratio <= 1:
        raise ValueError(f"ratio={ratio} must be above 1; type callbacks.health.ratio=100")

    def probe(view: ProbeView) -> Readings:
        return {f"grad_abs/{name}": jnp.mean(jnp.abs(grad)) for name, grad in view.grads.items()}

    def hook() -> Hook:
        return _monitor(ratio, (low, high) if absolute else None)

    return Callback(probe=probe if absolute else None, hook=hook, every=every)


def _monitor(ratio: float, bounds: tuple[float, float] | None) -> Hook:
    reported: set[tuple[str, str]] = set()

    def check_row(step: int, epoch: float, readings: Mapping[str, float]) -> LogMessage | None:
        del step
        norms = _family(readings, "grad_norm_max/")
        problems = _not_finite(norms) + _relative(_family(readings, "grad_rms/"), ratio)
        if bounds is not None:
            problems += _absolute(_family(readings, "grad_abs/"), *bounds)
        new = [problem for problem in problems if problem[:2] not in reported]
        reported.update(problem[:2] for problem in new)
        if not new:
            return None
        return LogMessage(f"epoch {epoch:g}: {_summary(new)}")

    return check_row


def _summary(problems: Sequence[Problem]) -> str:
    """List every layer; of more than three with the same problem, the first and the number."""
    parts = []
    for kind in dict.fromkeys(kind for _, kind, _ in problems):
        layers = [(layer, why) for layer, layer_kind, why in problems if layer_kind == kind]
        if len(layers) > MAX_LISTED:
            (layer, why), more = layers[0], len(layers) - 1
            parts.append(f"gradient of {layer} and {more} more layers {kind}: {layer} {why}")
        else:
            parts += [f"gradient of {layer} {kind}: {why}" for layer, why in layers]
    return "; ".join(parts)


def _family(readings: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): value
        for name, value in readings.items()
        if name.startswith(prefix)
    }


def _not_finite(norms: Mapping[str, float]) -> list[Problem]:
    return [
        (layer, "is not finite", f"L2 norm {value}")
        for layer, value in norms.items()
        if not math.isfinite(value)
    ]


def _relative(rms: Mapping[str, float], ratio: float) -> list[Problem]:
    problems = []
    finite = {layer: value for layer, value in rms.items() if math.isfinite(value)}
    for layer, value in finite.items():
        others = [other for name, other in finite.items() if name != layer]
        if not others:
            continue
        median = statistics.median(others)
        why = f"RMS {value:.1e}, the other layers' median {median:.1e}"
        if value * ratio < median or (value == 0 and max(others) > 0):
            problems.append((layer, "vanishes", why))
        elif median and value > ratio * median:
            problems.append((layer, "explodes", why))
    return problems


def _absolute(means: Mapping[str, float], low: float, high: float) -> list[Problem]:
    problems = []
    for layer, value in means.items():
        if value < low:
            problems.append((layer, "is small", f"mean |dL/dw| {value:.1e} < {low:g}"))
        elif value > high:
            problems.append((layer, "is large", f"mean |dL/dw| {value:.1e} > {high:g}"))
    return problems
