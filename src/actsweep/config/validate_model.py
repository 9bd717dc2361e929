"""The checks of `model`: its options, and whether the data are of a kind that it takes. No jax."""

import math
from typing import Any

from actsweep.config import by_layer
from actsweep.config.schema import (
    MODELS,
    RANDOM_ACTS,
    SOURCES,
    TEXTS,
    ModelConfig,
    RunConfig,
)
from actsweep.utils.errors import UserError, bad_value, unknown_name

IMAGE_SIDE = {
    **dict.fromkeys(("fashion_mnist", "mnist", "kmnist"), 28),
    **dict.fromkeys(("cifar10", "cifar100", "svhn"), 32),
    "digits": 8,
}
UNREAD = ("npz", "idx", *SOURCES)  # what they hold is known once they are read
NORMS = {
    "mlp": ("none", "batch", "layer", "rms"),
    "cnn": ("none", "batch", "layer", "rms", "group", "local_response"),
    "resnet": (
        *("none", "batch", "layer", "rms", "group", "local_response"),
        *("dyt", "derf", "skipinit"),
    ),
    "transformer": ("none", "layer", "rms", "dyt", "derf"),
}
OF_TOKENS = ("transformer", "rnn")
CHOICES = {"cell": ("simple", "lstm", "gru"), "pool": ("avg", "max", "none")}


def check(run: RunConfig) -> None:
    """Check the model that a config names, as far as that is known before the data are read.

    Raises:
        UserError: the first value that isn't allowed.
    """
    model = run.model
    if model._target_ is None:
        if model.name not in MODELS:
            raise unknown_name("model", model.name, MODELS)
        _check_numbers(model)
        _check_norm(model)
    _check_known(model)
    if model._target_ is None and run.data._target_ is None and run.data.kind not in UNREAD:
        _check_fits(run)


def check_random(run: RunConfig) -> None:
    """Refuse activations that are random in training where they act at every step of time.

    `act.by_layer` is written in one way by then.
    """
    if run.model._target_ or run.model.name != "rnn":
        return
    entries = {by_layer.path_of(pattern): e for pattern, e in by_layer.entries(run.act).items()}
    for path, act in {"act": run.act, **entries}.items():
        if act.get("name") in RANDOM_ACTS and "_target_" not in act:
            raise UserError(
                f"{path}={act['name']}: is random in training, and those of model=rnn act at every "
                "step of time; type for example act=leaky_relu"
            )


def _check_known(model: ModelConfig) -> None:
    """Refuse an option that the model doesn't have, which would have no effect."""
    own = model._target_ is not None
    known = () if own else MODELS[model.name]
    every = {key for keys in MODELS.values() for key in keys}
    for key in sorted(every - {*known}):
        value = getattr(model, key)
        if value is None or value == []:
            continue
        if own:
            raise UserError(
                f"model.{key}={value}: is an option of the models that come with actsweep; to a "
                f"model of your own it is given as +model.options.{key}={value}"
            )
        having = ", ".join(name for name, keys in MODELS.items() if key in keys)
        raise UserError(
            f"model.{key}={value}: model={model.name} has no such option; it has "
            f"{', '.join(known)}, and model.{key} is one of {having}; leave it out"
        )


def _check_numbers(model: ModelConfig) -> None:
    for units in model.channels:
        if units < 1:
            raise bad_value("model.channels", model.channels, "at least 1 each", "model=cnn")
    for key in ("convs", "kernel", "stride", "heads", "patch"):
        value = getattr(model, key)
        if value is not None and value < 1:
            raise bad_value(f"model.{key}", value, "at least 1", f"model.{key}=2")
    if model.dropout is not None and not 0 <= model.dropout < 1:
        raise bad_value("model.dropout", model.dropout, "from 0 to below 1", "model.dropout=0.1")
    for key, allowed in CHOICES.items():
        value = getattr(model, key)
        if value is not None and value not in allowed:
            raise unknown_name(f"model.{key}", value, allowed)


def _check_norm(model: ModelConfig) -> None:
    allowed: Any = NORMS.get(model.name)
    if model.norm is not None and allowed is not None and model.norm not in allowed:
        raise unknown_name("model.norm", model.norm, allowed)


def _check_fits(run: RunConfig) -> None:
    model, data = run.model, run.data
    if data.name in TEXTS:
        if model.name not in OF_TOKENS:
            raise UserError(
                f"model={model.name}: takes numbers, and data={data.name} has tokens; type for "
                f"example model={OF_TOKENS[0]}"
            )
        return
    if model.name not in ("cnn", "resnet"):
        return
    side = IMAGE_SIDE.get(data.name)
    if side is None:
        fitting = ", ".join(sorted(IMAGE_SIDE))
        raise UserError(
            f"model={model.name}: needs images, and data={data.name} has none; type for example "
            f"data=fashion_mnist, or model=mlp. Images: {fitting}"
        )
    pools = len(model.channels or [32, 64])
    shrinking = (model.stride or 1) * (1 if model.pool == "none" else 2)
    if model.name == "cnn" and shrinking > 1 and side < shrinking**pools:
        most = int(math.log(side, shrinking))
        raise UserError(
            f"model.channels={model.channels}: {pools} poolings need images of at least "
            f"{shrinking**pools}x{shrinking**pools}, and those of data={data.name} are "
            f"{side}x{side}: at most {most}; type for example 'model.channels=[32]'"
        )
