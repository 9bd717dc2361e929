"""W&B's own files of a run: which rows they hold, and how a later attempt goes on after them.

Each attempt at a run leaves one file, `wandb/<mode>run-<time>-<id>/run-<id>.wandb`, a LevelDB log
(https://github.com/google/leveldb/blob/main/doc/log_format.md) of protobuf records.
"""

import json
import os
import re
import shutil
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actsweep.loggers.wandb_support import import_wandb

HEAD = b":W&B"
BLOCK = 32 * 1024
HEADER = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def fragments(wandb_dir: Path, wandb_id: str) -> list[Path]:
    """Return the files of all attempts, oldest first (their names tell the second they began in);
    `latest-run` is a link and none of them."""
    files = wandb_dir.glob(f"*run-*/run-{wandb_id}.wandb")
    return sorted(files, key=lambda file: file.parent.name.removeprefix("offline-"))


def ids(wandb_dir: Path) -> list[str]:
    """Return the ids in W&B of all runs that a folder has files of; as a rule one."""
    return sorted({f.stem.removeprefix("run-") for f in wandb_dir.glob("*run-*/run-*.wandb")})


def records(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield a file's records and where each ends, up to the first that is cut short or damaged."""
    place, parts = HEADER.size, list[bytes]()
    if not content.startswith(HEAD):
        return
    while place + HEADER.size <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER.size:  # the rest of a block that is too short for a header is empty
            place += left
            continue
        checksum, size, kind = HEADER.unpack_from(content, place)
        start, place = place + HEADER.size, place + HEADER.size + size
        part = content[start:place]
        opens = kind in (WHOLE, FIRST)
        if size > left - HEADER.size or len(part) < size or opens == bool(parts):
            return
        if not WHOLE <= kind <= LAST or zlib.crc32(part, zlib.crc32(bytes([kind]))) != checksum:
            return
        parts.append(part)
        if kind in (WHOLE, LAST):
            yield b"".join(parts), place
            parts = []


def encode(head: bytes, contents: Iterable[bytes]) -> bytes:
    """Return a file of these records; `head` is the first bytes of another one."""
    out = bytearray(head[: HEADER.size])
    for content in contents:
        first, last = True, False
        while not last:
            left = BLOCK - len(out) % BLOCK
            if left < HEADER.size:
                out += bytes(left)
                continue
            part, content = content[: left - HEADER.size], content[left - HEADER.size :]
            last = not content
            kind = (WHOLE if last else FIRST) if first else (LAST if last else MIDDLE)
            first = False
            out += HEADER.pack(zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind) + part
    return bytes(out)


@dataclass(frozen=True)
class Content:
    """The content of a file, as far as it is whole."""

    steps: list[int]
    """The steps of its rows, in order."""
    named: bool
    """Whether it says which run it belongs to."""
    finished: bool
    """Whether it says how the run ended."""
    end: int
    """Where the last whole record ends."""


def read(file: Path) -> Content:
    """Read a file, which may be cut short or still grow."""
    steps, kinds, end = list[int](), set[str](), 0
    for content, place in records(file.read_bytes()):
        record = _record(content)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            steps.append(record.history.step.num)
        kinds.add(kind)
        end = place
    return Content(steps, "run" in kinds, "exit" in kinds, end)


def close_interrupted(wandb_dir: Path, wandb_id: str) -> int:
    """Prepare the files of earlier attempts for being followed by another.

    A kill leaves a file that ends within a record; `wandb sync` would then leave out every later
    file of the run, so the broken record is cut off. A file that doesn't say which run it
    belongs to would make `wandb sync` refuse them all: it is marked as uploaded.

    Returns:
        The last step that they hold, -1 for none.
    """
    last = -1
    for file in fragments(wandb_dir, wandb_id):
        content = read(file)
        last = max([last, *content.steps])
        if not content.named:
            mark_synced(file)
            continue
        if content.end < file.stat().st_size:
            os.truncate(file, content.end)
        salvage(file)
    return last


def mark_synced(file: Path) -> None:
    """Make `wandb sync` pass over a file, as it does itself with those that it has uploaded."""
    _mark(file).touch()


def unmark_synced(file: Path) -> None:
    """Make `wandb sync` upload a file (again)."""
    _mark(file).unlink(missing_ok=True)


def is_synced(file: Path) -> bool:
    """Tell whether `wandb sync` passes over a file."""
    return _mark(file).exists()


def is_online(file: Path) -> bool:
    """Tell whether a file belongs to an attempt that sent its rows to the server."""
    return not file.parent.name.startswith("offline-")


def uploaded(file: Path) -> tuple[int, str | None]:
    """Return how many rows of an online attempt the server has, and why not all, or None if it has.

    wandb says so in its log alone: `finish` returns as if all were well.
    """
    rows = waiting = 0
    failure = None
    log = file.parent / "logs" / "debug-internal.log"
    for line in log.read_text(errors="replace").splitlines() if log.exists() else []:
        if '"filestream: sending request"' in line:
            waiting = json.loads(line).get("history_lines", 0)
        elif '"filestream: request sent"' in line and '"status":"2' in line:
            rows, waiting = rows + waiting, 0
        elif "filestream: fatal error" in line:
            status = re.search(r"failed to upload: (\d{3} [A-Za-z ]+?) url", line)
            failure = f"the server answered {status[1]}" if status else "the server didn't answer"
    return rows, failure


def wait_until_finished(file: Path, until: float) -> bool:
    """Wait for a file to be written to its end, which wandb-core does some time after `finish`.

    Args:
        file: of a run that W&B has been told to finish.
        until: when (`time.monotonic`) to stop waiting.

    Returns:
        Whether it is. One that isn't has no row, or lacks the last ones.
    """
    while not read(file).finished:
        if time.monotonic() >= until:
            return False
        time.sleep(0.02)
    return True


def salvage(file: Path, until: float = 0.0) -> None:
    """Copy what the server lacks of an online attempt to an offline one, for `wandb sync`.

    `wandb sync --include-online` would send every row of the file again, those too that the
    server has.

    Args:
        file: of the attempt; nothing is done if it was offline, or is marked as uploaded.
        until: when (`time.monotonic`) to stop waiting for the file to be written to its end.
    """
    if is_synced(file) or not is_online(file):
        return
    wait_until_finished(file, until)
    skip, known = uploaded(file)[0], read(file)
    if known.steps[skip:] or known.finished:
        folder = file.parent.with_name(f"offline-{file.parent.name}")
        while folder.exists():
            folder = folder.with_name(f"{folder.name}-rest")
        shutil.copytree(file.parent, folder)
        whole, kept = file.read_bytes(), list[bytes]()
        for content, _ in records(whole):
            row = _record(content).WhichOneof("record_type") == "history"
            if row and skip:
                skip -= 1
            else:
                kept.append(content)
        (folder / file.name).write_bytes(encode(whole, kept))
    mark_synced(file)


def _mark(file: Path) -> Path:
    return file.with_suffix(".wandb.synced")


def _record(content: bytes) -> Any:
    import_wandb()
    from wandb.proto import wandb_internal_pb2

    form: Any = wandb_internal_pb2
    return form.Record.FromString(content)
