"""Where measurements go: the metrics file (the truth), W&B, the console. IO, no arithmetic."""

from actsweep.writers.base import (
    Histogram,
    MemberInfo,
    MetricsError,
    Row,
    Writer,
    Writers,
)
from actsweep.writers.console import Console
from actsweep.writers.metrics_file import (
    HistogramSeries,
    MetricsFile,
    lacks,
    read_histograms,
    read_metrics,
    read_rows,
)
from actsweep.writers.wandb_writer import WandbWriter

__all__ = [
    "Console",
    "Histogram",
    "HistogramSeries",
    "MemberInfo",
    "MetricsError",
    "MetricsFile",
    "Row",
    "WandbWriter",
    "Writer",
    "Writers",
    "lacks",
    "read_histograms",
    "read_metrics",
    "read_rows",
]
