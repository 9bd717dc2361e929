"""Upload of what W&B has of a sweep's runs on disk, each part once. No jax."""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from actsweep.loggers import wandb_log
from actsweep.loggers.wandb_log import fragments, ids
from actsweep.loggers.wandb_replay import replay
from actsweep.loggers.wandb_support import init_options, preflight, server_url
from actsweep.runs.run_dir import read_record
from actsweep.sweeps import status
from actsweep.sweeps.plan import Plan, read_plan
from actsweep.utils.errors import UserError, first_line

BATCH = 10
"""Runs that a call of `wandb sync` uploads."""
TIMEOUT_S = 600
"""Seconds that such a call may take: to a server that doesn't answer, it would try for ever."""


@dataclass
class SyncResult:
    """The ids of the runs by what became of them; `failed` says why."""

    uploaded: list[str]
    there: list[str]
    training: list[str]
    without: list[str]
    failed: dict[str, str]


def sync(
    folder: Path,
    project: str | None = None,
    entity: str | None = None,
    *,
    rebuild: bool = False,
) -> int:
    """Upload a sweep's runs and print what was done; the exit code, 1 if a run failed.

    Files that were uploaded before are skipped, and so are runs that are still being trained. With
    `rebuild` a W&B run is first made of every run's own rows; one that W&B has already stays there.

    Raises:
        UserError: no such sweep; no key, or no server.
    """
    done = SyncResult([], [], [], [], {})
    todo: dict[str, list[Path]] = {}
    plan = read_plan(folder, to_train=False) if rebuild else None
    for run_status in status.take_snapshot(folder).runs:
        run_id = run_status.run.run_id
        if run_status.owner or run_status.state in ("running", "starting"):
            done.training.append(run_id)
            continue
        if plan is not None:
            try:
                _rebuild(plan, run_id)
            except Exception as error:  # W&B's own, such as a hung wandb-core
                done.failed[run_id] = first_line(error)
                continue
        files, pending = _files(run_status.run.wandb)
        if pending:
            todo[run_id] = pending
        else:
            (done.there if files else done.without).append(run_id)
    if pending := _files(folder / "wandb")[1]:
        todo["the report"] = pending
    if todo and (why := preflight()):
        raise UserError(f"sync: {why}; the runs wait on disk")
    options = [*(["-p", project] if project else []), *(["-e", entity] if entity else [])]
    names = list(todo)
    for start in range(0, len(names), BATCH):
        _upload({name: todo[name] for name in names[start : start + BATCH]}, options, done)
        print(f"{min(start + BATCH, len(names))} of {len(names)}", flush=True)
    _print_result(folder.name, done)
    return 1 if done.failed else 0


def _rebuild(plan: Plan, run_id: str) -> None:
    """Make a W&B run of a run's own rows, in the place of the files that there are.

    If there are any, the server may have some of their rows, and would append these: the run gets
    another id.
    """
    member = plan.runs[run_id]
    record = read_record(member.dir)
    if record.status is None:
        return
    before = [file for name in ids(member.dir.wandb) for file in fragments(member.dir.wandb, name)]
    options = init_options(member.config, plan.folder.name, len(plan.runs))
    summary = {**(record.summary or {}), "state": record.status["state"]}
    info = member.info(plan.name)
    info = replace(info, training=secrets.token_hex(3)) if before else info
    replay(info, "offline", options, summary)
    for file in before:
        wandb_log.mark_synced(file)


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return W&B's files in a folder, and those that the server lacks, prepared for the upload."""
    files = []
    for name in ids(folder):
        wandb_log.close_interrupted(folder, name)
        files += fragments(folder, name)
    pending = [f for f in files if not wandb_log.is_online(f) and not wandb_log.is_synced(f)]
    return files, pending


def _upload(runs: dict[str, list[Path]], options: Sequence[str], done: SyncResult) -> None:
    """Upload runs. `wandb sync` marks a run as uploaded even if the server has refused its rows, so
    its output decides."""
    folders = [str(file.parent.absolute()) for files in runs.values() for file in files]
    lines, why = _wandb_sync([*options, *folders])
    for run_id, files in runs.items():
        names = {file.stem.removeprefix("run-") for file in files}
        told = [line for line in lines if "ERROR" in line]
        wrong = [line for line in told if any(f"/{name}]" in line for name in names)]
        if wrong:
            for file in files:
                wandb_log.unmark_synced(file)
            done.failed[run_id] = wrong[0].split("] ", 1)[1]
        elif all(wandb_log.is_synced(file) for file in files):
            done.uploaded.append(run_id)
        else:
            done.failed[run_id] = why


def _wandb_sync(words: Sequence[str]) -> tuple[list[str], str]:
    """Return the lines that it prints, and why it left out a run that none of them names."""
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
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            known = (error.stdout or b"").decode(errors="replace")
            return (
                known.strip().splitlines(),
                f"{server_url()} had not taken it after {TIMEOUT_S} s",
            )
    lines = ended.stdout.strip().splitlines()
    return lines, lines[-1] if lines else f"wandb sync ended with {ended.returncode}"


def _print_result(name: str, done: SyncResult) -> None:
    parts = {
        "uploaded": done.uploaded,
        "uploaded before": done.there,
        "in training (sync them later)": done.training,
        "without a W&B file": done.without,
        "failed": list(done.failed),
    }
    counts = ", ".join(f"{len(runs)} {what}" for what, runs in parts.items() if runs)
    print(f"{name}: {counts or 'no runs'}")
    for run_id, why in done.failed.items():
        print(f"{run_id}: {why}")
