"""Networks that expose every pre- and post-activation.

A model is an NNX module with two things: `layers`, an `nnx.Dict` of its weighted layers by name,
each with a `kernel`; and `__call__(x, tap)`, which sends every pre-activation through
`tap(name, z, act)` and returns the logits.
"""

import importlib
import inspect
from collections.abc import Callable

from flax import nnx

from actsweep.config import RunConfig
from actsweep.errors import UserError
from actsweep.models.cnn import CNN
from actsweep.models.layers import Make
from actsweep.models.mlp import MLP

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
    target = str(config.model._target_)
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"model._target_={target}: cannot be imported ({error}); "
            "type the dotted path of an NNX module class, such as model._target_=my_models.Mixer"
        ) from error
    if not inspect.isclass(found) or not issubclass(found, nnx.Module):
        raise UserError(f"model._target_={target}: must be a subclass of flax.nnx.Module")
    return found
