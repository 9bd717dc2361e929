"""Rows: the scalars and histograms that are recorded about a run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from actsweep.stats.histogram import Histogram, quantiles


@dataclass(frozen=True)
class Row:
    """Measurements of one member at one step."""

    step: int
    epoch: float
    scalars: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)


@dataclass(frozen=True)
class MemberInfo:
    """Facts about a run that writers need before its first row."""

    run_id: str
    run_dir: Path
    config: dict[str, Any]
    act: str
    depth: int
    init: str
    seed: int
    model: str
    data: str
    lr: float
    sweep: str
    total_epochs: int
    resumed_at: int | None = None
    """Step from which the run goes on, whose files hold the rows up to it; None for a fresh run."""
    training: str = ""
    """A token of this training of the config; empty for one by an older version."""

    @property
    def wandb_id(self) -> str:
        """Return the run's id in W&B, where a config may be trained in several output folders."""
        return f"{self.run_id}-{self.training}" if self.training else self.run_id


SHARES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}


def with_quantiles(row: Row) -> Row:
    """Return a row whose histograms have become scalars: `hist/act/hidden_1/q50` and so on."""
    scalars = dict(row.scalars)
    for name, histogram in row.histograms.items():
        values = quantiles(histogram, list(SHARES.values()))
        scalars |= {f"{name}/{key}": value for key, value in zip(SHARES, values, strict=True)}
    return Row(row.step, row.epoch, scalars)


class MetricsError(Exception):
    """A member's metrics files can't be written, so its training isn't safe on disk."""

    def __init__(self, member: int, run_id: str, path: Path, reason: str) -> None:
        super().__init__(f"can't write {path}: {reason}")
        self.member = member
        self.run_id = run_id
        self.path = path


def shortest_scalars(row: Row) -> dict[str, float]:
    """Return epoch and scalars, with floats as short as they can be.

    A value that is a float32 becomes the float with the fewest digits that rounds to it (0.1, not
    0.10000000149); any other stays as it is.
    """
    named = {"epoch": row.epoch} | {k: v for k, v in row.scalars.items() if k != "epoch"}
    values = np.array([float(value) for value in named.values()])
    with np.errstate(over="ignore"):
        singles = values.astype(np.float32)
    exact = singles.astype(np.float64) == values
    short = [
        float(str(single)) if same else float(value)
        for single, same, value in zip(singles, exact.tolist(), values, strict=True)
    ]
    return dict(zip(named, short, strict=True))
