"""Which sweep or run a command means, and how a sweep goes on. No jax before it trains."""

from pathlib import Path

from actsweep.launch import job
from actsweep.runs import run_dir
from actsweep.runs.leases import living_owners
from actsweep.sweeps import results
from actsweep.sweeps.plan import Plan, name_of, read_plan, reopen
from actsweep.utils.errors import UserError


def resume(folder: Path) -> int:
    """Train what a sweep has left, as it was submitted; the exit code."""
    return job.guarded(lambda: _go_on(reopen(folder)))


def show_table(folder: Path) -> None:
    """Print a sweep's table from what is on disk, and write its `members.csv`."""
    plan = read_plan(folder)
    results.finish(plan, [results.interrupted_result(plan, one) for one in plan.runs.values()])


def retry(folder: Path, *, diverged: bool) -> int:
    """`resume`, also training again what has failed and, if asked, diverged; the exit code."""
    return job.guarded(lambda: _go_on(_again(reopen(folder), diverged=diverged)))


def _again(plan: Plan, *, diverged: bool) -> Plan:
    """The sweep's next attempt; this one if there is nothing to try again."""
    wanted = ("failed", "diverged") if diverged else ("failed",)
    statuses = {
        i: run_dir.read_status(run_dir.folder_of(one)) or {} for i, one in plan.runs.items()
    }
    if not any(status.get("state") in wanted for status in statuses.values()):
        print(f"{plan.folder.name}: no run has {' or '.join(wanted)}")
        return plan
    outputs = Path(plan.packs[0][0].paths.outputs)
    if any(
        one.rerun == "all" and not results.ended_result(plan, one) for one in plan.runs.values()
    ):
        name = name_of(plan.folder)
        raise UserError(f"{name}: some of its runs are left; type actsweep resume {name} first")
    if busy := [one for one in living_owners(outputs) if one.sweep == plan.folder.name]:
        who = f"{busy[0].host}, process {busy[0].pid}"
        raise UserError(f"{plan.folder.name}: is in training, by {who}; wait for it, or stop it")
    again = plan.again("diverged" if diverged else "failed")
    again.write()
    return again


def _go_on(plan: Plan) -> int:
    from actsweep.launch.hydra import go_on

    return go_on(plan)
