"""The value of each run that is compared, from its summary or its metrics file. No jax."""

import difflib
import math
import statistics
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from actsweep.report.design import Entry, Label
from actsweep.runs.metrics_file import read_metrics
from actsweep.stats.paired import BETTER, WORSE, Summary
from actsweep.stats.scores import SCORES, TASKS, task_in, tasks_in
from actsweep.sweeps import table
from actsweep.utils.errors import UserError

SUMMARY_KEYS = {
    **{f"test/{name}": f"test_{name}" for name in SCORES},
    "train/loss": "train_loss",
    "val/accuracy": "best_val_accuracy",
    "val/mean_average_precision": "best_val_mean_average_precision",
    "exact_dead_frac/all": "dead_frac",
    "best_epoch": "best_epoch",
    "epochs": "epochs",
    "seconds": "seconds",
}
"""Keys of metrics in a run's summary, whose parameters are the best in validation."""
MARGINS = {name: 0.005 for name, score in SCORES.items() if score.scale == 100}
RELATIVE_MARGIN = 0.05


@dataclass(frozen=True)
class Measure:
    """The metric that is compared.

    Attributes:
        metric: its name.
        sign: 1 if larger is better, -1 if smaller is, 0 if neither.
        scale: from its own unit to the one that is shown: 100 for accuracies.
        unit: the unit that is shown.
        margin: differences below it don't matter, in its own unit.
    """

    metric: str
    sign: int
    scale: float
    unit: str
    margin: float

    def text(self, value: float | None, *, signed: bool = False) -> str:
        """Return a value as it is shown."""
        if value is None or not math.isfinite(value):
            return "–"
        return format(self.scale * value, f"{'+' if signed else ''}{self.form()}")

    def form(self) -> str:
        """Return the format of a value as it is shown."""
        return ".2f" if self.scale == 100 else ".4g"

    def word(self, verdict: str) -> str:
        """Return a verdict in words: where neither direction is better, which group is higher."""
        return verdict if self.sign else {BETTER: "higher", WORSE: "lower"}.get(verdict, verdict)


def possible_values(score: str) -> tuple[float | None, float | None]:
    """Return the least and the largest value that a score can have, as it is shown."""
    if score not in SCORES:
        return (None, None)
    if score == "perplexity":
        return (1.0, None)
    if score == "r2":
        return (None, 1.0)
    return (0.0, 100.0 if SCORES[score].scale == 100 else None)


def clipped(value: float, possible: tuple[float | None, float | None]) -> float:
    """Return a value, or the bound that it is beyond."""
    least, most = possible
    value = value if least is None else max(value, least)
    return value if most is None else min(value, most)


def default_metric(entries: Sequence[Entry]) -> str:
    """Return the metric that is compared by default."""
    tasks = tasks_in(entry.summary for entry in entries)
    return f"test/{TASKS[tasks[0]].own}" if tasks else "test/loss"


def values_of(entries: Sequence[Entry], metric: str) -> tuple[dict[str, float | None], list[str]]:
    """Return each run's value, None without one, and notes on the runs that don't count.

    Raises:
        UserError: no run has the metric, or a metrics file is damaged.
    """
    values: dict[str, float | None] = {}
    for entry in entries:
        value: float | None = None
        if entry.state == "complete":
            key = _summary_key(entry, metric)
            value = entry.summary.get(key) if key else _last(entry, metric)
        known = value is not None and math.isfinite(value)
        values[entry.run.run_id] = value if known else None
    if all(v is None for v in values.values()):
        _refuse(metric, entries)
    notes = []
    for state in dict.fromkeys(entry.state for entry in entries):
        run_ids = [entry.run.run_id for entry in entries if entry.state == state]
        if state not in ("complete", "diverged"):
            notes.append(f"not counted: {table.name_runs(run_ids)} {state}")
    lacking = [
        entry.run.run_id
        for entry in entries
        if entry.state == "complete" and values[entry.run.run_id] is None
    ]
    if lacking:
        notes.append(f"not counted: {table.name_runs(lacking)} without {metric}")
    return values, notes


def _summary_key(entry: Entry, metric: str) -> str | None:
    """Return the key of a metric in a run's summary, which has one score of the best epoch."""
    own = f"val/{TASKS[task_in(entry.summary)].own}"
    return SUMMARY_KEYS.get(metric) if metric == own or not metric.startswith("val/") else None


def _last(entry: Entry, metric: str) -> float | None:
    """Return the last value that a run has logged."""
    column = read_metrics(entry.run.metrics).get(metric)
    known = column[np.isfinite(column)] if column is not None else []
    return float(known[-1]) if len(known) else None


def _refuse(metric: str, entries: Sequence[Entry]) -> None:
    entry = next(entry for entry in entries if entry.state == "complete")
    logged = list(read_metrics(entry.run.metrics))
    options = sorted({*SUMMARY_KEYS, *logged} - {"step"})
    nearest = difflib.get_close_matches(metric, options, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    groups = ", ".join(dict.fromkeys(name.partition("/")[0] for name in options))
    raise UserError(f"--metric {metric}: no run has it; {hint}They have: {groups}")


def make_measure(metric: str, values: Sequence[float], margin: float | None) -> Measure:
    """Return the measure for a metric.

    Args:
        metric: its name.
        values: of all runs; the default margin is a share of their median.
        margin: as the metric is shown; None for the default.

    Raises:
        UserError: the margin is negative or not finite.
    """
    kind = metric.rpartition("/")[2]
    score = SCORES.get(kind)
    sign = score.sign if score else -1 if kind == "seconds" else 0
    scale, unit = (100.0, "points") if score and score.scale == 100 else (1.0, "")
    if margin is not None:
        if not 0 <= margin < math.inf:
            raise UserError(
                f"--margin {margin:g}: must be 0 or more; type for example --margin 0.5"
            )
        return Measure(metric, sign, scale, unit, margin / scale)
    default = MARGINS.get(kind, RELATIVE_MARGIN * abs(statistics.median(values)))
    return Measure(metric, sign, scale, unit, default)


def lost_share(
    groups: Mapping[Label, Summary], lost: Mapping[Label, Collection[Hashable]], label: Label
) -> float:
    """Return the share of a group's seeds with which a run diverged."""
    gone = len(lost.get(label, ()))
    return gone / (gone + groups[label].n) if gone else 0.0


def diverged_runs(
    entries: Sequence[Entry], measure: Measure, kept: Collection[str]
) -> tuple[list[str], list[str]]:
    """Return the ids of the diverged runs that count against their groups, and notes on all.

    They have no value: how often a group's runs end well is compared by itself. Where the metric is
    no score (accuracy, loss, …), they don't count.

    Args:
        entries: the runs.
        measure: what is compared.
        kept: ids of the runs with the values that validation has chosen for their group.
    """
    diverged = [entry.run.run_id for entry in entries if entry.state == "diverged"]
    counted = [run_id for run_id in diverged if run_id in kept]
    notes = []
    if unchosen := [run_id for run_id in diverged if run_id not in kept]:
        notes.append(f"{table.name_runs(unchosen)} diverged: not chosen in validation")
    if counted and measure.metric.rpartition("/")[2] not in SCORES:
        return [], [*notes, f"not counted: {table.name_runs(counted)} diverged"]
    if counted:
        notes.append(f"{table.name_runs(counted)} diverged: without a value, see seeds")
    return counted, notes
