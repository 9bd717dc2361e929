"""Checkpoints of one member: Orbax folders, verified by a digest when they are loaded."""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from actsweep.utils.files import remove

Flat = dict[str, np.ndarray]
RENAMED = {"hypers": "act_hparams"}
"""First parts of array names, as older versions wrote them, and what they are called now."""
BYTES = "bytes"
"""Name of the only array that Orbax stores."""


class CheckpointError(Exception):
    """A checkpoint is missing, unreadable or altered."""


def flatten(tree: Any) -> Flat:
    """Return the arrays of a tree by their path, on the host, as checkpoints store them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def without_lent(flat: Flat, lent: Collection[str]) -> Flat:
    """Return the arrays but for numbers of activations that a member alone doesn't have.

    Args:
        flat: arrays by name, of a member of a mixed pack.
        lent: names of the numbers; see `identity.lent_numbers`.
    """
    return {name: value for name, value in flat.items() if _number(name) not in lent}


def with_lent(flat: Flat, like: Any, lent: Mapping[str, float]) -> Flat:
    """Return the arrays, and those that `without_lent` left out, which `like` has."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(like)
    names = {_name(path): _number(_name(path)) for path, _ in leaves}
    added = {name: np.asarray(lent[k], np.float32) for name, k in names.items() if k and k in lent}
    return flat | added


def _number(name: str) -> str | None:
    """Return which number of an activation an array is, by its name: those that aren't trained."""
    first, *parts = name.split("/")
    if first != "act_hparams" or "numbers" not in parts:
        return None
    return parts[parts.index("numbers") + 1]


def unflatten(like: Any, flat: Flat) -> Any:
    """Return a tree with the structure of `like` and the arrays of `flat`.

    Raises:
        CheckpointError: a leaf is missing or has another shape or type.
    """

    def leaf(path: Any, expected: Any) -> np.ndarray:
        name = _name(path)
        value = flat.get(name)
        if value is None or value.shape != expected.shape or value.dtype != expected.dtype:
            actual = "nothing" if value is None else f"{value.dtype}{list(value.shape)}"
            raise CheckpointError(
                f"{name}: expected {expected.dtype}{list(expected.shape)}, found {actual}"
            )
        return value

    return jax.tree_util.tree_map_with_path(leaf, like)


def save(folder: Path, step: int, flat: Flat, metadata: dict[str, Any], keep: int = 2) -> None:
    """Write a checkpoint atomically: it is on disk completely, or not at all.

    Args:
        folder: `<run>/checkpoints`.
        step: optimiser steps done; the name of the checkpoint.
        flat: arrays by name.
        metadata: JSON values kept beside them, such as the epoch.
        keep: how many checkpoints stay, this one included; the oldest are removed.

    Raises:
        OSError: the disk is full, or the folder can't be written.
    """
    from orbax.checkpoint import v1 as ocp

    folder = folder.absolute()  # Orbax accepts no relative path
    folder.mkdir(parents=True, exist_ok=True)
    final, fresh = folder / _folder(step), folder / f".{_folder(step)}-{os.getpid()}.tmp"
    try:
        whole, layout = _join(flat)
        about = {**metadata, "layout": layout}
        about["sha256"] = digest(flat, about)
        with _this_process_alone():
            ocp.save(fresh, {BYTES: whole}, custom_metadata=about)
        for path in [*fresh.rglob("*"), fresh]:
            _flush(path)
        remove(final)  # a damaged checkpoint, or one of an earlier training
        os.replace(fresh, final)
        _flush(folder)
    except BaseException as error:
        for leftover in folder.glob(f"{fresh.name}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if isinstance(error, Exception):
            raise _cause(error, final) from None
        raise
    trim(folder, keep)


def trim(folder: Path, keep: int) -> None:
    """Remove all checkpoints but the newest `keep`."""
    for old in steps(folder)[keep:]:
        with contextlib.suppress(OSError):
            remove(folder / _folder(old))


def steps(folder: Path) -> list[int]:
    """Return the steps that have checkpoints, newest first."""
    numbers = [path.name.removeprefix("step-") for path in folder.glob("step-*")]
    return sorted((int(text) for text in numbers if text.isdecimal()), reverse=True)


def metadata(folder: Path, step: int) -> dict[str, Any]:
    """Return the metadata kept beside the arrays; nothing is verified yet.

    Raises:
        CheckpointError: it is missing or unreadable.
    """
    from orbax.checkpoint import v1 as ocp

    path = folder.absolute() / _folder(step)
    with _explained(path), _this_process_alone():
        return dict(ocp.metadata(path).custom_metadata or {})


def load(folder: Path, step: int) -> tuple[Flat, dict[str, Any]]:
    """Read a checkpoint, verify every byte of it, and return it.

    Returns:
        Arrays by name, and the metadata.

    Raises:
        CheckpointError: it is missing, unreadable, or not what was saved.
    """
    from orbax.checkpoint import v1 as ocp

    path = folder.absolute() / _folder(step)
    about = metadata(folder, step)
    with _explained(path), _this_process_alone():
        vectors = {name: np.asarray(leaf) for name, leaf in ocp.load(path).items()}
        flat = _split(vectors, about["layout"])
    if about.pop("sha256", None) != digest(flat, about):
        raise CheckpointError(f"{path}: has been altered since it was saved (digest differs)")
    about.pop("layout")
    return {_current(name): value for name, value in flat.items()}, about


@contextlib.contextmanager
def _this_process_alone() -> Iterator[None]:
    """Set Orbax up without compression, since weights are noise, and without other processes.

    In a process group the coordinator saves everything, and each process loads for itself.
    """
    from orbax.checkpoint import v1 as ocp
    from orbax.checkpoint.experimental.v1._src.saving import execution

    context, check = ocp.Context(), execution._check_directory_consistency
    context.array.saving.use_compression = False
    if jax.process_count() > 1:
        rank = jax.process_index()
        context.multiprocessing.primary_host = rank
        context.multiprocessing.active_processes = {rank}
        context.multiprocessing.barrier_sync_key_prefix = f"process-{rank}"
        # This check would wait for all processes, also those that aren't active.
        execution._check_directory_consistency = lambda directory: None
    try:
        with context:
            yield
    finally:
        execution._check_directory_consistency = check


def _folder(step: int) -> str:
    return f"step-{step}"


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    if not path.is_dir():
        raise CheckpointError(f"{path}: there is no checkpoint")
    try:
        yield
    except Exception as error:
        cause = error.__cause__ or error
        text = str(cause).partition("\n")[0]
        raise CheckpointError(f"{path}: can't be read ({type(cause).__name__}: {text})") from error


def _cause(error: Exception, path: Path) -> BaseException:
    """Return the OSError that Orbax and TensorStore hide, or else the error's cause."""
    cause = error.__cause__ or error
    code = re.search(r"\[os_error_code='(\d+)'\]", str(cause))
    return OSError(int(code[1]), os.strerror(int(code[1])), str(path)) if code else cause


def _flush(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _join(flat: Flat) -> tuple[np.ndarray, dict[str, list]]:
    """Return the bytes of all arrays as one vector, and each array's type, offset and shape.

    Orbax takes about a millisecond for every array, and a small network's state has fifty. It also
    writes them concurrently: when one fails, it closes the event loop that the others still use,
    and these print tracebacks. A single array avoids both.
    """
    layout: dict[str, list] = {}
    parts, first = [np.zeros(0, np.uint8)], 0
    for name, value in flat.items():
        layout[name] = [str(value.dtype), first, list(value.shape)]
        parts.append(np.ravel(value).view(np.uint8))
        first += value.nbytes
    return np.concatenate(parts), layout


def _split(vectors: Flat, layout: dict[str, list]) -> Flat:
    """Invert `_join`, or what older versions wrote: one vector for each type."""
    whole, flat = vectors.get(BYTES), {}
    for name, (kind, first, shape) in layout.items():
        size = math.prod(shape)
        if whole is None:
            flat[name] = vectors[kind][first : first + size].reshape(shape)
        else:
            flat[name] = np.frombuffer(whole, kind, size, first).reshape(shape).copy()
    return flat


def _current(name: str) -> str:
    first, slash, rest = name.partition("/")
    return RENAMED.get(first, first) + slash + rest


def digest(flat: Flat, about: dict[str, Any]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes, and of the metadata."""
    total = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(flat):
        value = np.ascontiguousarray(flat[name])
        total.update(f"{name}:{value.dtype}:{value.shape};".encode())
        total.update(value.tobytes())
    return total.hexdigest()


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
