"""Calls that train, or open what was trained. No jax before training starts."""

import os
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from actsweep.api.sweep import Sweep
from actsweep.launch import call
from actsweep.sweeps.find import find_sweep
from actsweep.sweeps.plan import outputs_dir, read_frozen
from actsweep.utils.errors import UserError

if TYPE_CHECKING:
    from actsweep.runs.load import Run

Folder = str | PathLike[str]
PLAN_ONLY = (
    "pack.plan=true: shows the packs and trains nothing; leave it out, or call actsweep.plan"
)


def sweep(*words: str, outputs: Folder | None = None, config_dir: Folder | None = None) -> Sweep:
    """Train every combination of the listed values, and return the sweep.

    Does in this process what `actsweep train -m` does with the same words, and leaves the same
    files. An interruption saves; the same call then goes on.

    >>> sweep = actsweep.sweep("act=relu,elu", "seed=0,1,2")  # doctest: +SKIP

    Args:
        words: overrides, such as `act=relu,elu`.
        outputs: the folder to write to, `paths.outputs`; by default `outputs`.
        config_dir: a folder with groups of your own, such as `my_conf/act/bent.yaml`.

    Returns:
        The sweep. Of runs that failed or diverged, its `runs` tell so.

    Raises:
        UserError: bad input; nothing has started.
        KeyboardInterrupt: it was interrupted.
    """
    folder = _train(words, outputs, config_dir, multirun=True)
    if folder is None:
        raise UserError(PLAN_ONLY)
    return Sweep(folder)


def train(*words: str, outputs: Folder | None = None, config_dir: Folder | None = None) -> "Run":
    """Train one run, and return it.

    Does in this process what `actsweep train` does with the same words.

    >>> run = actsweep.train("act=relu", "data=digits")  # doctest: +SKIP
    >>> run.summary["test_accuracy"]  # doctest: +SKIP

    Args:
        words: overrides, such as `act=relu`.
        outputs: the folder to write to, `paths.outputs`; by default `outputs`.
        config_dir: a folder with groups of your own, such as `my_conf/act/bent.yaml`.

    Returns:
        The run; its `status` tells whether it is complete.

    Raises:
        UserError: bad input; nothing has started.
        KeyboardInterrupt: it was interrupted.
    """
    folder = _train(words, outputs, config_dir, multirun=False)
    if folder is None:
        raise UserError(PLAN_ONLY)
    plain = read_frozen(folder)
    (run_id,) = plain["members"]
    from actsweep.runs.load import load_run

    return load_run(outputs_dir(folder, plain) / "runs" / run_id)


def plan(*words: str, outputs: Folder | None = None, config_dir: Folder | None = None) -> None:
    """Print which runs would share a program, and the memory they need; train nothing.

    >>> actsweep.plan("act=relu,elu", "seed=0,1,2")  # doctest: +SKIP

    Args, Raises: as `sweep`.
    """
    _train([*words, "pack.plan=true"], outputs, config_dir, multirun=True)


def load_sweep(name: Folder = "latest", outputs: Folder = "outputs") -> Sweep:
    """Return a sweep on disk, perhaps one that is still being trained.

    >>> sweep = actsweep.load_sweep("latest")  # doctest: +SKIP
    >>> sweep.compare(by="act")  # doctest: +SKIP

    Args:
        name: its name, such as `2026-03-01_12-00-00-000000`; its folder; or `latest`.
        outputs: the folder that it was written to.

    Raises:
        UserError: there is no such sweep.
    """
    return Sweep(find_sweep(Path(outputs), os.fspath(name)))


def _train(
    words: Sequence[str], outputs: Folder | None, config_dir: Folder | None, *, multirun: bool
) -> Path | None:
    """Train; return the sweep's folder, or None if nothing was to be trained."""
    typed = [*words]
    if outputs is not None:
        typed.append(f"paths.outputs={_quoted(os.fspath(outputs))}")
    return call.train(typed, Path(config_dir) if config_dir else None, multirun=multirun)


def _quoted(path: str) -> str:
    """Return a path as Hydra takes it in one piece."""
    if re.fullmatch(r"[\w./-]+", path):
        return path
    return "'" + path.replace("\\", "\\\\").replace("'", "\\'") + "'"
