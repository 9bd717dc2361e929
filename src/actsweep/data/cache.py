"""Decoded arrays beside a prepared folder, and the digests that guard both."""

import contextlib
import hashlib
import io
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from actsweep.utils import files
from actsweep.utils.errors import UserError

CACHE = "actsweep-cache-v1"
RECORDS = "actsweep-records.json"

Log = Callable[[str], None]
Buffer = bytes | memoryview
Chunks = Iterator[tuple[np.ndarray, np.ndarray]]


def user_cache(folder: Path) -> Path:
    """Return where the cache of a folder that can't be written to is kept."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a container's user without a home
        base = Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
    key = digest_of(str(folder.resolve()))
    return base / "actsweep" / "data" / f"{folder.parent.name}-{key}"


def digest_of(text: str) -> str:
    """Return 12 hex digits of a text's hash, for names of files."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]


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


def read(
    folder: Path, digests: dict[str, str], log: Log, variant: str = "", *, mapped: bool = False
) -> dict[str, np.ndarray] | None:
    """Return the cached arrays of a prepared folder; `None` where there is no valid cache.

    Args:
        folder: `data_dir/name/version`.
        digests: of the folder's files as they are now; a cache of other files isn't valid.
        log: takes a line about a damaged cache.
        variant: tells caches in one folder apart.
        mapped: whether the arrays are memory-mapped, and never copied into memory as a whole.
    """
    for place in _places(folder, variant):
        try:
            manifest = json.loads((place / "manifest.json").read_text())
            if manifest["records"] != digests:
                continue
            arrays = {}
            for name, digest in manifest["arrays"].items():
                path = place / f"{name}.npy"
                if _sha256(path) != digest:
                    raise ValueError(f"{name}.npy is truncated or altered")
                array = np.load(path, "r" if mapped else None, allow_pickle=False)
                arrays[name] = array.view(np.ndarray)
            return arrays
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log(f"{place}: damaged cache ({error}); decoding the records again")
    return None


def write(
    folder: Path,
    digests: dict[str, str],
    splits: Callable[[], Mapping[str, tuple[int, Chunks]]],
    log: Log,
    variant: str = "",
) -> bool:
    """Cache decoded arrays, in the folder or, where it is read-only, in the user's cache.

    Every file is written aside and renamed, the manifest last. Only a chunk is in memory at a time.

    Args:
        folder: `data_dir/name/version`.
        digests: of the folder's files.
        splits: returns the number of examples of each split, and its images and labels in chunks.
        log: takes a line if there is no place for the cache.
        variant: tells caches in one folder apart.

    Returns:
        Whether they are cached.
    """
    for place in _places(folder, variant):
        try:
            sums: dict[str, str] = {}
            for name, (n, chunks) in splits().items():
                sums |= _write_split(place, name, n, chunks)
            manifest = {"records": digests, "arrays": sums}
            write_file(place / "manifest.json", json.dumps(manifest, indent=1).encode())
            return True
        except OSError as error:
            reason = error
    log(f"{folder}: the decoded arrays can't be cached ({reason}); every run will decode them")
    return False


def _write_split(place: Path, name: str, n: int, chunks: Chunks) -> dict[str, str]:
    """Write the images and the labels of a split; return each file's digest by its name."""
    labels: list[np.ndarray] = []

    def images() -> Iterator[np.ndarray]:
        for pixels, part in chunks:
            labels.append(part)
            yield pixels

    digests = {f"{name}_images": _write_array(place / f"{name}_images.npy", n, images())}
    path = place / f"{name}_labels.npy"
    return digests | {f"{name}_labels": _write_array(path, n, iter([np.concatenate(labels)]))}


def _write_array(path: Path, n: int, chunks: Iterator[np.ndarray]) -> str:
    """Write the chunks of an array of n rows as one NPY file; return its digest."""
    digest = hashlib.sha256()

    def parts() -> Iterator[Buffer]:
        first = next(chunks)
        header = io.BytesIO()
        about = {"descr": first.dtype.str, "fortran_order": False, "shape": (n, *first.shape[1:])}
        np.lib.format.write_array_header_1_0(header, about)
        digest.update(header.getvalue())
        yield header.getvalue()
        for rows in itertools.chain([first], chunks):
            digest.update(rows.data)
            yield rows.data

    write_file(path, parts())
    return digest.hexdigest()


def _places(folder: Path, variant: str) -> tuple[Path, Path]:
    name = f"{CACHE}-{variant}" if variant else CACHE
    return folder / name, user_cache(folder) / name


@contextlib.contextmanager
def lock(title: str, root: Path, folder: Path, log: Log) -> Iterator[None]:
    """Let one process in at a time; where the data are read-only, by a lock in the user's cache.

    Args:
        title: names the lock, and the set in the line that says that another process has it.
        root: the folder in which the lock lies.
        folder: of the prepared set.
        log: takes that line.
    """
    for place in (root, user_cache(folder)):
        lock = FileLock(place / f".actsweep-{title.replace('/', '-')}.lock", mode=0o666)
        try:
            place.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                log(f"{title}: waiting for another process that is preparing it in {root}")
                lock.acquire()
        except OSError:
            continue
        try:
            yield
        finally:
            lock.release()
        return
    yield


def write_file(path: Path, raw: bytes | Iterable[Buffer]) -> None:
    """Write a file, or its parts, whole or not at all; its folder is made first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, raw)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
