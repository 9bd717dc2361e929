"""What the page's scripts read: the runs and their columns, each run's page. No jax."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from actsweep.report.design import Design
from actsweep.report.run_columns import RunColumn, run_columns
from actsweep.report.run_details import run_details


def page_data(design: Design, overrides: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return what is embedded in the page, as JSON.

    Args:
        design: the runs.
        overrides: what was typed for each run, by run id.

    Returns:
        `runs` (their ids), `groups` (the label of each run's group), `columns` (see
        `RunColumn.plain`), `details` (see `run_details`), and an `example` of a filter.
    """
    columns = run_columns(design.entries)
    return {
        "runs": [entry.run.run_id for entry in design.entries],
        "groups": [" ".join(design.labels[entry.run.run_id]) for entry in design.entries],
        "columns": [column.plain() for column in columns],
        "details": run_details(design.entries, overrides),
        "example": _example(columns),
    }


def script_json(value: Any) -> str:
    """Return JSON that may stand inside a `<script>`: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _example(columns: Sequence[RunColumn]) -> str:
    """Return a filter that these runs understand, such as `act == relu and seed < 2`."""
    act = next(column for column in columns if column.name == "act.name")
    value = str(act.values[0])
    name = value if value.isidentifier() else f'"{value}"'
    return f"act == {name} and seed < 2"
