"""Sweeps that an experiment needs: run by `actsweep train`, so that no run is trained twice."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from actsweep.runs import run_dir
from actsweep.runs.load import Run, load_run
from actsweep.runtime.supervisor import forwarding_signals
from actsweep.sweeps.exit_codes import OK, SOME_FAILED
from actsweep.sweeps.find import NAMED_BY_TIME
from actsweep.sweeps.plan import read_plan
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import TRAIN
from actsweep_tutorials.base import Params

CHANCE = 0.1  # the accuracy of FashionMNIST's majority class: of each class there are as many


class TrainingStopped(Exception):
    """A training that ended early, with its exit code; the same command resumes it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run_sweep(words: Sequence[str], params: Params) -> list[Run]:
    """Run `actsweep train -m` with these overrides and the experiment's own `overrides`.

    What is complete isn't trained again.

    Args:
        words: the overrides.
        params: the experiment's parameters, with `outputs` and `overrides`.

    Returns:
        Every run of the sweep, by seed, including those that diverged or failed: see `Run.status`.

    Raises:
        TrainingStopped, UserError: as `train_sweep`.
    """
    plan = read_plan(train_sweep(words, params), to_train=False)
    runs = [load_run(member.dir.path) for member in plan.runs.values()]
    return sorted(runs, key=lambda run: run.config.seed)


def train_sweep(words: Sequence[str], params: Params) -> Path:
    """Run a sweep as `run_sweep` does, and return its folder.

    Raises:
        TrainingStopped: the training was interrupted or preempted, or its input was refused.
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
        raise TrainingStopped(code if code > 0 else 128 - code)
    runs = [member.dir for member in read_plan(folder, to_train=False).runs.values()]
    statuses = [run_dir.read_status(run) or {} for run in runs]
    unfinished = sum(status.get("state") not in run_dir.ENDED for status in statuses)
    if unfinished:  # in a queue
        raise UserError(
            f"{folder.name}: {unfinished} of {len(runs)} runs aren't finished; wait until actsweep "
            f"status shows them finished, then type the same command again"
        )
    return folder


def learned(seed: Mapping[str, Any]) -> bool:
    """Return whether a recorded run ended well and is better than chance.

    One that isn't has learned nothing: it is no evidence about what training does to a network.

    Args:
        seed: its `state` and `test_accuracy`, as experiments on FashionMNIST record them.
    """
    return seed["state"] == "complete" and (seed["test_accuracy"] or 0) > CHANCE


def seed_override(count: int, first: int = 0) -> str:
    """Return the override for this many seeds, from the first one on."""
    return f"seed={','.join(map(str, range(first, first + count)))}"
