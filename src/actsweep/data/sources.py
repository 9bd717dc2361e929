"""From a `data` config to a `Dataset`: a dictionary of sources, and the user's own."""

import inspect
import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from actsweep.config.schema import DataConfig
from actsweep.data import image_sets, tables, text, toys
from actsweep.data.dataset import Dataset, validate
from actsweep.data.images import IDX_FILES, IMAGES
from actsweep.data.order import split_order
from actsweep.data.originals import BadFile, read_idx
from actsweep.utils.errors import UserError, bad_value, unknown_name
from actsweep.utils.imports import import_target

DIGITS_TEST = 297
DIGITS_TEST_SEED = 0

log = logging.getLogger(__name__)


def load(cfg: DataConfig, say: Callable[[str], None] = log.info) -> Dataset:
    """Return the dataset that a config names, prepared first where that is needed.

    Args:
        cfg: the group `data` of a run.
        say: takes a line about each slow step.

    Returns:
        A checked `Dataset`. Equal configs give equal arrays, in equal order.

    Raises:
        UserError: an unknown name, a bad value, data that can't be had or are damaged.
    """
    if cfg._target_ is not None:
        return validate(_custom(cfg), "data._target_")
    if cfg.options:
        raise bad_value(
            "data.options", cfg.options, "empty without data._target_", "data.options={}"
        )
    if cfg.source is not None:
        _no_noise(cfg)
        data = image_sets.load(cfg, say)
    elif cfg.name in IMAGES:
        _no_noise(cfg)
        data = _images(cfg, say)
    elif cfg.name in GENERATED:
        data = GENERATED[cfg.name](cfg)
    else:
        raise unknown_name("data", cfg.name, (*IMAGES, *GENERATED))
    return validate(data)


def digits(cfg: DataConfig) -> Dataset:
    """Return scikit-learn's 1,797 digits of 8x8 pixels from 0 to 16: needs no files.

    297 of them, the same for every config, are the test set. `data.split_seed` divides the other
    1,500 into `data.val_size` for validation and the rest for training.
    """
    _no_noise(cfg)
    rows = _digit_rows()
    x = rows[:, :-1].astype(np.uint8).reshape(-1, 8, 8, 1)
    y = rows[:, -1].astype(np.int32)
    order = split_order(DIGITS_TEST_SEED, len(x))
    test, rest = order[:DIGITS_TEST], order[DIGITS_TEST:]
    train, val = _split(cfg, len(rest))
    train, val = rest[train], rest[val]
    arrays = (x[train], y[train], x[val], y[val], x[test], y[test])
    labels = tuple(map(str, range(10)))
    return Dataset("digits", *arrays, classes=10, scale=1 / 8, offset=-1.0, labels=labels)


def _digit_rows() -> np.ndarray:
    """Return 64 pixels and a label for each digit, from scikit-learn's file.

    To import scikit-learn takes as long as a small training; its own loader is for versions that
    have the file elsewhere.
    """
    spec = find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",", dtype=np.int32)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def idx(cfg: DataConfig) -> Dataset:
    """Read images and labels from the four IDX files in a folder, named as MNIST's.

    `data.val_size` of the training images are for validation.

    Raises:
        UserError: a file is missing, damaged, or doesn't fit to the others.
    """
    _no_noise(cfg)
    if not cfg.path or not Path(cfg.path).is_dir():
        given = cfg.path or "null"
        raise bad_value("data.path", given, "a folder with four IDX files", "data.path=my_images")
    if cfg.task == "regression":
        raise bad_value(
            "data.task", cfg.task, "auto for data=idx, which has labels", "data.task=auto"
        )
    (x, y), (test_x, test_y) = (_idx_pair(Path(cfg.path), *pair) for pair in IDX_FILES.values())
    classes = max(2, 1 + int(y.max()))
    train, val = _split(cfg, len(x))
    splits = (x[train], y[train], x[val], y[val], test_x, test_y)
    labels = tuple(map(str, range(classes)))
    name = Path(cfg.path).absolute().name
    return Dataset(name, *splits, classes=classes, scale=2 / 255, offset=-1.0, labels=labels)


def _idx_pair(folder: Path, images: str, labels: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 `[n, height, width, 1]`, and labels, int32 `[n]`."""
    x, y = (_idx_file(folder, name) for name in (images, labels))
    if x.ndim != 3 or y.shape != x.shape[:1] or x.size == 0:
        raise UserError(
            f"data.path={folder}: {images} has shape {list(x.shape)}, {labels} {list(y.shape)}; "
            "they must be [n, height, width] and [n]"
        )
    return x[..., None], y.astype(np.int32)


def _idx_file(folder: Path, name: str) -> np.ndarray:
    """Read a file, with `.gz` or without."""
    plain = name.removesuffix(".gz")
    for path in (folder / plain, folder / name):
        if path.is_file():
            try:
                return read_idx(path)
            except BadFile as error:
                raise UserError(f"data.path={folder}: {error}; replace the file") from error
    raise UserError(f"data.path={folder}: has no {plain}, nor {name}; put it there")


GENERATED: dict[str, Callable[[DataConfig], Dataset]] = {
    "digits": digits,
    "circle": toys.circle,
    "xor": toys.xor,
    "xor_table": toys.truth_table,
    "quadratic": toys.quadratic,
    "csv": tables.from_csv,
    "npz": tables.from_npz,
    "idx": idx,
    "text": text.from_file,
    "pydocs": text.from_pydocs,
    **dict.fromkeys(("wine", "breast_cancer", "diabetes"), tables.bundled),
}


def _images(cfg: DataConfig, say: Callable[[str], None]) -> Dataset:
    from actsweep.data.prepare import arrays

    mapped = cfg.stream == "disk"
    parts = arrays(cfg.name, Path(cfg.dir) if cfg.dir else None, say, mapped=mapped)
    x, y = parts["train_images"], parts["train_labels"]
    train, val = _split(cfg, len(x))
    labels = IMAGES[cfg.name].labels
    train_x = image_sets.training_rows(x, train, cfg)
    splits = (train_x, y[train], x[val], y[val], parts["test_images"], parts["test_labels"])
    return Dataset(
        cfg.name, *splits, classes=len(labels), scale=2 / 255, offset=-1.0, labels=labels
    )


def _split(cfg: DataConfig, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids for training and for validation, by `data.split_seed`."""
    if not 1 <= cfg.val_size < n:
        fix = f"data.val_size={max(1, n // 6)}"
        raise bad_value("data.val_size", cfg.val_size, f"from 1 to {n - 1} of {n} examples", fix)
    order = split_order(cfg.split_seed, n)
    return order[cfg.val_size :], order[: cfg.val_size]


def _no_noise(cfg: DataConfig) -> None:
    if cfg.noise:
        raise bad_value("data.noise", cfg.noise, f"0 for data={cfg.name}", "data.noise=0.0")


def _custom(cfg: DataConfig) -> Dataset:
    """Call the user's function `_target_(**options)`."""
    target = str(cfg._target_)
    where = f"data._target_={target}"
    function = import_target("data", target)
    if not callable(function):
        raise UserError(f"{where}: not a function; must be package.module.function")
    try:
        inspect.signature(function).bind(**cfg.options)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where}: doesn't take data.options={dict(cfg.options)} ({error}); "
            "type for example data.options={}"
        ) from error
    data = function(**cfg.options)
    if not isinstance(data, Dataset):
        raise UserError(
            f"{where}: returned {type(data).__name__}; must be an actsweep.data.Dataset"
        )
    return data
