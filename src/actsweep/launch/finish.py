"""How a sweep ends: its table, then its report. No jax; matplotlib once there is a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actsweep.sweeps import exit_codes
from actsweep.sweeps import results as results_module
from actsweep.sweeps.plan import Plan, name_of
from actsweep.utils.errors import UserError


def finish(plan: Plan, results: Sequence[Mapping[str, Any]]) -> int:
    """End a sweep: its table, what to type next, its report; the exit code.

    Raises:
        UserError: every run was refused: nothing has started.
    """
    code = results_module.finish(plan, results)
    wanted = plan.packs[0][0].logger.report and len(plan.runs) > 1
    if wanted and code in (exit_codes.OK, exit_codes.SOME_FAILED):
        print(_at_end(plan.folder), flush=True)
    return code


def _at_end(folder: Path) -> str:
    """Write the report of a sweep that has ended; a line that says where. It never fails it."""
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
