"""`logger=tensorboard`: an event file in each run's folder, for `tensorboard --logdir`.

A file is written anew when a run goes on, and begins with the record by which TensorBoard forgets
what it has read of the run.
"""

import socket
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from actsweep.loggers.tool_writer import ToolWriter
from actsweep.runs.rows import MemberInfo, Row, shortest_scalars
from actsweep.stats.histogram import Histogram, closed_bins


def writer() -> ToolWriter:
    """Return a writer of TensorBoard's event files, in `<run>/tensorboard`."""
    return ToolWriter("tensorboard", TensorBoardLog)


class TensorBoardLog:
    """The event file of one run: scalars, histograms, and the config for the HPARAMS tab."""

    def __init__(self, info: MemberInfo) -> None:
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder = info.run_dir / "tensorboard"
        folder.mkdir(exist_ok=True)
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._records = RecordWriter(open(folder / name, "wb"))  # noqa: SIM115
        self._event(file_version="brain.Event:2")
        if info.resumed_at is not None:
            self._event(step=0, session_log={"status": "START"})
        top = ("act", "depth", "init", "seed", "model", "data", "lr", "sweep")
        hparams = hparams_pb({key: getattr(info, key) for key in top}, trial_id=info.wandb_id)
        self._event(summary=hparams)

    def step(self, row: Row) -> None:
        """Write a step; histograms from their counts, underflow and overflow as end bins."""
        values: list[dict[str, Any]] = [
            {"tag": name, "simple_value": value} for name, value in shortest_scalars(row).items()
        ]
        values += [{"tag": n, "histo": _histogram(h)} for n, h in row.histograms.items()]
        self._event(step=row.step, summary={"value": values})

    def flush(self) -> None:
        """Hand all to the operating system."""
        self._records.flush()

    def end(self, state: str, summary: dict[str, Any], messages: Sequence[str]) -> None:
        """Write the state and what was said to the TEXT tab, and close the file."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        for tag, lines in (("state", [state]), ("messages", messages)):
            if lines:
                self._event(summary=text_pb(tag, "\n\n".join(lines)))
        self._records.close()

    def _event(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())


def _histogram(histogram: Histogram) -> dict[str, Any]:
    """Return the fields of a `HistogramProto`; sums are those of the bins' middles."""
    counts, edges = closed_bins(histogram)
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    return {
        "min": edges[0],
        "max": edges[-1],
        "num": sum(counts),
        "sum": sum(n * middle for n, middle in zip(counts, middles, strict=True)),
        "sum_squares": sum(n * middle**2 for n, middle in zip(counts, middles, strict=True)),
        "bucket_limit": edges[1:],
        "bucket": counts,
    }
