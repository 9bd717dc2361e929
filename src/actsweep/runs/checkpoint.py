"""Checkpoints of one member: Orbax folders, verified by a digest when they are loaded."""

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from actsweep.utils.files import remove

Flat = dict[str, np.ndarray]
RENAMED = {"hypers": "act_hparams"}
"""First parts of the names of arrays, as versions before this one wrote them."""


class CheckpointError(Exception):
    """A checkpoint is missing, unreadable or altered."""


def flatten(tree: Any) -> Flat:
    """Arrays of a tree by their path, on the host; the form in which checkpoints are stored."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def unflatten(like: Any, flat: Flat) -> Any:
    """The tree shaped like `like`, with the arrays of `flat`.

    Raises:
        CheckpointError: a leaf is missing or has another shape or type.
    """

    def leaf(path: Any, expected: Any) -> np.ndarray:
        name = _name(path)
        value = flat.get(name)
        if value is None or value.shape != expected.shape or value.dtype != expected.dtype:
            found = "nothing" if value is None else f"{value.dtype}{list(value.shape)}"
            raise CheckpointError(
                f"{name}: expected {expected.dtype}{list(expected.shape)}, found {found}"
            )
        return value

    return jax.tree_util.tree_map_with_path(leaf, like)


def save(folder: Path, step: int, flat: Flat, metadata: dict[str, Any], keep: int = 2) -> None:
    """Write a checkpoint in one step: it appears whole, and on the disk, or not at all.

    Args:
        folder: `<run>/checkpoints`.
        step: optimiser steps done; names the checkpoint.
        flat: arrays by name.
        metadata: JSON values kept beside them, such as the epoch.
        keep: how many to leave there, this one included; the oldest go.

    Raises:
        OSError: no room, or no right to write.
    """
    from orbax.checkpoint import v1 as ocp

    folder = folder.absolute()  # Orbax wants it so
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{_folder(step)}-{os.getpid()}.tmp"
    try:
        vectors, layout = _join(flat)
        about = {**metadata, "layout": layout}
        about["sha256"] = digest(flat, about)
        with _own_affair():
            ocp.save(fresh, vectors, custom_metadata=about)
        for path in [*fresh.rglob("*"), fresh]:
            _flush(path)
        own = folder / _folder(step)
        remove(own)  # a damaged one, or one of a training before this
        os.replace(fresh, own)
        _flush(folder)
    except BaseException as error:
        for leftover in folder.glob(f"{fresh.name}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if isinstance(error, Exception) and error.__cause__:
            raise error.__cause__ from None  # Orbax hides the cause
        raise
    for old in steps(folder)[keep:]:
        with contextlib.suppress(OSError):
            remove(folder / _folder(old))


def steps(folder: Path) -> list[int]:
    """The steps at which there are checkpoints, newest first."""
    found = [path.name.removeprefix("step-") for path in folder.glob("step-*")]
    return sorted((int(text) for text in found if text.isdecimal()), reverse=True)


def metadata(folder: Path, step: int) -> dict[str, Any]:
    """What was kept beside the arrays; nothing is verified yet.

    Raises:
        CheckpointError: it is missing or unreadable.
    """
    from orbax.checkpoint import v1 as ocp

    own = folder.absolute() / _folder(step)
    with _explained(own), _own_affair():
        return dict(ocp.metadata(own).custom_metadata or {})


def load(folder: Path, step: int) -> tuple[Flat, dict[str, Any]]:
    """Read a checkpoint and verify every byte of it.

    Returns:
        Arrays by name, and the metadata.

    Raises:
        CheckpointError: it is missing, unreadable, or not what was saved.
    """
    from orbax.checkpoint import v1 as ocp

    own = folder.absolute() / _folder(step)
    about = metadata(folder, step)
    with _explained(own), _own_affair():
        vectors = {name: np.asarray(leaf) for name, leaf in ocp.load(own).items()}
        flat = _part(vectors, about["layout"])
    if about.pop("sha256", None) != digest(flat, about):
        raise CheckpointError(f"{own}: has been altered since it was saved (digest differs)")
    about.pop("layout")
    return {_current(name): value for name, value in flat.items()}, about


@contextlib.contextmanager
def _own_affair() -> Iterator[None]:
    """Orbax without compression, since weights are noise, and without the other processes: of those
    that train together, one saves all, and each loads for itself."""
    from orbax.checkpoint import v1 as ocp
    from orbax.checkpoint.experimental.v1._src.saving import execution

    context, check = ocp.Context(), execution._check_directory_consistency
    context.array.saving.use_compression = False
    if jax.process_count() > 1:
        rank = jax.process_index()
        context.multiprocessing.primary_host = rank
        context.multiprocessing.active_processes = {rank}
        context.multiprocessing.barrier_sync_key_prefix = f"process-{rank}"
        # It asks all processes, also those that aren't active.
        execution._check_directory_consistency = lambda directory: None
    try:
        with context:
            yield
    finally:
        execution._check_directory_consistency = check


def _folder(step: int) -> str:
    return f"step-{step}"


@contextlib.contextmanager
def _explained(own: Path) -> Iterator[None]:
    if not own.is_dir():
        raise CheckpointError(f"{own}: there is no checkpoint")
    try:
        yield
    except Exception as error:
        cause = error.__cause__ or error
        text = str(cause).partition("\n")[0]
        raise CheckpointError(f"{own}: can't be read ({type(cause).__name__}: {text})") from error


def _flush(path: Path) -> None:
    """Have a file, or a folder's list of names, on the disk before what comes next."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _join(flat: Flat) -> tuple[Flat, dict[str, list]]:
    """All arrays of a type as one vector, and where each stands in it.

    Orbax takes about a millisecond for every array, and a small network's state has fifty.
    """
    kinds: dict[str, list[np.ndarray]] = {}
    layout: dict[str, list] = {}
    for name, value in flat.items():
        own = kinds.setdefault(str(value.dtype), [])
        layout[name] = [str(value.dtype), sum(part.size for part in own), list(value.shape)]
        own.append(np.ravel(value))
    return {kind: np.concatenate(parts) for kind, parts in kinds.items()}, layout


def _part(vectors: Flat, layout: dict[str, list]) -> Flat:
    """The inverse of `_join`."""
    return {
        name: vectors[kind][first : first + math.prod(shape)].reshape(shape)
        for name, (kind, first, shape) in layout.items()
    }


def _current(name: str) -> str:
    first, slash, rest = name.partition("/")
    return RENAMED.get(first, first) + slash + rest


def digest(flat: Flat, about: dict[str, Any]) -> str:
    """SHA-256 of names, types, shapes and bytes, and of the metadata."""
    total = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(flat):
        value = np.ascontiguousarray(flat[name])
        total.update(f"{name}:{value.dtype}:{value.shape};".encode())
        total.update(value.tobytes())
    return total.hexdigest()


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
