"""A sweep's folder: the plan that was frozen when it was submitted, and what came of it. No jax."""

import contextlib
import json
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from actsweep import command, config, ledger, members, table
from actsweep.config import RunConfig
from actsweep.errors import UserError
from actsweep.ledger import RunDir
from actsweep.signals import watch

OK, SOME_FAILED, BAD_INPUT, PREEMPTED, INTERRUPTED = 0, 1, 2, 75, 130
PLAN_FILE = "plan.json"
LAUNCH_FILE = "launch.yaml"
"""Hydra's own config of the sweep: which launcher, with which settings."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What `plan.json` holds.

    Attributes:
        folder: the sweep's.
        command: as it was typed.
        packs: the runs of each job.
        overrides: by run id.
        attempt: how often the sweep was told to train, from 1 on.
    """

    folder: Path
    command: list[str]
    packs: list[list[RunConfig]]
    overrides: dict[str, list[str]]
    attempt: int = 1

    @property
    def runs(self) -> dict[str, RunConfig]:
        """Every run by its id, in order."""
        return {members.run_id(one): one for pack in self.packs for one in pack}

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
        whole = {"command": self.command, "attempt": self.attempt, "members": plain}
        ledger.write_json(self.folder / PLAN_FILE, whole)

    def again(self, rerun: str) -> "Plan":
        """The same sweep, told to train once more what `rerun` says."""
        packs = [[replace(one, rerun=rerun) for one in pack] for pack in self.packs]
        return replace(self, packs=packs, attempt=self.attempt + 1)


def freeze(plan: Plan, launch: DictConfig) -> None:
    """Write a sweep's plan, and with it Hydra's config, so that it can be launched again."""
    plan.write()
    OmegaConf.save(launch, plan.folder / LAUNCH_FILE)


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
    return Plan(folder, typed, [list(pack) for pack in packs], given)


def read_plan(folder: Path) -> Plan:
    """The frozen sweep.

    Raises:
        UserError: there is none.
    """
    try:
        plain = json.loads((folder / PLAN_FILE).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no sweep here ({error}); see actsweep status") from error
    packs: dict[int, list[RunConfig]] = {}
    for one in plain["members"].values():
        packs.setdefault(one["pack"], []).append(config.from_dict(one["config"]))
    overrides = {run_id: one["overrides"] for run_id, one in plain["members"].items()}
    return Plan(folder, plain["command"], [*packs.values()], overrides, plain.get("attempt", 1))


def run_dir(one: RunConfig) -> RunDir:
    """A run's folder."""
    return RunDir(Path(one.paths.outputs), members.run_id(one))


def started(plan: Plan) -> bool:
    """Whether a job of this sweep has begun to train any of its runs."""
    return any(_is_own(plan, one) for one in plan.runs.values())


def _is_own(plan: Plan, one: RunConfig) -> bool:
    """Whether the last to train a run was this attempt of this sweep."""
    status = ledger.read_status(run_dir(one)) or {}
    return (status.get("sweep"), status.get("attempt")) == (plan.folder.name, plan.attempt)


def on_disk(plan: Plan, one: RunConfig, otherwise: Mapping[str, Any]) -> Result:
    """The result of a run as its folder tells it; of one that isn't complete, `otherwise`."""
    folder, own = run_dir(one), _is_own(plan, one)
    if done := ledger.reusable(folder, one.rerun, plan.folder.name, plan.attempt):
        return {**done, "reused": not own}
    status = ledger.read_status(folder) or {}
    if own and status.get("state") in ("failed", "diverged"):
        summary = ledger.read_summary(folder) or {}
        known = {**members.describe(one), **summary, "reused": False}
        return {**known, "state": status["state"], "cause": status.get("cause")}
    return {**members.describe(one), **otherwise, "reused": False}


def cut_short(plan: Plan, one: RunConfig) -> Result:
    """The result of a run when its sweep was interrupted."""
    status = ledger.read_status(run_dir(one)) or {}
    cause = "not started"
    if status.get("state") in ("running", "preempted"):
        cause = f"stopped at epoch {status['epoch']:g}" if status["step"] else "stopped"
    return on_disk(plan, one, {"state": "preempted", "cause": cause})


def finish(plan: Plan, results: Sequence[Mapping[str, Any]]) -> int:
    """Write `members.csv`, print the table and how to look further; the sweep's exit code.

    Raises:
        UserError: every run was refused: nothing has started, and the sweep leaves nothing.
    """
    if all("refused" in r for r in results):
        discard(plan.folder)
        raise UserError(results[0]["refused"])
    runs = plan.runs
    results = [_with_cause(r, runs[r["run_id"]]) for r in results]
    rows = [
        {k: v for k, v in r.items() if k != "refused"}
        | {"overrides": " ".join(plan.overrides[r["run_id"]])}
        for r in results
    ]
    try:
        ledger.write_members_csv(plan.folder, rows)
    except OSError as error:  # the table says it as well
        print(f"error: {plan.folder}/members.csv: {error.strerror or error}", file=sys.stderr)
    table.show(results, {run_id: config.to_dict(one) for run_id, one in runs.items()})
    print(f"\neach run: {_runs_folder(plan)}/<run_id>/   this sweep: {plan.folder}/members.csv")
    for line in _hints(plan, results):
        print(line)
    return exit_code([r["state"] for r in results])


def exit_code(states: Sequence[str]) -> int:
    """What a sweep whose runs ended so returns to the shell."""
    if any(state in ("preempted", "running") for state in states):
        return INTERRUPTED if watch.asked == signal.SIGINT else PREEMPTED
    return OK if all(state == "complete" for state in states) else SOME_FAILED


def _with_cause(result: Mapping[str, Any], one: RunConfig) -> Result:
    """A result that isn't complete also says why, as its run's status does."""
    if result["state"] == "complete" or "cause" in result:
        return dict(result)
    return {**result, "cause": (ledger.read_status(run_dir(one)) or {}).get("cause")}


def discard(folder: Path) -> None:
    """Take back what a sweep that never started has left: its plan, jobs' logs, empty folders."""
    for name in (PLAN_FILE, LAUNCH_FILE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / ".submitit", ignore_errors=True)
    for file in folder.glob("[0-9]*/*.log"):
        file.unlink()
    for path in [*folder.glob("*/"), folder]:
        with contextlib.suppress(OSError):
            path.rmdir()


def outputs_of(plan: Plan) -> Path:
    """Where a sweep's runs are."""
    return Path(plan.packs[0][0].paths.outputs)


def _runs_folder(plan: Plan) -> Path:
    return outputs_of(plan) / "runs"


def _hints(plan: Plan, results: Sequence[Mapping[str, Any]]) -> list[str]:
    from actsweep.writers.wandb_support import hint_lines

    if any(r["state"] in ("preempted", "running") for r in results):
        return [f"go on:  actsweep resume {plan.folder.name}   (or the same command again)"]
    mode = plan.packs[0][0].logger.mode
    folders = [_runs_folder(plan) / r["run_id"] for r in results]
    return [] if mode == "disabled" else hint_lines(folders, mode)
