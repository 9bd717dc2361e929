"""Decoded arrays beside a prepared folder, and the digests that guard both."""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from actsweep.utils import files
from actsweep.utils.errors import UserError

CACHE = "actsweep-cache-v1"
RECORDS = "actsweep-records.json"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")

Log = Callable[[str], None]


def user_cache(folder: Path) -> Path:
    """Return where the cache of a folder that can't be written to is kept."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a container's user without a home
        base = Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    return base / "actsweep" / "data" / f"{folder.parent.name}-{key}"


def record_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file that TFDS wrote into a prepared folder, by file name."""
    paths = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != RECORDS and not path.name.startswith(".")
    ]
    with ThreadPoolExecutor(4) as pool:
        return dict(zip([path.name for path in paths], pool.map(_sha256, paths), strict=True))


def verify_records(folder: Path, fix: str) -> dict[str, str] | None:
    """Compare a prepared folder with what was recorded when it was prepared or first decoded.

    Args:
        folder: `data_dir/name/version`.
        fix: what to type when it differs.

    Returns:
        The digests by file name, or `None` when nothing was recorded yet.

    Raises:
        UserError: a file is missing or altered; names it.
    """
    for place in (folder / RECORDS, user_cache(folder) / RECORDS):
        if not place.is_file():
            continue
        try:
            recorded = json.loads(place.read_text())["sha256"]
            assert isinstance(recorded, dict)
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise UserError(f"{place}: damaged; {fix}") from error
        actual = record_digests(folder)
        for name, digest in recorded.items():
            if name not in actual:
                raise UserError(f"{folder / name}: missing; {fix}")
            if actual[name] != digest:
                raise UserError(
                    f"{folder / name}: not the file that was recorded in {place}: truncated or "
                    f"altered; {fix} (or remove {place} if you replaced the data on purpose)"
                )
        return {str(name): str(digest) for name, digest in recorded.items()}
    return None


def write_records(folder: Path, digests: dict[str, str]) -> None:
    """Record a prepared folder's digests in it, or in the user's cache where it is read-only."""
    body = json.dumps({"sha256": digests}, indent=1).encode()
    for place in (folder, user_cache(folder)):
        try:
            write_file(place / RECORDS, body)
            return
        except OSError:
            continue


def read(folder: Path, digests: dict[str, str], log: Log) -> dict[str, np.ndarray] | None:
    """Return the cached arrays of a prepared folder; `None` where there is no valid cache.

    Args:
        folder: `data_dir/name/version`.
        digests: of the folder's files as they are now; a cache of other files isn't valid.
        log: takes a line about a damaged cache.
    """
    for place in (folder / CACHE, user_cache(folder) / CACHE):
        try:
            manifest = json.loads((place / "manifest.json").read_text())
            if manifest["records"] != digests:
                continue
            arrays = {}
            for name in ARRAYS:
                raw = (place / f"{name}.npy").read_bytes()
                if hashlib.sha256(raw).hexdigest() != manifest["arrays"][name]:
                    raise ValueError(f"{name}.npy is truncated or altered")
                arrays[name] = np.load(io.BytesIO(raw), allow_pickle=False)
            return arrays
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            log(f"{place}: damaged cache ({error}); decoding the records again")
    return None


def write(folder: Path, digests: dict[str, str], arrays: dict[str, np.ndarray], log: Log) -> None:
    """Cache decoded arrays, in the folder or, where it is read-only, in the user's cache.

    Every file is written aside and renamed, the manifest last.
    """
    for place in (folder / CACHE, user_cache(folder) / CACHE):
        try:
            sums = {}
            for name in ARRAYS:
                buffer = io.BytesIO()
                np.save(buffer, arrays[name], allow_pickle=False)
                raw = buffer.getvalue()
                sums[name] = hashlib.sha256(raw).hexdigest()
                write_file(place / f"{name}.npy", raw)
            manifest = {"records": digests, "arrays": sums}
            write_file(place / "manifest.json", json.dumps(manifest, indent=1).encode())
            return
        except OSError as error:
            reason = error
    log(f"{folder}: the decoded arrays can't be cached ({reason}); every run will decode them")


def write_file(path: Path, raw: bytes) -> None:
    """Write a file whole or not at all; its folder is made first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, raw)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
