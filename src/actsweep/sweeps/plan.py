"""A sweep's plan: what was asked for, frozen when it was submitted. No jax."""

import contextlib
import functools
import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from actsweep.config import resolve
from actsweep.config.overrides import as_typed
from actsweep.config.schema import RunConfig
from actsweep.runs.members import Member, make_member
from actsweep.utils import files
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import program, typed_again

PLAN_FILE = "plan.json"


LAUNCH_FILE = "launch.yaml"
"""Hydra's own config of the sweep: which launcher, with which settings."""


SUBMITTING = ".submitting"
"""Locked by whoever submits jobs of the sweep."""


_BEFORE = {"attempt": 1, "cwd": ".", "path": [], "outputs": "../.."}
"""What older plans don't say."""


@dataclass(frozen=True)
class Plan:
    """What `plan.json` holds.

    Attributes:
        folder: the sweep's.
        command: as it was typed.
        packs: the members of each job.
        overrides: by run id.
        attempt: how often the sweep was told to train, from 1 on.
        cwd: the working folder in which it was submitted.
        path: where the user's own code was imported from.
    """

    folder: Path
    command: list[str]
    packs: list[list[Member]]
    overrides: dict[str, list[str]]
    attempt: int = 1
    cwd: str = field(default_factory=os.getcwd)
    path: list[str] = field(default_factory=list)

    @functools.cached_property
    def runs(self) -> dict[str, Member]:
        """Every run by its id, in order."""
        return {member.run_id: member for pack in self.packs for member in pack}

    @property
    def config(self) -> RunConfig:
        """The settings that hold for the sweep as a whole: those of its first run."""
        return self.packs[0][0].config

    @property
    def jobs(self) -> list[list[str]]:
        """The run ids of each job."""
        return [[member.run_id for member in pack] for pack in self.packs]

    @property
    def outputs(self) -> Path:
        """Where its runs are."""
        return Path(self.config.paths.outputs)

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
        # From the folder, so that it holds in any working folder, and after both were moved.
        outputs = os.path.relpath(self.config.paths.outputs, self.folder)
        about = {key: getattr(self, key) for key in ("command", "attempt", "cwd", "path")}
        whole = {**about, "outputs": outputs, "members": members}
        files.write_json(self.folder / PLAN_FILE, whole)

    def again(self, rerun: str) -> "Plan":
        """Return the same sweep, told to train once more what `rerun` says."""
        packs = [
            [replace(member, config=replace(member.config, rerun=rerun)) for member in pack]
            for pack in self.packs
        ]
        return replace(self, packs=packs, attempt=self.attempt + 1)


def freeze(plan: Plan, launch: DictConfig) -> None:
    """Write a sweep's plan, and with it Hydra's config, so that it can be launched again."""
    plan.write()
    files.write_atomic(plan.folder / LAUNCH_FILE, OmegaConf.to_yaml(launch))


def new_plan(
    folder: Path, packs: Sequence[Sequence[Member]], overrides: Mapping[str, Sequence[str]]
) -> Plan:
    """Return the plan of the command that was typed; `overrides` are by run id."""
    typed = [*program(), *as_typed(sys.argv[1:])]
    added = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = [os.path.abspath(entry) for entry in (os.path.dirname(sys.argv[0]), *added)]
    words = {member.run_id: as_typed(overrides[member.run_id]) for pack in packs for member in pack}
    return Plan(folder, typed, [list(pack) for pack in packs], words, path=path)


def read_plan(folder: Path) -> Plan:
    """Return the frozen sweep; what was read before is kept while the file stays as it is.

    Raises:
        UserError: there is none; or the user's own code isn't what it was.
    """
    try:
        stamp = (folder / PLAN_FILE).stat().st_mtime_ns
    except OSError:
        stamp = 0
    return _read_plan(folder, os.getcwd(), stamp)


@functools.lru_cache(maxsize=1)
def _read_plan(folder: Path, cwd: str, stamp: int) -> Plan:
    del cwd, stamp  # they tell one plan from another
    plain = read_frozen(folder)
    outputs = str(outputs_dir(folder, plain))
    packs: dict[int, list[Member]] = {}
    for name, frozen in plain["members"].items():
        config = resolve.from_dict(frozen["config"])
        config.paths.outputs = outputs
        member = make_member(config)
        if member.run_id != name:
            raise UserError(
                f"{folder.name}: its own code (a _target_) has changed since it was submitted, or "
                "can't be found: bring it back, or type the command again: "
                f"{typed_again(plain['command'])}"
            )
        packs.setdefault(frozen["pack"], []).append(member)
    overrides = {name: frozen["overrides"] for name, frozen in plain["members"].items()}
    about = {key: plain[key] for key in ("attempt", "cwd", "path")}
    return Plan(folder, plain["command"], [*packs.values()], overrides, **about)


def read_frozen(folder: Path) -> dict[str, Any]:
    """What a sweep's `plan.json` says.

    Raises:
        UserError: it isn't there, or can't be read.
    """
    try:
        return {**_BEFORE, **json.loads((folder / PLAN_FILE).read_text())}
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no sweep here ({error}); see actsweep status") from error


def outputs_dir(folder: Path, plain: Mapping[str, Any]) -> Path:
    """The folder in which the runs of a frozen sweep are, wherever it lies now."""
    return Path(os.path.normpath(folder / plain["outputs"]))


def reopen(folder: Path) -> Plan:
    """The frozen sweep, with this process as it was when the sweep was submitted: in the same
    working folder, for relative paths, and finding the user's own code.

    Raises:
        UserError: as `read_plan`.
    """
    plain, here = read_frozen(folder), Path.cwd()
    if missing := [entry for entry in plain["path"] if entry not in sys.path]:
        sys.path += missing
        given = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
        os.environ["PYTHONPATH"] = os.pathsep.join([*given, *missing])  # for jobs
    if (here / plain["cwd"]) != here:
        folder = folder.absolute()
        with contextlib.suppress(OSError):  # it is gone, with whatever was in it
            os.chdir(plain["cwd"])
            print(f"in {plain['cwd']}, where it was submitted", file=sys.stderr)
    return read_plan(folder)


def discard(folder: Path) -> None:
    """Take back what a sweep that never started has left: its plan, jobs' logs, empty folders."""
    for name in (PLAN_FILE, LAUNCH_FILE, SUBMITTING):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / ".submitit", ignore_errors=True)
    for file in folder.glob("[0-9]*/*.log"):
        file.unlink()
    for path in [*folder.glob("*/"), folder]:
        with contextlib.suppress(OSError):
            path.rmdir()


def name_of(folder: Path) -> str:
    """A sweep as the commands take it, from this working folder: its name, or a path."""
    return folder.name if folder.parent == Path("outputs/sweeps") else shlex.quote(str(folder))
