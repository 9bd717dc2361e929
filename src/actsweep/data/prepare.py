"""Image sets on disk: read, or prepared once by whichever process comes first."""

import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from actsweep.config.data_folders import data_root
from actsweep.data import cache, decoding, routes, tfds
from actsweep.data.images import IMAGES
from actsweep.utils.errors import UserError, unknown_name
from actsweep.utils.progress import slow

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
        with cache.lock(name, root, set_folder(name, root), log):
            _build(name, root, log)
    arrays(name, data_dir, log)
    return set_folder(name, root)


def arrays(
    name: str, data_dir: Path | None = None, log: Log = log.info, *, mapped: bool = False
) -> dict[str, np.ndarray]:
    """Return all examples of an image set, which is prepared first if it isn't there.

    Arguments and errors as for `prepare`; with `mapped` the arrays are memory-mapped files.

    Returns:
        `train_images`, `test_images`: uint8 `[n, height, width, channels]`; `train_labels`,
        `test_labels`: int32 `[n]`; in TFDS's order.
    """
    root = data_root(data_dir)
    folder = set_folder(name, root)
    fix = _fix(name, root)
    if is_prepared(folder):
        digests = cache.verify_records(folder, fix)
        cached = cache.read(folder, digests, log, mapped=mapped) if digests else None
        if cached is not None:
            return cached
    with cache.lock(name, root, folder, log):
        if not is_prepared(folder):
            _build(name, root, log)
        digests = cache.verify_records(folder, fix)
        return _decode(folder, digests, fix, log, mapped=mapped)


def set_folder(name: str, root: Path) -> Path:
    """Return the folder in which TFDS keeps a prepared set, such as `root/mnist/3.0.1`."""
    return root / IMAGES[name].builder / IMAGES[name].version


def is_prepared(folder: Path) -> bool:
    """Tell whether `data_dir/name/version` is there: it is renamed into place when it is whole."""
    return folder.is_dir()


def _decode(
    folder: Path, digests: dict[str, str] | None, fix: str, log: Log, *, mapped: bool
) -> dict[str, np.ndarray]:
    recorded = digests or cache.record_digests(folder)
    try:
        images = tfds.encoded(folder, recorded, "label")
        decoded = decoding.arrays(images, log, mapped=mapped)
    except tfds.BadFile as error:
        raise UserError(f"{error}; {fix}") from error
    if digests is None:
        cache.write_records(folder, recorded)
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
                doing = f"{name}: preparing with TFDS in {root}"
                log(doing)
                with slow(doing, log):
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
