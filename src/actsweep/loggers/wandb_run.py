"""One open W&B run: its rows in order, every step once, over all attempts at it."""

import contextlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from actsweep.loggers import wandb_log
from actsweep.loggers import wandb_support as support
from actsweep.runs.rows import MemberInfo, Row, shortest_scalars
from actsweep.stats.histogram import closed_bins
from actsweep.utils.files import finite, read_json

CUT_SHORT = ("running", "preempted")
"""States after which a run may go on: its last row is not final."""

WORSE: dict[str, Callable[..., str]] = {"dead_frac": max, "saturated_frac": max, "grad_norm": min}
"""Quantities of a layer, and at which end it is in trouble."""


class WandbRun:
    """An open W&B run. It holds the newest row back, since W&B can't change a row that it has, and
    this row may still take the final numbers. An attempt that was cut short lacks its last row for
    that reason; the next attempt writes it.

    Args:
        info: of the member; with `resumed_at`, the files of earlier attempts are read.
        mode: `offline` or `online`.
        options: further arguments of `wandb.init`.
    """

    def __init__(self, info: MemberInfo, mode: str, options: dict[str, Any]) -> None:
        resumed, online = info.resumed_at is not None, mode == "online"
        self._info, self._logger = info, info.config.get("logger", {})
        folder, name = info.run_dir / "wandb", options.get("name", support.RUN_ID)
        self._known = wandb_log.close_interrupted(folder, info.wandb_id) if resumed else -1
        self._earlier = wandb_log.fragments(folder, info.wandb_id)
        self._wandb = support.import_wandb().init(
            **{"group": info.sweep, **options, "name": name.replace(support.RUN_ID, info.run_id)},
            id=info.wandb_id,
            dir=str(info.run_dir),
            config=support.run_config(info),
            reinit="create_new",
            resume="allow" if resumed and online else None,
            settings=support.fast_settings(mode, self._logger, _commit(info.run_dir)),
        )
        if online and resumed:  # the server knows better than the files
            self._known = self._wandb.starting_step - 1 if self._wandb.resumed else -1
        self.file = Path(self._wandb.settings.sync_file)
        self.held: Row | None = None
        self._latest: dict[str, float] = {}
        self._defined = {"epoch"}
        self._wandb.define_metric("epoch", summary="none")

    def address(self, runs: int) -> str:
        """Return where the run is to be seen, of several runs their group; empty if unknown."""
        page, group = getattr(self._wandb, "url", None) or "", getattr(self._wandb, "group", None)
        if runs == 1 or not group or not page:
            return page
        return f"{page.rpartition('/runs/')[0]}/groups/{quote(group, safe='')}"

    def go_on(self, past: Sequence[Row]) -> None:
        """Repeat what W&B keeps in no earlier file; the rows themselves then come by `put`.

        Args:
            past: all rows so far.
        """
        if wandb_log.is_online(self.file):  # its own file brings all that the server lacks
            for file in self._earlier:
                wandb_log.mark_synced(file)
        latest: dict[str, Any] = {}
        for row in past:
            self._define_all(row)
            latest |= _for_summary(row)
            self._latest |= row.scalars
        self._wandb.summary.update(latest)

    def put(self, row: Row) -> None:
        """Hold a row back, merged with what else came of its step; pass on the one before."""
        self._latest |= row.scalars
        before, self.held = self.held, row
        if before is not None and before.step == row.step:
            scalars, histograms = before.scalars | row.scalars, before.histograms | row.histograms
            self.held = Row(row.step, row.epoch, scalars, histograms)
        elif before is not None:
            self._pass_on(before)

    def end(self, state: str, summary: dict[str, Any]) -> None:
        """Write the last row and the summary; `finish` then waits until they are on disk or sent.

        Where an attempt that seemed to be the last has written the last row, the final numbers
        reach the summary alone.
        """
        last, self.held = self.held, None
        if last is not None and state not in CUT_SHORT:
            self._pass_on(last)
            if last.step <= self._known:
                self._define_all(last)
                self._wandb.summary.update(_for_summary(last))
        self._wandb.summary.update(worst_layers(self._latest) | summary)
        if self._logger.get("checkpoint") and state not in CUT_SHORT:
            self._log_checkpoint(summary)
        if self._logger.get("alerts") and state in ("diverged", "failed"):
            title, at = f"{self._info.run_id} {state}", summary.get("epochs", "?")
            self._wandb.alert(title, f"{title} at epoch {at}", level="WARN", wait_duration=0)
        if state == "preempted":
            self._wandb.mark_preempting()

    def finish(self, state: str) -> None:
        """End the run; it is a failed one for W&B unless it is `complete` or was `pruned`."""
        self._wandb.finish(exit_code=0 if state in ("complete", "pruned") else 1)
        if wandb_log.is_online(self.file) and wandb_log.uploaded(self.file)[1] is None:
            wandb_log.mark_synced(self.file)

    def _log_checkpoint(self, summary: dict[str, Any]) -> None:
        """Log the newest checkpoint: at the end it holds the best parameters beside the last."""
        steps = (self._info.run_dir / "checkpoints").glob("step-*")
        newest = max(steps, key=lambda folder: int(folder.name.partition("-")[2]), default=None)
        if newest is None:
            return
        name = re.sub(r"[^\w.-]", "_", self._info.run_id)
        best = {key: value for key, value in summary.items() if key.startswith("best_")}
        artifact = support.import_wandb().Artifact(f"{name}-checkpoint", "model", metadata=best)
        artifact.add_dir(str(newest))
        self._wandb.log_artifact(artifact, aliases=["best"])

    def _pass_on(self, row: Row) -> None:
        if row.step <= self._known:
            return
        self._define_all(row)
        data: dict[str, Any] = dict(shortest_scalars(row))
        for name, histogram in row.histograms.items():
            data[name] = support.import_wandb().Histogram(np_histogram=closed_bins(histogram))
        self._wandb.log(data, step=row.step, commit=True)

    def _define_all(self, row: Row) -> None:
        for name in row.histograms:
            self._define(name, summary="none")
        for name in row.scalars:
            self._define(name)

    def _define(self, name: str, **options: Any) -> None:
        """Set a metric's x axis, with one glob for each first part of a name: of globs that overlap
        W&B picks by chance, and would then store pieces of histograms as summaries."""
        pattern = f"{name.split('/')[0]}/*" if "/" in name else name
        if pattern not in self._defined:
            self._defined.add(pattern)
            self._wandb.define_metric(pattern, step_metric="epoch", **options)


def worst_layers(latest: Mapping[str, float]) -> dict[str, str]:
    """Find the hidden layers with most dead units, most saturated outputs, and smallest gradient,
    where a reader starts. Where all layers are alike, none is named.

    Args:
        latest: the last value of each metric, by name.

    Returns:
        `worst_layer/<quantity>` -> the layer, for the run's summary.
    """
    worst = {}
    for quantity, worse in WORSE.items():
        of = {
            layer: value
            for layer in (n.partition("/")[2] for n in latest if n.startswith(f"{quantity}/"))
            if layer not in ("all", "head")
            and math.isfinite(value := latest[f"{quantity}/{layer}"])
        }
        if len(set(of.values())) > 1:
            worst[f"worst_layer/{quantity}"] = worse(of, key=of.__getitem__)
    return worst


def _commit(run_dir: Path) -> str | None:
    """Return the commit of the code that trains a run, or has trained it."""
    with contextlib.suppress(OSError, ValueError):
        sha = ((read_json(run_dir / "status.json") or {}).get("git") or {}).get("sha")
        return str(sha) if sha else None
    return None


def _for_summary(row: Row) -> dict[str, Any]:
    """Return what W&B would take into a run's summary by itself if the row were logged."""
    return finite({name: value for name, value in shortest_scalars(row).items() if name != "epoch"})
