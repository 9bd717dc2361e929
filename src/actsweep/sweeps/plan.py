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

from actsweep.config import identity, resolve
from actsweep.config.overrides import as_typed
from actsweep.config.schema import RunConfig
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
        packs: the runs of each job.
        overrides: by run id.
        attempt: how often the sweep was told to train, from 1 on.
        cwd: the working folder in which it was submitted.
        path: where the user's own code was imported from.
    """

    folder: Path
    command: list[str]
    packs: list[list[RunConfig]]
    overrides: dict[str, list[str]]
    attempt: int = 1
    cwd: str = field(default_factory=os.getcwd)
    path: list[str] = field(default_factory=list)

    @functools.cached_property
    def runs(self) -> dict[str, RunConfig]:
        """Every run by its id, in order."""
        return {identity.run_id(one): one for pack in self.packs for one in pack}

    @property
    def outputs(self) -> Path:
        """Where its runs are."""
        return Path(self.packs[0][0].paths.outputs)

    def write(self) -> None:
        """Freeze it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        plain = {
            identity.run_id(one): {
                "pack": index,
                "overrides": self.overrides[identity.run_id(one)],
                "config": resolve.to_dict(one),
            }
            for index, pack in enumerate(self.packs)
            for one in pack
        }
        # From the folder, so that it holds in any working folder, and after both were moved.
        outputs = os.path.relpath(self.packs[0][0].paths.outputs, self.folder)
        own = {key: getattr(self, key) for key in ("command", "attempt", "cwd", "path")}
        whole = {**own, "outputs": outputs, "members": plain}
        files.write_json(self.folder / PLAN_FILE, whole)

    def again(self, rerun: str) -> "Plan":
        """The same sweep, told to train once more what `rerun` says."""
        packs = [[replace(one, rerun=rerun) for one in pack] for pack in self.packs]
        return replace(self, packs=packs, attempt=self.attempt + 1)


def freeze(plan: Plan, launch: DictConfig) -> None:
    """Write a sweep's plan, and with it Hydra's config, so that it can be launched again."""
    plan.write()
    files.write_atomic(plan.folder / LAUNCH_FILE, OmegaConf.to_yaml(launch))


def new_plan(
    folder: Path, packs: Sequence[Sequence[RunConfig]], overrides: Sequence[Sequence[Sequence[str]]]
) -> Plan:
    """The plan of the command that was typed."""
    given = {
        identity.run_id(one): as_typed(words)
        for pack, texts in zip(packs, overrides, strict=True)
        for one, words in zip(pack, texts, strict=True)
    }
    typed = [*program(), *as_typed(sys.argv[1:])]
    added = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = [os.path.abspath(entry) for entry in (os.path.dirname(sys.argv[0]), *added)]
    return Plan(folder, typed, [list(pack) for pack in packs], given, path=path)


def read_plan(folder: Path) -> Plan:
    """The frozen sweep.

    Raises:
        UserError: there is none; or the user's own code isn't what it was.
    """
    plain = read_frozen(folder)
    packs: dict[int, list[RunConfig]] = {}
    for member in plain["members"].values():
        one = resolve.from_dict(member["config"])
        one.paths.outputs = str(outputs_dir(folder, plain))
        packs.setdefault(member["pack"], []).append(one)
    overrides = {run_id: one["overrides"] for run_id, one in plain["members"].items()}
    rest = {key: plain[key] for key in ("attempt", "cwd", "path")}
    plan = Plan(folder, plain["command"], [*packs.values()], overrides, **rest)
    if plan.runs.keys() != overrides.keys():
        raise UserError(
            f"{folder.name}: its own code (a _target_) has changed since it was submitted, or "
            "can't be found: bring it back, or type the command again: "
            f"{typed_again(plan.command)}"
        )
    return plan


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
