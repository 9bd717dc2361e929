"""The checks of `data`, as far as it is known before it is read. No jax."""

from actsweep.config.numbers import at_least, is_int
from actsweep.config.schema import (
    AUGMENTS,
    DATASETS,
    LEVELS,
    TABLES,
    TASKS,
    TEXTS,
    DataConfig,
    RunConfig,
)
from actsweep.config.validate_model import IMAGE_SIDE, UNREAD
from actsweep.utils.errors import bad_value, unknown_name

# What has to be known of the data before it is there.
EXAMPLES = {
    **dict.fromkeys(("fashion_mnist", "mnist", "kmnist"), 60_000),
    **dict.fromkeys(("cifar10", "cifar100"), 50_000),
    "svhn": 73_257,
    "digits": 1_500,
}


def check(run: RunConfig) -> None:
    """Check the data set that a config names.

    Raises:
        UserError: the first value that isn't allowed.
    """
    data, batch = run.data, run.trainer.batch_size
    if data._target_ is None and data.name not in DATASETS:
        raise unknown_name("data", data.name, DATASETS)
    _check_augment(run)
    _check_size("data.val_size", data.val_size, shares=data.name in (*TABLES, *TEXTS))
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
    if data._target_ is not None or data.name in (*TABLES, *TEXTS, *UNREAD):
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


def _check_augment(run: RunConfig) -> None:
    data = run.data
    if data.augment not in AUGMENTS:
        raise unknown_name("data.augment", data.augment, AUGMENTS)
    known = data._target_ is None and data.name not in UNREAD
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
