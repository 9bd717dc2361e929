"""How a sweep goes on: resume, retry, its table. No jax before it trains."""

from pathlib import Path

from actsweep.launch.entry import guarded
from actsweep.runs.leases import living_owners
from actsweep.runtime.process import Process
from actsweep.sweeps import results
from actsweep.sweeps.plan import Plan, name_of, read_plan, reopen
from actsweep.utils.errors import UserError


def resume(folder: Path) -> int:
    """Train what a sweep has left, as it was submitted; return the exit code."""
    return guarded(lambda process: _go_on(reopen(folder), process))


def show_table(folder: Path) -> None:
    """Print a sweep's table from what is on disk, and write its `members.csv`."""
    plan = read_plan(folder)
    members = plan.runs.values()
    results.finish(plan, [results.interrupted_result(plan, member) for member in members])


def retry(folder: Path, *, diverged: bool) -> int:
    """`resume`, also training again what has failed and, if asked, diverged; return the exit
    code."""
    return guarded(lambda process: _go_on(_again(reopen(folder), diverged=diverged), process))


def _again(plan: Plan, *, diverged: bool) -> Plan:
    """Return the sweep's next attempt; this one if there is nothing to try again."""
    wanted = ("failed", "diverged") if diverged else ("failed",)
    records = results.read_records(plan)
    if not any(record.state in wanted for record in records.values()):
        print(f"{plan.folder.name}: no run has {' or '.join(wanted)}")
        return plan
    left = records.keys() - results.ended_results(plan, records).keys()
    if any(plan.runs[run_id].config.rerun == "all" for run_id in left):
        name = name_of(plan.folder)
        raise UserError(f"{name}: some of its runs are left; type actsweep resume {name} first")
    owners = [owner for owner in living_owners(plan.outputs) if owner.sweep == plan.folder.name]
    if owners:
        who = f"{owners[0].host}, process {owners[0].pid}"
        raise UserError(f"{plan.folder.name}: is in training, by {who}; wait for it, or stop it")
    again = plan.again("diverged" if diverged else "failed")
    again.write()
    return again


def _go_on(plan: Plan, process: Process) -> int:
    from actsweep.launch.hydra import go_on

    return go_on(plan, process)
