"""Layer-sequential unit variance: kernels scaled by what their layers return on data."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from actsweep.utils.errors import UserError


@dataclass
class Scaling:
    """A forward pass in which each layer scales its kernel, and so what the next one reads.

    Without a bias a layer's output is linear in its kernel, so that one pass does what Mishkin and
    Matas 2016, "All you need is a good init", do by iterating.

    Attributes:
        scale: the standard deviation that outputs get.
        kernels: those that have been scaled.
    """

    scale: float | Array
    kernels: list[nnx.Variable] = field(default_factory=list)

    def __call__(self, kernel: nnx.Variable, z: Array) -> Array:
        """Scale a kernel, and return its layer's output z as it is then.

        Outputs that are all the same stay as they are: a layer that reads only zeros, say.

        Raises:
            UserError: it has been scaled before.
        """
        if any(kernel is other for other in self.kernels):
            raise UserError(
                "init=lsuv: a layer of this model is called twice in one forward pass, so that its "
                "output has no one variance; type init=orthogonal"
            )
        self.kernels.append(kernel)
        variance = jnp.var(z.astype(jnp.float32))
        factor = jnp.where(variance > 0, self.scale / jnp.sqrt(variance), 1.0)
        kernel[...] = kernel[...] * factor
        return z * factor.astype(z.dtype)


_SCALING: ContextVar[Scaling | None] = ContextVar("scaling", default=None)


@contextlib.contextmanager
def scaling(scale: float | Array) -> Iterator[Scaling]:
    """Have every layer that is called scale its kernel; yield the record of it."""
    now = Scaling(scale)
    before = _SCALING.set(now)
    try:
        yield now
    finally:
        _SCALING.reset(before)


def scaled(kernel: nnx.Variable, z: Array) -> Array:
    """Return a layer's output before its bias; where kernels are scaled, as it is after that."""
    now = _SCALING.get()
    return z if now is None else now(kernel, z)
