"""Optimisers: optax chains whose learning rate, momentum and decay are hparams of a member."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from actsweep.config.schema import OptimConfig


def transform(
    optim: OptimConfig, hparams: Mapping[str, Array], schedule: Float[Array, ""]
) -> optax.GradientTransformation:
    """Return the update rule of one member at one step.

    Args:
        optim: the static part: name, nesterov, Adam's constants, clipping.
        hparams: `optim.lr`, `optim.momentum` and `optim.weight_decay`, each Float[""]. They are
            data, not constants: another value doesn't need another program.
        schedule: the factor on the learning rate, from `schedule_factor`.

    Returns:
        For sgd, v <- momentum * v + g, or Nesterov's form (Sutskever et al. 2013); for adam, Kingma
        and Ba 2015; for adamw, Loshchilov and Hutter 2019. Weight decay is added to the gradient
        (L2) for sgd and adam, and to the update for adamw. Clipping by global norm comes first.
        Learned parameters of activations aren't decayed by default (He et al. 2015, section 2.1),
        nor are biases.
    """
    decay = _weight_decay(optim, hparams["optim.weight_decay"])
    adam = optax.scale_by_adam(b1=optim.b1, b2=optim.b2, eps=optim.eps)
    rules = {
        "sgd": (decay, optax.trace(decay=hparams["optim.momentum"], nesterov=optim.nesterov)),
        "adam": (decay, adam),
        "adamw": (adam, decay),
    }
    clip = () if optim.clip_norm is None else (optax.clip_by_global_norm(optim.clip_norm),)
    return optax.chain(*clip, *rules[optim.name], optax.scale(-hparams["optim.lr"] * schedule))


def _weight_decay(optim: OptimConfig, rate: Array) -> optax.GradientTransformation:
    """Return the rule that adds `rate` times the parameter to each update that is decayed."""

    def decayed(path: tuple[Any, ...], update: Array, param: Array) -> Array:
        names = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
        of_bias = optim.decay_bias or "bias" not in names
        wanted = optim.decay_act if "numbers" in names else of_bias
        return update + rate * param if wanted else update

    return optax.stateless(lambda u, p: jax.tree_util.tree_map_with_path(decayed, u, p))


def schedule_factor(optim: OptimConfig, step: Int[Array, ""], total_steps: int) -> Float[Array, ""]:
    """Return the factor on the learning rate at a step.

    constant: 1. cosine: (1 + cos(pi t)) / 2 with t = step / total_steps. warmup_cosine: linear from
    0 to 1 over the first `warmup` share of the steps, then the cosine over the remaining steps
    (Loshchilov and Hutter 2017, arXiv:1608.03983).

    Args:
        optim: `schedule` and `warmup`.
        step: optimiser steps done, from 0.
        total_steps: optimiser steps of the whole training.
    """
    if optim.schedule == "constant":
        return jnp.float32(1.0)
    if optim.schedule not in ("cosine", "warmup_cosine"):
        raise ValueError(f"optim.schedule={optim.schedule}: has no formula here")
    warmup_steps = math.ceil(optim.warmup * total_steps) if optim.schedule == "warmup_cosine" else 0
    done = jnp.asarray(step, jnp.float32)
    share = jnp.clip((done - warmup_steps) / max(1, total_steps - warmup_steps), 0.0, 1.0)
    cosine = 0.5 * (1.0 + jnp.cos(jnp.float32(math.pi) * share))
    return jax.lax.select(done < warmup_steps, (done + 1.0) / max(1, warmup_steps), cosine)
