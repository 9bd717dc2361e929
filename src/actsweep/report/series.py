"""Series that groups of runs logged: means over seeds, by epoch. No jax."""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from actsweep.report.design import Entry, Label
from actsweep.runs import run_dir
from actsweep.runs.metrics_file import HistogramSeries, read_histograms, read_metrics
from actsweep.stats.paired import mean_interval
from actsweep.theory.predictions import LayerComparison, compare_untrained, predictions_in
from actsweep.utils.errors import UserError

CURVES = ("val/accuracy", "val/mean_average_precision", "val/loss", "train/loss")
QUANTITIES = ("grad_norm", "dead_frac", "saturated_frac", "cos_sim")
MAX_RUNS = 200
"""Runs up to which all logs are read: of more, the first seeds of each group."""
MAX_RIDGES = 64
"""Runs of which histograms are read, over all groups."""
Table = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Log:
    """A run's logged metrics, whether the run has ended, and whose they are."""

    table: Table
    ended: bool
    run_id: str = ""
    seed: int = 0


@dataclass(frozen=True)
class RunCurve:
    """A metric of a single run, at the epochs at which it was logged."""

    run_id: str
    seed: int
    epochs: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Curve:
    """A metric's mean over a group's runs, with Student's 95 % interval (NaN for a single run).

    A run that has ended keeps its last value; one that hasn't ends the curve. `members` are the
    runs' own curves.
    """

    epochs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: int
    members: Sequence[RunCurve] = ()


@dataclass(frozen=True)
class RunLayers:
    """A quantity of a single run: `values` is [layers, epochs], as in `Layers`."""

    run_id: str
    seed: int
    values: np.ndarray


@dataclass(frozen=True)
class Layers:
    """A quantity's mean over a group's runs: `values` is [layers, epochs], NaN if not logged."""

    names: Sequence[str]
    epochs: np.ndarray
    values: np.ndarray
    members: Sequence[RunLayers] = ()


@dataclass(frozen=True)
class Ridges:
    """One run's histogram of a layer over time.

    `densities` is [times, bins], each row with maximum 1; `outside` is the largest share beyond the
    edges.
    """

    run_id: str
    epochs: np.ndarray
    edges: np.ndarray
    densities: np.ndarray
    outside: float
    seed: int = 0


@dataclass
class Series:
    """All data that the figures draw, by group.

    Attributes:
        curves: by metric.
        layers: by quantity.
        ridges: by layer, the first and the last hidden one: those of each group's first runs.
        untrained: by group: theory and measurement before training, of runs that have predictions.
        notes: lines on what could not be read, and what was left out.
    """

    curves: dict[str, dict[Label, Curve]] = field(default_factory=dict)
    layers: dict[str, dict[Label, Layers]] = field(default_factory=dict)
    ridges: dict[str, dict[Label, list[Ridges]]] = field(default_factory=dict)
    untrained: dict[Label, dict[str, list[LayerComparison]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def series(groups: Mapping[Label, Sequence[Entry]]) -> Series:
    """Read what some groups of runs have logged; a damaged file leaves out only its own run."""
    result = Series()
    groups = {label: _trained_on(entries) for label, entries in groups.items()}
    total = sum(map(len, groups.values()))
    limit = max(1, MAX_RUNS // max(1, len(groups))) if total > MAX_RUNS else total
    if limit < max(map(len, groups.values()), default=0):
        result.notes.append(f"curves and layers show the first {limit} runs of each group")
    most = max(1, MAX_RIDGES // max(1, len(groups)))
    for label, entries in groups.items():
        tables: dict[str, Log] = {}
        for entry in entries[:limit]:
            try:
                table = read_metrics(entry.run.metrics)
                if len(table.get("epoch", ())):
                    ended = entry.state in run_dir.ENDED and entry.state != "pruned"
                    run_id = entry.run.run_id
                    tables[run_id] = Log(table, ended, run_id, entry.config["seed"])
                elif entry.state == "complete":
                    result.notes.append(f"left out: {entry.run.metrics}: it is empty")
            except UserError as error:
                result.notes.append(f"left out: {error}")
            except OSError as error:
                if entry.state != "waiting":
                    result.notes.append(f"left out: {entry.run.metrics}: {error.strerror or error}")
        logs = list(tables.values())
        for metric in CURVES:
            if curve := _curve(logs, metric):
                result.curves.setdefault(metric, {})[label] = curve
        for quantity in QUANTITIES:
            if layers := _layers(logs, quantity):
                result.layers.setdefault(quantity, {})[label] = layers
        if untrained := _untrained(logs):
            result.untrained[label] = untrained
        _add_ridges(result, label, entries, tables, most)
    if result.ridges and most < max(map(len, groups.values())):
        result.notes.append(f"distributions are there for the first {most} runs of each group")
    return result


def _trained_on(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the runs but for those that a search has pruned, if there are any others.

    A group's curve would end with the first that was pruned, or hold what it had scored by then.
    """
    return [entry for entry in entries if entry.state != "pruned"] or entries


def _untrained(logs: Sequence[Log]) -> dict[str, list[LayerComparison]]:
    """Return theory beside measurement, of the runs with the same predictions as the first."""
    rows = [untrained_row(log.table) for log in logs]
    predicted = [predictions_in(row) for row in rows]
    first = next((of for of in predicted if of), {})
    alike = [row for row, of in zip(rows, predicted, strict=True) if of == first]
    return compare_untrained(alike, first)


def untrained_row(table: Table) -> dict[str, float]:
    """Return what a run logged before training: the finite numbers of the row of step 0."""
    places = np.flatnonzero(table["step"] == 0)
    if not len(places):
        return {}
    values = {name: float(column[places[0]]) for name, column in table.items()}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _column(table: Table, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs at which a metric was logged, and its values."""
    values = table[metric]
    known = np.isfinite(values)
    return np.round(table["epoch"][known], 6), values[known]


def _curve(logs: Sequence[Log], metric: str) -> Curve | None:
    columns = [(log, *_column(log.table, metric)) for log in logs if metric in log.table]
    columns = [column for column in columns if len(column[1])]
    if not columns:
        return None
    members = [RunCurve(log.run_id, log.seed, *column) for log, *column in columns]
    epochs = np.unique(np.concatenate([member.epochs for member in members]))
    rows = np.stack([_held(epochs, *column, ended=log.ended) for log, *column in columns])
    known = ~np.isnan(rows).any(0)
    if not known.any():
        return None
    epochs, rows = epochs[known], rows[:, known]
    intervals = [mean_interval(rows[:, place].tolist()) for place in range(len(epochs))]
    mean = np.array([value for value, _ in intervals])
    half = np.array([np.nan if width is None else width for _, width in intervals])
    return Curve(epochs, mean, mean - half, mean + half, len(rows), members)


def _held(
    epochs: np.ndarray, known: np.ndarray, values: np.ndarray, *, ended: bool = True
) -> np.ndarray:
    """Return the last value before each of some other epochs.

    NaN before the first value, and after the last one of a run that hasn't ended.
    """
    indices = np.searchsorted(known, epochs, side="right") - 1
    unknown = (indices < 0) | ((epochs > known[-1]) & (not ended))
    return np.where(unknown, np.nan, values[np.maximum(indices, 0)])


def _layers(logs: Sequence[Log], quantity: str) -> Layers | None:
    names = list(
        dict.fromkeys(
            name.partition("/")[2]
            for log in logs
            for name in log.table
            if name.startswith(f"{quantity}/") and not name.endswith("/all")
        )
    )
    names.sort(key=layer_sort_key)
    curves = [_curve(logs, f"{quantity}/{name}") for name in names]
    drawn = {name: curve for name, curve in zip(names, curves, strict=True) if curve}
    if not drawn:
        return None
    epochs = np.unique(np.concatenate([curve.epochs for curve in drawn.values()]))
    values = np.stack([_held(epochs, curve.epochs, curve.mean) for curve in drawn.values()])
    runs = dict.fromkeys((m.run_id, m.seed) for curve in drawn.values() for m in curve.members)
    members = [RunLayers(*run, _of_run(run[0], epochs, drawn)) for run in runs]
    return Layers(list(drawn), epochs, values, members)


def _of_run(run_id: str, epochs: np.ndarray, curves: Mapping[str, Curve]) -> np.ndarray:
    """Return a run's values as [layers, epochs]; NaN where it has logged none."""
    values = np.full((len(curves), len(epochs)), np.nan)
    for place, curve in enumerate(curves.values()):
        for member in curve.members:
            if member.run_id == run_id:
                values[place] = _held(epochs, member.epochs, member.values)
    return values


def layer_sort_key(name: str) -> tuple[int, int]:
    """Return a key that sorts layers from input to output: conv_1 …, hidden_1 …, head.

    Others stay in their order, before the head.
    """
    kind, _, number = name.rpartition("_")
    if name == "head":
        return 3, 0
    return {"conv": 0, "hidden": 1}.get(kind, 2), int(number) if number.isdigit() else 0


def in_order(names: Iterable[str]) -> list[str]:
    """Return layers of networks of several depths, each once, from input to output."""
    return sorted(dict.fromkeys(names), key=layer_sort_key)


def _add_ridges(
    result: Series, label: Label, entries: Sequence[Entry], logs: Mapping[str, Log], most: int
) -> None:
    """Add the histograms of the first and last layer, of at most so many runs that have any."""
    added = 0
    for entry in entries:
        if added == most or entry.run.run_id not in logs:
            continue
        try:
            known = read_histograms(entry.run.histograms)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            result.notes.append(f"left out: {entry.run.histograms}: {error}")
            continue
        layers = [name.removeprefix("hist/act/") for name in known if name.startswith("hist/act/")]
        layers.sort(key=layer_sort_key)
        table = logs[entry.run.run_id].table
        epochs = dict(zip(table["step"].tolist(), table["epoch"].tolist(), strict=True))
        for name in dict.fromkeys([*layers[:1], *layers[-1:]]):
            ridges = _ridges(entry, known[f"hist/act/{name}"], epochs)
            if len(ridges.epochs):
                result.ridges.setdefault(name, {}).setdefault(label, []).append(ridges)
        added += 1


def _ridges(entry: Entry, histograms: HistogramSeries, epochs: Mapping[float, float]) -> Ridges:
    """Return a run's histograms of one layer, at the steps that its rows have.

    A run that was resumed has the steps from before it was cut short until it saves again.
    """
    known = np.array([float(step) in epochs for step in histograms.steps], bool)
    counts = histograms.counts[known]
    inner = counts[:, 1:-1] / np.diff(histograms.edges)
    top = np.maximum(inner.max(1, keepdims=True), np.finfo(float).tiny)
    beyond = counts[:, [0, -1]].sum(1) / np.maximum(counts.sum(1), 1)
    outside = float(beyond.max(initial=0.0))
    times = np.array([epochs[float(step)] for step in np.asarray(histograms.steps)[known]])
    run_id, seed = entry.run.run_id, entry.config["seed"]
    return Ridges(run_id, times, histograms.edges, inner / top, outside, seed)
