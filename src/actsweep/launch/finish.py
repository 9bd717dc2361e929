"""End of a sweep: its table, then its report. No jax; matplotlib only for a report."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actsweep.sweeps import results as sweep_results
from actsweep.sweeps.exit_codes import OK, SOME_FAILED
from actsweep.sweeps.plan import Plan, name_of
from actsweep.utils.errors import UserError, first_line
from actsweep.utils.progress import slow


def finish(
    plan: Plan, results: Sequence[Mapping[str, Any]], asked: signal.Signals | None = None
) -> int:
    """Print a sweep's table and what to type next, write its report; return the exit code.

    Args:
        plan: the sweep.
        results: the result of every run, in order.
        asked: the signal that has asked for the end, or None.

    Raises:
        UserError: every run was refused: nothing has started.
    """
    code = sweep_results.finish(plan, results, asked)
    _tell_agent(plan, results)
    if plan.config.logger.report and len(plan.runs) > 1 and code in (OK, SOME_FAILED):
        print(_report(plan), flush=True)
    return code


def _tell_agent(plan: Plan, results: Sequence[Mapping[str, Any]]) -> None:
    """Log a run that was complete before to the W&B run that a sweep agent waits for.

    Else the agent has no metric for this point of its search.
    """
    if not os.environ.get("WANDB_SWEEP_ID") or len(results) > 1 or not results[0].get("reused"):
        return
    # They need NumPy, which bad input is answered without.
    from actsweep.loggers.wandb_replay import replay
    from actsweep.loggers.wandb_support import init_options, mode_of

    (result,), mode = results, mode_of(plan.config.logger)
    if mode == "disabled":
        return
    member = plan.runs[result["run_id"]]
    options = init_options(plan.config, plan.folder.name, 1)
    try:
        replay(member.info(plan.name), mode, options, result)
        print(f"W&B's agent gets the rows of {member.run_id}, which was complete before")
    except Exception as error:  # W&B's own; the run is as complete as it was
        print(f"W&B's agent doesn't get {member.run_id}: {first_line(error)}", file=sys.stderr)


def _report(plan: Plan) -> str:
    """Write the report of a sweep that has ended; return a line that says where.

    An error is only reported, so that it doesn't fail the sweep.
    """
    from actsweep.report.write import write

    folder = plan.folder
    try:
        with slow("writing the report"):
            page = write([folder], folder / "report")
        return f"report: {page}{_at_wandb(plan, page)}"
    except UserError as error:  # the same command would fail again
        return f"report: none ({error})"
    except KeyboardInterrupt:
        why = "interrupted"
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"report: none ({why}); to try again: actsweep report {name_of(folder)}"


def _at_wandb(plan: Plan, page: Path) -> str:
    """Log the report to W&B; return why that failed, if it did."""
    # A W&B sweep's job is one run.
    if not plan.config.logger.report_run or os.environ.get("WANDB_SWEEP_ID"):
        return ""
    from actsweep.report.wandb_report import log_report

    try:
        log_report(plan, page)
    except Exception as error:  # W&B's own
        return f"   (not in W&B: {first_line(error)})"
    return ""
