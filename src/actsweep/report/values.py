"""The number of each run that is compared: from its summary or its metrics file. No jax."""

import difflib
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from actsweep.report.design import Entry
from actsweep.runs.metrics_file import read_metrics
from actsweep.stats.paired import BETTER, WORSE
from actsweep.sweeps import table
from actsweep.utils.errors import UserError

SUMMARISED = {
    "test/accuracy": "test_accuracy",
    "test/loss": "test_loss",
    "train/loss": "train_loss",
    "val/accuracy": "best_val_accuracy",
    "exact_dead_frac/all": "dead_frac",
    "best_epoch": "best_epoch",
    "epochs": "epochs",
    "seconds": "seconds",
}
"""Metrics of a run's summary: those of the parameters that were best in validation."""
MARGINS = {"accuracy": 0.005}
RELATIVE_MARGIN = 0.05


@dataclass(frozen=True)
class Measure:
    """What is compared.

    Attributes:
        metric: its name.
        sign: 1 if larger is better, -1 if smaller is, 0 if neither.
        scale: from its own unit to what is shown: 100 for accuracies.
        unit: of what is shown.
        margin: differences below it don't matter, in its own unit.
    """

    metric: str
    sign: int
    scale: float
    unit: str
    margin: float

    def text(self, value: float | None, *, signed: bool = False) -> str:
        """A value as it is shown."""
        if value is None or not math.isfinite(value):
            return "–"
        digits = ".2f" if self.scale == 100 else ".4g"
        return format(self.scale * value, f"{'+' if signed else ''}{digits}")

    def word(self, verdict: str) -> str:
        """A verdict in words; where neither direction is better, which is higher."""
        return verdict if self.sign else {BETTER: "higher", WORSE: "lower"}.get(verdict, verdict)


def usual(entries: Sequence[Entry]) -> str:
    classify = any(one.summary.get("test_accuracy") is not None for one in entries)
    return "test/accuracy" if classify else "test/loss"


def values_of(entries: Sequence[Entry], metric: str) -> tuple[dict[str, float | None], list[str]]:
    """Each run's value, None without one; and which runs don't count.

    Raises:
        UserError: no run has the metric, or a metrics file is damaged.
    """
    values: dict[str, float | None] = {}
    for one in entries:
        found: float | None = None
        if one.state == "complete":
            key = SUMMARISED.get(metric)
            found = one.summary.get(key) if key else _last(one, metric)
        known = found is not None and math.isfinite(found)
        values[one.run.run_id] = found if known else None
    if all(value is None for value in values.values()):
        _refuse(metric, entries)
    notes = []
    for state in dict.fromkeys(one.state for one in entries):
        gone = [one.run.run_id for one in entries if one.state == state]
        if state not in ("complete", "diverged"):
            notes.append(f"not counted: {table.who(gone)} {state}")
    lacking = [
        one.run.run_id
        for one in entries
        if one.state == "complete" and values[one.run.run_id] is None
    ]
    if lacking:
        notes.append(f"not counted: {table.who(lacking)} without {metric}")
    return values, notes


def _last(one: Entry, metric: str) -> float | None:
    """The last value that a run has logged."""
    column = read_metrics(one.run.metrics).get(metric)
    known = column[np.isfinite(column)] if column is not None else []
    return float(known[-1]) if len(known) else None


def _refuse(metric: str, entries: Sequence[Entry]) -> None:
    one = next(one for one in entries if one.state == "complete")
    logged = list(read_metrics(one.run.metrics))
    options = sorted({*SUMMARISED, *logged} - {"step"})
    near = difflib.get_close_matches(metric, options, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    groups = ", ".join(dict.fromkeys(name.partition("/")[0] for name in options))
    raise UserError(f"--metric {metric}: no run has it; {hint}They have: {groups}")


def measure_of(metric: str, values: Sequence[float], margin: float | None) -> Measure:
    kind = metric.rpartition("/")[2]
    sign = {"accuracy": 1, "loss": -1, "seconds": -1}.get(kind, 0)
    scale, unit = (100.0, "points") if kind == "accuracy" else (1.0, "")
    if margin is not None:
        if not 0 <= margin < math.inf:
            raise UserError(
                f"--margin {margin:g}: must be 0 or more; type for example --margin 0.5"
            )
        return Measure(metric, sign, scale, unit, margin / scale)
    own = MARGINS.get(kind, RELATIVE_MARGIN * abs(statistics.median(values)))
    return Measure(metric, sign, scale, unit, own)


def with_diverged(
    entries: Sequence[Entry],
    values: Mapping[str, float | None],
    measure: Measure,
    kept: Collection[str],
) -> tuple[dict[str, float | None], set[str], list[str]]:
    """A run that has diverged counts as accuracy 0, or as a loss behind all others: as far behind
    the worst as that is behind the best.

    Args:
        kept: ids of the runs with what validation has chosen for their group.

    Returns:
        The values with theirs; ids of those that so count; what to say of all that diverged.
    """
    gone = [one.run.run_id for one in entries if one.state == "diverged"]
    counted = [run_id for run_id in gone if run_id in kept]
    notes = []
    if others := [run_id for run_id in gone if run_id not in kept]:
        notes.append(f"{table.who(others)} diverged: not chosen in validation")
    if not counted:
        return dict(values), set(), notes
    who = f"{table.who(counted)} diverged"
    if measure.metric.rpartition("/")[2] not in ("accuracy", "loss"):
        return dict(values), set(), [*notes, f"not counted: {who}"]
    own = [v for run_id, v in values.items() if v is not None and run_id in kept]
    known = own or [v for v in values.values() if v is not None]
    floor = 0.0 if measure.scale == 100 else 2 * max(known) - min(known)
    if measure.scale != 100 and floor == max(known):
        floor += abs(floor)
    told = f"{measure.text(floor)}{' %' if measure.scale == 100 else ', behind all others'}"
    notes.append(f"{who}: counted as {told}")
    return {**values, **dict.fromkeys(counted, floor)}, set(counted), notes
