"""The command `actsweep doctor`: runs whose numbers may be wrong, and why."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from actsweep.config import identity
from actsweep.runs import run_dir
from actsweep.runs.metrics_file import read_metrics
from actsweep.runs.run_dir import RunDir
from actsweep.sweeps import find
from actsweep.sweeps.exit_codes import OK, SOME_FAILED
from actsweep.utils.errors import UserError
from actsweep.utils.progress import counted

PROBED = ("dead_frac/", "cos_sim/", "preact_std/", "act_mean/", "saturated_frac/")


def doctor(outputs: Path, names: list[str]) -> int:
    """Print a line for each doubt about a run; return 1 if there is any, else 0.

    Args:
        outputs: `paths.outputs`.
        names: runs, as `find_runs` takes them; all by default.

    Raises:
        UserError: a name matches no run.
    """
    runs = find.find_runs(outputs, names or ["*"])
    doubtful = 0
    for run in counted(runs, "examined {} runs"):
        doubts = [*examine(run)]
        doubtful += bool(doubts)
        for doubt in doubts:
            print(f"{run.run_id}: {doubt}")
    print(f"{doubtful} of {len(runs)} runs may hold wrong numbers")
    return SOME_FAILED if doubtful else OK


def examine(run: RunDir) -> Iterator[str]:
    """Yield what is doubtful about one run, in words."""
    status, summary = run_dir.read_status(run), run_dir.read_summary(run)
    try:
        run_dir.check_owner(run, summary)
        config = yaml.safe_load(run.config.read_bytes())
    except UserError as error:
        yield str(error)
        return
    except (OSError, yaml.YAMLError) as error:
        yield f"its config can't be read ({error})"
        return
    if status is None or status["state"] != "complete":
        return
    yield from _weights(run)
    yield from _decay(config)
    yield from _last_probe(run, config, summary or {})
    yield from _data(config, status)


def _weights(run: RunDir) -> Iterator[str]:
    """Weights that aren't finite: before version 0.2 such a run could count as complete."""
    from actsweep.runs import checkpoint  # which loads jax

    steps = checkpoint.steps(run.checkpoints)
    if not steps:
        return
    try:
        flat, _ = checkpoint.load(run.checkpoints, steps[0])
    except checkpoint.CheckpointError as error:
        yield f"its checkpoint is damaged ({error})"
        return
    for part, what in (("params", "last"), ("best", "best")):
        arrays = [array for name, array in flat.items() if name.startswith(f"{part}/")]
        if not all(np.isfinite(array).all() for array in arrays):
            yield f"its {what} weights aren't finite: it diverged; type rerun=all to train it again"


def _decay(config: Mapping[str, Any]) -> Iterator[str]:
    """Weight decay of everything, as before version 0.2."""
    optim = config.get("optim", {})
    if optim.get("weight_decay") and "decay_bias" not in optim:
        learned = "and learned parameters of activations " if _learns(config) else ""
        yield (
            f"weight decay of {optim['weight_decay']:g} also pulled biases {learned}to 0, as today "
            "with optim.decay_bias=true optim.decay_act=true"
        )


def _learns(config: Mapping[str, Any]) -> bool:
    act = config.get("act", {})
    return act.get("name") == "prelu" or bool(act.get("learnable"))


def _last_probe(
    run: RunDir, config: Mapping[str, Any], summary: Mapping[str, Any]
) -> Iterator[str]:
    """A last epoch that wasn't probed, where training stopped early."""
    if (summary.get("epochs") or 0) >= config["trainer"]["epochs"]:
        return
    try:
        columns = read_metrics(run.metrics)
    except (OSError, UserError):
        return
    probed = [name for name in columns if name.startswith(PROBED)]
    if probed and not any(np.isfinite(columns[name][-1]) for name in probed):
        yield "stopped early, and its last epoch wasn't probed: diagnostics are of the epoch before"


def _data(config: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[str]:
    """Files of the data set that changed after the training began."""
    began = datetime.fromisoformat(status["started"]).timestamp()
    for path in identity.data_paths(config.get("data", {})):
        if Path(path).stat().st_mtime > began:
            yield f"{path} has changed since it was trained"
