"""Networks that expose every pre- and post-activation.

A model is an NNX module with two things: `layers`, an `nnx.Dict` of its weighted layers by name,
each with a `kernel`; and `__call__(x, capture)`, which sends every pre-activation through
`capture(name, z, act)` and returns the logits.
"""

import inspect
from collections.abc import Callable

from flax import nnx

from actsweep.config.schema import RunConfig
from actsweep.nn.models.cnn import CNN
from actsweep.nn.models.layers import Make
from actsweep.nn.models.mlp import MLP
from actsweep.utils import imports
from actsweep.utils.errors import UserError

MODELS: dict[str, Callable[..., nnx.Module]] = {"mlp": MLP, "cnn": CNN}


def build(make: Make, input_shape: tuple[int, ...], outputs: int) -> nnx.Module:
    """The network that the config names, drawn for one member.

    Args:
        make: draws layers by name; holds the static config.
        input_shape: of one example.
        outputs: logits or regression outputs.
    """
    model = make.config.model
    constructor = _custom(make.config) if model._target_ else MODELS[model.name]
    return constructor(make, input_shape, outputs, **model.options)


def _custom(config: RunConfig) -> Callable[..., nnx.Module]:
    own = str(config.model._target_)
    found = imports.find("model", own)
    if not inspect.isclass(found) or not issubclass(found, nnx.Module):
        raise UserError(f"model._target_={own}: must be a subclass of flax.nnx.Module")
    return found
