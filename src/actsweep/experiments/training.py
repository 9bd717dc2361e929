"""Sweeps that an experiment needs: typed into train.py, so that they go through the ledger."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from actsweep import ledger
from actsweep.errors import UserError
from actsweep.experiments.base import Params
from actsweep.experiments.networks import project
from actsweep.load import Run, load_run
from actsweep.manage import NAMED_BY_TIME
from actsweep.sweeps import OK, PLAN_FILE, SOME_FAILED


class Stopped(Exception):
    """The training ended early, with this exit code; typed again, it goes on."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def sweep(words: Sequence[str], params: Params) -> list[Run]:
    """`python train.py -m` of these overrides and the experiment's own `overrides`; what is
    complete isn't trained again.

    Returns:
        Every run of the sweep, those that diverged or failed included: see `Run.status`.

    Raises:
        Stopped: it was interrupted or preempted, or its input was refused.
    """
    outputs = Path(params["outputs"]).absolute()
    folder = outputs / "sweeps" / datetime.now().strftime(NAMED_BY_TIME)
    typed = ["-m", *words, *params["overrides"]]
    where = [f"paths.outputs={outputs}", f"hydra.sweep.dir={folder}"]
    print("python train.py", *typed, flush=True)
    done = subprocess.run([sys.executable, "train.py", *typed, *where], cwd=project())
    if done.returncode not in (OK, SOME_FAILED):
        raise Stopped(done.returncode)
    if not (folder / PLAN_FILE).is_file():
        raise UserError(f"{folder}: train.py has left no sweep here; see what it said above")
    rows = ledger.read_members_csv(folder)
    return [load_run(outputs / "runs" / row["run_id"]) for row in rows]


def seeds(count: int) -> str:
    """The override of so many seeds, from 0 on."""
    return f"seed={','.join(map(str, range(count)))}"
