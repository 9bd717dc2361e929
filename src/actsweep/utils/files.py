"""Atomic writes: a reader gets either the old file or the new one. JSON files, removal."""

import contextlib
import json
import math
import os
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Characters with which a spreadsheet's formulas begin."""


def write_atomic(
    path: Path, content: str | bytes | Iterable[bytes | memoryview], *, durable: bool = True
) -> None:
    """Replace a file in one step: write a temporary file beside it, fsync, rename.

    Args:
        path: the file; its folder must exist.
        content: all of it, or its parts one after the other; text is written as UTF-8.
        durable: whether it must outlast a power failure; what can be made again needn't, and
            isn't waited for.

    Raises:
        OSError: the disk is full or the folder can't be written; the old file is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with open(temporary, "wb") as file:
            content = content.encode() if isinstance(content, str) else content
            file.writelines([content] if isinstance(content, bytes) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove(path: Path) -> None:
    """Remove a file, a symbolic link, or a folder with its contents; links are never followed.

    What doesn't exist, or what another process removes meanwhile, is no error.

    Raises:
        OSError: it can't be removed.
    """
    while path.is_dir() and not path.is_symlink():
        with contextlib.suppress(FileNotFoundError):  # another process removes it, too
            shutil.rmtree(path)
    path.unlink(missing_ok=True)


def is_inside(root: Path, path: Path) -> bool:
    """Return whether a path, and what it links to, lies in a folder once all links are followed."""
    return path.resolve().is_relative_to(root.resolve())


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN and infinity become null."""
    write_atomic(path, json_text(value) + "\n")


def json_text(value: Any) -> str:
    """Return indented JSON; NaN and infinity become null."""
    return json.dumps(finite(value), indent=2, allow_nan=False)


def csv_cell(value: Any) -> Any:
    """Return a value for a CSV cell that a spreadsheet takes as text, not as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def csv_text(cell: str) -> str:
    """Return the text that `csv_cell` has made a cell of."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA) else cell


def finite(value: Any) -> Any:
    """Convert a value for JSON: to plain Python types, with NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "tolist"):  # a NumPy scalar or array
        return finite(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None if it can't be read, or holds no object."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
