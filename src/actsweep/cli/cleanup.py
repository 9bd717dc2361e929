"""The commands `actsweep gc` (remove what isn't needed) and `actsweep rm` (remove runs). No jax."""

import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from actsweep.runs import run_dir
from actsweep.runs.leases import Leases, orphans, owners
from actsweep.runs.run_dir import RunDir
from actsweep.sweeps import find
from actsweep.utils.errors import UserError
from actsweep.utils.files import remove

STALE_S = 600.0  # seconds after which an unfinished file is taken to be abandoned
IGNORED_FILES = ("multirun.yaml",)  # Hydra may leave it of a sweep that never started
MEGABYTE = 1e6

PathsByKind = dict[str, list[Path]]


def gc(outputs: Path, *, dry_run: bool) -> None:
    """Remove the leftovers of killed processes, and what isn't needed after a run is complete.

    Runs that are being trained are left alone: a run is leased while its files are removed.

    Args:
        outputs: `paths.outputs`.
        dry_run: print what would be removed, and remove nothing.

    Raises:
        UserError: there is no such folder.
        OSError: something can't be removed.
    """
    if not outputs.is_dir():
        raise UserError(f"{outputs}: no such folder; type --outputs <the sweeps' paths.outputs>")
    owned = owners(outputs)
    free = [run for run in _runs(outputs) if run.run_id not in owned]
    free = [run for run in free if any(_removable(run).values())]
    lines = _clear({"lease files of dead processes": orphans(outputs)}, dry_run=dry_run)
    if dry_run:
        lines += _clear(_merge(map(_removable, free)), dry_run=True)
    elif free:
        with Leases(outputs, "gc") as leases:
            leased = leases.take([run.run_id for run in free])
            lines += _clear(_merge(_removable(run) for run in free if run.run_id in leased))
        _clear({"lease files of this process": orphans(outputs)})
    lines += _clear(_removable_of_sweeps(outputs), dry_run=dry_run)
    for line in lines:
        print(line)
    if not lines:
        print("nothing to remove")
    elif dry_run:
        print("nothing was removed; to remove these, leave out --dry-run")


def _runs(outputs: Path) -> list[RunDir]:
    return [RunDir(outputs, path.name) for path in sorted((outputs / "runs").glob("*/"))]


def _removable(run: RunDir) -> PathsByKind:
    """Return what can be removed of a run that no process trains."""
    state = (run_dir.read_status(run) or {}).get("state")
    unfinished = [*run.path.glob(".*.tmp"), *run.checkpoints.glob(".*")]
    return {
        "half-written files": unfinished,
        "older checkpoints of complete runs": _older(run.checkpoints)
        if state == "complete"
        else [],
        "W&B folders already uploaded": _uploaded(run) if state in run_dir.ENDED else [],
    }


def _older(folder: Path) -> list[Path]:
    """Return all checkpoints in a folder but the newest."""
    steps = {path: path.name.removeprefix("step-") for path in folder.glob("step-*")}
    checkpoints = [path for path, step in steps.items() if step.isdecimal()]
    return sorted(checkpoints, key=lambda path: int(steps[path]))[:-1]


def _uploaded(run: RunDir) -> list[Path]:
    """Return W&B's folders with the mark that `wandb sync` leaves beside an uploaded file."""
    folders = [*run.wandb.glob("*run-*/")]
    uploaded = [folder for folder in folders if _is_uploaded(folder)]
    return [run.wandb] if uploaded and len(uploaded) == len(folders) else uploaded


def _is_uploaded(folder: Path) -> bool:
    files = [*folder.glob("*.wandb")]
    return bool(files) and all(file.with_suffix(".wandb.synced").exists() for file in files)


def _removable_of_sweeps(outputs: Path) -> PathsByKind:
    """Return what can be removed outside the runs, except what may just be in the making."""
    temporary = [*outputs.glob("sweeps/*/.*.tmp"), *outputs.glob(".writable-*")]
    empty = [folder for folder in outputs.glob("sweeps/*/") if _is_empty(folder)]
    return {
        "half-written files of sweeps": [path for path in temporary if _is_stale(path)],
        "empty sweep folders": [folder for folder in empty if _is_stale(folder)],
    }


def _is_empty(folder: Path) -> bool:
    return all(set(files) <= set(IGNORED_FILES) for _, _, files in os.walk(folder))


def _is_stale(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > STALE_S


def _merge(groups: Iterable[PathsByKind]) -> PathsByKind:
    merged: PathsByKind = {}
    for paths_by_kind in groups:
        for kind, paths in paths_by_kind.items():
            merged.setdefault(kind, []).extend(paths)
    return merged


def _clear(paths_by_kind: Mapping[str, Sequence[Path]], *, dry_run: bool = False) -> list[str]:
    """Remove paths, and return a line for each kind: number, kind, megabytes."""
    lines = []
    for kind, paths in paths_by_kind.items():
        size = sum(map(size_of, paths))
        if not dry_run:
            for path in paths:
                remove(path)
        if paths:
            lines.append(f"{len(paths):6} {kind:36} {size / MEGABYTE:10.1f} MB")
    return lines


def rm(outputs: Path, names: Sequence[str]) -> None:
    """Remove runs with everything in their folders.

    Args:
        outputs: `paths.outputs`.
        names: run ids, globs of run ids, or paths.

    Raises:
        UserError: a name isn't that of a run, or a run is being trained; nothing is removed.
        OSError: something can't be removed.
    """
    runs = find.find_runs(outputs, names)
    with contextlib.ExitStack() as stack:
        for root in {run.root for run in runs}:
            leases = stack.enter_context(Leases(root, "rm"))
            run_ids = [run.run_id for run in runs if run.root == root]
            if refused := sorted(set(run_ids) - leases.take(run_ids)):
                raise UserError(_in_training(root, refused))
        for run in runs:
            size = size_of(run.path)
            run.status.unlink(missing_ok=True)  # first: if this is killed, the run isn't complete
            remove(run.path)
            print(f"removed {run.path}   {size / MEGABYTE:.1f} MB")


def _in_training(root: Path, run_ids: Sequence[str]) -> str:
    more = f" (and {len(run_ids) - 1} more)" if len(run_ids) > 1 else ""
    owner = owners(root, run_ids[:1]).get(run_ids[0])
    process = f"process {owner.pid} on {owner.host} (sweep {owner.sweep})" if owner else "a process"
    return (
        f"{run_ids[0]}{more}: is being trained by {process}; nothing was removed. "
        f"Stop it, or leave the run out"
    )


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_symlink() or not path.is_dir() else [*path.rglob("*")]
    return sum(file.lstat().st_size for file in files if not file.is_dir() or file.is_symlink())
