"""`actsweep theory --run`: what theory says of a run's untrained network, and what it measured."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from rich.table import Table

from actsweep.config import resolve
from actsweep.config.schema import RunConfig
from actsweep.report.series import untrained_row
from actsweep.runs.metrics_file import read_metrics
from actsweep.sweeps.find import find_runs
from actsweep.sweeps.table import plain_console
from actsweep.theory.predictions import (
    PARTED,
    LayerComparison,
    compare_untrained,
    predict_untrained,
    predictions_in,
)
from actsweep.utils.errors import UserError

TITLES = {
    "preact_std": "std of z",
    "cos_sim": "cosine of f(z)",
    "preact_grad_ratio": "|dl/dz|, last = 1",
}


def show_run(name: str, outputs: Path, *, given: Sequence[str], as_json: bool) -> None:
    """Print prediction and measurement of every layer before training.

    Args:
        name: a run's id, or its folder.
        outputs: `paths.outputs`.
        given: overrides, which a run doesn't take.
        as_json: print them as JSON.

    Raises:
        UserError: no such run, no row of step 0, or no theory here for its network.
    """
    if given:
        raise UserError(f"{given[0]}: not with --run, whose config is its own; leave it out")
    for folder in find_runs(outputs, [name]):
        row = untrained_row(read_metrics(folder.metrics)) if folder.metrics.is_file() else {}
        if not row:
            raise UserError(f"{folder.run_id}: has no row of step 0; train it first")
        predicted = predictions_in(row)
        if not predicted:
            run = resolve.resolve(OmegaConf.load(folder.config))  # type: ignore[arg-type]
            predicted = predict_untrained(run, _probed(run))
        compared = compare_untrained([row], predicted)
        if not compared:
            raise UserError(
                f"{folder.run_id}: has measured nothing that theory predicts; train with "
                "callbacks=default or callbacks=theory"
            )
        if as_json:
            plain = {key: [vars(layer) for layer in of] for key, of in compared.items()}
            print(json.dumps({"run_id": folder.run_id, **plain}, indent=2))
        else:
            print_comparison(folder.run_id, compared)


def _probed(run: RunConfig) -> np.ndarray:
    """Return the probe batch as the network reads it."""
    from actsweep.data import load

    dataset = load(run.data, lambda line: print(line, file=sys.stderr))
    stored = np.asarray(dataset.train_x[: run.trainer.probe_examples])
    return stored * dataset.scale + dataset.offset


def print_comparison(name: str, compared: Mapping[str, Sequence[LayerComparison]]) -> None:
    """Print a line a layer, and where prediction and measurement part."""
    table = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    table.add_column("layer")
    for quantity in compared:
        table.add_column(f"{TITLES[quantity]}: theory", justify="right")
        table.add_column("measured", justify="right")
        if quantity == "preact_std":
            table.add_column("z", justify="right")
    by_layer: dict[str, list[str]] = {}
    for quantity, layers in compared.items():
        for layer in layers:
            cells = [f"{layer.predicted:.4g}", f"{layer.measured:.4g}"]
            if quantity == "preact_std":
                cells.append("–" if layer.z is None else f"{layer.z:.1f}")
            by_layer.setdefault(layer.layer, []).extend(cells)
    for layer_name, cells in by_layer.items():
        table.add_row(layer_name, *cells)
    print(name)
    plain_console().print(table)
    parted = [layer.layer for of in compared.values() for layer in of if layer.parted]
    where = f"in {', '.join(parted)}" if parted else "nowhere"
    print(f"more than {PARTED:g} standard deviations over networks of these widths apart: {where}")
