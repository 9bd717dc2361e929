"""Which sweep or run a name means. No jax."""

import difflib
import fnmatch
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from actsweep.runs.run_dir import RunDir
from actsweep.sweeps.plan import PLAN_FILE
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import train_command

LAST = "last"


NAMED_BY_TIME = "%Y-%m-%d_%H-%M-%S-%f"


def newest(outputs: Path) -> list[Path]:
    """The folders of all sweeps, the one that was submitted last first."""
    found = [path.parent for path in (outputs / "sweeps").glob(f"*/{PLAN_FILE}")]
    return sorted(found, key=lambda folder: (_submitted(folder), folder.name), reverse=True)


def _submitted(folder: Path) -> float:
    with suppress(ValueError):
        return datetime.strptime(folder.name, NAMED_BY_TIME).timestamp()
    return (folder / PLAN_FILE).stat().st_mtime  # named by hand


def find_sweep(outputs: Path, name: str) -> Path:
    """The folder of the sweep that is called so: its name, a path, or `last`.

    Raises:
        UserError: there is none.
    """
    known = newest(outputs)
    if name == LAST and known:
        return known[0]
    for folder in (outputs / "sweeps" / name, Path(name)):
        if (folder / PLAN_FILE).is_file():
            return folder if folder.name not in ("", "..") else Path(os.path.abspath(folder))
    if not known:
        raise UserError(f"{outputs}/sweeps: no sweep yet; type {train_command()} -m act=relu,elu")
    raise UserError(
        f"{name}: no such sweep in {outputs}/sweeps; {_nearest(name, [one.name for one in known])}"
    )


def find_runs(outputs: Path, wanted: Iterable[str]) -> list[RunDir]:
    """The folders of runs, each once: an id, a glob of ids such as `relu-*`, or a path.

    Raises:
        UserError: one of them is no run.
    """
    folder = outputs / "runs"
    known = sorted(path.name for path in folder.glob("*/"))
    found: dict[RunDir, None] = {}
    for text in wanted:
        path = Path(os.path.abspath(text))
        if matching := fnmatch.filter(known, text):
            found |= dict.fromkeys(RunDir(outputs, run_id) for run_id in matching)
        elif path.parent.name == "runs" and (path / "config.yaml").is_file():
            found[RunDir(path.parent.parent, path.name)] = None
        else:
            raise UserError(f"{text}: no such run in {folder}; {_nearest(path.name, known)}")
    return list(found)


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    near = near or [one for one in known if one.startswith(name)]
    if near:
        return f"did you mean {near[0]}?"
    return f"there is for example {known[0]}" if known else "there is none"
