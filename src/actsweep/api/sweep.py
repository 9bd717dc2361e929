"""A sweep on disk, and what can be asked of it: runs, metrics, comparisons, figures. No jax."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from actsweep.report.compare import Comparison, ReportRequest, compare_sweeps
from actsweep.report.design import Entry, gather
from actsweep.sweeps import results
from actsweep.sweeps.plan import read_plan
from actsweep.sweeps.status import SweepSnapshot, take_snapshot
from actsweep.utils.errors import unknown_name
from actsweep.utils.notebook import as_html

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd
    import xarray as xr

    from actsweep.runs.load import Run


@dataclass(frozen=True, repr=False)
class Sweep:
    """A sweep on disk, perhaps one that is still being trained: each question reads it anew.

    Attributes:
        folder: its folder, such as `outputs/sweeps/2026-03-01_12-00-00-000000`.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Return its name, as commands take it."""
        return self.folder.name

    @property
    def runs(self) -> "pd.DataFrame":
        """Return a row for each run: its id, state, factors, seed, and final numbers."""
        from actsweep.report.frames import runs_frame

        return runs_frame(self._entries())

    def run(self, run_id: str) -> "Run":
        """Return one of its runs.

        >>> sweep.run("relu-mlp4-torch-s0-2180a734").summary  # doctest: +SKIP

        Raises:
            UserError: there is no such run in the sweep, or it hasn't begun.
        """
        known = {entry.run.run_id: entry.run for entry in self._entries()}
        if run_id not in known:
            raise unknown_name("run_id", run_id, known)
        from actsweep.runs.load import load_run

        return load_run(known[run_id].path)

    @overload
    def metrics(self, *patterns: str, as_: Literal["pandas"] = "pandas") -> "pd.DataFrame": ...

    @overload
    def metrics(self, *patterns: str, as_: Literal["xarray"]) -> "xr.Dataset": ...

    def metrics(self, *patterns: str, as_: str = "pandas") -> "pd.DataFrame | xr.Dataset":
        """Return what the runs have logged.

        >>> sweep.metrics("val/accuracy", "grad_norm/*")  # doctest: +SKIP

        Args:
            patterns: names of metrics; by default all.
            as_: `pandas`, a row for each run, metric and step that has a finite value, with
                columns run_id, the factors, seed, step, epoch, metric, value; or `xarray`, a
                variable for each metric with dimensions run_id and step.

        Raises:
            UserError: a pattern fits no metric, or xarray isn't installed.
        """
        from actsweep.report.frames import metrics_dataset, metrics_frame

        if as_ not in ("pandas", "xarray"):
            raise unknown_name("as_", as_, ("pandas", "xarray"))
        frame = metrics_frame(self._entries(), patterns)
        return metrics_dataset(frame) if as_ == "xarray" else frame

    def histograms(self, *patterns: str) -> "pd.DataFrame":
        """Return the runs' histograms, a row for each run, histogram, step and bin.

        >>> sweep.histograms("preact/*")  # doctest: +SKIP

        Args:
            patterns: names such as `preact/hidden_1` or `preact/*`; by default all.

        Returns:
            Columns run_id, the factors, seed, step, histogram, low, high, count. The first bin
            goes from minus infinity, the last to infinity.

        Raises:
            UserError: a pattern fits no histogram, or a file is damaged.
        """
        from actsweep.report.frames import histograms_frame

        return histograms_frame(self._entries(), patterns)

    def compare(
        self,
        by: str | Sequence[str] = (),
        metric: str | None = None,
        margin: float | None = None,
        where: str | Sequence[str] = (),
        *,
        one_look: bool = False,
    ) -> Comparison:
        """Return which group is better, and how sure that is, as `actsweep compare` does.

        >>> sweep.compare(by="act", margin=1.0)  # doctest: +SKIP

        Args:
            by: what tells groups apart: `act`, `depth`, a config path, or two of them. By default
                the activation and, if one other thing was swept, that.
            metric: by default test accuracy; for regressions test loss.
            margin: below which a difference doesn't matter, as the metric is shown (percentage
                points for accuracies); by default 0.5 points, or 5 % of the median run.
            where: conditions on the runs, such as `depth=4`.
            one_look: the number of seeds was set beforehand. By default verdicts hold however often
                one looks.

        Raises:
            UserError: no run is complete; a factor, a condition or the metric is unknown.
        """
        return compare_sweeps([self.folder], _request(by, metric, margin, where, one_look))

    def status(self) -> SweepSnapshot:
        """Return how far it is, as `actsweep status` prints it."""
        return take_snapshot(self.folder)

    def table(self) -> str:
        """Return its table, as `actsweep table` prints it."""
        return results.table_text(read_plan(self.folder, to_train=False))

    def report(
        self,
        by: str | Sequence[str] = (),
        metric: str | None = None,
        margin: float | None = None,
        where: str | Sequence[str] = (),
        *,
        one_look: bool = False,
        to: str | PathLike[str] | None = None,
    ) -> Path:
        """Write its report, as `actsweep report` does, and return the page's path.

        >>> sweep.report(by="act,depth", to="report")  # doctest: +SKIP

        Args:
            by, metric, margin, where, one_look: as for `compare`.
            to: the folder to write to; by default `report` in the sweep's folder.

        Raises:
            UserError: as `compare`.
        """
        from actsweep.report.write import write

        request = _request(by, metric, margin, where, one_look)
        return write([self.folder], Path(to) if to else self.folder / "report", request)

    def export(
        self,
        kind: str = "latex",
        by: str | Sequence[str] = (),
        metric: str | None = None,
        margin: float | None = None,
        where: str | Sequence[str] = (),
        *,
        one_look: bool = False,
    ) -> str:
        """Return the table of a comparison for a paper, as `actsweep export` prints it.

        >>> print(sweep.export("latex", by="act"))  # doctest: +SKIP

        Args:
            kind: `latex`, `csv` or `json`.
            by, metric, margin, where, one_look: as for `compare`.

        Raises:
            UserError: there is no such kind; as `compare`.
        """
        from actsweep.report.export import text

        return text(self.compare(by, metric, margin, where, one_look=one_look), kind)

    def plot(self, *metrics: str) -> "alt.TopLevelMixin":
        """Return curves of metrics as an Altair chart: means over seeds with 95 % intervals.

        A notebook shows it, with the numbers under the pointer; `save("x.pdf")` writes it.

        >>> sweep.plot("val/accuracy", "grad_norm/*").save("curves.pdf")  # doctest: +SKIP

        Args:
            metrics: names or patterns, such as `val/accuracy` or `grad_norm/*`; by default the
                training loss. A panel for each metric.

        Raises:
            UserError: a pattern fits no metric.
        """
        from actsweep.report.plot import curves

        return curves(self._entries(), metrics or ["train/loss"])

    def _entries(self) -> list[Entry]:
        return gather([self.folder])

    def __repr__(self) -> str:
        return f"<Sweep {self.name}: {self.status().counts()}>"

    def _repr_html_(self) -> str:
        status = self.status()
        head = f"<p><b>{html.escape(self.name)}</b>: {status.counts()}</p>"
        return head + as_html(self.table())


def _request(
    by: str | Sequence[str],
    metric: str | None,
    margin: float | None,
    where: str | Sequence[str],
    one_look: bool,
) -> ReportRequest:
    factors = by.split(",") if isinstance(by, str) else [*by]
    conditions = [where] if isinstance(where, str) else [*where]
    return ReportRequest(factors, metric, margin, conditions, one_look)
