"""Folders in which data sets lie, and what of their content counts. Known without reading them."""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from actsweep.config.schema import IMAGE_SETS, DataConfig
from actsweep.utils.errors import UserError

BLOCK, BLOCKS = 1 << 20, 16
"""The bytes of a block, and how many of a file are read at most."""


def data_root(data_dir: str | Path | None) -> Path:
    """Return the folder of prepared sets: given, `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    return Path(chosen).expanduser().absolute()


def tfds_folder(name: str, root: Path) -> Path:
    """Return the folder of a set that TFDS has prepared.

    Args:
        name: `set` or `set/config`, perhaps with `:version`; without, the newest one is taken.
        root: the TFDS folder.

    Raises:
        UserError: there is none, or only one with a config that the name lacks.
    """
    title, _, version = name.partition(":")
    folder = root / title
    versions = _versions(folder)
    if versions and version in ("", *versions):
        return folder / (version or versions[-1])
    if versions:
        raise UserError(
            f"data.name={name}: {folder} has no such version; type for example "
            f"data.name={title}:{versions[-1]}. Known: {', '.join(versions)}"
        )
    sets = tfds_sets(root)
    configs = [other for other in sets if other.startswith(f"{title}/")]
    if title and configs:
        raise UserError(
            f"data.name={name}: {folder} holds several configs; type for example "
            f"data.name={configs[0]}. Known: {', '.join(configs)}"
        )
    held = f"it holds {', '.join(sets)}" if sets else "it holds no prepared set"
    raise UserError(f"data.name={name}: no such set in {root}; {held}. Type {_source(title, root)}")


def _source(title: str, root: Path) -> str:
    """Return what to type for a set that isn't prepared."""
    ours = title.removesuffix("_cropped")
    if ours in IMAGE_SETS:
        return f"data={ours}, which arrives by itself, or actsweep data prepare {ours}"
    return (
        "data.dir=<another TFDS folder>, or prepare it where TensorFlow is installed: tfds build "
        f"{title} --file_format=array_record --data_dir={root}"
    )


def tfds_sets(root: Path) -> list[str]:
    """Return the names of the sets that a TFDS folder holds, with their configs."""
    found = [*root.glob("*/*/dataset_info.json"), *root.glob("*/*/*/dataset_info.json")]
    folders = {path.parents[1] for path in found if _version(path.parent) is not None}
    names = sorted(folder.relative_to(root).as_posix() for folder in folders)
    return [name for name in names if not name.startswith(".")]


def _versions(folder: Path) -> list[str]:
    """Return the versions of a set that are prepared, in ascending order."""
    folders = [path.parent for path in folder.glob("*/dataset_info.json") if _version(path.parent)]
    return [folder.name for folder in sorted(folders, key=lambda folder: _version(folder) or ())]


def _version(folder: Path) -> tuple[int, ...] | None:
    """Return the version that a folder's name is, such as `3.0.1`; None if it is another name."""
    parts = folder.name.split(".")
    whole = len(parts) == 3 and all(part.isdecimal() for part in parts)
    return tuple(map(int, parts)) if whole else None


def is_path(name: str) -> bool:
    """Tell whether a set of `data=hf` is a folder, as `datasets` itself decides."""
    return name.startswith((".", "/", "~")) or Path(name).is_dir()


def folder_of(data: DataConfig) -> Path | None:
    """Return the folder whose content counts towards a run's id; None where there is none.

    Raises:
        UserError: the config names a folder, and it isn't there.
    """
    if data._target_ is not None or data.source is None:
        return None
    if data.source == "tfds":
        return tfds_folder(data.name, data_root(data.dir))
    if not is_path(data.name):
        return None
    folder = Path(data.name).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"data.name={data.name}: no such folder in {Path.cwd()}; type another data.name"
        )
    return folder


@functools.cache
def digest(folder: Path) -> str:
    """Return a hash of a folder: of each file in it the name, the size and the content.

    Of a file of more than 16 MiB that many count, spread over it: a set may be larger than anybody
    would wait for. Hidden files are left out, and what actsweep and `datasets` keep there. It is
    read once a process.
    """
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if not any(part.startswith((".", "actsweep-")) for part in path.relative_to(folder).parts)
        and not path.match("cache-*.arrow")
        and path.is_file()
    ]
    with ThreadPoolExecutor(4) as threads:
        hashes = threads.map(_file_digest, paths)
        listing = [
            (str(path.relative_to(folder)), *found)
            for path, found in zip(paths, hashes, strict=True)
        ]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _file_digest(path: Path) -> tuple[int, str]:
    """Return the size of a file, and a hash of it or of its blocks at even distances."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        starts: Sequence[int] = range(0, size, BLOCK)
        if len(starts) > BLOCKS:
            starts = [(size - BLOCK) * i // (BLOCKS - 1) for i in range(BLOCKS)]
        for start in starts:
            file.seek(start)
            digest.update(file.read(BLOCK))
    return size, digest.hexdigest()
