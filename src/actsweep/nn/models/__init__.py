"""Networks that expose every pre-activation and activation.

A model is an NNX module with two things: `layers`, an `nnx.Dict` of its weighted layers by name,
each with a `kernel`; and `__call__(x, capture)`, which passes every pre-activation through
`capture(name, z, act)` and returns the logits.
"""

import inspect
from collections.abc import Callable

from flax import nnx

from actsweep.config.schema import RunConfig
from actsweep.nn.models.cnn import CNN
from actsweep.nn.models.layers import LayerFactory
from actsweep.nn.models.mlp import MLP
from actsweep.utils import imports
from actsweep.utils.errors import UserError

MODELS: dict[str, Callable[..., nnx.Module]] = {"mlp": MLP, "cnn": CNN}


def build(make: LayerFactory, input_shape: tuple[int, ...], outputs: int) -> nnx.Module:
    """Build the network that the config names, with parameters drawn for one member.

    Args:
        make: draws layers by name; holds the static config.
        input_shape: the shape of one example.
        outputs: the number of logits, or of a regression's outputs.

    Raises:
        UserError: `model._target_` can't be imported or isn't a module, or the data don't fit the
            model.
    """
    model = make.config.model
    constructor = _custom(make.config) if model._target_ else MODELS[model.name]
    return constructor(make, input_shape, outputs, **model.options)


def _custom(config: RunConfig) -> Callable[..., nnx.Module]:
    target = str(config.model._target_)
    constructor = imports.import_target("model", target)
    if not inspect.isclass(constructor) or not issubclass(constructor, nnx.Module):
        raise UserError(
            f"model._target_={target}: must be a subclass of flax.nnx.Module; type for example "
            f"model._target_=my_module.MyModel"
        )
    return constructor
