"""The commands `actsweep gc`, which removes what isn't needed, and `actsweep rm`. No jax."""

import contextlib
import functools
import os
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from actsweep.runs import run_dir
from actsweep.runs.leases import Leases, living_owners, orphans, owners
from actsweep.runs.run_dir import RunDir
from actsweep.sweeps import find, plan
from actsweep.sweeps.exit_codes import BAD_INPUT, OK
from actsweep.utils.errors import UserError
from actsweep.utils.files import is_inside, remove

STALE_S = 600.0  # seconds after which an unfinished file is taken to be abandoned
IGNORED_FILES = ("multirun.yaml",)  # Hydra may leave it of a sweep that never started
MEGABYTE = 1e6

PathsByKind = dict[str, list[Path]]


def gc(outputs: Path, *, dry_run: bool) -> None:
    """Remove the leftovers of killed processes, and what isn't needed after a run is complete.

    Runs that are being trained are left alone: a run is leased while its files are removed. So is
    what a symbolic link puts outside `outputs`. Several at once are no error.

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
    clear = functools.partial(_clear, outputs, dry_run=dry_run)
    lines = clear({"lease files of dead processes": orphans(outputs)})
    if dry_run:
        lines += clear(_merge(map(_removable, free)))
    elif free:
        with Leases(outputs, "gc") as leases:
            leased = leases.take([run.run_id for run in free])
            lines += clear(_merge(_removable(run) for run in free if run.run_id in leased))
        clear({"lease files of this process": orphans(outputs)})
    lines += clear(_removable_of_sweeps(outputs))
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
    return {
        "half-written files": run_dir.unfinished(run),
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
    try:
        return time.time() - path.lstat().st_mtime > STALE_S
    except FileNotFoundError:  # another process has removed it
        return False


def _merge(groups: Iterable[PathsByKind]) -> PathsByKind:
    merged: PathsByKind = {}
    for paths_by_kind in groups:
        for kind, paths in paths_by_kind.items():
            merged.setdefault(kind, []).extend(paths)
    return merged


def _clear(outputs: Path, paths_by_kind: PathsByKind, *, dry_run: bool) -> list[str]:
    """Remove paths that lie in `outputs`; return a line for each kind: number, kind, megabytes."""
    lines = []
    for kind, paths in paths_by_kind.items():
        ours = [path for path in paths if is_inside(outputs, path)]
        size = sum(map(size_of, ours))
        if not dry_run:
            for path in ours:
                remove(path)
        if ours:
            lines.append(f"{len(ours):6} {kind:36} {size / MEGABYTE:10.1f} MB")
        for path in sorted(set(paths) - set(ours)):
            print(f"left alone: {path} leads out of {outputs}", file=sys.stderr)
    return lines


@dataclass(frozen=True)
class _Removal:
    """Sweeps and runs to be removed."""

    sweeps: Sequence[Path]
    runs: Sequence[RunDir]

    @property
    def folders(self) -> list[Path]:
        """Return the folders, those of runs first: what is left of a sweep can be resumed."""
        return [*(run.path for run in self.runs), *self.sweeps]


def rm(
    outputs: Path, names: Sequence[str], *, yes: bool, dry_run: bool, keep_runs: bool = False
) -> int:
    """Remove runs, or sweeps with the runs that no other sweep has; return the exit code.

    Nothing is removed before somebody has confirmed it, and nothing outside `outputs`.

    Args:
        outputs: `paths.outputs`.
        names: run ids, globs of run ids, names of sweeps, or paths of either.
        yes: don't ask.
        dry_run: print what would be removed, and remove nothing.
        keep_runs: of a sweep, remove only its own folder.

    Raises:
        UserError: a name is neither a run's nor a sweep's, something is being trained, or there is
            nobody to ask; nothing is removed.
        OSError: something can't be removed.
    """
    removal = _find(outputs, names, keep_runs=keep_runs)
    with contextlib.ExitStack() as stack:
        for root in {run.root for run in removal.runs} if not dry_run else ():
            leases = stack.enter_context(Leases(root, "rm"))
            run_ids = [run.run_id for run in removal.runs if run.root == root]
            if refused := sorted(set(run_ids) - leases.take(run_ids)):
                raise UserError(_in_training(root, refused))
        total = sum(map(size_of, removal.folders)) / MEGABYTE
        for folder in removal.folders:
            print(f"{'would remove' if dry_run else 'to remove'} {folder}")
        what = f"{_count(len(removal.runs), 'run')}, {_count(len(removal.sweeps), 'sweep')}"
        print(f"{what}, {total:.1f} MB")
        if dry_run:
            return OK
        if not yes and not _confirmed():
            print("nothing was removed")
            return BAD_INPUT
        for run in removal.runs:
            if not run.path.is_symlink():
                run.status.unlink(missing_ok=True)  # first: if this is killed, it isn't complete
        for folder in removal.folders:
            remove(folder)
    print("removed")
    return OK


def _find(outputs: Path, names: Sequence[str], *, keep_runs: bool) -> _Removal:
    sweeps: dict[Path, None] = {}
    runs: dict[RunDir, None] = {}
    for name in names:
        try:
            runs |= dict.fromkeys(find.find_runs(outputs, [name]))
        except UserError as error:
            if not (folder := find.sweep_named(outputs, name)):
                raise error
            sweeps[folder] = None
    for folder in sweeps:
        home = _outputs_of(folder) / "sweeps"
        if not is_inside(home, folder) or folder.resolve() == home.resolve():
            raise UserError(
                f"{folder}: isn't in {home}, so it may hold other things than a sweep; nothing was "
                "removed. Remove it by hand"
            )
        if owner := [o for o in living_owners(_outputs_of(folder)) if o.sweep == folder.name]:
            raise UserError(
                f"{folder.name}: is being trained by process {owner[0].pid} on {owner[0].host}; "
                "nothing was removed. Stop it first"
            )
    if not keep_runs:
        for folder in sweeps:
            runs |= dict.fromkeys(_runs_of_it_alone(folder, sweeps))
    return _Removal([*sweeps], [run for run in runs if os.path.lexists(run.path)])


def _outputs_of(folder: Path) -> Path:
    return plan.outputs_dir(folder, plan.read_frozen(folder))


def _runs_of_it_alone(folder: Path, removed: Collection[Path]) -> list[RunDir]:
    """Return a sweep's runs that belong to no sweep that stays."""
    outputs, paths = _outputs_of(folder), {path.resolve() for path in removed}
    wanted = set(plan.read_frozen(folder)["members"])
    for other in find.newest(outputs):
        if other.resolve() not in paths:
            try:
                wanted -= set(plan.read_frozen(other)["members"])
            except UserError as error:  # it may list any of them
                raise UserError(f"{error}. Type --keep-runs to leave all runs") from error
    return [RunDir(outputs, run_id) for run_id in sorted(wanted)]


def _confirmed() -> bool:
    if not (sys.stdin and sys.stdin.isatty()):
        raise UserError("rm: there is nobody to ask; type --yes to remove these, or --dry-run")
    return input("Remove these? [y/N] ").strip().lower() in ("y", "yes")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _in_training(root: Path, run_ids: Sequence[str]) -> str:
    more = f" (and {len(run_ids) - 1} more)" if len(run_ids) > 1 else ""
    owner = owners(root, run_ids[:1]).get(run_ids[0])
    process = f"process {owner.pid} on {owner.host} (sweep {owner.sweep})" if owner else "a process"
    return (
        f"{run_ids[0]}{more}: is being trained by {process}; nothing was removed. "
        f"Stop it, or leave the run out"
    )


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; 0 if it is gone."""
    size = 0
    files = [path] if path.is_symlink() or not path.is_dir() else [*path.rglob("*")]
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            if not file.is_dir() or file.is_symlink():
                size += file.lstat().st_size
    return size
