"""Draw sweep.png from a finished sweep: python docs/images/sweep.py outputs/sweeps/<time>"""

import sys
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np

import actsweep
from actsweep.report import colours
from actsweep.runs import run_dir
from actsweep.stats.paired import mean_interval

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main(sweep: Path, picture: Path) -> None:
    """Test accuracy by activation; gradient norm and dead units by layer, at the start and end."""
    groups: dict[str, list[actsweep.Run]] = defaultdict(list)
    for row in run_dir.read_members_csv(sweep):
        groups[row["act"]].append(actsweep.load_run(sweep.parents[1] / "runs" / row["run_id"]))
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for place, (act, runs) in enumerate(groups.items()):
        colour = colours.colour(act)
        _accuracy(axes[0], place, runs, colour)
        _by_layer(axes[1], act, runs, "grad_norm", colour)
        _by_layer(axes[2], act, runs, "dead_frac", colour)
    axes[0].set_xticks(range(len(groups)), list(groups))
    axes[0].set_ylabel("test accuracy, %")
    axes[0].set_title("Test accuracy, 95 % interval over seeds", fontsize=10)
    axes[1].set_yscale("log")
    axes[1].set_ylabel("L2 norm of the weight gradient")
    axes[1].set_title("Gradient norm: untrained (dashed), last epoch", fontsize=10)
    axes[2].set_ylabel("dead units, % of the layer")
    axes[2].set_title("Dead units: untrained (dashed), last epoch", fontsize=10)
    axes[2].legend(frameon=False)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    figure.savefig(picture, dpi=150)


def _accuracy(axis: plt.Axes, place: int, runs: list[actsweep.Run], colour: str) -> None:
    values = [100 * run.summary["test_accuracy"] for run in runs]
    mean, width = mean_interval(values)
    axis.errorbar(place, mean, yerr=width, color=colour, capsize=4, marker="_", markersize=16)
    axis.plot([place + 0.12] * len(values), values, "o", color=colour, alpha=0.5, markersize=5)


def _by_layer(axis: plt.Axes, act: str, runs: list[actsweep.Run], family: str, colour: str) -> None:
    columns = [run.metrics() for run in runs]
    layers = [key.split("/")[1] for key in columns[0] if key.startswith(f"{family}/")]
    layers = sorted((x for x in layers if x != "all"), key=lambda x: (x == "head", len(x), x))
    scale = 100 if family == "dead_frac" else 1
    for which, style in ((0, "--"), (-1, "-")):
        found = [[_known(c[f"{family}/{x}"])[which] for x in layers] for c in columns]
        label = act if which else None
        axis.plot(layers, scale * np.mean(found, axis=0), style, color=colour, label=label)
    axis.tick_params(axis="x", rotation=30)


def _known(column: np.ndarray) -> np.ndarray:
    return column[~np.isnan(column)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_suffix(".png"))
