"""Tables: a CSV or NPZ file of one's own, and scikit-learn's small ones. One split, one scaling."""

import csv
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actsweep.config.schema import DataConfig
from actsweep.data.dataset import Dataset
from actsweep.data.order import split_order, split_size
from actsweep.utils.errors import UserError, bad_value, unknown_name

MOST_CLASSES = 100
"""Whole numbers of more different values than this are a quantity, not names of classes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """Examples before they are split: x [n, ...], and y [n] or [n, outputs] as it was found."""

    name: str
    x: np.ndarray
    y: np.ndarray
    labels: tuple[str, ...] = ()


def from_csv(cfg: DataConfig) -> Dataset:
    """Read a CSV file: a row of names, then one example a row; numbers, but for the target.

    Raises:
        UserError: the file is missing or malformed; names the row and the column.
    """
    path = _path(cfg, "csv")
    names, rows = _rows(path)
    several = isinstance(cfg.target, list)
    targets = list(cfg.target) if several else [cfg.target or names[-1]]
    for target in targets:
        if target not in names:
            raise unknown_name("data.target", target, names)
    others = [name for name in names if name not in targets]
    columns = [*cfg.columns] or others
    for column in columns:
        if column not in others:
            raise unknown_name("data.columns", column, others)
    places = [names.index(column) for column in columns]
    x = np.empty((len(rows), len(places)))
    for row, cells in enumerate(rows):
        for i, place in enumerate(places):
            x[row, i] = _number(cells[place], path, row, names[place])
    ids = [names.index(target) for target in targets]
    y = np.array([[cells[i].strip() for i in ids] for cells in rows])
    if (y == "").any():
        row, place = map(int, np.argwhere(y == "")[0])
        raise _wrong(path, row, targets[place], "is empty", "fill it, or drop the row")
    y = _as_numbers(y if several else y[:, 0])
    labels = tuple(targets) if cfg.task == "multilabel" else ()
    return split(Table(path.stem, x, y, labels), cfg)


def from_npz(cfg: DataConfig) -> Dataset:
    """Read an NPZ file with the arrays `x` [n, ...] and `y`, [n] or [n, outputs].

    Raises:
        UserError: the file is missing, or its arrays don't fit together.
    """
    path = _path(cfg, "npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise UserError(f"data.path={path}: can't be read as NPZ ({error})") from error
    target = cfg.target or "y"
    for name in ("x", target):
        if name not in arrays:
            known = ", ".join(arrays) or "none"
            raise UserError(
                f"data.path={path}: has no array {name!r}, but: {known}; save it by "
                "np.savez(path, x=…, y=…)"
            )
    x, y = arrays["x"], arrays[target]
    if len(x) != len(y):
        raise UserError(f"data.path={path}: x has {len(x)} examples, {target} has {len(y)}")
    return split(Table(path.stem, x, y), cfg)


def bundled(cfg: DataConfig) -> Dataset:
    """Return scikit-learn's wine, breast_cancer or diabetes: they need no files."""
    from sklearn import datasets

    load: Callable[[], Any] = getattr(datasets, f"load_{cfg.name}")
    bunch = load()
    labels = tuple(map(str, getattr(bunch, "target_names", ())))
    return split(Table(cfg.name, bunch.data, bunch.target, labels), cfg)


def split(table: Table, cfg: DataConfig) -> Dataset:
    """Return a table as a data set: encoded, split by `data.split_seed`, and scaled.

    With `data.standardize` each feature gets mean 0 and deviation 1 over the training set, and so
    does a regression's target, of which the loss is then a share of the variance; what is the same
    everywhere becomes 0. Images, which have several axes, stay as they are.

    Raises:
        UserError: too few examples, or a class that training lacks.
    """
    several = cfg.task == "multilabel"
    x, (y, labels) = _features(table), _labels(table) if several else _targets(table, cfg)
    order = split_order(cfg.split_seed, len(x))
    n_test, n_val = split_size(cfg.test_size, len(x)), split_size(cfg.val_size, len(x))
    if n_test + n_val >= len(x):
        few = f"smaller: beside data.test_size={cfg.test_size} none of {len(x)} examples is left"
        raise bad_value("data.val_size", cfg.val_size, few, "data.val_size=0.1")
    if cfg.stratify and several:
        only = "false for several labels, which have no classes"
        raise bad_value("data.stratify", True, only, "data.stratify=false")
    if cfg.stratify and labels:
        order = _stratified(order, y)
    parts = order[n_test + n_val :], order[n_test : n_test + n_val], order[:n_test]
    if (
        not several
        and labels
        and (lacking := sorted(set(range(len(labels))) - {*y[parts[0]].tolist()}))
    ):
        raise UserError(
            f"data={cfg.name}: no example of class {labels[lacking[0]]!r} is left for training; "
            "type data.stratify=true, a smaller data.val_size, or data.task=regression if it is a "
            "quantity"
        )
    if cfg.standardize:
        x = _standardized(x, parts[0]) if x.ndim == 2 else x
        y = y if labels else _standardized(y, parts[0]).astype(np.float32)
    pixels = x.dtype == np.uint8
    x = x if pixels else x.astype(np.float32)
    arrays: Any = [array for ids in parts for array in (x[ids], y[ids])]
    scale, offset = (2 / 255, -1.0) if pixels else (1.0, 0.0)
    classes = None if several else len(labels) or None
    about = (classes, scale, offset, labels, None, several)
    return Dataset(*(table.name, *arrays, *about))


def _standardized(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return columns with mean 0 and deviation 1 over the training examples."""
    mean, deviation = values[train].mean(0), values[train].std(0)
    return np.where(deviation > 0, (values - mean) / np.where(deviation > 0, deviation, 1), 0)


def _features(table: Table) -> np.ndarray:
    """Return x as uint8 images or float64; what isn't finite is refused."""
    x = table.x
    if x.dtype == np.uint8 and x.ndim > 2:
        return x
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == bool) or x.ndim < 2:
        raise UserError(
            f"data: x is {x.dtype} of shape {list(x.shape)}; it must be numbers [n, features] or "
            "images [n, height, width, channels]"
        )
    if not np.isfinite(x).all():
        row = int(np.argmax(~np.isfinite(x).reshape(len(x), -1).all(1)))
        raise UserError(f"data: example {row} of x isn't finite; drop it, or fill what it lacks")
    if x.dtype not in (np.float32, np.float64):
        log.info("%s: x is %s, and is trained on as float32", table.name, x.dtype)
    return x.astype(np.float64)


def _targets(table: Table, cfg: DataConfig) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels with their names, or a regression's targets [n, outputs] without any."""
    y = table.y
    numeric = np.issubdtype(y.dtype, np.number)
    whole = numeric and bool(np.all(y == np.round(y)))
    few = len(np.unique(y)) <= MOST_CLASSES
    classify = {"classification": True, "regression": False}.get(
        cfg.task, y.ndim == 1 and few and (whole or not numeric)
    )
    if not classify:
        if not numeric:
            raise UserError(
                f"data.task={cfg.task}: the target is text, such as {y.flat[0]!r}, of "
                f"{len(np.unique(y))} values; choose another data.target"
            )
        if not np.isfinite(y).all():
            raise UserError("data.target: isn't finite everywhere; drop such rows")
        return y.reshape(len(y), -1).astype(np.float32), ()
    values, ids = np.unique(y, return_inverse=True)
    if len(values) < 2:
        raise UserError(f"data.target: is {values[0]} everywhere: there is nothing to learn")
    names = table.labels or tuple(f"{value:g}" if numeric else str(value) for value in values)
    return ids.astype(np.int32), names


def _labels(table: Table) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels that may hold together as 0 or 1 [n, labels], with their names.

    Raises:
        UserError: something else stands there, or a label is the same everywhere.
    """
    y = table.y.reshape(len(table.y), -1)
    names = table.labels if len(table.labels) == y.shape[1] else tuple(map(str, range(y.shape[1])))
    for name, column in zip(names, map(_as_numbers, y.T), strict=True):
        others = [value for value in np.unique(column).tolist() if value not in (0, 1, "0", "1")]
        if others:
            raise UserError(
                f"data.task=multilabel: the label {name} is {others[0]!r} somewhere; it must be 0 "
                "or 1 everywhere; type data.task=classification for the names of classes"
            )
        if len(np.unique(column)) < 2:
            raise UserError(
                f"data.task=multilabel: the label {name} is {column[0]:g} everywhere: there is "
                "nothing to learn; leave it out of data.target"
            )
    return y.astype(np.uint8), names


def _stratified(order: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the order so that every stretch of it has the classes in their shares."""
    rank = np.empty(len(order))
    for label in np.unique(y):
        members = np.flatnonzero(y[order] == label)
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(rank, kind="stable")]


def _path(cfg: DataConfig, kind: str) -> Path:
    if not cfg.path:
        raise UserError(f"data={kind}: needs a file; type data.path=my.{kind}")
    path = Path(cfg.path)
    if not path.is_file():
        raise UserError(f"data.path={cfg.path}: no such file in {Path.cwd()}")
    return path


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the names of a CSV file's columns, and its rows, all of the same length."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.path={path}: can't be read ({error}); save it as UTF-8") from error
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise UserError(
            f"data.path={path}, row {reader.line_num}: {error}; mend the file"
        ) from error
    if len(rows) < 2:
        raise UserError(f"data.path={path}: has no examples; it needs a row of names, then data")
    names = [name.strip() for name in rows[0]]
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"data.path={path}: has two columns {twice!r}; rename one")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise UserError(
                f"data.path={path}, row {number}: has {len(row)} cells, the first row {len(names)}"
            )
    return names, rows[1:]


def _number(cell: str, path: Path, row: int, column: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        shown = f"is {cell.strip()!r}" if cell.strip() else "is empty"
        fix = f"fill it, or leave the column out: data.columns=[…] without {column}"
        raise _wrong(path, row, column, f"{shown}, which is no finite number", fix)
    return float(value)


def _wrong(path: Path, row: int, column: str, what: str, fix: str) -> UserError:
    return UserError(f"data.path={path}, row {row + 2}, column {column}: {what}; {fix}")


def _as_numbers(cells: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return text as numbers, if all of it is."""
    try:
        return np.asarray(cells, dtype=np.float64)
    except ValueError:
        return np.asarray(cells)
