"""What the runs of a sweep have measured, as data frames. No jax."""

import difflib
import fnmatch
import math
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from actsweep.report.design import Entry
from actsweep.report.tables import factors_of, run_rows
from actsweep.runs.metrics_file import HistogramSeries, read_histograms, read_metrics
from actsweep.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

INDEX = ("step", "epoch")
"""Columns of a metrics file that say when, not what."""


def runs_frame(entries: Sequence[Entry]) -> "pd.DataFrame":
    """Return a row for each run: its id, state, factors, seed, and final numbers."""
    import pandas as pd

    return pd.DataFrame(run_rows(entries))


def metrics_frame(entries: Sequence[Entry], patterns: Sequence[str] = ()) -> "pd.DataFrame":
    """Return what the runs have logged, a row for each run, metric and step that has a value.

    Args:
        entries: the runs.
        patterns: names of metrics, such as `val/accuracy` or `grad_norm/*`; by default all.

    Returns:
        Columns run_id, the factors, seed, step, epoch, metric, value.

    Raises:
        UserError: a pattern fits no metric, or a metrics file is damaged.
    """
    import pandas as pd

    tables = {entry.run.run_id: _table(entry) for entry in entries}
    logged = _unique(name for table in tables.values() for name in table if name not in INDEX)
    wanted = _matching(logged, patterns, "metric")
    factors, parts = factors_of(entries), []
    for run_id, table in tables.items():
        for metric in wanted:
            if metric in table:
                known = ~np.isnan(table[metric])
                times = {name: table[name][known] for name in INDEX}
                row = {"run_id": run_id, **factors[run_id], **times}
                parts.append(pd.DataFrame({**row, "metric": metric, "value": table[metric][known]}))
    columns = ["run_id", *_titles(factors), *INDEX, "metric", "value"]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return frame[columns].astype({"step": "int64"})


def metrics_dataset(frame: "pd.DataFrame") -> "xr.Dataset":
    """Return a data frame of metrics as a data set with dimensions run_id and step.

    Each metric is a variable; the factors and the seed are coordinates of run_id, the epoch of
    both. What wasn't logged is NaN.

    Args:
        frame: as `metrics_frame` returns it.

    Raises:
        UserError: xarray isn't installed.
    """
    try:
        import xarray  # noqa: F401
    except ImportError as error:
        raise UserError(
            "as_=xarray: xarray isn't installed; type pip install xarray, or leave as_ out"
        ) from error
    grid = ["run_id", "step"]
    factors = [name for name in frame if name not in (*grid, "epoch", "metric", "value")]
    values = frame.pivot(index=grid, columns="metric", values="value").to_xarray()
    epochs = frame.drop_duplicates(grid).set_index(grid)["epoch"].to_xarray()
    order = frame["run_id"].unique()
    values, epochs = values.reindex(run_id=order), epochs.reindex(run_id=order)
    runs = frame.drop_duplicates("run_id").set_index("run_id")[factors].to_xarray()
    return values.assign_coords({"epoch": epochs, **dict(runs.reindex(run_id=order).data_vars)})


def histograms_frame(entries: Sequence[Entry], patterns: Sequence[str] = ()) -> "pd.DataFrame":
    """Return the runs' histograms, a row for each run, histogram, step and bin.

    Args:
        entries: the runs.
        patterns: names such as `preact/hidden_1` or `preact/*`; by default all.

    Returns:
        Columns run_id, the factors, seed, step, histogram, low, high, count. The first bin goes
        from minus infinity, the last to infinity.

    Raises:
        UserError: a pattern fits no histogram, or a file is damaged.
    """
    import pandas as pd

    series = {entry.run.run_id: _histograms(entry) for entry in entries}
    logged = _unique(name for known in series.values() for name in known)
    wanted = _matching(logged, [p.removeprefix("hist/") for p in patterns], "histogram")
    factors, parts = factors_of(entries), []
    for run_id, known in series.items():
        for name in wanted:
            if name in known:
                bins = _bins(known[name])
                parts.append(
                    pd.DataFrame({"run_id": run_id, **factors[run_id], "histogram": name, **bins})
                )
    columns = ["run_id", *_titles(factors), "step", "histogram", "low", "high", "count"]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return frame[columns]


def _bins(histograms: HistogramSeries) -> dict[str, np.ndarray]:
    ends = np.concatenate([[-math.inf], histograms.edges, [math.inf]])
    times, bins = histograms.counts.shape
    return {
        "step": np.repeat(histograms.steps, bins),
        "low": np.tile(ends[:-1], times),
        "high": np.tile(ends[1:], times),
        "count": histograms.counts.ravel(),
    }


def _table(entry: Entry) -> Mapping[str, np.ndarray]:
    """Return a run's metrics by name; none of a run that hasn't begun."""
    try:
        return read_metrics(entry.run.metrics)
    except FileNotFoundError:
        return {}


def _histograms(entry: Entry) -> dict[str, HistogramSeries]:
    """Return a run's histograms by name, without `hist/`; none of a run that has none."""
    path = entry.run.histograms
    try:
        known = read_histograms(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: is damaged ({error}); train it again with rerun=all") from error
    return {name.removeprefix("hist/"): series for name, series in known.items()}


def _matching(logged: Collection[str], patterns: Sequence[str], what: str) -> list[str]:
    """Return the names that fit one of the patterns, in the order of these; without any, all."""
    wanted: dict[str, None] = {}
    for pattern in patterns or ["*"]:
        matching = fnmatch.filter(logged, pattern)
        if not matching and patterns:
            near = difflib.get_close_matches(pattern, logged, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            shown = ", ".join(_families(logged)) or "none"
            raise UserError(f"{pattern}: no such {what}; {hint}These runs have: {shown}")
        wanted |= dict.fromkeys(matching)
    return list(wanted)


def _families(names: Collection[str]) -> list[str]:
    """Return names in order; those of more than three layers as `family/*`."""
    family = lambda name: name.partition("/")[0]  # noqa: E731
    sizes = Counter(map(family, names))
    return sorted({f"{family(n)}/*" if sizes[family(n)] > 3 else n for n in names})


def _titles(factors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return _unique(title for row in factors.values() for title in row)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
