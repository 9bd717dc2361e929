"""Small sets of colour images in the formats that CIFAR and SVHN are published in."""

import io
import tarfile
from pathlib import Path

import numpy as np
from data_fixtures.idx import Arrays
from scipy.io import savemat

from actsweep.data.images import IMAGES

BATCHES = {
    "cifar10": {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]},
    "cifar100": {"train": ["train.bin"], "test": ["test.bin"]},
}
PREFIX = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}


def draw(name: str, n_train: int = 40, n_test: int = 12) -> Arrays:
    """Random images and labels: split -> uint8 [n, 32, 32, 3], uint8 [n]."""
    rng = np.random.default_rng(0)
    return {
        split: (
            rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8),
            rng.integers(0, len(IMAGES[name].labels), n, dtype=np.uint8),
        )
        for split, n in (("train", n_train), ("test", n_test))
    }


def write(name: str, folder: Path, arrays: Arrays) -> Path:
    """The files of a set, under the names that they are published by."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "svhn":
        for split, (images, labels) in arrays.items():
            mat(folder / f"{split}_32x32.mat", images, np.where(labels == 0, 10, labels))
    else:
        tar(folder / IMAGES[name].files[0], cifar(name, arrays))
    return folder


def mat(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """X [32, 32, 3, n] and y [n, 1], as on the page of SVHN."""
    savemat(path, {"X": np.moveaxis(images, 0, -1), "y": labels[:, None]}, do_compression=True)


def cifar(name: str, arrays: Arrays) -> dict[str, bytes]:
    """Batches as on the page of CIFAR: label(s), then 1,024 bytes each of red, green and blue."""
    files = {}
    for split, batches in BATCHES[name].items():
        rows = [row(name, *example) for example in zip(*arrays[split], strict=True)]
        for number, batch in enumerate(batches):
            share = rows[number * len(rows) // len(batches) :]
            files[batch] = b"".join(share[: len(rows) // len(batches)])
    fine = "\n".join(IMAGES[name].labels) + "\n\n"
    if name == "cifar10":
        return {"batches.meta.txt": fine.encode(), "readme.html": b"<html>", **files}
    coarse = "\n".join(f"kind_{i}" for i in range(20)) + "\n"
    return {
        "coarse_label_names.txt": coarse.encode(),
        "fine_label_names.txt": fine.encode(),
    } | files


def row(name: str, image: np.ndarray, label: int) -> bytes:
    """One example; that of CIFAR-100 has the coarse label first."""
    labels = [label] if name == "cifar10" else [label % 20, label]
    return bytes(labels) + b"".join(image[:, :, channel].tobytes() for channel in range(3))


def tar(path: Path, files: dict[str, bytes]) -> None:
    """Pack files into the folder that the published archive has."""
    name = "cifar10" if "cifar-10-" in path.name else "cifar100"
    with tarfile.open(path, "w:gz") as archive:
        for file, content in files.items():
            info = tarfile.TarInfo(f"{PREFIX[name]}/{file}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
