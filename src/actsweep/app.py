"""What `train.py` does around Hydra: one-line errors, exit codes, the sweep's folder and table.

Nothing here imports jax before training starts.
"""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from actsweep import config, ledger, members
from actsweep.config import RunConfig
from actsweep.errors import UserError, bad_value, unknown_name

log = logging.getLogger(__name__)

OK, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
PLAN_FILE = "plan.json"


def guard(main: Callable[[], None]) -> int:
    """Run the Hydra application; turn what it raises into one line and an exit code."""
    from hydra.errors import HydraException

    full = os.environ.setdefault("HYDRA_FULL_ERROR", "1") == "1" and "-v" in sys.argv
    sys.argv[1:] = [word for given in sys.argv[1:] for word in config.expand_depth(given)]
    try:
        main()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if full:
            traceback.print_exc()
        print(f"error: {explain(error)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return OK


def explain(error: BaseException) -> str:
    """One line: what is wrong, where, what is allowed, what to type."""
    from hydra.errors import MissingConfigException, OverrideParseException

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return str(unknown_name(group, name, error.options))
    if isinstance(error, OverrideParseException):
        return f"{error.override}: can't be read as an override; type for example optim.lr=0.1"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return _explain_value(cause)
    return " ".join(str(error).split())


def run(cfg: DictConfig) -> list[dict[str, Any]]:
    """Hydra's task: train the runs of this job; alone, also finish the sweep of one."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return _job(Path(hydra.sweep.dir), list(cfg.pack.members))
    choices(hydra.runtime.choices)
    only = config.resolve(cfg)
    folder = Path(hydra.runtime.output_dir)
    overrides = [text for text in hydra.overrides.task]
    write_plan(folder, [[only]], [[overrides]])
    ledger.check_writable(only.paths.outputs)
    if only.pack.plan:
        show_plan([[only]])
        raise SystemExit(OK)
    results = _job(folder, [members.run_id(only)])
    raise SystemExit(finish(folder, results))


def choices(chosen: Mapping[str, Any]) -> None:
    """Refuse a list where one choice is wanted, such as `act=[relu]`."""
    for group, choice in chosen.items():
        if not isinstance(choice, str | None) and not group.startswith("hydra"):
            names = ",".join(map(str, choice))
            raise bad_value(
                group,
                list(choice),
                "one name",
                f"{group}={names}, with -m for a sweep over several",
            )


def write_plan(
    folder: Path, packs: Sequence[Sequence[RunConfig]], overrides: Sequence[Sequence[Sequence[str]]]
) -> None:
    """Freeze a sweep: every member's resolved config, its overrides and its pack, in `plan.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = {
        members.run_id(one): {
            "pack": index,
            "overrides": list(given),
            "config": config.to_dict(one),
        }
        for index, (pack, texts) in enumerate(zip(packs, overrides, strict=True))
        for one, given in zip(pack, texts, strict=True)
    }
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    ledger.write_json(folder / PLAN_FILE, {"command": command, "members": plan})


def read_plan(folder: Path) -> dict[str, Any]:
    """The frozen sweep: `command`, and `members` by run id."""
    return json.loads((folder / PLAN_FILE).read_text())


def show_plan(packs: Sequence[Sequence[RunConfig]]) -> None:
    """Print which runs would share a program."""
    for index, pack in enumerate(packs):
        print(f"pack {index}: {len(pack)} runs")
        for one in pack:
            print(f"  {members.run_id(one)}")
    print(f"{sum(map(len, packs))} runs in {len(packs)} packs")


def finish(folder: Path, results: Sequence[Mapping[str, Any]]) -> int:
    """Write `members.csv`, print the table and how to look further; the sweep's exit code."""
    from actsweep import table

    plan = read_plan(folder)["members"]
    rows = [{**r, "overrides": " ".join(plan[r["run_id"]]["overrides"])} for r in results]
    ledger.write_members_csv(folder, rows)
    table.show(results)
    print(f"\neach run: {_runs_folder(plan)}/<run_id>/   this sweep: {folder}/members.csv")
    for line in _hints(plan, results):
        print(line)
    return OK if all(r["state"] == "complete" for r in results) else SOME_FAILED


def _job(folder: Path, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Train the frozen members that this job holds."""
    from actsweep.run import Place, failed, run_pack

    plan = read_plan(folder)["members"]
    own = [config.resolve(plan[run_id]["config"]) for run_id in run_ids]
    pack = plan[run_ids[0]]["pack"]
    offset = sum(member["pack"] < pack for member in plan.values())
    try:
        return run_pack(own, Place(folder.name, offset, len(plan)))
    except UserError:
        raise
    except Exception as error:
        log.error("%s", traceback.format_exc())
        return [failed(one, error) for one in own]


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


def _explain_value(error: OmegaConfBaseException) -> str:
    path = error.full_key or "?"
    text = str(error.msg or error).splitlines()[0]
    if (match := re.match(r"Key '(.*)' (is not in struct|not in)", text)) is not None:
        return _explain_key(path, match[1], error)
    if match := re.match(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", text):
        kinds = {"Integer": ("an integer", "1"), "Float": ("a number", "0.1")}
        allowed, example = kinds.get(match[2], (f"a {match[2]}", "…"))
        return str(bad_value(path, match[1], allowed, f"{path}={example}"))
    return f"{path}: {text}"


def _explain_key(path: str, key: str, error: OmegaConfBaseException) -> str:
    parent = error.parent_node
    known = [str(k) for k in parent] if isinstance(parent, DictConfig) else []
    prefix = path.rpartition(".")[0]
    full = [f"{prefix}.{k}" if prefix else k for k in known]
    import difflib

    near = difflib.get_close_matches(path, full, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{path}: no such key; {hint}Known here: {', '.join(full)}"
