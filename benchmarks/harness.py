"""What all sections share: figures held against limits, the machine, the table and the JSON."""

import datetime
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import baselines

Result = dict[str, Any]
PACKAGES = ("actsweep", "jax", "jaxlib", "flax", "optax", "wandb", "numpy")


@dataclass(frozen=True)
class Section:
    """One part of the benchmarks.

    Attributes:
        measure: `measure(rounds, toy)` returns the section's result as plain JSON, or yields what
            it has after each measurement, the whole at last; its `figures` make the table. With
            `toy` it does the same with so little work that it takes seconds, and its figures mean
            nothing.
        rounds: how often each thing is measured at full size.
        apart: whether it runs only where it is named: it is slow, or no matter of speed.
    """

    measure: Callable[[int, bool], Result | Iterator[Result]]
    rounds: int
    apart: bool = False


def figure(
    name: str,
    value: float,
    limit: float | None = None,
    *,
    at_most: bool = True,
    spread: tuple[float, float] | None = None,
) -> Result:
    """One row of the table.

    Args:
        name: what was measured; ratios as `a / b`.
        value: the median.
        limit: what it is held against, if anything.
        at_most: whether the limit is the most, else the least.
        spread: the quartiles over the rounds.
    """
    met = None if limit is None else bool(value <= limit if at_most else value >= limit)
    row = {"name": name, "value": float(value), "limit": limit, "at_most": at_most, "met": met}
    return row | ({"spread": spread} if spread else {})


def ratio(
    name: str,
    over: Sequence[float],
    under: Sequence[float],
    limit: float | None = None,
    *,
    at_most: bool = True,
    scale: float = 1.0,
) -> Result:
    """The figure of a ratio: the median over the rounds of `scale * over / under`.

    Both times of a round are neighbours, so that a slow minute of the machine hits both.
    """
    each = [scale * a / b for a, b in zip(over, under, strict=True)]
    low, high = map(float, np.percentile(each, (25, 75)))
    return figure(name, median(each), limit, at_most=at_most, spread=(low, high))


def median(values: Sequence[float]) -> float:
    """The median, as a plain float."""
    return float(np.median(values))


def line(section: str, row: Result) -> str:
    """A figure as a line of the table on the terminal."""
    held = ""
    if row["limit"] is not None:
        sign = "<=" if row["at_most"] else ">="
        held = f"{sign} {row['limit']:<6g} {'met' if row['met'] else 'NOT met'}"
    spread = "{:.3f} to {:.3f}".format(*row["spread"]) if "spread" in row else ""
    return f"{section:12} {row['name']:52} {row['value']:9.3f}  {spread:16}  {held}".rstrip()


def measure(section: Section, rounds: int | None, toy: bool) -> Iterator[Result]:
    """Yield what a section has measured so far, at last its whole result; with the machine, the
    time it took, and the machine's load before."""
    load = os.getloadavg()[0]
    began = time.perf_counter()
    result = section.measure(rounds or (1 if toy else section.rounds), toy)
    for measured in result if isinstance(result, Iterator) else [result]:
        took = time.perf_counter() - began
        yield {"toy": toy, "took": took, "load before": load, "machine": machine(), **measured}


def machine() -> Result:
    """What was measured on, when, and with which versions."""
    device = jax.devices()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": f"{jax.device_count()} x {device.device_kind}",
        "cores": baselines.cores(),
        "processor": _processor(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor()
