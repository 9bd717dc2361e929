"""What `train.py` does around Hydra: one-line errors, exit codes, the sweep's folder and table.

Nothing here imports jax before training starts.
"""

import contextlib
import functools
import json
import logging
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from actsweep import command, config, ledger, members
from actsweep.config import RunConfig
from actsweep.errors import UserError
from actsweep.explain import explain

details = logging.getLogger("actsweep.traceback")  # to the job's log file alone

OK, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
PLAN_FILE = "plan.json"


class Refused(BaseException):
    """Takes a UserError (its cause) past Hydra, which would report any `Exception` of a job."""


def guard(main: Callable[[], None]) -> int:
    """Run the Hydra application; turn what it raises into one line and an exit code.

    HYDRA_FULL_ERROR=1 shows the traceback as well.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and leaves the telling to us
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        sys.argv[1:] = command.for_hydra(sys.argv[1:])
        main()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the complete runs", file=sys.stderr)
        return INTERRUPTED
    except (Exception, Refused) as raised:
        error = raised.__cause__ if isinstance(raised, Refused) else raised
        assert error is not None
        if full:
            traceback.print_exception(error)
        print(f"error: {explain(error)}", file=sys.stderr)
        return BAD_INPUT if _is_input(error) else SOME_FAILED
    return OK


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not inside JAX's garbage-collection callback.

    That is where Python often first looks at signals after a long compilation, and what is raised
    there is printed and forgotten.
    """
    if frame is None or frame.f_code.co_name != "_xla_gc_callback":
        raise KeyboardInterrupt
    again = threading.Timer(0.01, signal.raise_signal, [number])
    again.daemon = True
    again.start()


def _is_input(error: BaseException) -> bool:
    from hydra.errors import HydraException

    kinds = (UserError, HydraException, OmegaConfBaseException, OSError, ValueError)
    return isinstance(error, kinds)


def run(cfg: DictConfig) -> list[dict[str, Any]]:
    """Hydra's task: train the runs of this job; alone, also finish the sweep of one."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    try:
        if hydra.mode != RunMode.MULTIRUN:
            raise SystemExit(_alone(cfg, hydra))
        if cfg.pack.members is None:
            sweeper = hydra.runtime.choices["hydra/sweeper"]
            raise UserError(f"hydra/sweeper={sweeper}: must be pack; leave it out")
        return train(Path(hydra.sweep.dir), list(cfg.pack.members))
    except UserError as error:
        if hydra.mode == RunMode.MULTIRUN and hydra.runtime.choices["hydra/launcher"] != "basic":
            raise  # another process: only an Exception comes back from it
        raise Refused from error
    except Exception:
        details.error("%s", traceback.format_exc())
        raise


def _alone(cfg: DictConfig, hydra: Any) -> int:
    """Check, plan and train one run; the exit code."""
    from hydra.core.global_hydra import GlobalHydra

    from actsweep.compose import act_params, checked

    folder = Path(hydra.runtime.output_dir)
    overrides = list(hydra.overrides.task)
    try:
        loader = GlobalHydra.instance().config_loader()
        params_of = functools.partial(act_params, loader)
        only = checked(config.typed(cfg), overrides, hydra.runtime.choices, params_of)
        ledger.check_writable(only.paths.outputs)
    except UserError:
        discard(folder)
        raise
    if only.pack.plan:
        discard(folder)
        show_plan([[only]])
        return OK
    write_plan(folder, [[only]], [[overrides]])
    return finish(folder, train(folder, [members.run_id(only)]))


def write_plan(
    folder: Path, packs: Sequence[Sequence[RunConfig]], overrides: Sequence[Sequence[Sequence[str]]]
) -> None:
    """Freeze a sweep in `plan.json`: every member's resolved config, overrides and pack."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = {
        members.run_id(one): {
            "pack": index,
            "overrides": command.as_typed(given),
            "config": config.to_dict(one),
        }
        for index, (pack, texts) in enumerate(zip(packs, overrides, strict=True))
        for one, given in zip(pack, texts, strict=True)
    }
    typed = [Path(sys.argv[0]).name, *command.as_typed(sys.argv[1:])]
    ledger.write_json(folder / PLAN_FILE, {"command": typed, "members": plan})


def read_plan(folder: Path) -> dict[str, Any]:
    """The frozen sweep: `command`, and `members` by run id."""
    return json.loads((folder / PLAN_FILE).read_text())


def show_plan(packs: Sequence[Sequence[RunConfig]]) -> None:
    """Print which runs would share a program, and the memory that each pack would need.

    Raises:
        UserError: bad input that only shows once data and devices are there.
    """
    from actsweep.run import foresee

    for index, pack in enumerate(packs):
        says, done = foresee(pack)
        print(f"pack {index}: {_count(len(pack), 'run')}{says}")
        for one in pack:
            run_id = members.run_id(one)
            print(f"  {run_id}{'  (complete already)' if run_id in done else ''}")
    print(f"{_count(sum(map(len, packs)), 'run')} in {_count(len(packs), 'pack')}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def train(folder: Path, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Train the frozen members that one job holds; nothing that goes wrong is raised.

    Returns:
        A result for each run. Bad input that only shows here leaves `refused` in it.
    """
    from actsweep.run import Place, failed, report, run_pack

    plan = read_plan(folder)["members"]
    own = [config.from_dict(plan[run_id]["config"]) for run_id in run_ids]
    pack = plan[run_ids[0]]["pack"]
    offset = sum(member["pack"] < pack for member in plan.values())
    try:
        return run_pack(own, Place(folder.name, offset, len(plan)))
    except UserError as error:
        return [{**failed(one, error), "refused": str(error)} for one in own]
    except Exception as error:
        report(error, run_ids)
        return [failed(one, error) for one in own]


def started(folder: Path, runs: Sequence[RunConfig]) -> bool:
    """Whether a job of this sweep has begun to train any of these runs."""
    return any(_since(folder, _run_dir(one).status) for one in runs)


def lost(folder: Path, pack: Sequence[RunConfig], error: BaseException) -> list[dict[str, Any]]:
    """The results of a job that returned none: what its members left on disk, else the error."""
    from actsweep.run import Place, failed, reusable

    results = []
    for one in pack:
        place = _run_dir(one)
        state = (ledger.read_status(place) or {}).get("state")
        summary = ledger.read_summary(place)
        if summary and _since(folder, place.summary) and state not in ("running", "preempted"):
            results.append({**summary, "state": state, "reused": False})
        elif kept := reusable(one, Place(folder.name)):
            results.append({**kept, "reused": True})
        else:
            results.append({**failed(one, error), "cause": first_line(error)})
    return results


def first_line(error: BaseException) -> str:
    """What kind of error it is and the first line of what it says; submitit adds the job's log."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _run_dir(one: RunConfig) -> ledger.RunDir:
    return ledger.RunDir(Path(one.paths.outputs), members.run_id(one))


def _since(folder: Path, file: Path) -> bool:
    """Whether a file has been written since this sweep was planned."""
    return file.exists() and file.stat().st_mtime >= (folder / PLAN_FILE).stat().st_mtime


def finish(folder: Path, results: Sequence[Mapping[str, Any]]) -> int:
    """Write `members.csv`, print the table and how to look further; the sweep's exit code.

    Raises:
        UserError: every run was refused: nothing has started, and the sweep leaves nothing.
    """
    from actsweep import table

    if all("refused" in r for r in results):
        discard(folder)
        raise UserError(results[0]["refused"])
    plan = read_plan(folder)["members"]
    results = [_with_cause(r, plan[r["run_id"]]["config"]) for r in results]
    rows = [
        {k: v for k, v in r.items() if k != "refused"}
        | {"overrides": " ".join(plan[r["run_id"]]["overrides"])}
        for r in results
    ]
    ledger.write_members_csv(folder, rows)
    table.show(results, {run_id: one["config"] for run_id, one in plan.items()})
    print(f"\neach run: {_runs_folder(plan)}/<run_id>/   this sweep: {folder}/members.csv")
    for line in _hints(plan, results):
        print(line)
    return OK if all(r["state"] == "complete" for r in results) else SOME_FAILED


def _with_cause(result: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """A result that isn't complete also says why, as its run's status does."""
    if result["state"] == "complete" or "cause" in result:
        return dict(result)
    folder = ledger.RunDir(Path(plain["paths"]["outputs"]), result["run_id"])
    return {**result, "cause": (ledger.read_status(folder) or {}).get("cause")}


def discard(folder: Path) -> None:
    """Take back what a sweep that never started has left: its plan, jobs' logs, empty folders."""
    (folder / PLAN_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / ".submitit", ignore_errors=True)
    for file in folder.glob("[0-9]*/*.log"):
        file.unlink()
    for path in [*folder.glob("*/"), folder]:
        with contextlib.suppress(OSError):
            path.rmdir()


def _runs_folder(plan: Mapping[str, Any]) -> Path:
    first = next(iter(plan.values()))
    return Path(first["config"]["paths"]["outputs"]) / "runs"


def _hints(plan: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[str]:
    from actsweep.writers.wandb_support import hint_lines

    first = next(iter(plan.values()))["config"]
    if first["logger"]["mode"] == "disabled":
        return []
    return hint_lines(
        [_runs_folder(plan) / r["run_id"] for r in results],
        first["logger"]["mode"],
    )
