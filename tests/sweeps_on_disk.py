"""Sweeps as training leaves them, written by hand, for tests of pages that show them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actsweep.config import resolve
from actsweep.runs import run_dir
from actsweep.runs.members import make_member
from actsweep.runs.run_dir import RunDir
from actsweep.sweeps import plan
from actsweep.utils import files

EPOCHS = 8
BETTER = {"relu": 0.02, "elu": 0.0, "tanh": -0.03}


def sweep_on_disk(
    outputs: Path,
    name: str,
    acts: Sequence[str] = tuple(BETTER),
    seeds: int = 3,
    **parts: Any,
) -> list[RunDir]:
    """Write a sweep whose runs are complete; return their folders. `parts` are of the config."""
    members = [
        make_member(
            resolve.resolve(
                {
                    "act": {"name": act},
                    "seed": seed,
                    "trainer": {"epochs": EPOCHS},
                    "paths": {"outputs": str(outputs)},
                    **parts,
                }
            )
        )
        for act in acts
        for seed in range(seeds)
    ]
    overrides = {
        m.run_id: [f"act={m.config.act['name']}", f"seed={m.config.seed}"] for m in members
    }
    made = plan.new_plan(outputs / "sweeps" / name, [members], overrides)
    made.write()
    for place, member in enumerate(members):
        write_run(member.dir, name, member.config.act["name"], place)
    return [member.dir for member in members]


def write_run(folder: RunDir, sweep: str, act: str, place: int) -> None:
    """Write a complete run: rows, messages, summary, status."""
    rng = np.random.default_rng(place)
    best = 0.85 + BETTER.get(act, 0.0) + rng.normal(0, 0.004)
    folder.path.mkdir(parents=True, exist_ok=True)
    rows = [row(epoch, best, rng) for epoch in range(EPOCHS + 1)]
    folder.metrics.write_text("".join(json.dumps(r) + "\n" for r in rows))
    folder.messages.write_text(f"step 20: hidden_1 has {place} dead units\n")
    summary = {
        "run_id": folder.run_id,
        "state": "complete",
        "epochs": float(EPOCHS),
        "best_epoch": EPOCHS,
        "best_val_accuracy": best - 0.01,
        "test_accuracy": best,
        "test_loss": 1 - best,
        "dead_frac": place / 100,
        "seconds": 2.5 + place,
    }
    files.write_json(folder.summary, summary)
    run_dir.write_status(
        folder,
        "complete",
        step=40 * EPOCHS,
        epoch=EPOCHS,
        sweep=sweep,
        attempt=1,
        since={"time": "2026-03-01T12:00:00+00:00", "epoch": 0},
    )


def row(epoch: int, best: float, rng: np.random.Generator) -> dict[str, Any]:
    """Return a row of metrics."""
    accuracy = best * (1 - np.exp(-1 - epoch)) + rng.normal(0, 0.001)
    layers = {
        f"{quantity}/{layer}": float(rng.uniform(0.1, 1))
        for quantity in ("grad_norm", "act_mean")
        for layer in ("hidden_1", "hidden_2")
    }
    scores = {"val/accuracy": accuracy, "val/loss": 1.2 - accuracy, "grad_norm/head": 0.25}
    train = {"train/accuracy": accuracy + 0.01, "train/loss": 1.1 - accuracy} if epoch else {}
    return {"step": 40 * epoch, "epoch": float(epoch), **layers, **scores, **train}
