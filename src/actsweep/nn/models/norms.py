"""Normalisations, and what takes their place, by the names of `model.norm`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

MOMENTUM, EPSILON = 0.9, 1e-5  # of running averages; PyTorch's momentum of 0.1
GROUPS = 8


class Bounded(nnx.Module):
    """gamma * f(alpha x + shift) + beta, point by point, in place of a normalisation.

    With f = tanh and no shift dynamic tanh (Zhu et al. 2025, "Transformers without normalization",
    section 4), with f = erf and a learned shift Derf (Chen et al. 2025, "Stronger
    normalization-free transformers").
    """

    def __init__(self, features: int, f: Callable[[Array], Array], *, shifted: bool) -> None:
        self.f = f
        self.alpha = nnx.Param(jnp.float32(0.5))
        self.shift = nnx.Param(jnp.float32(0.0)) if shifted else None
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        z = self.alpha[...] * x
        z = z if self.shift is None else z + self.shift[...]
        bounded = self.f(z)
        scale, bias = self.scale[...], self.bias[...]
        return bounded * jnp.broadcast_to(scale, x.shape) + jnp.broadcast_to(bias, x.shape)


class LocalResponse(nnx.Module):
    """x / (k + alpha * sum of x^2 over `size` neighbouring channels)^beta.

    Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks",
    section 3.3, with their constants.
    """

    k, alpha, beta, size = 2.0, 1e-4, 0.75, 5

    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        window = (*(1,) * (x.ndim - 1), self.size)
        ones = (1,) * x.ndim
        sums = jax.lax.reduce_window(
            jnp.square(x), x.dtype.type(0), jax.lax.add, window, ones, "SAME"
        )
        return x / (self.k + self.alpha * sums) ** self.beta


def _group(features: int, rngs: nnx.Rngs) -> nnx.Module:
    groups = next(n for n in range(min(GROUPS, features), 0, -1) if features % n == 0)
    return nnx.GroupNorm(features, num_groups=groups, epsilon=EPSILON, rngs=rngs)


NORMS: dict[str, Callable[[int, nnx.Rngs], Any]] = {
    "batch": lambda n, rngs: nnx.BatchNorm(n, momentum=MOMENTUM, epsilon=EPSILON, rngs=rngs),
    "layer": lambda n, rngs: nnx.LayerNorm(n, epsilon=EPSILON, rngs=rngs),
    "rms": lambda n, rngs: nnx.RMSNorm(n, epsilon=EPSILON, rngs=rngs),
    "group": _group,
    "local_response": lambda n, rngs: LocalResponse(),
    "dyt": lambda n, rngs: Bounded(n, jnp.tanh, shifted=False),
    "derf": lambda n, rngs: Bounded(n, jax.scipy.special.erf, shifted=True),
}


def build(name: str, features: int, rngs: nnx.Rngs) -> nnx.Module | None:
    """Return a normalisation of so many features (the last axis); None for `none`."""
    return None if name == "none" else NORMS[name](features, rngs)


def apply(module: nnx.Module | None, x: Array) -> Array:
    """Return x through a normalisation or dropout, of x's type; x itself where there is none."""
    return x if module is None else module(x).astype(x.dtype)  # running averages are float32
