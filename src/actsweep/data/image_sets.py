"""Image classification sets of any name: those that TFDS has prepared, and those of `datasets`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from actsweep.config import data_folders
from actsweep.config.schema import DataConfig
from actsweep.data import cache, decoding, hf, tfds
from actsweep.data.dataset import Dataset, DiskRows
from actsweep.data.order import split_order, split_size
from actsweep.utils.errors import UserError, bad_value, unknown_name


def load(cfg: DataConfig, log: cache.Log) -> Dataset:
    """Return the set that `data.source` and `data.name` say.

    Its splits are `train`, `validation` and `test`. What of the latter two it lacks is taken from
    `train` by `data.split_seed`: `data.test_size` examples or their share, then `data.val_size`.

    Raises:
        UserError: there is no such set, it isn't one of images in classes, or a record is damaged.
    """
    images, decoded = arrays(cfg, log)
    x, y = decoded["train_images"], decoded["train_labels"]
    order = split_order(cfg.split_seed, len(x))
    n_test = 0 if "test" in images.splits else split_size(cfg.test_size, len(x))
    n_val = 0 if "validation" in images.splits else split_size(cfg.val_size, len(x))
    if n_test + n_val >= len(x):
        few = f"smaller: beside {n_test} for the test none of {len(x)} examples is left"
        raise bad_value("data.val_size", cfg.val_size, few, "data.val_size=0.1")
    taken = {"test": order[:n_test], "validation": order[n_test : n_test + n_val]}
    parts: list[Any] = []
    for name, ids in taken.items():
        own = name in images.splits
        kinds = ("images", "labels")
        parts += [decoded[f"{name}_{kind}"] for kind in kinds] if own else [x[ids], y[ids]]
    test_x, test_y, val_x, val_y = parts
    train = order[n_test + n_val :]
    splits = (training_rows(x, train, cfg), y[train], val_x, val_y, test_x, test_y)
    lacking = np.setdiff1d(np.concatenate([val_y, test_y]), y[train])
    if lacking.size:
        raise UserError(
            f"{_where(cfg)}: no example of class {images.classes[lacking[0]]!r} is left for "
            "training; type a smaller data.val_size, or another data.split_seed"
        )
    name = Path(cfg.name).name if data_folders.is_path(cfg.name) else cfg.name
    return Dataset(name, *splits, len(images.classes), 2 / 255, -1.0, images.classes)


def has_own_splits(cfg: DataConfig) -> bool:
    """Return whether a set brings all its splits, so that `data.split_seed` divides nothing."""
    return {"validation", "test"} <= {*OPENED[str(cfg.source)](cfg).splits}


def training_rows(x: np.ndarray, ids: np.ndarray, cfg: DataConfig) -> np.ndarray | DiskRows:
    """Return the rows of training images that count, with `data.stream=disk` unread."""
    return DiskRows(x, ids) if cfg.stream == "disk" else x[ids]


def arrays(cfg: DataConfig, log: cache.Log) -> tuple[decoding.EncodedSet, dict[str, np.ndarray]]:
    """Return a set and its decoded arrays, as `decoding.arrays`; decoded once, by one process.

    Raises:
        UserError: see `load`.
    """
    variant = cache.digest_of(json.dumps([cfg.config, cfg.target, cfg.size]))
    mapped = cfg.stream == "disk"
    try:
        if cfg.source not in OPENED:
            raise unknown_name("data.source", cfg.source, OPENED)
        images = OPENED[cfg.source](cfg)
        kept = cache.read(images.folder, images.records, log, variant, mapped=mapped)
        if kept is None:
            title = f"{images.folder.parent.name}-{images.folder.name}"
            with cache.lock(title, images.folder.parent, images.folder, log):
                kept = decoding.arrays(images, log, variant, mapped=mapped)
    except decoding.BadFile as error:
        raise UserError(f"{_where(cfg)}: {error}") from error
    return images, kept


def _tfds(cfg: DataConfig) -> decoding.EncodedSet:
    folder = data_folders.tfds_folder(cfg.name, data_folders.data_root(cfg.dir))
    records = {"content": data_folders.digest(folder)}
    return tfds.encoded(folder, records, cfg.target, tuple(cfg.size))


OPENED: dict[str, Callable[[DataConfig], decoding.EncodedSet]] = {"tfds": _tfds, "hf": hf.encoded}


def _where(cfg: DataConfig) -> str:
    return f"data={cfg.source} data.name={cfg.name}"
