"""Small image sets in the real format: four gzipped IDX files, known to TFDS by their checksums."""

import contextlib
import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from actsweep.data import prepare, routes
from actsweep.data import tfds as our_tfds
from actsweep.data.images import IDX_NAMES, IMAGES

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]


def draw(n_train: int = 40, n_test: int = 12, seed: int = 0) -> Arrays:
    """Random images and labels: split -> uint8 [n, 28, 28], uint8 [n]."""
    rng = np.random.default_rng(seed)
    return {
        split: (
            rng.integers(0, 256, (n, 28, 28), dtype=np.uint8),
            rng.integers(0, 10, n, dtype=np.uint8),
        )
        for split, n in (("train", n_train), ("test", n_test))
    }


def encode(values: np.ndarray) -> bytes:
    """IDX as LeCun's page describes it: two zeros, type 8, rank, big-endian sizes, bytes."""
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return gzip.compress(head + values.tobytes(), mtime=0)


def write(folder: Path, arrays: Arrays) -> Path:
    """The four files, under the names that they are published by."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in our_tfds.IDX_FILES.items():
        for name, values in zip(names, arrays[split], strict=True):
            (folder / name).write_bytes(encode(values))
    return folder


IDX_SETS = tuple(name for name, images in IMAGES.items() if images.files == IDX_NAMES)


def register(name: str, folder: Path) -> None:
    """Make TFDS expect the checksums of the files in `folder`; lasts as long as the process."""
    from tensorflow_datasets.core.download import checksums

    known = our_tfds._builder_class(name).url_infos  # memoised: one dict for the whole process
    for file, url in our_tfds.urls(name).items():
        known[url] = checksums.compute_url_info(folder / file)


@contextlib.contextmanager
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees the machine's own data, cache or network; registered checksums come back."""
    from tensorflow_datasets.core.download import checksums

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    monkeypatch.setattr(prepare, "ROUTES", (("fixture", routes.local_files),))
    names = [our_tfds._builder_class(name).url_infos for name in IMAGES]
    changed = [checksums.get_all_url_infos(), *names]
    before = [dict(infos) for infos in changed]
    yield
    for infos, old in zip(changed, before, strict=True):
        infos.clear()
        infos.update(old)


def flip(path: Path, place: int = -20) -> None:
    """Alter one bit of a file."""
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def as_rows(images: np.ndarray, labels: np.ndarray) -> list[tuple[int, bytes]]:
    """Examples in an order that doesn't depend on the one they came in."""
    pairs = zip(images, labels, strict=True)
    return sorted((int(label), image.tobytes()) for image, label in pairs)
