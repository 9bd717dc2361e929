"""An activation that is rescaled for the depth of its network: `act.transform`."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax import Array

from actsweep.activations.base import Activation
from actsweep.formulas.rescaling import IDENTITY, TARGET
from actsweep.utils.errors import UserError


def rescaled(spec: Activation, transform: str | None, path: str = "act") -> Activation:
    """Return output_scale * (f(input_scale * z + input_shift) + output_shift).

    The four numbers are parameters beside those of f. It is computed in at least float32 and
    rounded to the type of z. Martens et al. 2021, "Rapid training of deep neural networks without
    skip connections or normalization layers using deep kernel shaping", section 5.

    Args:
        spec: f, elementwise.
        transform: a name of `config.schema.TRANSFORMS`, for its name and for messages.
        path: the config path, likewise.

    Raises:
        UserError: f takes several inputs, or has a parameter of the same name.
    """
    if spec.units != "elementwise":
        raise UserError(
            f"{path}.transform={transform}: rescales activations of one input a unit, and "
            f"{path}={spec.name} isn't one; type for example act=tanh"
        )
    if spec.drawn is not None:
        raise UserError(
            f"{path}.transform={transform}: rescales functions, and in training {path}={spec.name} "
            "is random; type for example act=leaky_relu"
        )
    if taken := sorted({TARGET, *IDENTITY} & {*spec.params}):
        raise UserError(
            f"{path}.transform={transform}: {spec.name} has a parameter {taken[0]} of its own; "
            "give that another name"
        )

    def fn(
        z: Array,
        *,
        input_scale: Any = 1.0,
        input_shift: Any = 0.0,
        output_scale: Any = 1.0,
        output_shift: Any = 0.0,
        transform_target: Any = 0.0,
        **params: Any,
    ) -> Array:
        del transform_target  # what the numbers follow from
        dtype = jnp.float32 if jnp.finfo(z.dtype).bits < 32 else z.dtype
        scale, shift, size, offset = (
            jnp.broadcast_to(jnp.asarray(value, dtype), z.shape)
            for value in (input_scale, input_shift, output_scale, output_shift)
        )
        return (size * (spec.fn(scale * z.astype(dtype) + shift, **params) + offset)).astype(
            z.dtype
        )

    return replace(
        spec,
        name=f"{spec.name} {transform}",
        fn=fn,
        formula="output_scale * (f(input_scale * z + input_shift) + output_shift), f = "
        + spec.formula,
        range="unknown",
        params={**spec.params, TARGET: 0.0, **IDENTITY},
        abs_derivative=None,
    )
