"""How long the report takes, and how large it is: python benchmarks/report.py --out FILE.json

A few runs are trained for real (digits, four hidden layers, full diagnostics, 20 epochs); their
folders are copied under other seeds until there are as many as asked for. Every report is written
in a process of its own.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from actsweep.config import identity, resolve
from actsweep.runs import run_dir
from actsweep.sweeps.plan import Plan, read_plan
from benchmarks.baselines import cores

ROOT = Path(__file__).parents[1]
ACTS = ("relu", "tanh", "elu", "swish", "sigmoid", "gelu", "leaky_relu", "mish", "selu", "softplus")
WORDS = (
    *("data=digits", "data.val_size=300", "depth=4", "depth.width=32", "trainer.epochs=20"),
    *("trainer.patience=null", "logger=disabled", "logger.report=false", "callbacks=full"),
)
SIZES = (30, 100, 1000)
LIMITS = {30: None, 100: {"MB": 5.0}, 1000: {"seconds": 60.0}}


def train(outputs: Path) -> Path:
    """A run for each activation; their sweep's folder."""
    words = [f"act={','.join(ACTS)}", "seed=0", *WORDS, f"paths.outputs={outputs}"]
    subprocess.run([sys.executable, "train.py", "-m", *words], cwd=ROOT, check=True)
    return next((outputs / "sweeps").iterdir())


def multiply(sweep: Path, count: int) -> Path:
    """A sweep of as many runs, each a copy of a trained one under another seed."""
    plan = read_plan(sweep)
    packs, overrides = [], {}
    for run in list(plan.runs.values()):
        old, pack = run_dir.folder_of(run), []
        for seed in range(count // len(ACTS)):
            one = resolve.from_dict({**resolve.to_dict(run), "seed": seed})
            new = run_dir.folder_of(one)
            if new.run_id != old.run_id and not new.path.exists():
                shutil.copytree(old.path, new.path, ignore=shutil.ignore_patterns("checkpoints"))
                summary = json.loads(new.summary.read_text())
                summary |= {"run_id": new.run_id, "seed": seed}
                summary["test_accuracy"] += 0.01 * ((seed * 7919) % 13 - 6) / 6
                new.summary.write_text(json.dumps(summary))
            pack.append(one)
            overrides[identity.run_id(one)] = [f"seed={seed}"]
        packs.append(pack)
    folder = sweep.with_name(f"{count} runs")
    folder.mkdir()
    Plan(folder, plan.command, packs, overrides).write()
    return folder


def measure(outputs: Path, folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """Median seconds of the whole command, and the page's size."""
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        words = ["-m", "actsweep", "report", str(folder), "--outputs", str(outputs)]
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    size = (folder / "report" / "index.html").stat().st_size / 1e6
    return {"runs": count, "seconds": round(sorted(took)[repeats // 2], 2), "MB": round(size, 2)}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as at:
        outputs = Path(at)
        sweep = train(outputs)
        found = [
            measure(outputs, multiply(sweep, count), count, options.repeats) for count in SIZES
        ]
    for one in found:
        limits = LIMITS[one["runs"]] or {}
        one["met"] = all(one[key] <= most for key, most in limits.items())
        print(f"{one['runs']:5} runs {one['seconds']:7.2f} s {one['MB']:6.2f} MB, limits {limits}")
    result = {"cores": cores(), "repeats": options.repeats, "report": found}
    print(json.dumps(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
