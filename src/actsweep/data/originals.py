"""The files in which image sets are published: IDX, CIFAR's binary batches, SVHN's MATLAB files."""

import gzip
import math
import struct
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SIDE = 32


class BadFile(Exception):
    """A file that isn't what TFDS registered, or can't be decoded. Its message is one line."""


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes, gzipped if its name ends in `.gz`, as LeCun describes the format.

    Args:
        path: a file.

    Returns:
        uint8 `[n, height, width]` or `[n]`.

    Raises:
        BadFile: not gzip, truncated, or not IDX of unsigned bytes.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise BadFile(f"{path}: not a whole gzip file ({error})") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise BadFile(f"{path}: not an IDX file of unsigned bytes")
    shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if values.size != math.prod(shape):
        raise BadFile(f"{path}: {values.size} bytes of data, its header says {shape}")
    return values.reshape(shape)


def read_tar(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Read files out of a `.tar.gz` archive; nothing is unpacked to disk.

    Returns:
        The content of each file by its name.

    Raises:
        BadFile: the archive is damaged, or holds no such file.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            found = {
                member.name: file.read()
                for member in archive
                if member.name in names and (file := archive.extractfile(member)) is not None
            }
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise BadFile(f"{path}: not a whole tar.gz file ({error})") from error
    for name in names:
        if name not in found:
            raise BadFile(f"{path}: holds no {name}")
    return found


def read_cifar(raw: bytes, where: str, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Decode a binary batch of CIFAR: of each example its labels, then its red, green, blue planes.

    Args:
        raw: content of a `.bin` file.
        where: its name, for the message.
        classes: number of classes of each label that an example has.

    Returns:
        Images, uint8 `[n, 32, 32, 3]`, and labels, uint8 `[n, len(classes)]`.

    Raises:
        BadFile: a part of an example, or a label that there isn't.
    """
    size = len(classes) + 3 * SIDE * SIDE
    if not raw or len(raw) % size:
        raise BadFile(f"{where}: {len(raw)} bytes, not a multiple of {size} for each example")
    rows = np.frombuffer(raw, np.uint8).reshape(-1, size)
    labels, pixels = rows[:, : len(classes)], rows[:, len(classes) :]
    for column, count in zip(labels.T, classes, strict=True):
        if column.max() >= count:
            raise BadFile(f"{where}: a label is {column.max()}, must be from 0 to {count - 1}")
    return pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), labels


def read_svhn(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a MATLAB file of SVHN's cropped digits, in which the label of a zero is 10.

    Returns:
        Images, uint8 `[n, 32, 32, 3]`, and labels from 0 to 9, `[n]`.

    Raises:
        BadFile: not such a file.
    """
    from scipy.io import loadmat

    try:
        arrays = loadmat(path)
        images, labels = np.asarray(arrays["X"]), np.asarray(arrays["y"])
    except Exception as error:  # loadmat raises whatever its parser stumbles over
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BadFile(f"{path}: not a whole MATLAB file with X and y ({cause})") from error
    n = labels.size
    if images.dtype != np.uint8 or images.shape != (SIDE, SIDE, 3, n) or n == 0:
        given = f"X is {images.dtype} {list(images.shape)}"
        raise BadFile(f"{path}: {given}, must be uint8 [32, 32, 3, {n}] for {n} labels in y")
    labels = labels.reshape(n)
    if not np.isin(labels, range(1, 11)).all():
        raise BadFile(f"{path}: labels y from {labels.min()} to {labels.max()}, must be 1 to 10")
    return images.transpose(3, 0, 1, 2), labels.astype(np.uint8) % 10
