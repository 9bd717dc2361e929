"""The lookup of sweeps and runs by the names that people type. No jax."""

import difflib
import fnmatch
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from actsweep.runs.run_dir import RunDir
from actsweep.sweeps.plan import PLAN_FILE
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import train_command

LAST = "last"
NEWEST = (LAST, "latest")
NAMED_BY_TIME = "%Y-%m-%d_%H-%M-%S-%f"


def newest(outputs: Path) -> list[Path]:
    """Return the folders of all sweeps, the newest first."""
    folders = [path.parent for path in (outputs / "sweeps").glob(f"*/{PLAN_FILE}")]
    return sorted(folders, key=lambda folder: (submitted(folder), folder.name), reverse=True)


def given_name(folder: Path) -> str | None:
    """Return the `sweep.name` of a sweep, None if it has none."""
    with suppress(OSError), open(folder / PLAN_FILE, "rb") as file:
        if match := re.search(r'"name": "([\w.-]+)"', _head(file)):
            return match[1]
    return None


def tell_if_taken(outputs: Path, folder: Path, name: str | None) -> None:
    """Say on standard error that an earlier sweep has the name of a new one, which wins.

    Args:
        outputs: `paths.outputs`.
        folder: the new sweep's, not written yet.
        name: its `sweep.name`.

    Raises:
        UserError: the folder of another sweep is called so, and commands would find that one.
    """
    if name is None:
        return
    called = outputs / "sweeps" / name
    if (called / PLAN_FILE).is_file() and not (folder.exists() and called.samefile(folder)):
        raise UserError(
            f"sweep.name={name}: is the folder of another sweep, {called}; type another name"
        )
    others = [other for other in newest(outputs) if given_name(other) == name]
    others = [other for other in others if not (folder.exists() and other.samefile(folder))]
    if others:
        print(
            f"sweep.name={name}: was {others[0].name}'s; from now on it is this sweep's, and that "
            "one is found by its folder's name",
            file=sys.stderr,
        )


def _head(file: BinaryIO) -> str:
    return file.read(400).decode(errors="replace").partition('"members"')[0]


def submitted(folder: Path) -> float:
    """Return when a sweep was submitted, in seconds since 1970."""
    with suppress(OSError), open(folder / PLAN_FILE, "rb") as file:
        if match := re.search(rb'"submitted": ([\d.]+)', file.read(200)):
            return float(match[1])
    with suppress(ValueError):  # older versions left only the name, in local time
        return datetime.strptime(folder.name, NAMED_BY_TIME).timestamp()
    return (folder / PLAN_FILE).stat().st_mtime  # the user gave it a name


def find_sweep(outputs: Path, name: str) -> Path:
    """Return the folder of a sweep.

    Args:
        outputs: `paths.outputs`.
        name: its `sweep.name`, of several the newest, the folder's name, a path, or `last`, which
            `latest` is too.

    Raises:
        UserError: there is no such sweep.
    """
    if folder := sweep_named(outputs, name):
        return folder
    known = newest(outputs)
    if not known:
        raise UserError(f"{outputs}/sweeps: no sweep yet; type {train_command()} -m act=relu,elu")
    names = [given for folder in known if (given := given_name(folder))]
    hint = _nearest(name, [*names, *(folder.name for folder in known)])
    raise UserError(f"{name}: no such sweep in {outputs}/sweeps; {hint}")


def sweep_named(outputs: Path, name: str) -> Path | None:
    """Return the folder of a sweep, or None if there is none of that name; as `find_sweep`."""
    if name in NEWEST:
        return next(iter(newest(outputs)), None)
    for folder in (outputs / "sweeps" / name, Path(name)):
        if (folder / PLAN_FILE).is_file():
            return folder if folder.name not in ("", "..") else Path(os.path.abspath(folder))
    return next((folder for folder in newest(outputs) if given_name(folder) == name), None)


def find_runs(outputs: Path, names: Iterable[str]) -> list[RunDir]:
    """Return the folders of runs, each once.

    Args:
        outputs: `paths.outputs`.
        names: run ids, globs of run ids such as `relu-*`, or paths.

    Raises:
        UserError: a name matches no run.
    """
    folder = outputs / "runs"
    known = sorted(path.name for path in folder.glob("*/"))
    runs: dict[RunDir, None] = {}
    for name in names:
        path = Path(os.path.abspath(name))
        if matching := fnmatch.filter(known, name):
            runs |= dict.fromkeys(RunDir(outputs, run_id) for run_id in matching)
        elif path.parent.name == "runs" and (path / "config.yaml").is_file():
            runs[RunDir(path.parent.parent, path.name)] = None
        else:
            raise UserError(f"{name}: no such run in {folder}; {_nearest(path.name, known)}")
    return list(runs)


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    near = near or [candidate for candidate in known if candidate.startswith(name)]
    if near:
        return f"did you mean {near[0]}?"
    return f"type for example {known[0]}" if known else "there is none yet"
