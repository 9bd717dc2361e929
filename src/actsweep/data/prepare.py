"""Image sets on disk: read, or prepared once by whichever process comes first."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from actsweep.data import cache, routes, tfds
from actsweep.data.images import IMAGES
from actsweep.utils.errors import UserError, unknown_name

Log = Callable[[str], None]
Route = Callable[[str, Path, Path, Log], Path]

ROUTES: tuple[tuple[str, Route], ...] = (
    ("files put there by hand", routes.local_files),
    ("download", routes.download),
    ("Debian package", routes.debian),
)

log = logging.getLogger(__name__)


def prepare(
    name: str,
    data_dir: Path | None = None,
    log: Log = log.info,
    force: bool = False,
) -> Path:
    """Prepare, verify and decode an image set, as `actsweep data prepare` does; return its folder.

    Args:
        name: a key of `IMAGES`.
        data_dir: the TFDS folder; by default `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        log: takes a line about each slow step.
        force: prepare anew even if the set is there; it is replaced only once the new one is whole.

    Returns:
        `data_dir/name/version`.

    Raises:
        UserError: an unknown name; a damaged folder; or no route worked, with each one's reason.
    """
    if name not in IMAGES:
        raise unknown_name("data", name, IMAGES)
    root = data_root(data_dir)
    if force:
        with _lock(name, root, log):
            _build(name, root, log)
    arrays(name, data_dir, log)
    return set_folder(name, root)


def arrays(name: str, data_dir: Path | None = None, log: Log = log.info) -> dict[str, np.ndarray]:
    """Return all examples of an image set, which is prepared first if it isn't there.

    Arguments and errors as for `prepare`.

    Returns:
        `train_images`, `test_images`: uint8 `[n, height, width, channels]`; `train_labels`,
        `test_labels`: int32 `[n]`; in TFDS's order.
    """
    root = data_root(data_dir)
    folder = set_folder(name, root)
    fix = _fix(name, root)
    if is_prepared(folder):
        digests = cache.verify_records(folder, fix)
        cached = cache.read(folder, digests, log) if digests else None
        if cached is not None:
            return cached
    with _lock(name, root, log):
        if not is_prepared(folder):
            _build(name, root, log)
        digests = cache.verify_records(folder, fix)
        cached = cache.read(folder, digests, lambda line: None) if digests else None
        return cached if cached is not None else _decode(folder, digests, fix, log)


def data_root(data_dir: Path | None) -> Path:
    """Return the folder of prepared sets: given, `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    return Path(chosen).expanduser().absolute()


def set_folder(name: str, root: Path) -> Path:
    """Return the folder in which TFDS keeps a prepared set, such as `root/mnist/3.0.1`."""
    return root / IMAGES[name].builder / IMAGES[name].version


def is_prepared(folder: Path) -> bool:
    """Tell whether `data_dir/name/version` is there: it is renamed into place when it is whole."""
    return folder.is_dir()


def _decode(
    folder: Path, digests: dict[str, str] | None, fix: str, log: Log
) -> dict[str, np.ndarray]:
    log(f"{folder}: decoding the images; this happens once")
    try:
        decoded = tfds.decode(folder)
    except tfds.BadFile as error:
        raise UserError(f"{error}; {fix}") from error
    if digests is None:
        digests = cache.record_digests(folder)
        cache.write_records(folder, digests)
    cache.write(folder, digests, decoded, log)
    return decoded


def _build(name: str, root: Path, log: Log) -> None:
    """Try the routes in turn. The folder is built aside and renamed, so it is whole or absent."""
    folder = set_folder(name, root)
    prefix = f".actsweep-{name}-"
    reasons = [f"prepared folder: {'not used with --force' if folder.is_dir() else f'no {folder}'}"]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for dead in root.glob(f"{prefix}*"):  # left by a killed process: we hold the lock
            shutil.rmtree(dead, ignore_errors=True)
        aside = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    except OSError as error:
        raise UserError(
            f"data={name}: can't be prepared in {root}, which can't be written to ({error}); "
            "type for example data.dir=<a folder of yours>"
        ) from error
    try:
        for number, (title, route) in enumerate(ROUTES):
            work = aside / str(number)
            work.mkdir()
            try:
                files = route(name, root, work, log)
                log(f"{name}: preparing with TFDS in {root}")
                built = tfds.build(name, files, work / "tfds")
                cache.write_records(built, cache.record_digests(built))
                _swap(built, folder, aside / "old")
                return
            except (routes.RouteFailed, tfds.BadFile, OSError) as error:
                reasons.append(f"{title}: {' '.join(str(error).split())}")
        raise _nothing_worked(name, root, reasons)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(built: Path, folder: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    built.rename(folder)


@contextlib.contextmanager
def _lock(name: str, root: Path, log: Log) -> Iterator[None]:
    """Let one process in at a time; where the data are read-only, by a lock in the user's cache."""
    folder = set_folder(name, root)
    for place in (root, cache.user_cache(folder)):
        lock = FileLock(place / f".actsweep-{name}.lock", mode=0o666)
        try:
            place.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                log(f"{name}: waiting for another process that is preparing it in {root}")
                lock.acquire()
        except OSError:
            continue
        try:
            yield
        finally:
            lock.release()
        return
    yield


def _fix(name: str, root: Path) -> str:
    """Return the command that prepares a set anew."""
    default = root == data_root(None)
    return f"type {'' if default else f'TFDS_DATA_DIR={root} '}actsweep data prepare {name} --force"


def _nothing_worked(name: str, root: Path, reasons: list[str]) -> UserError:
    lines = [f"data={name}: can't be prepared in {root}; every source failed:"]
    lines += [f"  - {reason}" for reason in reasons]
    lines += [
        "Type one of:",
        f"  data.dir=<a TFDS folder that holds {IMAGES[name].builder}/{IMAGES[name].version}>",
        "  data=digits  (another set, which needs no files)",
        f"or put {', '.join(IMAGES[name].files)}",
        f"  into {routes.manual_dir(name, root)}",
    ]
    return UserError("\n".join(lines))
