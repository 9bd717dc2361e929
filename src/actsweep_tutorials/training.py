"""Sweeps that an experiment needs: `actsweep train` does them, so that they can be interrupted."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from actsweep.runs import run_dir
from actsweep.runs.load import Run, load_run
from actsweep.runtime.supervisor import forwarding_signals
from actsweep.sweeps.exit_codes import OK, SOME_FAILED
from actsweep.sweeps.find import NAMED_BY_TIME
from actsweep.sweeps.plan import read_plan
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import TRAIN
from actsweep_tutorials.base import Params


class Stopped(Exception):
    """The training ended early, with this exit code; typed again, it goes on."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def sweep(words: Sequence[str], params: Params) -> list[Run]:
    """`actsweep train -m` of these overrides and the experiment's own `overrides`; what is
    complete isn't trained again.

    Returns:
        Every run of the sweep, by seed, those that diverged or failed included: see `Run.status`.

    Raises:
        Stopped: it was interrupted or preempted, or its input was refused.
        UserError: jobs of the sweep are in a queue.
    """
    outputs = Path(params["outputs"]).absolute()
    folder = outputs / "sweeps" / datetime.now().strftime(NAMED_BY_TIME)
    typed = ["-m", *words, *params["overrides"]]
    where = [f"paths.outputs={outputs}", f"hydra.sweep.dir={folder}"]
    print(TRAIN, *typed, flush=True)
    command = [sys.executable, "-m", *TRAIN.split(), *typed, *where]
    process = subprocess.Popen(command, process_group=0)
    with forwarding_signals(process.pid):
        code = process.wait()
    if code not in (OK, SOME_FAILED):
        raise Stopped(code if code > 0 else 128 - code)
    runs = [member.dir for member in read_plan(folder).runs.values()]
    statuses = [run_dir.read_status(run) or {} for run in runs]
    left = sum(status.get("state") not in run_dir.ENDED for status in statuses)
    if left:  # in a queue
        raise UserError(
            f"{folder.name}: {left} of {len(runs)} runs aren't finished; type the same again once "
            f"actsweep status says that they are"
        )
    return sorted((load_run(run.path) for run in runs), key=lambda run: run.config.seed)


def seeds(count: int) -> str:
    """The override of so many seeds, from 0 on."""
    return f"seed={','.join(map(str, range(count)))}"
