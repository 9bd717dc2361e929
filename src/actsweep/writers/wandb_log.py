"""W&B's own files of a run: which rows they hold, and how a later attempt goes on after them.

Each attempt at a run leaves one file, `wandb/<mode>run-<time>-<id>/run-<id>.wandb`, a LevelDB log
(https://github.com/google/leveldb/blob/main/doc/log_format.md) of protobuf records.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actsweep.writers.wandb_support import import_wandb

HEAD = b":W&B"
BLOCK = 32 * 1024
HEADER = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def fragments(wandb_dir: Path, run_id: str) -> list[Path]:
    """The files of all attempts, oldest first (names tell the second they began in); `latest-run`,
    a link, is none of them."""
    found = wandb_dir.glob(f"*run-*/run-{run_id}.wandb")
    return sorted(found, key=lambda file: file.parent.name.removeprefix("offline-"))


def records(content: bytes) -> Iterator[tuple[bytes, int]]:
    """The records of a file and where each ends, up to the first that is cut short or damaged."""
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


def history_steps(file: Path) -> list[int]:
    """The steps of the rows that a file holds, in its order."""
    return _read(file)[0]


def settle(wandb_dir: Path, run_id: str) -> int:
    """Make the files of earlier attempts ready to be followed by one more.

    A kill leaves a file that ends within a record; `wandb sync` would then leave out every later
    file of the run, so the broken record is cut off. A file that doesn't even say whose it is
    would make `wandb sync` refuse them all: it is marked as uploaded.

    Returns:
        The last step that they hold, -1 for none.
    """
    last = -1
    for file in fragments(wandb_dir, run_id):
        steps, named, end = _read(file)
        if not named:
            mark_synced(file)
        elif end < file.stat().st_size:
            os.truncate(file, end)
        last = max([last, *steps])
    return last


def mark_synced(file: Path) -> None:
    """Make `wandb sync` pass over a file, as it does itself with those that it has uploaded."""
    file.with_suffix(".wandb.synced").touch()


def _read(file: Path) -> tuple[list[int], bool, int]:
    """Steps, whether the run is named in it, and where the last whole record ends."""
    import_wandb()
    from wandb.proto import wandb_internal_pb2

    form: Any = wandb_internal_pb2
    steps, named, end = list[int](), False, 0
    for content, place in records(file.read_bytes()):
        record = form.Record.FromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            steps.append(record.history.step.num)
        named, end = named or kind == "run", place
    return steps, named, end
