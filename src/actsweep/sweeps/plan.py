"""A sweep's plan: its command and configs, frozen when it was submitted. No jax."""

import contextlib
import functools
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from actsweep.config import resolve
from actsweep.config.overrides import as_typed
from actsweep.config.schema import RunConfig
from actsweep.runs.members import Member, make_member, recorded_member
from actsweep.utils import files
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import program, typed_again

PLAN_FILE = "plan.json"


LAUNCH_FILE = "launch.yaml"
"""Hydra's own config of the sweep: which launcher, with which settings."""


SUBMITTING = ".submitting"
"""Lock file of the process that submits jobs of the sweep."""


REPORT = "report/index.html"
"""The page of a sweep's report."""


SEARCH_FILE = "search.json"
"""Space and suggestions of a sweep that is a search."""


STUDY_FILE = "study.log"
"""The same as a study of Optuna's, with its results."""


SEARCHING = ".searching"
"""Lock file of the process that goes on with a search."""


_BEFORE = {"attempt": 1, "cwd": ".", "path": [], "outputs": "../.."}
"""Values of fields that older plans lack."""


@dataclass(frozen=True)
class Plan:
    """Contents of `plan.json`.

    Attributes:
        folder: the sweep's folder.
        command: the command, as typed.
        packs: the members of each job.
        overrides: each run's overrides, by run id.
        attempt: number of the attempt, from 1 on; each retry adds one.
        cwd: the working folder in which the sweep was submitted.
        path: where the user's own code was imported from.
        submitted: when the sweep was submitted first, in seconds since 1970.
    """

    folder: Path
    command: list[str]
    packs: list[list[Member]]
    overrides: dict[str, list[str]]
    attempt: int = 1
    cwd: str = field(default_factory=os.getcwd)
    path: list[str] = field(default_factory=list)
    submitted: float = field(default_factory=lambda: round(time.time(), 6))

    @functools.cached_property
    def runs(self) -> dict[str, Member]:
        """Return every run by its id, in order."""
        return {member.run_id: member for pack in self.packs for member in pack}

    @property
    def config(self) -> RunConfig:
        """Return the settings that hold for the whole sweep: those of its first run."""
        return self.packs[0][0].config

    @property
    def name(self) -> str:
        """Return the sweep's name, by default that of its folder."""
        return self.config.sweep.name or self.folder.name

    @property
    def jobs(self) -> list[list[str]]:
        """Return the run ids of each job."""
        return [[member.run_id for member in pack] for pack in self.packs]

    @property
    def outputs(self) -> Path:
        """Return the folder in which the runs are."""
        return Path(self.config.paths.outputs)

    @functools.cached_property
    def differing(self) -> dict[str, dict[str, str]]:
        """Return, by run id, the values of the overrides that aren't the same for all runs."""
        typed = {
            run_id: {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in words}
            for run_id, words in self.overrides.items()
        }
        keys = dict.fromkeys(key for values in typed.values() for key in values)
        swept = [key for key in keys if len({values.get(key) for values in typed.values()}) > 1]
        return {
            run_id: {key: values[key] for key in swept if key in values}
            for run_id, values in typed.items()
        }

    def write(self) -> None:
        """Write `plan.json`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        members = {
            member.run_id: {
                "pack": index,
                "overrides": self.overrides[member.run_id],
                "config": resolve.to_dict(member.config),
            }
            for index, pack in enumerate(self.packs)
            for member in pack
        }
        # Relative to the folder: valid from any working folder, and after both were moved.
        outputs = os.path.relpath(self.config.paths.outputs, self.folder)
        about = {key: getattr(self, key) for key in ("command", "attempt", "cwd", "path")}
        # Read alone, to order sweeps and to find one by its name.
        first = {"submitted": self.submitted, "name": self.config.sweep.name}
        whole = {**first, **about, "outputs": outputs, "members": members}
        files.write_json(self.folder / PLAN_FILE, whole)

    def extended(
        self, packs: Sequence[Sequence[Member]], overrides: Mapping[str, Sequence[str]]
    ) -> "Plan":
        """Return the sweep with further packs; `overrides` are by run id, as for `new_plan`."""
        words = {m.run_id: as_typed(overrides[m.run_id]) for pack in packs for m in pack}
        more = [*self.packs, *([*pack] for pack in packs)]
        return replace(self, packs=more, overrides={**self.overrides, **words})

    def again(self, rerun: str) -> "Plan":
        """Return the next attempt of the sweep, which trains again what `rerun` says."""
        return replace(self.with_configs(rerun=rerun), attempt=self.attempt + 1)

    def with_configs(self, **changes: Any) -> "Plan":
        """Return the sweep with fields of every run's config changed, which can't change its id."""
        packs = [
            [replace(member, config=replace(member.config, **changes)) for member in pack]
            for pack in self.packs
        ]
        return replace(self, packs=packs)


def freeze(plan: Plan, launch: DictConfig) -> None:
    """Write a sweep's plan and Hydra's config, so that it can be launched again."""
    plan.write()
    files.write_atomic(plan.folder / LAUNCH_FILE, OmegaConf.to_yaml(launch))


def new_plan(
    folder: Path, packs: Sequence[Sequence[Member]], overrides: Mapping[str, Sequence[str]]
) -> Plan:
    """Return the plan of the command that was typed; `overrides` are by run id."""
    added = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = [os.path.abspath(entry) for entry in (os.path.dirname(sys.argv[0]), *added)]
    words = {member.run_id: as_typed(overrides[member.run_id]) for pack in packs for member in pack}
    return Plan(folder, typed_now(), [list(pack) for pack in packs], words, path=path)


def typed_now() -> list[str]:
    """Return the command that was typed, as a plan records it."""
    return [*program(), *as_typed(sys.argv[1:])]


def read_plan(folder: Path, *, to_train: bool = True) -> Plan:
    """Return the frozen sweep; the last one is cached until its file changes.

    Args:
        folder: the sweep's.
        to_train: whether its runs may be trained, so that each must still be what its id says.

    Raises:
        UserError: there is no plan; or, `to_train`, the user's own code has changed.
    """
    try:
        stamp = (folder / PLAN_FILE).stat().st_mtime_ns
    except OSError:
        stamp = 0
    return _read_plan(folder, to_train, os.getcwd(), stamp)


@functools.lru_cache(maxsize=1)
def _read_plan(folder: Path, to_train: bool, cwd: str, stamp: int) -> Plan:
    del cwd, stamp  # they are keys of the cache only
    plain = read_frozen(folder)
    outputs = str(outputs_dir(folder, plain))
    packs: dict[int, list[Member]] = {}
    for name, frozen in plain["members"].items():
        config = resolve.from_dict(frozen["config"])
        config.paths.outputs = outputs
        member = make_member(config) if to_train else recorded_member(config, name)
        if member.run_id != name:
            raise UserError(
                f"{folder.name}: your own code (a _target_) or data (data.path, data.name, "
                "data.options) has changed since the sweep was submitted, or can't be found. Runs "
                "of it are other runs now: "
                "to train these, and leave out what needn't be trained again, type the command "
                f"again: {typed_again(without_folder(plain['command']))}"
            )
        packs.setdefault(frozen["pack"], []).append(member)
    overrides = {name: frozen["overrides"] for name, frozen in plain["members"].items()}
    about = {key: plain[key] for key in ("attempt", "cwd", "path", "submitted") if key in plain}
    return Plan(folder, plain["command"], [*packs.values()], overrides, **about)


def without_folder(command: Sequence[str]) -> list[str]:
    """Return a command without the folder of its sweep: that one holds the sweep of before."""
    folders = ("hydra.sweep.dir=", "hydra.run.dir=")
    return [word for word in command if not word.lstrip("+").startswith(folders)]


def read_frozen(folder: Path) -> dict[str, Any]:
    """Read a sweep's `plan.json` and return it.

    Raises:
        UserError: it is missing, or can't be read.
    """
    try:
        return {**_BEFORE, **json.loads((folder / PLAN_FILE).read_text())}
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no sweep here ({error}); see actsweep status") from error


def is_search(folder: Path) -> bool:
    """Return whether a sweep is a search, which may get further runs while it is trained.

    One that was killed before it had written its first batch is known by its command.
    """
    if (folder / SEARCH_FILE).exists():
        return True
    command = read_frozen(folder)["command"] if (folder / PLAN_FILE).exists() else []
    sweepers = [word.partition("=")[2] for word in command if word.startswith("hydra/sweeper=")]
    return bool(sweepers) and sweepers[-1] != "pack"


def outputs_dir(folder: Path, plain: Mapping[str, Any]) -> Path:
    """Return the folder that holds a frozen sweep's runs, also after it was moved."""
    return Path(os.path.normpath(folder / plain["outputs"]))


def reopen(folder: Path) -> Plan:
    """Return the frozen sweep, after giving this process the environment of its submission.

    That is the working folder, for relative paths, and the import path of the user's own code.

    Raises:
        UserError: as for `read_plan`.
    """
    plain, here = read_frozen(folder), Path.cwd()
    if missing := [entry for entry in plain["path"] if entry not in sys.path]:
        sys.path += missing
        before = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
        os.environ["PYTHONPATH"] = os.pathsep.join([*before, *missing])  # for jobs
    if (here / plain["cwd"]) != here:
        folder = folder.absolute()
        with contextlib.suppress(OSError):  # the folder is gone, with the files in it
            os.chdir(plain["cwd"])
            print(f"in {plain['cwd']}, where the sweep was submitted", file=sys.stderr)
    return read_plan(folder)


def check_folder(plan: Plan, key: str) -> Plan:
    """Return the plan as it may be written: its folder holds no sweep, or one that it goes on with.

    Args:
        plan: the sweep, not written yet.
        key: the override that names the folder.

    Raises:
        UserError: the folder holds another sweep, whose plan would be lost.
    """
    folder = plan.folder
    if (folder / SEARCH_FILE).exists():  # what it has pruned would pass for trained
        raise UserError(
            f"{key}={folder}: holds a search, a race or a tuning, which goes on by actsweep resume "
            f"{name_of(folder)}; type another folder"
        )
    if not (folder / PLAN_FILE).exists():
        return plan
    before = read_frozen(folder)
    missing = [run_id for run_id in before["members"] if run_id not in plan.runs]
    moved = outputs_dir(folder, before).resolve() != plan.outputs.resolve()
    if missing or moved:
        other = f"with {missing[0]}" if missing else f"in {outputs_dir(folder, before)}"
        raise UserError(
            f"{key}={folder}: holds another sweep, {other} ({shlex.join(before['command'])}); type "
            f"another folder, all runs of both, or: actsweep rm --keep-runs {name_of(folder)}"
        )
    if added := len(plan.runs) - len(before["members"]):
        print(f"{folder.name}: extended by {added} run{'s' * (added > 1)}", file=sys.stderr)
    submitted = before.get("submitted", plan.submitted)
    return replace(plan, attempt=before["attempt"], submitted=submitted)


class FreshFiles:
    """What a command makes in a sweep's folder: all that wasn't there when this object was made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
        kept = self._before & {PLAN_FILE, LAUNCH_FILE, SEARCH_FILE}
        self._contents = {name: (folder / name).read_bytes() for name in kept}

    def discard(self) -> None:
        """Remove what a command that is refused has made: a plan, job logs, empty folders.

        The plan of a sweep that it would have extended is put back.
        """
        for name, content in self._contents.items():
            files.write_atomic(self.folder / name, content)
        made = {PLAN_FILE, LAUNCH_FILE, SUBMITTING, ".submitit"}
        names = (made | {SEARCH_FILE, STUDY_FILE, SEARCHING}) - self._before
        for name in names:
            files.remove(self.folder / name)
        for job in set(self.folder.glob("[0-9]*")) - {self.folder / n for n in self._before}:
            for log in job.glob("*.log"):
                log.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                job.rmdir()
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def about(sweep: Mapping[str, Any]) -> str:
    """Return a sweep's name, tags and notes in one line, empty if it has none.

    Args:
        sweep: the `sweep` of its runs' configs; older versions knew none of the three.
    """
    tags = f"[{', '.join(sweep['tags'])}]" if sweep.get("tags") else ""
    return "  ".join(text for text in (sweep.get("name"), tags, sweep.get("notes")) if text)


def name_of(folder: Path) -> str:
    """Return the sweep's name, or the path by which commands find it from this folder."""
    return folder.name if folder.parent == Path("outputs/sweeps") else shlex.quote(str(folder))
