"""What the page of a single run shows: curves, layers, messages, settings of its own. No jax."""

import functools
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actsweep.config import resolve
from actsweep.report.design import Entry
from actsweep.report.run_columns import SHARES
from actsweep.report.series import layer_sort_key
from actsweep.runs.metrics_file import read_metrics
from actsweep.stats.scores import SCORES
from actsweep.sweeps import table
from actsweep.utils.errors import UserError
from actsweep.utils.files import finite

CURVES = ("train/loss", "val/loss", "train/accuracy", "val/accuracy", "val/mean_average_precision")
QUANTITIES = (
    *("act_mean", "act_std", "preact_std", "grad_norm", "update_ratio", "dead_frac"),
    *("saturated_frac", "cos_sim"),
)
"""Quantities of a layer that a run's page shows."""
POINTS = 4000
"""Points of a curve over all runs: each has at most `POINTS / runs`, and 12 to 60 of them."""
MAX_MESSAGES = 20
CHOSEN_ELSEWHERE = ("callbacks", "depth.widths")
"""Parts of the config whose defaults stand in conf/, and not in the schema."""


def run_details(
    entries: Sequence[Entry], overrides: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """Return what each run's page shows beside its row of the table, by run id, as JSON.

    Args:
        entries: the runs.
        overrides: what was typed for each run, by run id.
    """
    points = min(60, max(12, POINTS // max(1, len(entries))))
    defaults = table.flatten_groups(resolve.to_dict(resolve.resolve({"act": {"name": "relu"}})))
    details = {}
    for entry in entries:
        typed = list(overrides.get(entry.run.run_id, ()))
        details[entry.run.run_id] = {
            **_logged(entry, points),
            "own": _own_settings(entry, typed, defaults),
            "messages": _messages(entry),
            "path": str(entry.run.path),
            "again": [
                f"actsweep rerun {shlex.quote(str(entry.run.path))}",
                *([shlex.join(["python", "train.py", *typed])] if typed else []),
            ],
        }
    return details


def _own_settings(entry: Entry, typed: Sequence[str], defaults: Mapping[str, Any]) -> list[str]:
    """Return the config paths whose values aren't the defaults; the activation always is."""
    keys = [word.lstrip("+~").partition("=")[0] for word in typed]

    def was_typed(path: str) -> bool:
        return any(path == key or path.startswith(f"{key}.") for key in keys)

    flat = table.flatten_groups(entry.config)
    return [
        path
        for path, value in flat.items()
        if path == "act.name"
        or path in keys
        or (
            value != defaults.get(path)
            and (was_typed(path) or not path.startswith(CHOSEN_ELSEWHERE))
        )
    ]


def _logged(entry: Entry, points: int) -> dict[str, Any]:
    """Return a run's curves and its layers at the last epoch; nothing where there is no log."""
    try:
        known = entry.run.metrics.stat()
        return _read(entry.run.metrics, points, (known.st_mtime_ns, known.st_size))
    except (OSError, UserError):
        return {"curves": {}, "layers": {}}


@functools.lru_cache(maxsize=4096)  # a page that is watched is written again and again
def _read(path: Path, points: int, stamp: tuple[int, int]) -> dict[str, Any]:
    del stamp  # a key of the cache only
    columns = read_metrics(path)
    if "epoch" not in columns:
        return {"curves": {}, "layers": {}}
    curves = {name: _thinned(columns, name, points) for name in CURVES if name in columns}
    return {"curves": {k: v for k, v in curves.items() if v[0]}, "layers": _layers(columns)}


def _thinned(columns: Mapping[str, np.ndarray], name: str, points: int) -> list[list[float]]:
    """Return epochs and values of a metric as shown, evenly thinned; first and last are kept."""
    score = SCORES.get(name.partition("/")[2])
    known = np.isfinite(columns[name]) & np.isfinite(columns["epoch"])
    epochs, values = columns["epoch"][known], columns[name][known]
    kept = np.unique(np.linspace(0, len(epochs) - 1, min(points, len(epochs))).round().astype(int))
    scale = score.scale if score else 1.0
    return [
        [float(f"{epoch:.6g}") for epoch in epochs[kept].tolist()],
        [float(f"{scale * value:.5g}") for value in values[kept].tolist()],
    ]


def _layers(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the last finite value of each quantity in each layer: `names` by `quantities`, which
    are titles; shares are in percent."""
    pairs = [name.partition("/") for name in columns]
    quantities = [q for q in QUANTITIES if any(first == q for first, _, _ in pairs)]
    names = {last for first, _, last in pairs if first in quantities and last != "all"}
    ordered = sorted(names, key=layer_sort_key)
    scales = {q: 100.0 if q in SHARES else 1.0 for q in quantities}
    values = [[_last(columns.get(f"{q}/{n}"), scales[q]) for q in quantities] for n in ordered]
    titles = [SHARES.get(q, q) for q in quantities]
    return {"names": ordered, "quantities": titles, "values": finite(values)} if names else {}


def _last(column: np.ndarray | None, scale: float) -> float | None:
    if column is None:
        return None
    known = column[np.isfinite(column)]
    return float(f"{scale * known[-1]:.4g}") if len(known) else None


def _messages(entry: Entry) -> list[str]:
    """Return the newest messages of a run."""
    try:
        lines = entry.run.messages.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return lines[-MAX_MESSAGES:]
