"""A sweep's folder: the plan that was frozen when it was submitted, and what came of it. No jax."""

import contextlib
import functools
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from actsweep import command, config, ledger, members, table
from actsweep.config import RunConfig
from actsweep.errors import UserError
from actsweep.ledger import folder_of
from actsweep.provenance import other_code
from actsweep.signals import watch

OK, SOME_FAILED, BAD_INPUT, PREEMPTED, INTERRUPTED = 0, 1, 2, 75, 130
PLAN_FILE = "plan.json"
LAUNCH_FILE = "launch.yaml"
"""Hydra's own config of the sweep: which launcher, with which settings."""
SUBMITTING = ".submitting"
"""Locked by whoever submits jobs of the sweep."""

Result = dict[str, Any]
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
        return {members.run_id(one): one for pack in self.packs for one in pack}

    @property
    def outputs(self) -> Path:
        """Where its runs are."""
        return Path(self.packs[0][0].paths.outputs)

    def write(self) -> None:
        """Freeze it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        plain = {
            members.run_id(one): {
                "pack": index,
                "overrides": self.overrides[members.run_id(one)],
                "config": config.to_dict(one),
            }
            for index, pack in enumerate(self.packs)
            for one in pack
        }
        # From the folder, so that it holds in any working folder, and after both were moved.
        outputs = os.path.relpath(self.packs[0][0].paths.outputs, self.folder)
        own = {key: getattr(self, key) for key in ("command", "attempt", "cwd", "path")}
        whole = {**own, "outputs": outputs, "members": plain}
        ledger.write_json(self.folder / PLAN_FILE, whole)

    def again(self, rerun: str) -> "Plan":
        """The same sweep, told to train once more what `rerun` says."""
        packs = [[replace(one, rerun=rerun) for one in pack] for pack in self.packs]
        return replace(self, packs=packs, attempt=self.attempt + 1)


def freeze(plan: Plan, launch: DictConfig) -> None:
    """Write a sweep's plan, and with it Hydra's config, so that it can be launched again."""
    plan.write()
    ledger.write_atomic(plan.folder / LAUNCH_FILE, OmegaConf.to_yaml(launch))


def new_plan(
    folder: Path, packs: Sequence[Sequence[RunConfig]], overrides: Sequence[Sequence[Sequence[str]]]
) -> Plan:
    """The plan of the command that was typed."""
    given = {
        members.run_id(one): command.as_typed(words)
        for pack, texts in zip(packs, overrides, strict=True)
        for one, words in zip(pack, texts, strict=True)
    }
    typed = [Path(sys.argv[0]).name, *command.as_typed(sys.argv[1:])]
    added = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = [os.path.abspath(entry) for entry in (os.path.dirname(sys.argv[0]), *added)]
    return Plan(folder, typed, [list(pack) for pack in packs], given, path=path)


def read_plan(folder: Path) -> Plan:
    """The frozen sweep.

    Raises:
        UserError: there is none; or the user's own code isn't what it was.
    """
    plain = frozen(folder)
    packs: dict[int, list[RunConfig]] = {}
    for member in plain["members"].values():
        one = config.from_dict(member["config"])
        one.paths.outputs = str(outputs_of(folder, plain))
        packs.setdefault(member["pack"], []).append(one)
    overrides = {run_id: one["overrides"] for run_id, one in plain["members"].items()}
    rest = {key: plain[key] for key in ("attempt", "cwd", "path")}
    plan = Plan(folder, plain["command"], [*packs.values()], overrides, **rest)
    if plan.runs.keys() != overrides.keys():
        raise UserError(
            f"{folder.name}: its own code (a _target_) has changed since it was submitted, or "
            "can't be found: bring it back, or type the command again: "
            f"{shlex.join(plan.command)}"
        )
    return plan


def frozen(folder: Path) -> dict[str, Any]:
    """What a sweep's `plan.json` says.

    Raises:
        UserError: it isn't there, or can't be read.
    """
    try:
        return {**_BEFORE, **json.loads((folder / PLAN_FILE).read_text())}
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no sweep here ({error}); see actsweep status") from error


def outputs_of(folder: Path, plain: Mapping[str, Any]) -> Path:
    """The folder in which the runs of a frozen sweep are, wherever it lies now."""
    return Path(os.path.normpath(folder / plain["outputs"]))


def reopen(folder: Path) -> Plan:
    """The frozen sweep, with this process as it was when the sweep was submitted: in the same
    working folder, for relative paths, and finding the user's own code.

    Raises:
        UserError: as `read_plan`.
    """
    plain, here = frozen(folder), Path.cwd()
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


def own_statuses(plan: Plan) -> list[dict[str, Any]]:
    """The statuses of those runs that this attempt of this sweep was the last to train."""
    found = [ledger.read_status(folder_of(one)) or {} for one in plan.runs.values()]
    return [status for status in found if _is_own(plan, status)]


def _is_own(plan: Plan, status: Mapping[str, Any]) -> bool:
    return (status.get("sweep"), status.get("attempt")) == (plan.folder.name, plan.attempt)


def ended(plan: Plan, one: RunConfig) -> Result | None:
    """The result of a run that needn't be trained: it is complete, or this attempt of the sweep has
    seen it fail or diverge."""
    folder = folder_of(one)
    status = ledger.read_status(folder) or {}
    own = _is_own(plan, status)
    if done := ledger.reusable(folder, one.rerun, plan.folder.name, plan.attempt):
        how = None if own else other_code(status)
        return {**done, "reused": not own} | ({"other_code": how} if how else {})
    if not (own and status["state"] in ("failed", "diverged")):
        return None
    known = {**members.describe(one), **(ledger.read_summary(folder) or {}), "reused": False}
    return {**known, "state": status["state"], "cause": status.get("cause")}


def on_disk(plan: Plan, one: RunConfig, otherwise: Mapping[str, Any]) -> Result:
    """The result of a run as its folder tells it; of one that hasn't ended, `otherwise`."""
    return ended(plan, one) or {**members.describe(one), **otherwise, "reused": False}


def cut_short(plan: Plan, one: RunConfig) -> Result:
    """The result of a run when its sweep was interrupted."""
    status = ledger.read_status(folder_of(one)) or {}
    cause = "not started"
    if status.get("state") in ("running", "preempted"):
        cause = f"stopped at epoch {round(status['epoch'], 2):g}" if status["step"] else "stopped"
    return on_disk(plan, one, {"state": "preempted", "cause": cause})


def finish(plan: Plan, results: Sequence[Mapping[str, Any]]) -> int:
    """Write `members.csv`, print the table and how to look further; the sweep's exit code.

    Raises:
        UserError: every run was refused: nothing has started.
    """
    results = _explained(plan, results)
    rows = [
        {k: v for k, v in r.items() if k not in ("refused", "busy")}
        | {"overrides": " ".join(plan.overrides[r["run_id"]])}
        for r in results
    ]
    try:
        ledger.write_members_csv(plan.folder, rows)
    except OSError as error:  # the table says it as well
        print(f"error: {plan.folder}/members.csv: {error.strerror or error}", file=sys.stderr)
    _show(plan, results)
    print(f"\neach run: {_runs_folder(plan)}/<run_id>/   this sweep: {plan.folder}/members.csv")
    for line in _hints(plan, results):
        print(line)
    return _code(plan, results)


def told(plan: Plan, results: Sequence[Mapping[str, Any]]) -> int:
    """Print the table of some of a sweep's runs; the exit code of what trained them.

    Raises:
        UserError: every run was refused: nothing has started.
    """
    results = _explained(plan, results)
    _show(plan, results)
    return _code(plan, results)


def _explained(plan: Plan, results: Sequence[Mapping[str, Any]]) -> list[Result]:
    if all("refused" in r for r in results):
        raise UserError(results[0]["refused"])
    return [_with_cause(r, plan.runs[r["run_id"]]) for r in results]


def _show(plan: Plan, results: Sequence[Mapping[str, Any]]) -> None:
    table.show(results, {r["run_id"]: config.to_dict(plan.runs[r["run_id"]]) for r in results})


def _code(plan: Plan, results: Sequence[Mapping[str, Any]]) -> int:
    """The exit code; what is left to other processes doesn't count."""
    waits = plan.packs[0][0].pack.wait
    return exit_code([r["state"] for r in results if waits or "busy" not in r])


def exit_code(states: Sequence[str]) -> int:
    """What a sweep whose runs ended so returns to the shell."""
    if any(state in ("preempted", "running") for state in states):
        return INTERRUPTED if watch.asked == signal.SIGINT else PREEMPTED
    return OK if all(state == "complete" for state in states) else SOME_FAILED


def _with_cause(result: Mapping[str, Any], one: RunConfig) -> Result:
    """A result that isn't complete also says why, as its run's status does."""
    if result["state"] == "complete" or "cause" in result:
        return dict(result)
    return {**result, "cause": (ledger.read_status(folder_of(one)) or {}).get("cause")}


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


def _runs_folder(plan: Plan) -> Path:
    return plan.outputs / "runs"


def _hints(plan: Plan, results: Sequence[Mapping[str, Any]]) -> list[str]:
    from actsweep.writers.wandb_support import hint_lines

    states, name = {r["state"] for r in results}, name_of(plan.folder)
    if any("busy" in r for r in results) and exit_code(list(states - {"running"})) != PREEMPTED:
        return [f"others are at it:  actsweep status {name}"]
    by_hand = plan.packs[0][0].trainer.distributed and not (plan.folder / "slurm").is_dir()
    if states & {"preempted", "running"} and by_hand:
        return ["go on:  the same command again, for every process"]
    if states & {"preempted", "running"}:
        return [f"go on:  actsweep resume {name}   (or the same command again)"]
    lines = [f"retry:  actsweep retry {name}"] * ("failed" in states)
    mode = plan.packs[0][0].logger.mode
    folders = [_runs_folder(plan) / r["run_id"] for r in results]
    return lines if mode == "disabled" else lines + hint_lines(folders, mode)
