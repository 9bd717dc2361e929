"""A sweep's folder: the plan that was frozen when it was submitted, and what came of it. No jax."""

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actsweep.config import identity, resolve
from actsweep.config.schema import RunConfig
from actsweep.runs import run_dir
from actsweep.runs.run_dir import folder_of
from actsweep.runtime.signals import stop_request
from actsweep.sweeps import table
from actsweep.sweeps.exit_codes import INTERRUPTED, OK, PREEMPTED, SOME_FAILED
from actsweep.sweeps.plan import Plan, name_of
from actsweep.utils.errors import UserError
from actsweep.utils.provenance import other_code

Result = dict[str, Any]


def statuses_of_attempt(plan: Plan) -> list[dict[str, Any]]:
    """The statuses of those runs that this attempt of this sweep was the last to train."""
    found = [run_dir.read_status(folder_of(one)) or {} for one in plan.runs.values()]
    return [status for status in found if _is_own(plan, status)]


def _is_own(plan: Plan, status: Mapping[str, Any]) -> bool:
    return (status.get("sweep"), status.get("attempt")) == (plan.folder.name, plan.attempt)


def ended_result(plan: Plan, one: RunConfig) -> Result | None:
    """The result of a run that needn't be trained: it is complete, or this attempt of the sweep has
    seen it fail or diverge."""
    folder = folder_of(one)
    status = run_dir.read_status(folder) or {}
    own = _is_own(plan, status)
    if done := run_dir.reusable(folder, one.rerun, plan.folder.name, plan.attempt):
        how = None if own else other_code(status)
        return {**done, "reused": not own} | ({"other_code": how} if how else {})
    if not (own and status["state"] in ("failed", "diverged")):
        return None
    known = {**identity.describe(one), **(run_dir.read_summary(folder) or {}), "reused": False}
    return {**known, "state": status["state"], "cause": status.get("cause")}


def result_on_disk(plan: Plan, one: RunConfig, otherwise: Mapping[str, Any]) -> Result:
    """The result of a run as its folder tells it; of one that hasn't ended, `otherwise`."""
    return ended_result(plan, one) or {**identity.describe(one), **otherwise, "reused": False}


def interrupted_result(plan: Plan, one: RunConfig) -> Result:
    """The result of a run when its sweep was interrupted."""
    status = run_dir.read_status(folder_of(one)) or {}
    cause = "not started"
    if status.get("state") in ("running", "preempted"):
        cause = f"stopped at epoch {round(status['epoch'], 2):g}" if status["step"] else "stopped"
    return result_on_disk(plan, one, {"state": "preempted", "cause": cause})


def finish(plan: Plan, results: Sequence[Mapping[str, Any]]) -> int:
    """Write `members.csv`, print the table and how to look further; the sweep's exit code.

    Raises:
        UserError: every run was refused: nothing has started.
    """
    results = _explained(plan, results)
    rows = [
        {k: v for k, v in r.items() if k not in ("refused", "busy")}
        | {"overrides": " ".join(plan.overrides[r["run_id"]])}
        for r in results
    ]
    try:
        run_dir.write_members_csv(plan.folder, rows)
    except OSError as error:  # the table says it as well
        print(f"error: {plan.folder}/members.csv: {error.strerror or error}", file=sys.stderr)
    _show(plan, results)
    print(f"\neach run: {_runs_folder(plan)}/<run_id>/   this sweep: {plan.folder}/members.csv")
    for line in _hints(plan, results):
        print(line)
    return _code(plan, results)


def show_part(plan: Plan, results: Sequence[Mapping[str, Any]]) -> int:
    """Print the table of some of a sweep's runs; the exit code of what trained them.

    Raises:
        UserError: every run was refused: nothing has started.
    """
    results = _explained(plan, results)
    _show(plan, results)
    return _code(plan, results)


def _explained(plan: Plan, results: Sequence[Mapping[str, Any]]) -> list[Result]:
    if all("refused" in r for r in results):
        raise UserError(results[0]["refused"])
    return [_with_cause(r, plan.runs[r["run_id"]]) for r in results]


def _show(plan: Plan, results: Sequence[Mapping[str, Any]]) -> None:
    table.show(results, {r["run_id"]: resolve.to_dict(plan.runs[r["run_id"]]) for r in results})


def _code(plan: Plan, results: Sequence[Mapping[str, Any]]) -> int:
    """The exit code; what is left to other processes doesn't count."""
    waits = plan.packs[0][0].pack.wait
    return exit_code([r["state"] for r in results if waits or "busy" not in r])


def exit_code(states: Sequence[str]) -> int:
    """What a sweep whose runs ended so returns to the shell."""
    if any(state in ("preempted", "running") for state in states):
        return INTERRUPTED if stop_request.asked == signal.SIGINT else PREEMPTED
    return OK if all(state == "complete" for state in states) else SOME_FAILED


def _with_cause(result: Mapping[str, Any], one: RunConfig) -> Result:
    """A result that isn't complete also says why, as its run's status does."""
    if result["state"] == "complete" or "cause" in result:
        return dict(result)
    return {**result, "cause": (run_dir.read_status(folder_of(one)) or {}).get("cause")}


def _runs_folder(plan: Plan) -> Path:
    return plan.outputs / "runs"


def _hints(plan: Plan, results: Sequence[Mapping[str, Any]]) -> list[str]:
    from actsweep.loggers.wandb_support import hint_lines

    states, name = {r["state"] for r in results}, name_of(plan.folder)
    if any("busy" in r for r in results) and exit_code(list(states - {"running"})) != PREEMPTED:
        return [f"others are at it:  actsweep status {name}"]
    by_hand = plan.packs[0][0].trainer.distributed and not (plan.folder / "slurm").is_dir()
    if states & {"preempted", "running"} and by_hand:
        return ["go on:  the same command again, for every process"]
    if states & {"preempted", "running"}:
        return [f"go on:  actsweep resume {name}   (or the same command again)"]
    lines = [f"retry:  actsweep retry {name}"] * ("failed" in states)
    mode = plan.packs[0][0].logger.mode
    folders = [_runs_folder(plan) / r["run_id"] for r in results]
    return lines if mode == "disabled" else lines + hint_lines(folders, mode)
