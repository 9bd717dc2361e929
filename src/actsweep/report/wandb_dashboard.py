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
from actsweep.report.series import layer_place
from actsweep.runs.metrics_file import read_metrics
from actsweep.utils import files
from actsweep.utils.errors import UserError

VIEWS = ("act", "depth", "init")
"""What runs are grouped by: a saved view for each."""
MOST_LAYERS = 6


@dataclass(frozen=True)
class Part:
    """A section: whole metrics by name, and quantities that each layer has."""

    title: str
    metrics: Sequence[str] = ()
    quantities: Sequence[str] = ()
    log: bool = False
    is_open: bool = False


PARTS = (
    Part("Accuracy", ("val/accuracy", "train/accuracy", "test/accuracy"), is_open=True),
    Part("Loss", ("val/loss", "train/loss", "test/loss"), log=True, is_open=True),
    Part("Gradient flow by layer", quantities=("grad_norm", "preact_grad_rms"), log=True),
    Part("Dead and saturated", ("dead_frac/all",), ("dead_frac", "silent_frac", "saturated_frac")),
    Part("Activations by layer", quantities=("act_q05", "act_q50", "act_q95", "act_std")),
    Part("Health", quantities=("cos_sim", "update_ratio")),
)


def metric_names(entries: Sequence[Entry]) -> list[str]:
    """What the runs have logged, as the first run of each depth tells it.

    Raises:
        UserError: none has logged anything, or a file is damaged.
    """
    names: dict[str, None] = {}
    depths = set()
    for one in entries:
        depth = one.config["depth"]["layers"]
        if depth not in depths and one.run.metrics.is_file() and one.run.metrics.stat().st_size:
            depths.add(depth)
            names |= dict.fromkeys(read_metrics(one.run.metrics))
    if not names:
        raise UserError("no run has logged anything yet: a dashboard is made of metric names")
    return list(names)


def workspaces(entity: str, project: str, names: Sequence[str]) -> dict[str, Any]:
    """A `wandb_workspaces` workspace for each view, by what it groups by."""
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

    found = {}
    for by in VIEWS:
        sections = [
            ws.Section(
                name=part.title,
                is_open=part.is_open,
                panels=[plot(metric, by, part.log) for metric in metrics],
            )
            for part in PARTS
            if (metrics := _metrics(part, names))
        ]
        found[by] = ws.Workspace(
            entity=entity,
            project=project,
            name=f"actsweep: by {by}",
            sections=sections,
            settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
            runset_settings=ws.RunsetSettings(groupby=[ws.Config(by)]),
        )
        # Saved under a name of its own, a view replaces the one from before.
        found[by]._internal_name = f"nw-{_id(f'{entity}/{project}/{by}', 11)}-v"
    return found


def _metrics(part: Part, names: Sequence[str]) -> list[str]:
    """The section's panels, in order: each quantity's layers from input to output."""
    kept = [metric for metric in part.metrics if metric in names]
    for quantity in part.quantities:
        own = [n for n in names if n.startswith(f"{quantity}/") and not n.endswith("/all")]
        own.sort(key=lambda name: layer_place(name.partition("/")[2]))
        kept += _spread(own)
    return kept


def _spread(names: Sequence[str]) -> list[str]:
    """Of many layers a few, evenly from the first to the last."""
    if len(names) <= MOST_LAYERS:
        return list(names)
    step = (len(names) - 1) / (MOST_LAYERS - 1)
    return [names[round(place * step)] for place in range(MOST_LAYERS)]


def spec(workspace: Any) -> dict[str, Any]:
    """What the site keeps of a view, with ids that don't change from one time to the next."""
    text = workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    count = iter(range(10**6))
    pattern = r'"__id__":"[^"]+"'
    return json.loads(re.sub(pattern, lambda _: f'"__id__":"{_id(str(next(count)), 10)}"', text))


def _id(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def write(found: dict[str, Any], to: Path) -> list[Path]:
    """Write the specs as JSON.

    Raises:
        OSError: the folder can't be written.
    """
    to.mkdir(parents=True, exist_ok=True)
    for by, workspace in found.items():
        text = json.dumps(spec(workspace), indent=2) + "\n"
        files.write_atomic(to / f"by-{by}.json", text)
    return [to / f"by-{by}.json" for by in found]


def push(found: dict[str, Any]) -> list[str]:
    """Save the views; their addresses.

    Raises:
        UserError: there is no key, or the server doesn't take them.
    """
    if why := preflight():
        raise UserError(f"--push: {why}; without it the views are written to files")
    urls = []
    for by, workspace in found.items():
        try:
            workspace.save()
        except Exception as error:  # whatever the client's layers raise
            text = " ".join(str(error).split())
            raise UserError(f"--push: the view by {by} wasn't saved: {text}") from error
        urls.append(workspace.url)
    return urls


def _quiet() -> None:
    """The package uses what pydantic calls deprecated, and says so with every import."""
    import warnings

    import_wandb()
    os.environ.setdefault("WANDB_SILENT", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import wandb_workspaces.workspaces  # noqa: F401
