"""Where the files of an image set can come from when they aren't prepared yet."""

import os
import queue
import shutil
import struct
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from actsweep.data import tfds
from actsweep.data.images import IMAGES
from actsweep.utils.progress import slow

CONNECT_SECONDS = 20.0
STALL_SECONDS = 10.0
APT_SECONDS = 300.0
DEBIAN_PACKAGES = {"fashion_mnist": ("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist")}
# The time stamps in the gzip headers of the published files; Debian's packaging zeroed them.
GZIP_TIMES = {"train": 0x59A7E9DE, "t10k": 0x59A7E9F3}

Log = Callable[[str], None]


class RouteFailed(Exception):
    """A route that didn't work; its message is one line and says why."""


def manual_dir(name: str, root: Path) -> Path:
    """Return where a user may put a set's files by hand."""
    return root / "downloads" / "manual" / name


def local_files(name: str, root: Path, work: Path, log: Log) -> Path:
    """Take the files that the user put into `manual_dir`.

    Args:
        name: the image set.
        root: the TFDS folder.
        work: an empty folder of our own; unused here.
        log: takes a line about each slow step.

    Returns:
        A folder that holds the set's files, as all routes do. TFDS checks their digests afterwards.

    Raises:
        RouteFailed: there are none.
    """
    folder = manual_dir(name, root)
    missing = [file for file in IMAGES[name].files if not (folder / file).is_file()]
    if missing:
        raise RouteFailed(f"no {folder / missing[0]}")
    log(f"{name}: taking the files in {folder}")
    return folder


def download(name: str, root: Path, work: Path, log: Log) -> Path:
    """Fetch the addresses that TFDS registers. Gives up 20 s after the first attempt to connect.

    Arguments, result and errors as in `local_files`.
    """
    for file, url in tfds.urls(name).items():
        log(f"{name}: downloading {url}")
        try:
            with (
                slow(f"{name}: downloading {file}", log),
                _open(url) as response,
                (work / file).open("wb") as out,
            ):
                shutil.copyfileobj(response, out, 1 << 20)
        except (OSError, ValueError) as error:
            raise RouteFailed(f"{url}: {_one_line(error)}") from error
    return work


def debian(name: str, root: Path, work: Path, log: Log) -> Path:
    """Unpack the Debian package of the same files, without installing it: that needs no root.

    Debian rewrote the gzip headers; they are put back, so that the checksums that TFDS registers
    hold. Arguments, result and errors as in `local_files`.
    """
    if name not in DEBIAN_PACKAGES:
        raise RouteFailed(f"there is no package of {name}")
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise RouteFailed(f"no {tool} on this machine")
    package, inside = DEBIAN_PACKAGES[name]
    log(f"{name}: fetching the Debian package {package}")
    with slow(f"{name}: fetching the Debian package {package}", log):
        _run(apt_command(work, "update"), work, check=False)
        _run(apt_command(work, "download", package), work)
    archives = list(work.glob(f"{package}_*.deb"))
    if len(archives) != 1:
        raise RouteFailed(f"apt-get download left {len(archives)} packages")
    _run(["dpkg", "-x", str(archives[0]), str(work / "unpacked")], work)
    files = work / "files"
    files.mkdir()
    for file in IMAGES[name].files:
        source = work / "unpacked" / inside / file
        if not source.is_file():
            raise RouteFailed(f"the package holds no {inside}/{file}")
        (files / file).write_bytes(restore_gzip_header(source.read_bytes(), file))
    return files


def apt_command(work: Path, *words: str) -> list[str]:
    """Return an apt-get command that keeps its lists and cache in `work` and so needs no root."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::State::Lists": str(work / "lists"),
        "Dir::Cache": str(work / "cache"),
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
        "Acquire::Retries": "0",
        "Acquire::http::Timeout": "10",
        "Acquire::https::Timeout": "10",
    }
    return ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items()), *words]


def restore_gzip_header(raw: bytes, file: str) -> bytes:
    """Put back the gzip header that was published, with a time stamp and the file's name.

    Args:
        raw: a gzip file whose header has no optional fields.
        file: its name, ending in `.gz`.
    """
    if raw[:4] != b"\x1f\x8b\x08\x00":
        return raw
    stamp = struct.pack("<I", GZIP_TIMES[file.split("-")[0]])
    field = file.removesuffix(".gz").encode() + b"\x00"
    return raw[:3] + b"\x08" + stamp + raw[8:10] + field + raw[10:]


def _open(url: str) -> Any:
    """Open a URL, within a time limit that also covers a name server that doesn't answer."""
    answers: queue.Queue[Any] = queue.Queue()

    def connect() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=STALL_SECONDS))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        answer = answers.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer within {CONNECT_SECONDS:.0f} s") from None
    if isinstance(answer, HTTPError):
        answer.close()  # it holds the connection
    if isinstance(answer, Exception):
        raise answer
    return answer


def _run(command: list[str], cwd: Path, check: bool = True) -> None:
    env = {**os.environ, "LC_ALL": "C"}
    name = command[0]
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=APT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise RouteFailed(f"{name} took more than {APT_SECONDS:.0f} s") from error
    except OSError as error:
        raise RouteFailed(f"{name}: {error}") from error
    if check and done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        reason = lines[0][2:].strip() if lines else done.stderr.strip()[:200] or "no message"
        raise RouteFailed(f"{name} ended with {done.returncode}: {reason}")


def _one_line(error: Exception) -> str:
    wrapped = isinstance(error, URLError) and not isinstance(error, HTTPError)
    error = getattr(error, "reason", error) if wrapped else error
    return " ".join(str(error).split())[:200] or type(error).__name__
