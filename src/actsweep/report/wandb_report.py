"""A sweep's report at W&B: page, groups and verdicts, as the sweep's last run. No jax."""

import csv
import hashlib
import secrets
from pathlib import Path
from typing import Any

from actsweep.loggers import wandb_log
from actsweep.loggers import wandb_support as support
from actsweep.sweeps.plan import Plan

TABLES = {"groups": "groups", "verdicts": "pairs"}
"""Name at W&B -> the report's CSV file."""


def log_report(plan: Plan, page: Path) -> str | None:
    """Log a sweep's report as a W&B run of job type `report`; return its name, None if W&B is off.

    Its files are in the sweep's folder. Of several, from a sweep that was resumed, only the newest
    waits for `actsweep sync`.

    Args:
        plan: the sweep.
        page: the report's `index.html`, with its CSV files beside it.
    """
    mode = support.mode_of(plan.config.logger)
    if mode == "disabled":
        return None
    if mode == "online" and support.preflight():
        mode = "offline"
    stem = f"{hashlib.sha256(plan.folder.name.encode()).hexdigest()[:8]}-report"
    folder = plan.folder / "wandb"
    earlier = [
        file for wandb_id in wandb_log.ids(folder) for file in wandb_log.fragments(folder, wandb_id)
    ]
    wandb = support.import_wandb()
    shared = support.init_options(plan.config, plan.folder.name, 1)
    run = wandb.init(
        **{**shared, "job_type": "report", "name": f"{plan.name} report"},
        id=f"{stem}-{secrets.token_hex(3)}",
        dir=str(plan.folder),
        config={"sweep": plan.name, "runs": len(plan.runs)},
        reinit="create_new",
        settings=support.fast_settings(mode),
    )
    tables = {name: _table(wandb, page.with_name(f"{file}.csv")) for name, file in TABLES.items()}
    held = {name: table for name, table in tables.items() if table}
    run.log({"report": wandb.Html(str(page), inject=False), **held}, step=0)
    file = Path(run.settings.sync_file)
    run.finish()
    for older in earlier:
        wandb_log.mark_synced(older)
    if wandb_log.is_online(file) and wandb_log.uploaded(file)[1] is None:
        wandb_log.mark_synced(file)
    return f"{plan.name} report"


def _table(wandb: Any, path: Path) -> Any:
    """Return a CSV file as a `wandb.Table`; None if there is none."""
    if not path.is_file():
        return None
    with open(path, newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    return wandb.Table(columns=names, data=[[_cell(text) for text in row] for row in rows])


def _cell(text: str) -> Any:
    """Return a number, None for an empty cell, or the text."""
    try:
        return float(text)
    except ValueError:
        return text or None
