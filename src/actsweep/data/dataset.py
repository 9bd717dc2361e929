"""A dataset in memory, and the checks that every source has to pass."""

from dataclasses import dataclass

import numpy as np

from actsweep.utils.errors import UserError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Dataset:
    """Three splits as arrays, stored as compactly as they come.

    Attributes:
        name: what `summary.json` calls it.
        train_x: `[n, ...]`, uint8 images `[n, height, width, channels]` or float32 features
            `[n, d]`; `val_x` and `test_x` alike.
        train_y: int32 `[n]` labels, or float32 `[n, outputs]` targets of a regression; `val_y` and
            `test_y` alike.
        classes: number of classes; `None` for a regression.
        scale: the network's input is `x * scale + offset`.
        offset: see `scale`; for uint8 pixels the two lead to [-1, 1].
        labels: names of the classes, or empty.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    val_x: np.ndarray
    val_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int | None
    scale: float = 1.0
    offset: float = 0.0
    labels: tuple[str, ...] = ()


def chance(data: Dataset) -> float:
    """Return the test score of a network that ignores its input.

    Returns:
        The accuracy of the test set's majority class; of a regression, the mean squared error of
        the test targets' mean, averaged over outputs.
    """
    if data.classes is None:
        return float(np.mean(np.var(np.asarray(data.test_y, float), axis=0)))
    return float(np.bincount(data.test_y, minlength=data.classes).max() / len(data.test_y))


def validate(data: Dataset, path: str = "data") -> Dataset:
    """Check shapes, dtypes and values of a dataset.

    Args:
        data: what a source returned.
        path: the override that chose it, for the message.

    Returns:
        `data` itself.

    Raises:
        UserError: the first thing that is wrong, with the array's name.
    """
    if data.classes is not None and (not isinstance(data.classes, int) or data.classes < 2):
        raise _wrong(data, path, f"classes={data.classes}", "an integer of at least 2, or None")
    if not np.isfinite([data.scale, data.offset]).all() or data.scale == 0:
        raise _wrong(data, path, f"scale={data.scale}, offset={data.offset}", "finite, scale not 0")
    if data.labels and len(data.labels) != data.classes:
        raise _wrong(data, path, f"{len(data.labels)} labels", f"one for each of {data.classes}")
    for split in SPLITS:
        x, y = getattr(data, f"{split}_x"), getattr(data, f"{split}_y")
        _check_x(data, path, f"{split}_x", x)
        _check_y(data, path, f"{split}_y", y)
        if len(x) != len(y):
            raise _wrong(data, path, f"{split}_y of {len(y)} rows", f"{len(x)}, as {split}_x")
    return data


def _check_x(data: Dataset, path: str, name: str, x: np.ndarray) -> None:
    if not isinstance(x, np.ndarray) or x.dtype not in (np.uint8, np.float32):
        raise _wrong(data, path, f"{name} of {_kind(x)}", "a numpy array of uint8 or float32")
    if x.ndim < 2 or x.shape[1:] != data.train_x.shape[1:] or 0 in x.shape:
        shape = f"[n >= 1, {', '.join(map(str, data.train_x.shape[1:])) or 'd'}], as train_x"
        raise _wrong(data, path, f"{name} of shape {x.shape}", shape)
    if x.dtype != data.train_x.dtype:
        raise _wrong(data, path, f"{name} of {x.dtype}", f"{data.train_x.dtype}, as train_x")
    if x.dtype == np.float32 and not np.isfinite(x).all():
        raise _wrong(data, path, f"{name} with NaN or infinity", "finite")


def _check_y(data: Dataset, path: str, name: str, y: np.ndarray) -> None:
    dtype, ndim = (np.float32, 2) if data.classes is None else (np.int32, 1)
    if not isinstance(y, np.ndarray) or y.dtype != dtype:
        raise _wrong(data, path, f"{name} of {_kind(y)}", f"a numpy array of {dtype.__name__}")
    if y.ndim != ndim or y.shape[1:] != data.train_y.shape[1:] or 0 in y.shape:
        shape = "[n, outputs], as train_y" if data.classes is None else "[n]"
        raise _wrong(data, path, f"{name} of shape {y.shape}", shape)
    if data.classes is None and not np.isfinite(y).all():
        raise _wrong(data, path, f"{name} with NaN or infinity", "finite")
    if data.classes is not None and (y.min() < 0 or y.max() >= data.classes):
        given = f"{name} from {y.min()} to {y.max()}"
        raise _wrong(data, path, given, f"labels from 0 to {data.classes - 1}")


def _kind(x: object) -> str:
    return str(x.dtype) if isinstance(x, np.ndarray) else type(x).__name__


def _wrong(data: Dataset, path: str, given: str, allowed: str) -> UserError:
    return UserError(
        f"{path}: the dataset {data.name!r} has {given}; must be {allowed}; "
        "fix the loader, or type for example data=digits"
    )
