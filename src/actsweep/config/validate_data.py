"""The checks of `data`, as far as it is known before it is read. No jax."""

from actsweep.config.numbers import at_least, is_int
from actsweep.config.schema import (
    AUGMENTS,
    DATASETS,
    IMAGE_SETS,
    LEVELS,
    SOURCES,
    STREAMS,
    TABLES,
    TASKS,
    TEXTS,
    DataConfig,
    RunConfig,
)
from actsweep.config.validate_model import IMAGE_SIDE, UNREAD
from actsweep.utils.errors import UserError, bad_value, unknown_name

# What has to be known of the data before it is there.
EXAMPLES = {
    **dict.fromkeys(("fashion_mnist", "mnist", "kmnist"), 60_000),
    **dict.fromkeys(("cifar10", "cifar100"), 50_000),
    "svhn": 73_257,
    "digits": 1_500,
}
FIXED_SPLITS = {
    **dict.fromkeys(TEXTS, "whose parts follow one another in the text"),
    "xor_table": "of four examples",
}
"""Data that `data.split_seed` doesn't change, and why."""


def check(run: RunConfig) -> None:
    """Check the data set that a config names.

    Raises:
        UserError: the first value that isn't allowed.
    """
    data, batch = run.data, run.trainer.batch_size
    if data.source is not None:
        _check_source(data)
    elif data._target_ is None and data.name not in {*DATASETS} - {*SOURCES}:
        raise unknown_name("data", data.name, DATASETS)
    _check_reading(data)
    _check_augment(run)
    shares = data.kind in (*TABLES, *TEXTS, *SOURCES)
    _check_size("data.val_size", data.val_size, shares=shares)
    _check_size("data.test_size", data.test_size, shares=True)
    if data.task not in TASKS:
        raise unknown_name("data.task", data.task, TASKS)
    at_least("data.split_seed", data.split_seed, 0, "data.split_seed=0")
    at_least("data.examples", data.examples, 1, "data.examples=1000")
    at_least("data.noise", data.noise, 0, "data.noise=0.0")
    _check_target(data)
    if data.level not in LEVELS:
        raise unknown_name("data.level", data.level, LEVELS)
    at_least("data.length", data.length, 1, "data.length=64")
    if data._target_ is not None or data.kind in (*TABLES, *TEXTS, *UNREAD):
        return
    whole = EXAMPLES.get(data.name)
    if whole is not None and data.val_size >= whole:
        fix = f"data.val_size={whole // 6}"
        raise bad_value("data.val_size", data.val_size, f"below {whole} for data={data.name}", fix)
    train = data.examples if whole is None else whole - data.val_size
    if batch > train:
        allowed = f"at most {train}, the number of training examples of data={data.name}"
        fix = f"trainer.batch_size={min(256, max(1, train // 10))}"
        raise bad_value("trainer.batch_size", batch, allowed, fix)


def check_split_is_drawn(data: DataConfig, vary: str) -> None:
    """Check that `data.split_seed` makes a difference, as far as that is known before reading.

    Args:
        data: the data set.
        vary: what was typed, for the message.

    Raises:
        UserError: the split is fixed.
    """
    if data._target_ is not None:
        why = f"data._target_={data._target_}, which splits its examples itself"
    elif data.kind in FIXED_SPLITS:
        why = f"data={data.kind}, {FIXED_SPLITS[data.kind]}"
    else:
        return
    raise UserError(
        f"vary={vary}: the split of {why}, is fixed; type for example vary=init or vary=order"
    )


def _check_source(data: DataConfig) -> None:
    """Check what an image set of any name is asked for."""
    if data.source not in SOURCES:
        raise unknown_name("data.source", data.source, SOURCES)
    if data._target_ is not None:
        allowed = "null with data._target_, which is a source of its own"
        raise bad_value("data.source", data.source, allowed, "data.source=null")
    example = {"tfds": "data.name=rock_paper_scissors", "hf": "data.name=./my_images"}
    if not data.name:
        raise bad_value("data.name", "''", f"a set for data={data.source}", example[data.source])
    if data.source != "hf" and data.config is not None:
        allowed = "null but for data=hf; the config of data=tfds is a part of its name"
        raise bad_value("data.config", data.config, allowed, f"data.name={data.name}/{data.config}")
    if data.task not in ("auto", "classification"):
        allowed = f"auto for data={data.source}, which has labels"
        raise bad_value("data.task", data.task, allowed, "data.task=auto")
    whole = all(is_int(side) and side >= 1 for side in data.size)
    if data.size and not (whole and (len(data.size) == 2 or data.size[2:] in ([1], [3]))):
        allowed = "[height,width], or with 1 or 3 channels: [height,width,3]"
        raise bad_value("data.size", data.size, allowed, "data.size=[64,64]")


def _check_reading(data: DataConfig) -> None:
    """Check how examples are read, and that what only image sets have isn't asked of others."""
    if data.stream not in STREAMS:
        allowed = "false, true or disk"
        raise bad_value("data.stream", data.stream, allowed, "data.stream=disk")
    on_disk = data.kind in (*SOURCES, *IMAGE_SETS) and data._target_ is None
    if data.stream == "disk" and not on_disk:
        allowed = f"false or true for data={data.name}, which doesn't lie on the disk as images"
        raise bad_value("data.stream", data.stream, allowed, "data.stream=true")
    for key in ("config", "size") if data.source is None else ():
        value, neutral = getattr(data, key), DataConfig()
        if value != getattr(neutral, key):
            raise UserError(
                f"data.{key}={value}: is an option of data={' and data='.join(SOURCES)}, and "
                f"data={data.name} has no such option; leave it out"
            )


def _check_augment(run: RunConfig) -> None:
    data = run.data
    if data.augment not in AUGMENTS:
        raise unknown_name("data.augment", data.augment, AUGMENTS)
    known = data._target_ is None and data.kind not in UNREAD
    if data.augment != "none" and known and data.name not in IMAGE_SIDE:
        allowed = f"none for data={data.name}, which has no images"
        raise bad_value("data.augment", data.augment, allowed, "data.augment=none")


def _check_target(data: DataConfig) -> None:
    """Refuse what names no columns; only several labels that hold together have several."""
    several = isinstance(data.target, list)
    if several and (data.task != "multilabel" or not data.target):
        allowed = "one column, unless data.task=multilabel"
        raise bad_value("data.target", data.target, allowed, "data.task=multilabel")
    if several:
        data.target = list(map(str, data.target))
    elif data.target is not None:
        data.target = str(data.target)


def _check_size(path: str, size: object, *, shares: bool) -> None:
    """Refuse what is no number of examples, nor, where `shares` may be given, a share of all."""
    count = is_int(size) and int(size) >= 1  # type: ignore[call-overload]
    share = (
        shares and isinstance(size, float) and (0 < size < 1 or (size >= 1 and size == int(size)))
    )
    if not count and not share:
        allowed = "a number of examples" + (", or a share between 0 and 1" if shares else "")
        raise bad_value(path, size, allowed, f"{path}={0.2 if shares else 10000}")
