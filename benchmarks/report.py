"""How long the report takes, and how large it is.

A few runs are trained for real (digits, four hidden layers, full diagnostics, 20 epochs); their
folders are copied under other seeds until there are as many as asked for. Every report is written
in a process of its own.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from actsweep.config import resolve
from actsweep.runs.members import make_member
from actsweep.sweeps.plan import Plan, read_plan
from benchmarks import shell
from benchmarks.harness import Result, figure, median

ACTS = ("relu", "tanh", "elu", "swish", "sigmoid", "gelu", "leaky_relu", "mish", "selu", "softplus")
WORDS = (
    *("data=digits", "data.val_size=300", "depth=4", "depth.width=32", "trainer.patience=null"),
    *("logger=disabled", "logger.report=false", "callbacks=full", "trainer.batch_size=256"),
)
SIZES = (30, 100, 1000)


def report(rounds: int, toy: bool) -> Result:
    """Seconds of `actsweep report` and megabytes of its page, by the number of runs."""
    acts, epochs, sizes = (ACTS[:2], 1, (4,)) if toy else (ACTS, 20, SIZES)
    with shell.scratch() as folder, shell.scratch() as cache:
        words = (f"act={','.join(acts)}", "seed=0", *WORDS, f"trainer.epochs={epochs}")
        shell.train("-m", *words, f"paths.outputs={folder}", cache=Path(cache))
        sweep = next(Path(folder, "sweeps").iterdir())
        rows = [_write(Path(folder), multiply(sweep, count), count, rounds) for count in sizes]
    small, large = rows[min(1, len(rows) - 1)], rows[-1]
    return {
        "sizes": rows,
        "figures": [
            figure(f"report of {small['runs']} runs, megabytes", small["MB"], 5.0),
            figure(f"report of {large['runs']} runs, seconds", large["seconds"], 60.0),
        ],
    }


def multiply(sweep: Path, count: int) -> Path:
    """A sweep of as many runs, each a copy of a trained one under another seed."""
    plan = read_plan(sweep)
    trained = list(plan.runs.values())
    packs, overrides = [], {}
    for run in trained:
        old, pack = run.dir, []
        for seed in range(count // len(trained)):
            one = resolve.from_dict({**resolve.to_dict(run.config), "seed": seed})
            member = make_member(one)
            new = member.dir
            if new.run_id != old.run_id and not new.path.exists():
                shutil.copytree(old.path, new.path, ignore=shutil.ignore_patterns("checkpoints"))
                summary = json.loads(new.summary.read_text())
                summary |= {"run_id": new.run_id, "seed": seed}
                summary["test_accuracy"] += 0.01 * ((seed * 7919) % 13 - 6) / 6
                new.summary.write_text(json.dumps(summary))
            pack.append(member)
            overrides[member.run_id] = [f"seed={seed}"]
        packs.append(pack)
    folder = sweep.with_name(f"{count} runs")
    folder.mkdir()
    Plan(folder, plan.command, packs, overrides).write()
    return folder


def _write(outputs: Path, folder: Path, count: int, rounds: int) -> Result:
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        words = ["-m", "actsweep", "report", str(folder), "--outputs", str(outputs)]
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    size = (folder / "report" / "index.html").stat().st_size / 1e6
    return {"runs": count, "seconds": median(took), "MB": size}
