"""A W&B workspace as code: sections in order, grouped by what was swept, from the metric names.

Built without a network; only saving it needs a key. No jax.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actsweep.loggers.wandb_support import import_wandb, preflight
from actsweep.report.design import Entry
from actsweep.report.series import layer_sort_key
from actsweep.runs.metrics_file import read_histograms, read_metrics
from actsweep.stats.scores import SCORES
from actsweep.utils import files
from actsweep.utils.errors import UserError

VIEWS = ("act", "depth", "init")
"""Keys to group runs by: a saved view for each."""
MAX_LAYERS = 6


@dataclass(frozen=True)
class Section:
    """A section: single metrics by name, and quantities that each layer has."""

    title: str
    metrics: Sequence[str] = ()
    quantities: Sequence[str] = ()
    log: bool = False
    is_open: bool = False


FURTHER = [name for name in SCORES if name not in ("accuracy", "loss")]
SECTIONS = (
    Section("Accuracy", ("val/accuracy", "train/accuracy", "test/accuracy"), is_open=True),
    Section("Loss", ("val/loss", "train/loss", "test/loss"), log=True, is_open=True),
    Section(
        "Further scores",
        tuple(f"{split}/{name}" for name in FURTHER for split in ("val", "test")),
    ),
    Section("Gradient flow by layer", quantities=("grad_norm", "preact_grad_rms"), log=True),
    Section(
        "Dead and saturated", ("dead_frac/all",), ("dead_frac", "silent_frac", "saturated_frac")
    ),
    Section("Activations by layer", quantities=("act_q05", "act_q50", "act_q95", "act_std")),
    Section("Health", quantities=("cos_sim", "update_ratio")),
)
FINAL = ("test/accuracy", "val/accuracy", "test/loss", "val/loss")
"""Scores that runs are compared by at the end; the first that was logged."""
HPARAMS = ("act", "depth", "init", "lr")
"""Keys of a run's config that are drawn against its final score."""


def metric_names(entries: Sequence[Entry]) -> list[str]:
    """Return the names of the metrics that the runs have logged, from the first run of each depth.

    Raises:
        UserError: no run has logged anything, or a file is damaged.
    """
    names: dict[str, None] = {}
    depths = set()
    for entry in entries:
        depth = entry.config["depth"]["layers"]
        if depth not in depths and entry.run.metrics.is_file() and entry.run.metrics.stat().st_size:
            depths.add(depth)
            names |= dict.fromkeys(read_metrics(entry.run.metrics))
    if not names:
        raise UserError(
            "no run has logged anything yet, and a dashboard is made of metric names; "
            "type this again once a run has"
        )
    return list(names)


def histogram_names(entries: Sequence[Entry]) -> list[str]:
    """Return the names of the histograms that the runs have, from input to output."""
    names: dict[str, None] = {}
    depths = set()
    for entry in entries:
        depth = entry.config["depth"]["layers"]
        if depth not in depths and entry.run.histograms.is_file():
            depths.add(depth)
            names |= dict.fromkeys(read_histograms(entry.run.histograms))
    return list(names)


def workspaces(
    entity: str, project: str, names: Sequence[str], histograms: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a `wandb_workspaces` workspace for each view, by the key that it groups by.

    Args:
        entity: W&B's user or team.
        project: W&B's project.
        names: the metrics that were logged.
        histograms: the histograms that were.
    """
    _quiet()
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as ws

    def plot(metric: str, by: str, log: bool) -> Any:
        return panels.LinePlot(
            title=metric,
            x="epoch",
            y=[metric],
            log_y=log or None,
            groupby=panels.Config(by),
            groupby_aggfunc="mean",
            groupby_rangefunc="stderr",  # W&B draws no 95 % intervals
        )

    views = {}
    for by in VIEWS:
        sections = [
            ws.Section(
                name=part.title,
                is_open=part.is_open,
                panels=[plot(metric, by, part.log) for metric in metrics],
            )
            for part in SECTIONS
            if (metrics := _metrics(part, names))
        ]
        sections[:0] = _final_section(ws, panels, names, by)
        sections += _histogram_section(ws, panels, histograms)
        views[by] = ws.Workspace(
            entity=entity,
            project=project,
            name=f"actsweep: by {by}",
            sections=sections,
            settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
            runset_settings=ws.RunsetSettings(groupby=[ws.Config(by)]),
        )
        # Saved under a name of its own, a view replaces the one from before.
        views[by]._internal_name = f"nw-{_id(f'{entity}/{project}/{by}', 11)}-v"
    return views


def _final_section(ws: Any, panels: Any, names: Sequence[str], by: str) -> list[Any]:
    """Return what compares runs at their end: bars, a scatter plot, parallel coordinates."""
    score = next((name for name in FINAL if name in names), None)
    if score is None:
        return []
    final = panels.SummaryMetric(score)
    columns = [panels.ParallelCoordinatesPlotColumn(panels.Config(key)) for key in HPARAMS]
    drawn = [
        panels.BarPlot(
            title=f"final {score}",
            metrics=[score],
            orientation="v",
            groupby=panels.Config(by),
            groupby_aggfunc="mean",
            groupby_rangefunc="stderr",
        ),
        panels.ScatterPlot(
            title=f"{score} by learning rate", x=panels.Config("lr"), y=final, log_x=True
        ),
        panels.ParallelCoordinatesPlot(
            title="settings and score",
            columns=[*columns, panels.ParallelCoordinatesPlotColumn(final)],
        ),
    ]
    return [ws.Section(name="Final", is_open=True, panels=drawn)]


def _histogram_section(ws: Any, panels: Any, names: Sequence[str]) -> list[Any]:
    """Return histograms over time, one a layer: W&B draws those of a single run at a time."""
    by_family: dict[str, list[str]] = {}
    for name in names:
        by_family.setdefault(name.rpartition("/")[0], []).append(name)
    drawn = [
        panels.MediaBrowser(title=name, media_keys=[name], mode="gallery", gallery_axis="step")
        for family in by_family.values()
        for name in _spread(
            sorted(family, key=lambda name: layer_sort_key(name.rpartition("/")[2]))
        )
    ]
    return [ws.Section(name="Histograms over time", is_open=False, panels=drawn)] if drawn else []


def _metrics(part: Section, names: Sequence[str]) -> list[str]:
    """Return the section's metrics in order, each quantity's layers from input to output."""
    kept = [metric for metric in part.metrics if metric in names]
    for quantity in part.quantities:
        layers = [n for n in names if n.startswith(f"{quantity}/") and not n.endswith("/all")]
        layers.sort(key=lambda name: layer_sort_key(name.partition("/")[2]))
        kept += _spread(layers)
    return kept


def _spread(names: Sequence[str]) -> list[str]:
    """Return a few of many layers, evenly from the first to the last."""
    if len(names) <= MAX_LAYERS:
        return list(names)
    step = (len(names) - 1) / (MAX_LAYERS - 1)
    return [names[round(place * step)] for place in range(MAX_LAYERS)]


def spec(workspace: Any) -> dict[str, Any]:
    """Return the spec that W&B keeps of a view, with ids that are the same every time."""
    text = workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    count = iter(range(10**6))
    pattern = r'"__id__":"[^"]+"'
    return json.loads(re.sub(pattern, lambda _: f'"__id__":"{_id(str(next(count)), 10)}"', text))


def _id(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def write(views: dict[str, Any], to: Path) -> list[Path]:
    """Write the specs as JSON; return the files.

    Raises:
        OSError: the folder can't be written.
    """
    to.mkdir(parents=True, exist_ok=True)
    for by, workspace in views.items():
        text = json.dumps(spec(workspace), indent=2) + "\n"
        files.write_atomic(to / f"by-{by}.json", text)
    return [to / f"by-{by}.json" for by in views]


def push(views: dict[str, Any]) -> list[str]:
    """Save the views at W&B; return their addresses.

    Raises:
        UserError: there is no key, or the server refuses the views.
    """
    if reason := preflight():
        raise UserError(f"--push: {reason}; without it the views are written to files")
    urls = []
    for by, workspace in views.items():
        try:
            workspace.save()
        except Exception as error:  # whatever the client's layers raise
            text = " ".join(str(error).split())
            raise UserError(f"--push: the view by {by} wasn't saved: {text}") from error
        urls.append(workspace.url)
    return urls


def _quiet() -> None:
    """Import the package without its warnings: it uses what pydantic calls deprecated."""
    import warnings

    import_wandb()
    os.environ.setdefault("WANDB_SILENT", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import wandb_workspaces.workspaces  # noqa: F401
