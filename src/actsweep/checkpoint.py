"""Checkpoints of one member: Orbax folders, verified by a digest when they are loaded."""

import hashlib
import math
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

Flat = dict[str, np.ndarray]


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


def save(folder: Path, flat: Flat, metadata: dict[str, Any]) -> None:
    """Write a checkpoint in one step: the folder appears whole or not at all.

    Args:
        folder: `<run>/checkpoints/best` or `…/last`; an older one is replaced.
        flat: arrays by name.
        metadata: JSON values kept beside them, such as the epoch.

    Raises:
        OSError: no room, or no right to write.
    """
    from orbax.checkpoint import v1 as ocp

    folder = folder.absolute()  # Orbax wants it so
    fresh = folder.with_name(f".{folder.name}-{os.getpid()}.tmp")
    fresh.parent.mkdir(parents=True, exist_ok=True)
    try:
        vectors, layout = _join(flat)
        about = {**metadata, "layout": layout, "sha256": digest(flat)}
        context = ocp.Context()
        context.array.saving.use_compression = False  # weights are noise: it would gain little
        with context:
            ocp.save(fresh, vectors, custom_metadata=about)
    except Exception as error:
        for leftover in fresh.parent.glob(f"{fresh.name}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        raise error.__cause__ or error from None  # Orbax hides the cause
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(fresh, folder)


def load(folder: Path) -> tuple[Flat, dict[str, Any]]:
    """Read a checkpoint and verify every byte of it.

    Returns:
        Arrays by name, and the metadata.

    Raises:
        CheckpointError: it is missing, unreadable, or not what was saved.
    """
    from orbax.checkpoint import v1 as ocp

    folder = folder.absolute()
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no checkpoint")
    try:
        metadata = dict(ocp.metadata(folder).custom_metadata or {})
        vectors = {name: np.asarray(leaf) for name, leaf in ocp.load(folder).items()}
        flat = _part(vectors, metadata.pop("layout"))
    except Exception as error:
        cause = error.__cause__ or error
        raise CheckpointError(
            f"{folder}: can't be read ({type(cause).__name__}: {cause})"
        ) from error
    if metadata.pop("sha256", None) != digest(flat):
        raise CheckpointError(f"{folder}: has been altered since it was saved (digest differs)")
    return flat, metadata


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


def digest(flat: Flat) -> str:
    """SHA-256 of names, types, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(flat):
        value = np.ascontiguousarray(flat[name])
        total.update(f"{name}:{value.dtype}:{value.shape};".encode())
        total.update(value.tobytes())
    return total.hexdigest()


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
