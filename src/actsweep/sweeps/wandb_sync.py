"""Uploads what W&B has of a sweep's runs on disk, each part once. No jax."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actsweep.loggers import wandb_log
from actsweep.loggers.wandb_support import preflight, server_url
from actsweep.runs.run_dir import RunDir
from actsweep.sweeps import status
from actsweep.utils.errors import UserError

BATCH = 10
"""Runs that one call of `wandb sync` uploads."""
PATIENCE = 600
"""Seconds that such a call may take: to a server that doesn't answer, it would try for ever."""


@dataclass
class SyncResult:
    """What became of the runs, by id; `failed` says why."""

    uploaded: list[str]
    there: list[str]
    training: list[str]
    without: list[str]
    failed: dict[str, str]


def sync(folder: Path, project: str | None = None, entity: str | None = None) -> int:
    """Upload a sweep's runs, and say what was done; 1 if some couldn't be.

    What the server has is passed over: `wandb sync` marks each file that it has uploaded. Runs in
    training are left for later.

    Raises:
        UserError: no such sweep; no key, or no server.
    """
    done = SyncResult([], [], [], [], {})
    todo: dict[str, list[Path]] = {}
    for one in status.take_snapshot(folder).runs:
        run_id = one.run.run_id
        if one.owner or one.state in ("running", "starting"):
            done.training.append(run_id)
            continue
        files, pending = _files(one.run)
        if pending:
            todo[run_id] = pending
        else:
            (done.there if files else done.without).append(run_id)
    if todo and (why := preflight()):
        raise UserError(f"sync: {why}; the runs wait on disk")
    options = [*(["-p", project] if project else []), *(["-e", entity] if entity else [])]
    names = list(todo)
    for start in range(0, len(names), BATCH):
        _upload({name: todo[name] for name in names[start : start + BATCH]}, options, done)
        print(f"{min(start + BATCH, len(names))} of {len(names)}", flush=True)
    _tell(folder.name, done)
    return 1 if done.failed else 0


def _files(run: RunDir) -> tuple[list[Path], list[Path]]:
    """All that W&B has of a run, and what the server lacks, made ready to be uploaded."""
    if not run.wandb.is_dir():
        return [], []
    wandb_log.close_interrupted(run.wandb, run.run_id)
    files = wandb_log.fragments(run.wandb, run.run_id)
    pending = [f for f in files if not wandb_log.is_online(f) and not wandb_log.is_synced(f)]
    return files, pending


def _upload(runs: dict[str, list[Path]], options: Sequence[str], done: SyncResult) -> None:
    """`wandb sync` marks a run as uploaded whatever came of its rows: what it says is looked at."""
    folders = [str(file.parent.absolute()) for files in runs.values() for file in files]
    said, why = _wandb_sync([*options, *folders])
    for run_id, files in runs.items():
        wrong = [line for line in said if "ERROR" in line and f"/{run_id}]" in line]
        if wrong:
            for file in files:
                wandb_log.unmark_synced(file)
            done.failed[run_id] = wrong[0].split("] ", 1)[1]
        elif all(wandb_log.is_synced(file) for file in files):
            done.uploaded.append(run_id)
        else:
            done.failed[run_id] = why


def _wandb_sync(words: Sequence[str]) -> tuple[list[str], str]:
    """The lines it says, and why a run was left out that none of them names."""
    env = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    env |= {"WANDB_SILENT": "false", "WANDB_BASE_URL": server_url()}
    with tempfile.TemporaryDirectory() as where:  # wandb leaves a log in the working folder
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "wandb", "sync", *words],
                env=env,
                cwd=where,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            known = (error.stdout or b"").decode(errors="replace")
            return known.strip().splitlines(), f"{server_url()} had not taken it after {PATIENCE} s"
    said = ended.stdout.strip().splitlines()
    return said, said[-1] if said else f"wandb sync ended with {ended.returncode}"


def _tell(name: str, done: SyncResult) -> None:
    parts = {
        "uploaded": done.uploaded,
        "there already": done.there,
        "in training: later": done.training,
        "without W&B": done.without,
        "failed": list(done.failed),
    }
    counts = ", ".join(f"{len(runs)} {what}" for what, runs in parts.items() if runs)
    print(f"{name}: {counts or 'no runs'}")
    for run_id, why in done.failed.items():
        print(f"{run_id}: {why}")
