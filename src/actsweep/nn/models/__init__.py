"""The networks that come with actsweep, by name, and a user's own by `_target_`.

A model is an NNX module of any nesting that is called on a batch. `actsweep.nn.network` finds its
weighted layers and its activations by their paths.
"""

import inspect
from collections.abc import Callable

from flax import nnx

from actsweep.config import schema
from actsweep.config.schema import RunConfig
from actsweep.nn.models.cnn import CNN
from actsweep.nn.models.layers import LayerFactory
from actsweep.nn.models.mlp import MLP
from actsweep.nn.models.resnet import ResNet
from actsweep.nn.models.rnn import RNN
from actsweep.nn.models.transformer import Transformer
from actsweep.utils import imports
from actsweep.utils.errors import UserError

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet": ResNet,
    "transformer": Transformer,
    "rnn": RNN,
}


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
    if model._target_:
        return _custom(make.config)(make, input_shape, outputs, **model.options)
    known = {key: getattr(model, key) for key in schema.MODELS[model.name] if key != "channels"}
    options = {key: value for key, value in known.items() if value is not None}
    return MODELS[model.name](make, input_shape, outputs, **options, **model.options)


def _custom(config: RunConfig) -> Callable[..., nnx.Module]:
    target = str(config.model._target_)
    constructor = imports.import_target("model", target)
    if not inspect.isclass(constructor) or not issubclass(constructor, nnx.Module):
        raise UserError(
            f"model._target_={target}: must be a subclass of flax.nnx.Module; type for example "
            f"model._target_=my_module.MyModel"
        )
    return constructor
