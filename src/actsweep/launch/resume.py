"""Resume and retry of a sweep, and its table. No jax before training starts."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from actsweep.config.compose import with_overrides
from actsweep.config.overrides import expand_all, for_hydra
from actsweep.launch.entry import guarded
from actsweep.launch.train import application
from actsweep.runs.leases import living_owners
from actsweep.runtime.process import Process
from actsweep.sweeps import results
from actsweep.sweeps.exit_codes import OK, SOME_FAILED
from actsweep.sweeps.plan import (
    REPORT,
    Plan,
    is_search,
    name_of,
    read_frozen,
    read_plan,
    reopen,
    without_folder,
)
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import TRAIN, as_train

LIMITS = ("hydra.sweeper.trials=", "hydra.sweeper.seeds=", "hydra.sweeper.budget=")


def resume(folder: Path, words: Sequence[str] = ()) -> int:
    """Train the runs that a sweep has left, as it was submitted; return the exit code.

    Args:
        folder: the sweep's.
        words: overrides of `slurm.*`, which can't change a result: more memory, another partition.

    A search goes on with further suggestions, a race with further seeds; their limits
    (`hydra.sweeper.trials`, `.seeds`, `.budget`) may be changed, too.
    """
    if is_search(folder):
        return _search_on(folder, words)

    def action(process: Process) -> int:
        plan = _with_resources(reopen(folder), words)
        if words:
            plan.write()
        return _go_on(plan, process)

    return guarded(action)


def _search_on(
    folder: Path, words: Sequence[str], *, again: Callable[[Plan], Plan] | None = None
) -> int:
    """Type a search's command again, in its own folder; return the exit code.

    Its next suggestions are composed from `conf/`, which is why the whole command is needed.

    Args:
        folder: the sweep's.
        words: further overrides.
        again: makes the next attempt of its plan.
    """
    words = expand_all(words)
    for word in words:
        if not word.lstrip("+").startswith(("slurm.", *LIMITS)):
            raise UserError(
                f"{word}: a search or a race goes on as it was submitted; only slurm.* and its "
                f"limits can be changed: {', '.join(limit[:-1] for limit in LIMITS)}"
            )
    typed = without_folder(read_frozen(folder)["command"])
    typed = typed[2:] if typed[:2] == TRAIN.split() else typed[1:]

    def action(process: Process) -> int:
        del process
        plan = reopen(folder.absolute())
        if again:
            again(plan)
        given = [f"paths.outputs={plan.outputs}", f"hydra.sweep.dir={plan.folder}", *words]
        keys = {_key(word) for word in given}
        as_train([*(word for word in typed if _key(word) not in keys), *given])
        sys.argv[1:] = for_hydra(sys.argv[1:])
        application()()
        return OK

    try:
        return guarded(action)
    except SystemExit as end:  # as the sweeper ends
        return end.code if isinstance(end.code, int) else SOME_FAILED


def _key(word: str) -> str | None:
    """Return the key of an override; None for an option."""
    key, is_override, _ = word.lstrip("+").partition("=")
    return key if is_override else None


def _with_resources(plan: Plan, words: Sequence[str]) -> Plan:
    """Return the sweep with other resources for its jobs, not written yet."""
    if not words:
        return plan
    for word in words:
        if not word.lstrip("+").startswith("slurm."):
            raise UserError(
                f"{word}: a sweep goes on as it was submitted; only slurm.* can be changed, as in "
                f"actsweep resume {name_of(plan.folder)} slurm.mem_gb=16"
            )
    if not (plan.folder / "slurm").is_dir():
        raise UserError(f"{words[0]}: {name_of(plan.folder)} has no SLURM jobs; leave it out")
    slurm = with_overrides(plan.config, words).slurm
    return plan.with_configs(slurm=slurm)


def show_table(folder: Path) -> None:
    """Print a sweep's table from what is on disk, and write its `members.csv`."""
    plan = read_plan(folder, to_train=False)
    results.finish(plan, results.results_on_disk(plan))
    if len(plan.runs) > 1:
        page, again = folder / REPORT, f"none yet; to write it: actsweep report {name_of(folder)}"
        print(f"report: {page if page.exists() else again}")


def retry(folder: Path, words: Sequence[str] = (), *, diverged: bool) -> int:
    """Resume a sweep and train again what has failed; return the exit code.

    With `diverged`, train again also what has diverged. `words` are as for `resume`.
    """
    if is_search(folder):
        return _search_on(folder, words, again=lambda plan: _again(plan, diverged=diverged))

    def action(process: Process) -> int:
        plan = _with_resources(reopen(folder), words)
        plan = _again(plan, diverged=diverged)
        if words:
            plan.write()
        return _go_on(plan, process)

    return guarded(action)


def _again(plan: Plan, *, diverged: bool) -> Plan:
    """Return the sweep's next attempt, or this one if there is nothing to retry."""
    wanted = ("failed", "diverged") if diverged else ("failed",)
    records = results.read_records(plan)
    if not any(record.state in wanted for record in records.values()):
        print(f"{plan.folder.name}: no run has {' or '.join(wanted)}")
        return plan
    left = records.keys() - results.ended_results(plan, records).keys()
    if any(plan.runs[run_id].config.rerun == "all" for run_id in left):
        name = name_of(plan.folder)
        raise UserError(f"{name}: some runs aren't trained yet; type actsweep resume {name} first")
    owners = [owner for owner in living_owners(plan.outputs) if owner.sweep == plan.folder.name]
    if owners:
        who = f"{owners[0].host}, process {owners[0].pid}"
        raise UserError(f"{plan.folder.name}: is being trained by {who}; wait for it, or stop it")
    again = plan.again("diverged" if diverged else "failed")
    again.write()
    return again


def _go_on(plan: Plan, process: Process) -> int:
    from actsweep.launch.hydra import go_on

    return go_on(plan, process)
