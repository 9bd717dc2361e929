"""`actsweep gc` removes what nobody needs, `actsweep rm` the runs that are named. No jax."""

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

QUIET = 600.0  # seconds after which nobody is still writing what was begun
NOT_MUCH = ("multirun.yaml",)  # what Hydra may leave of a sweep that never was
MEGABYTE = 1e6

Found = dict[str, list[Path]]


def gc(outputs: Path, *, dry_run: bool) -> None:
    """Remove what killed processes have left, and what isn't needed after a run is complete.

    Runs that are being trained are left alone: while this works, it holds what it works on.

    Args:
        outputs: `paths.outputs`.
        dry_run: only print.

    Raises:
        UserError: there is no such folder.
        OSError: something can't be removed.
    """
    if not outputs.is_dir():
        raise UserError(f"{outputs}: no such folder; type --outputs <the sweeps' paths.outputs>")
    held = owners(outputs)
    free = [run for run in _runs(outputs) if run.run_id not in held]
    free = [run for run in free if any(_of_run(run).values())]
    lines = _clear({"links of dead processes": orphans(outputs)}, dry_run=dry_run)
    if dry_run:
        lines += _clear(_merge(map(_of_run, free)), dry_run=True)
    elif free:
        with Leases(outputs, "gc") as claims:
            ours = claims.take([run.run_id for run in free])
            lines += _clear(_merge(_of_run(run) for run in free if run.run_id in ours))
        _clear({"our own": orphans(outputs)})
    lines += _clear(_of_sweeps(outputs), dry_run=dry_run)
    for line in lines:
        print(line)
    if not lines:
        print("nothing to remove")
    elif dry_run:
        print("nothing was removed yet: leave out --dry-run")


def _runs(outputs: Path) -> list[RunDir]:
    return [RunDir(outputs, path.name) for path in sorted((outputs / "runs").glob("*/"))]


def _of_run(run: RunDir) -> Found:
    """What can go of a run that nobody trains."""
    state = (run_dir.read_status(run) or {}).get("state")
    left = [*run.path.glob(".*.tmp"), *run.checkpoints.glob(".*")]
    return {
        "half-written files": left,
        "older checkpoints of complete runs": _older(run) if state == "complete" else [],
        "W&B folders that are uploaded": _uploaded(run) if state in run_dir.ENDED else [],
    }


def _older(run: RunDir) -> list[Path]:
    """All checkpoints but the newest."""
    steps = {path: path.name.removeprefix("step-") for path in run.checkpoints.glob("step-*")}
    known = [path for path, step in steps.items() if step.isdecimal()]
    return sorted(known, key=lambda path: int(steps[path]))[:-1]


def _uploaded(run: RunDir) -> list[Path]:
    """W&B's folders with the mark that `wandb sync` leaves beside the file that it has sent."""
    folders = [*run.wandb.glob("*run-*/")]
    done = [folder for folder in folders if _is_uploaded(folder)]
    return [run.wandb] if done and len(done) == len(folders) else done


def _is_uploaded(folder: Path) -> bool:
    files = [*folder.glob("*.wandb")]
    return bool(files) and all(file.with_suffix(".wandb.synced").exists() for file in files)


def _of_sweeps(outputs: Path) -> Found:
    """What can go beside the runs; not what may be just being made."""
    temporary = [*outputs.glob("sweeps/*/.*.tmp"), *outputs.glob(".writable-*")]
    empty = [folder for folder in outputs.glob("sweeps/*/") if _is_empty(folder)]
    return {
        "half-written files of sweeps": [path for path in temporary if _is_old(path)],
        "empty sweep folders": [folder for folder in empty if _is_old(folder)],
    }


def _is_empty(folder: Path) -> bool:
    return all(set(files) <= set(NOT_MUCH) for _, _, files in os.walk(folder))


def _is_old(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > QUIET


def _merge(many: Iterable[Found]) -> Found:
    merged: Found = {}
    for found in many:
        for what, paths in found.items():
            merged.setdefault(what, []).extend(paths)
    return merged


def _clear(found: Mapping[str, Sequence[Path]], *, dry_run: bool = False) -> list[str]:
    """Remove paths; a line for each kind."""
    lines = []
    for what, paths in found.items():
        size = sum(map(size_of, paths))
        if not dry_run:
            for path in paths:
                remove(path)
        if paths:
            lines.append(f"{len(paths):6} {what:36} {size / MEGABYTE:10.1f} MB")
    return lines


def rm(outputs: Path, wanted: Sequence[str]) -> None:
    """Remove runs.

    Args:
        outputs: `paths.outputs`.
        wanted: ids, globs of ids, or paths.

    Raises:
        UserError: one of them is no run, or is being trained; nothing is removed.
        OSError: something can't be removed.
    """
    runs = find.find_runs(outputs, wanted)
    with contextlib.ExitStack() as stack:
        for root in {run.root for run in runs}:
            claims = stack.enter_context(Leases(root, "rm"))
            own = [run.run_id for run in runs if run.root == root]
            if held := sorted(set(own) - claims.take(own)):
                raise UserError(f"{_who_trains(root, held)}; nothing was removed")
        for run in runs:
            size = size_of(run.path)
            run.status.unlink(missing_ok=True)  # first: what is cut short here isn't complete
            remove(run.path)
            print(f"removed {run.path}   {size / MEGABYTE:.1f} MB")


def _who_trains(root: Path, held: Sequence[str]) -> str:
    more = f" (and {len(held) - 1} more)" if len(held) > 1 else ""
    found = owners(root, held[:1]).get(held[0])
    who = f"by {found.host}, process {found.pid} (sweep {found.sweep})" if found else "just now"
    return f"{held[0]}{more}: in training {who}"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_symlink() or not path.is_dir() else [*path.rglob("*")]
    return sum(file.lstat().st_size for file in files if not file.is_dir() or file.is_symlink())
