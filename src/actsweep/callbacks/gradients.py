"""The `gradients` callback: norms at every step, pre-activation gradients, update ratios."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from actsweep.callbacks.base import Callback, ProbeView, Readings, StepView


def gradients(every: int = 1, every_steps: int | None = None) -> Callback:
    """Measure the norms of weight gradients at every step, and more on the probe batch.

    `grad_norm/<layer>`: ||dL/dW||, mean over the chunk's steps, and `grad_norm_max/<layer>`, the
    largest; in the row of step 0, where there are no steps yet, that of the probe batch.
    `grad_rms/<layer>`: ||dL/dW|| / sqrt(size of W), of the probe batch.
    `preact_grad_rms/<layer>`: root mean square, over examples and units, of dl/dz, where l is the
    loss of one example.
    `update_ratio/<layer>`: ||update|| / ||W||, of the update that the optimiser would make if the
    probe batch came next.

    Args:
        every: epochs between probes.
        every_steps: optimiser steps between probes, instead of epochs.
    """
    return Callback(on_step=_step, probe=_probe, every=every, every_steps=every_steps)


def norm(x: Float[Array, "..."]) -> Float[Array, ""]:
    """Return the L2 norm of all entries."""
    return jnp.sqrt(jnp.sum(jnp.square(x)))


def rms(x: Float[Array, "..."]) -> Float[Array, ""]:
    """Return the root mean square of all entries."""
    return jnp.sqrt(jnp.mean(jnp.square(x)))


def _step(view: StepView) -> Readings:
    return {f"grad_norm/{name}": norm(grad) for name, grad in view.grads.items()}


def _probe(view: ProbeView) -> Readings:
    readings: dict[str, Array] = {}
    for name, grad in view.grads.items():
        readings[f"grad_norm/{name}"] = norm(grad)
        readings[f"grad_rms/{name}"] = rms(grad)
    for name, grad in view.preact_grads.items():
        readings[f"preact_grad_rms/{name}"] = rms(grad)
    for name, update in view.updates.items():
        readings[f"update_ratio/{name}"] = norm(update) / norm(view.weights[name])
    return readings
