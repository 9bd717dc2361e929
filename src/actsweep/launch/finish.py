"""How a sweep ends: its table, then its report. No jax; matplotlib once there is a report."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actsweep.sweeps import results as sweep_results
from actsweep.sweeps.exit_codes import OK, SOME_FAILED
from actsweep.sweeps.plan import Plan, name_of
from actsweep.utils.errors import UserError


def finish(
    plan: Plan, results: Sequence[Mapping[str, Any]], asked: signal.Signals | None = None
) -> int:
    """End a sweep: print its table, what to type next, its report; return the exit code.

    Args:
        plan: the sweep.
        results: of every run, in order.
        asked: the signal that has asked for the end, if one has.

    Raises:
        UserError: every run was refused: nothing has started.
    """
    code = sweep_results.finish(plan, results, asked)
    if plan.config.logger.report and len(plan.runs) > 1 and code in (OK, SOME_FAILED):
        print(_report(plan.folder), flush=True)
    return code


def _report(folder: Path) -> str:
    """Write the report of a sweep that has ended; return a line that says where. It never fails
    the sweep."""
    from actsweep.report.write import write

    try:
        return f"report: {write([folder], folder / 'report')}"
    except UserError as error:  # typed again, it would say so again
        return f"report: none ({error})"
    except KeyboardInterrupt:
        why = "interrupted"
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"report: none ({why}); to try again: actsweep report {name_of(folder)}"
