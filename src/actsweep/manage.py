"""Which sweep or run a command means, and how a sweep goes on. No jax before it trains."""

import difflib
import fnmatch
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from actsweep import app, ledger, sweeps
from actsweep.claims import living
from actsweep.errors import UserError
from actsweep.ledger import RunDir
from actsweep.sweeps import PLAN_FILE, Plan

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
        raise UserError(f"{outputs}/sweeps: no sweep yet; type python train.py -m act=relu,elu")
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


def resume(folder: Path) -> int:
    """Train what a sweep has left, as it was submitted; the exit code."""
    return app.guarded(lambda: _go_on(sweeps.reopen(folder)))


def show_table(folder: Path) -> None:
    """Print a sweep's table from what is on disk, and write its `members.csv`."""
    plan = sweeps.read_plan(folder)
    sweeps.finish(plan, [sweeps.cut_short(plan, one) for one in plan.runs.values()])


def retry(folder: Path, *, diverged: bool) -> int:
    """`resume`, also training again what has failed and, if asked, diverged; the exit code."""
    return app.guarded(lambda: _go_on(_again(sweeps.reopen(folder), diverged=diverged)))


def _again(plan: Plan, *, diverged: bool) -> Plan:
    """The sweep's next attempt; this one if there is nothing to try again."""
    wanted = ("failed", "diverged") if diverged else ("failed",)
    statuses = {i: ledger.read_status(ledger.folder_of(one)) or {} for i, one in plan.runs.items()}
    if not any(status.get("state") in wanted for status in statuses.values()):
        print(f"{plan.folder.name}: no run has {' or '.join(wanted)}")
        return plan
    outputs = Path(plan.packs[0][0].paths.outputs)
    if any(one.rerun == "all" and not sweeps.ended(plan, one) for one in plan.runs.values()):
        name = sweeps.name_of(plan.folder)
        raise UserError(f"{name}: some of its runs are left; type actsweep resume {name} first")
    if busy := [one for one in living(outputs) if one.sweep == plan.folder.name]:
        who = f"{busy[0].host}, process {busy[0].pid}"
        raise UserError(f"{plan.folder.name}: is in training, by {who}; wait for it, or stop it")
    again = plan.again("diverged" if diverged else "failed")
    again.write()
    return again


def _go_on(plan: Plan) -> int:
    from hydra_plugins.actsweep_pack.launch import go_on

    return go_on(plan)
