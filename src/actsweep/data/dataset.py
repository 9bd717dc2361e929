"""A dataset in memory, and the checks that every source has to pass."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from actsweep.utils.errors import UserError

SPLITS = ("train", "val", "test")
TOKENS = (np.uint8, np.uint16, np.int32)


class DiskRows:
    """Rows of a memory-mapped array, in an order of their own, read where they are indexed.

    Args:
        array: a memory-mapped array `[m, ...]`.
        ids: int `[n]`, the rows of it that count, in their order.
    """

    def __init__(self, array: np.ndarray, ids: np.ndarray) -> None:
        self.array, self.ids = array, ids
        self.shape: tuple[int, ...] = (len(ids), *array.shape[1:])
        self.dtype, self.ndim = array.dtype, array.ndim

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return the rows of a slice, or of an array of ids of any shape, in memory."""
        return np.asarray(self.array[self.ids[rows]])


@dataclass(frozen=True)
class Dataset:
    """Three splits as arrays, stored as compactly as they come.

    >>> x, y = np.zeros((30, 2), np.float32), np.arange(30, dtype=np.int32) % 3
    >>> data = Dataset("mine", x, y, x, y, x, y, classes=3)
    >>> data.task, data.outputs
    ('classification', 3)

    Attributes:
        name: what `summary.json` calls it.
        train_x: `[n, ...]`, uint8 images `[n, height, width, channels]`, float32 features `[n, d]`,
            or tokens `[n, length]` of uint8, uint16 or int32; `val_x` and `test_x` alike. Where
            they stay on the disk, `DiskRows` of them.
        train_y: int32 `[n]` labels, float32 `[n, outputs]` targets of a regression, 0 or 1
            `[n, labels]` where `multilabel`, or the next tokens `[n, length]`; `val_y` and `test_y`
            alike.
        classes: number of classes; `None` where nothing is classified.
        scale: the network's input is `x * scale + offset`, unless it is tokens.
        offset: see `scale`; for uint8 pixels the two lead to [-1, 1].
        labels: names of the classes, of the labels that may hold together, or of the tokens where
            the next one is learned; or empty.
        vocabulary: how many tokens there are; `None` where the examples aren't tokens.
        multilabel: whether several labels may hold together.
    """

    name: str
    train_x: np.ndarray | DiskRows
    train_y: np.ndarray
    val_x: np.ndarray
    val_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int | None
    scale: float = 1.0
    offset: float = 0.0
    labels: tuple[str, ...] = ()
    vocabulary: int | None = None
    multilabel: bool = False

    @property
    def task(self) -> str:
        """Return what is learned, a name of `stats.scores.TASKS`."""
        if self.multilabel:
            return "multilabel"
        if self.classes is not None:
            return "classification"
        tokens = self.vocabulary is not None and np.issubdtype(self.train_y.dtype, np.integer)
        return "next_token" if tokens else "regression"

    @property
    def outputs(self) -> int:
        """Return the width of the network's head."""
        if self.task == "next_token":
            assert self.vocabulary is not None
            return self.vocabulary
        return int(self.train_y.shape[-1]) if self.classes is None else self.classes


def chance(data: Dataset) -> float:
    """Return the test score of a network that ignores its input.

    Returns:
        The accuracy of the test set's majority class; of a regression, the mean squared error of
        the test targets' mean, averaged over outputs; of next tokens, the entropy in nats of the
        test tokens' frequencies; of several labels, the mean over labels of the share of examples
        for which they hold, without those that never do.
    """
    if data.task == "next_token":
        share = np.bincount(data.test_y.ravel(), minlength=data.outputs) / data.test_y.size
        return float(-np.sum(share * np.log(np.where(share > 0, share, 1))))
    if data.task == "multilabel":
        share = np.mean(data.test_y, axis=0, dtype=float)
        return float(np.mean(share[share > 0])) if share.any() else 0.0
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
    if data.vocabulary is not None and (
        not isinstance(data.vocabulary, int) or data.vocabulary < 2
    ):
        allowed = "an integer of at least 2, or None"
        raise _wrong(data, path, f"vocabulary={data.vocabulary}", allowed)
    if data.multilabel and data.classes is not None:
        raise _wrong(data, path, f"multilabel=True, classes={data.classes}", "one of the two")
    if not np.isfinite([data.scale, data.offset]).all() or data.scale == 0:
        raise _wrong(data, path, f"scale={data.scale}, offset={data.offset}", "finite, scale not 0")
    for split in SPLITS:
        x, y = getattr(data, f"{split}_x"), getattr(data, f"{split}_y")
        _check_x(data, path, f"{split}_x", x)
        _check_y(data, path, f"{split}_y", y)
        if len(x) != len(y):
            raise _wrong(data, path, f"{split}_y of {len(y)} rows", f"{len(x)}, as {split}_x")
    named = data.classes if data.task in ("classification", "regression") else data.outputs
    if data.labels and len(data.labels) != named:
        raise _wrong(data, path, f"{len(data.labels)} labels", f"one for each of {named}")
    return data


def _check_x(data: Dataset, path: str, name: str, x: np.ndarray | DiskRows) -> None:
    dtypes = (np.uint8, np.float32) if data.vocabulary is None else TOKENS
    if not isinstance(x, np.ndarray | DiskRows) or x.dtype not in dtypes:
        known = ", ".join(dtype.__name__ for dtype in dtypes[:-1])
        allowed = f"a numpy array of {known} or {dtypes[-1].__name__}"
        raise _wrong(data, path, f"{name} of {_kind(x)}", allowed)
    if x.ndim < 2 or x.shape[1:] != data.train_x.shape[1:] or 0 in x.shape:
        shape = f"[n >= 1, {', '.join(map(str, data.train_x.shape[1:])) or 'd'}], as train_x"
        raise _wrong(data, path, f"{name} of shape {x.shape}", shape)
    if x.dtype != data.train_x.dtype:
        raise _wrong(data, path, f"{name} of {x.dtype}", f"{data.train_x.dtype}, as train_x")
    if isinstance(x, DiskRows):
        return  # images, which can hold no wrong value
    if x.dtype == np.float32 and not np.isfinite(x).all():
        raise _wrong(data, path, f"{name} with NaN or infinity", "finite")
    if data.vocabulary is not None:
        _check_tokens(data, path, name, x)


def _check_tokens(data: Dataset, path: str, name: str, x: np.ndarray) -> None:
    assert data.vocabulary is not None
    if x.min() < 0 or x.max() >= data.vocabulary:
        given = f"{name} from {x.min()} to {x.max()}"
        raise _wrong(data, path, given, f"tokens from 0 to {data.vocabulary - 1}")


def _check_y(data: Dataset, path: str, name: str, y: np.ndarray) -> None:
    if isinstance(y, np.ndarray) and data.task == "next_token":
        if y.dtype not in TOKENS or y.shape[1:] != data.train_x.shape[1:]:
            given = f"{name} of {y.dtype} and shape {y.shape}"
            shape = ", ".join(map(str, data.train_x.shape[1:]))
            raise _wrong(data, path, given, f"tokens [n, {shape}], as train_x")
        _check_tokens(data, path, name, y)
        return
    dtype, ndim = (np.float32, 2) if data.classes is None else (np.int32, 1)
    if not isinstance(y, np.ndarray) or y.dtype not in (dtype, *((np.uint8,) * data.multilabel)):
        raise _wrong(data, path, f"{name} of {_kind(y)}", f"a numpy array of {dtype.__name__}")
    if y.ndim != ndim or y.shape[1:] != data.train_y.shape[1:] or 0 in y.shape:
        shape = "[n, outputs], as train_y" if data.classes is None else "[n]"
        raise _wrong(data, path, f"{name} of shape {y.shape}", shape)
    if data.classes is None and not np.isfinite(y).all():
        raise _wrong(data, path, f"{name} with NaN or infinity", "finite")
    if data.classes is not None and (y.min() < 0 or y.max() >= data.classes):
        given = f"{name} from {y.min()} to {y.max()}"
        raise _wrong(data, path, given, f"labels from 0 to {data.classes - 1}")
    if data.multilabel and (not np.isin(y, (0, 1)).all() or not y.any()):
        given = f"{name} of other values" if y.any() else f"{name} in which no label holds"
        raise _wrong(data, path, given, "0 and 1, of each at least one")


def _kind(x: object) -> str:
    return str(x.dtype) if isinstance(x, np.ndarray) else type(x).__name__


def _wrong(data: Dataset, path: str, given: str, allowed: str) -> UserError:
    return UserError(
        f"{path}: the dataset {data.name!r} has {given}; must be {allowed}; "
        "fix the loader, or type for example data=digits"
    )
