"""Results of a sweep's runs, and the summary printed at its end. No jax."""

import io
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from actsweep.config import resolve
from actsweep.config.identity import targets
from actsweep.runs import run_dir
from actsweep.runs.members import Member
from actsweep.runs.run_dir import RunRecord, is_of, read_record
from actsweep.sweeps import table
from actsweep.sweeps.exit_codes import INTERRUPTED, OK, PREEMPTED, SOME_FAILED
from actsweep.sweeps.plan import Plan, name_of
from actsweep.sweeps.plan import about as about_sweep
from actsweep.sweeps.search import token_in
from actsweep.sweeps.tuning import found as tuning_in
from actsweep.utils.errors import UserError
from actsweep.utils.provenance import other_code

NOT_STARTED = "not started"
SKIPPED = "skipped"
"""State of a result, never of a folder: the run wasn't begun, since another one has failed."""

Result = dict[str, Any]
Records = Mapping[str, RunRecord]  # by run id


def read_records(plan: Plan) -> dict[str, RunRecord]:
    """Read the status and summary of every run once; return them by run id."""
    return {run_id: read_record(member.dir) for run_id, member in plan.runs.items()}


def statuses_of_attempt(plan: Plan) -> list[Mapping[str, Any]]:
    """Return the statuses of the runs that this attempt of this sweep was the last to train."""
    statuses = [record.status or {} for record in read_records(plan).values()]
    return [status for status in statuses if is_of(status, plan.folder.name, plan.attempt)]


def ended_result(plan: Plan, member: Member, record: RunRecord) -> Result | None:
    """Return the result of a run that needn't be trained, or None.

    Such a run is complete, or it has failed or diverged in this attempt of the sweep.
    """
    attempt = (plan.folder.name, plan.attempt)
    status = record.status or {}
    by_this_attempt = is_of(status, *attempt)
    search = token_in(plan.folder) if record.state == "pruned" else ""
    if summary := record.reusable(member.config.rerun, *attempt, search):
        difference = None if by_this_attempt else other_code(status)
        extra = {"other_code": difference} if difference else {}
        reused = not by_this_attempt and record.state != "pruned"
        return {**member.describe(), **summary, "reused": reused} | extra
    if not (by_this_attempt and status["state"] in ("failed", "diverged")):
        return None
    known = {**member.describe(), **(record.summary or {}), "reused": False}
    return {**known, "state": status["state"], "cause": status.get("cause")}


def ended_results(plan: Plan, records: Records) -> dict[str, Result]:
    """Return the results of the runs that needn't be trained, by run id."""
    results = {}
    for run_id, record in records.items():
        if result := ended_result(plan, plan.runs[run_id], record):
            results[run_id] = result
    return results


def result_on_disk(plan: Plan, member: Member, otherwise: Mapping[str, Any]) -> Result:
    """Return a run's result from its folder, or `otherwise` if it hasn't ended."""
    result = ended_result(plan, member, read_record(member.dir))
    return result or {**member.describe(), **otherwise, "reused": False}


def results_on_disk(plan: Plan) -> list[Result]:
    """Return the result of every run of a sweep, in order, from what is on disk."""
    return [interrupted_result(plan, member) for member in plan.runs.values()]


def table_text(plan: Plan) -> str:
    """Return the table of a sweep from what is on disk, for as many columns as it takes."""
    stream = io.StringIO()
    _show(plan, _explained(plan, results_on_disk(plan)), stream)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def failed_run(plan: Plan) -> str | None:
    """Return a run whose failure ends this attempt of a sweep with `sweep.fail_fast`, or None."""
    if plan.config.sweep.fail_fast:
        for run_id, record in read_records(plan).items():
            of_attempt = is_of(record.status or {}, plan.folder.name, plan.attempt)
            if of_attempt and record.state == "failed":
                return run_id
    return None


def interrupted_result(plan: Plan, member: Member) -> Result:
    """Return the result of a run of a sweep that was interrupted."""
    record = read_record(member.dir)
    status, cause = record.status or {}, NOT_STARTED
    if record.state in ("running", "preempted"):
        cause = f"stopped at epoch {round(status['epoch'], 2):g}" if status["step"] else "stopped"
    result = ended_result(plan, member, record)
    return result or {
        **member.describe(),
        "state": "preempted",
        "cause": cause,
        "reused": False,
    }


def finish(
    plan: Plan, results: Sequence[Mapping[str, Any]], asked: signal.Signals | None = None
) -> int:
    """Write `members.csv`, print the table and what to type next; return the exit code.

    Args:
        plan: the sweep.
        results: the result of every run, in order.
        asked: the signal that has asked for the end, or None.

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
    except OSError as error:  # the table shows the same results
        print(f"error: {plan.folder}/members.csv: {error.strerror or error}", file=sys.stderr)
    _show(plan, results)
    runs = plan.outputs / "runs"
    print(f"\neach run: {runs}/<run_id>/   this sweep: {plan.folder}/members.csv")
    for line in _hints(plan, results):
        print(line)
    return _code(plan, results, asked)


def show_part(
    plan: Plan, results: Sequence[Mapping[str, Any]], asked: signal.Signals | None = None
) -> int:
    """Print the table of some of a sweep's runs; return the exit code.

    Raises:
        UserError: every run was refused: nothing has started.
    """
    results = _explained(plan, results)
    _show(plan, results)
    return _code(plan, results, asked)


def _explained(plan: Plan, results: Sequence[Mapping[str, Any]]) -> list[Result]:
    if all("refused" in r for r in results):
        raise UserError(results[0]["refused"])
    explained = [_with_cause(r, plan.runs[r["run_id"]]) for r in results]
    if failed := failed_run(plan):
        why = {"state": SKIPPED, "cause": f"{failed} has failed, with sweep.fail_fast=true"}
        explained = [r | why if r.get("cause") == NOT_STARTED else r for r in explained]
    return explained


def _show(plan: Plan, results: Sequence[Mapping[str, Any]], stream: TextIO | None = None) -> None:
    results = _to_be_seen(plan, results)
    configs = {r["run_id"]: resolve.to_dict(plan.runs[r["run_id"]].config) for r in results}
    if about := about_sweep(resolve.to_dict(plan.config)["sweep"]):
        print(about, file=stream)
    table.show(results, configs, stream)


def _to_be_seen(plan: Plan, results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the results without test scores of runs that choose settings.

    Of a tuning that has come to its fresh seeds these alone: test scores aren't to be looked at
    before, nor chosen by.
    """
    tuning = tuning_in(plan.folder)
    choosing = tuning.choosing_runs if tuning else frozenset()
    fresh = [result for result in results if result["run_id"] not in choosing]
    return fresh or [
        {k: v for k, v in result.items() if not k.startswith("test_")} for result in results
    ]


def _code(plan: Plan, results: Sequence[Mapping[str, Any]], asked: signal.Signals | None) -> int:
    """Return the exit code; runs that other processes train don't count."""
    waits = plan.config.pack.wait
    return exit_code([r["state"] for r in results if waits or "busy" not in r], asked)


def exit_code(states: Sequence[str], asked: signal.Signals | None = None) -> int:
    """Return the exit code of a sweep whose runs ended in these states."""
    if any(state in ("preempted", "running") for state in states):
        return INTERRUPTED if asked == signal.SIGINT else PREEMPTED
    return OK if all(state in ("complete", "pruned") for state in states) else SOME_FAILED


def _with_cause(result: Mapping[str, Any], member: Member) -> Result:
    """Return the result with the cause, from the run's status, why it isn't complete."""
    if result["state"] == "complete" or "cause" in result:
        return dict(result)
    return {**result, "cause": (run_dir.read_status(member.dir) or {}).get("cause")}


def _hints(plan: Plan, results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines that say what to type next."""
    from actsweep.loggers.wandb_support import hint_lines

    states, name = {r["state"] for r in results}, name_of(plan.folder)
    if any("busy" in r for r in results) and "preempted" not in states:
        return [f"another process is training these runs:  actsweep status {name}"]
    by_hand = plan.config.trainer.distributed and not (plan.folder / "slurm").is_dir()
    if states & {"preempted", "running"} and by_hand:
        return ["go on:  the same command again, for every process"]
    if states & {"preempted", "running"}:
        return [f"go on:  actsweep resume {name}   (or the same command again)"]
    lines = [f"retry:  actsweep retry {name}"] * bool(states & {"failed", SKIPPED})
    failed = [plan.runs[r["run_id"]].config for r in results if r["state"] == "failed"]
    if any(targets(resolve.to_dict(config)) for config in failed):
        lines[0] += "   (after a change of your own code: the command again)"
    if "failed" in states and (logs := sorted(plan.folder.rglob("train.log"))):
        more = f"   (and {len(logs) - 1} more)" if len(logs) > 1 else ""
        lines.append(f"why:    {logs[0]}{more}")
    mode = plan.config.logger.mode
    if mode == "online":
        before = [plan.runs[r["run_id"]].dir.wandb for r in results if r.get("reused")]
        lacking = [folder for folder in before if not [*folder.glob("run-*")]]
        offline = any([*folder.glob("offline-run-*")] for folder in lacking)
        what = f"actsweep sync {name}" if offline else "the same command with rerun=all"
        if lacking:
            lines.append(f"{len(lacking)} runs were trained without W&B's server; upload:  {what}")
    folders = [plan.runs[r["run_id"]].dir.path for r in results]
    return lines if mode == "disabled" else lines + hint_lines(folders, mode)
