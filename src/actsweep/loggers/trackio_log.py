"""`logger=trackio`: the runs in trackio's local store, for `trackio show`, without an account."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from actsweep.loggers.tool_writer import ToolWriter
from actsweep.loggers.wandb_support import run_config
from actsweep.runs.rows import MemberInfo, Row, shortest_scalars
from actsweep.stats.histogram import closed_bins


def writer(project: str = "actsweep") -> ToolWriter:
    """Return a writer to trackio.

    Args:
        project: trackio's project, a file of its store in `TRACKIO_DIR`.
    """
    return ToolWriter("trackio", lambda info: TrackioLog(project, info))


class TrackioLog:
    """One run. It writes to trackio's store itself: `trackio.init` holds one run a process, prints,
    and drops what it can't write.

    A step has an id, by which the store leaves out one that it has.
    """

    def __init__(self, project: str, info: MemberInfo) -> None:
        self._project, self._info = project, info
        self._config = {
            **run_config(info),
            "_Created": datetime.now(UTC).isoformat(),
            "_Group": info.sweep,
            "_Username": None,
        }
        self._rows: list[Row] = []
        self._last: list[Row] = []

    def step(self, row: Row) -> None:
        """Take a step."""
        self._rows.append(row)

    def flush(self) -> None:
        """Write the steps, in one transaction."""
        if self._rows:
            self._write(self._rows)
            self._last = self._rows[-1:]
        self._rows = []

    def end(self, state: str, summary: dict[str, Any], messages: Sequence[str]) -> None:
        """Add the final numbers to the run's config, where trackio shows them."""
        self._config |= {"state": state, "summary": summary, "messages": list(messages)}
        self._write(self._last)  # the store takes no config without a step

    def _write(self, rows: Sequence[Row]) -> None:
        from trackio import SQLiteStorage

        SQLiteStorage.bulk_log(
            project=self._project,
            run=self._info.run_id,
            metrics_list=[_metrics(row) for row in rows],
            steps=[row.step for row in rows],
            config=self._config,
            log_ids=[f"{self._info.wandb_id}-{row.step}" for row in rows],
            run_id=self._info.wandb_id,
        )


def _metrics(row: Row) -> dict[str, Any]:
    """Return what the store keeps of a row; a histogram as `trackio.log` would leave it."""
    drawn = {}
    for name, histogram in row.histograms.items():
        counts, edges = closed_bins(histogram)
        drawn[name] = {"_type": "trackio.histogram", "bins": edges, "values": counts}
    return shortest_scalars(row) | drawn
