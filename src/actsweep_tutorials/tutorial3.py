"""tutorial3: the UvA tutorial's comparison of six activations, with seeds and intervals. (S2)"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep.runs.load import Run
from actsweep.stats.paired import mean_interval
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.training import run_sweep, seed_override

CLAIMED_ACCURACIES = {
    "sigmoid": 78.46,
    "tanh": 88.57,
    "relu": 88.65,
    "leaky_relu": 88.33,
    "elu": 88.32,
    "swish": 88.33,
}
OVERRIDES = ("experiment=tutorial3",)
CHANCE = 0.2


def sweep_runs(params: Params) -> list[Run]:
    """Train or read the sweep's runs and return them; leaky ReLU has the tutorial's slope, 0.1."""
    acts = [act for act in params["act"] if act != "leaky_relu"]
    runs = []
    if acts:
        runs += run_sweep(
            (*OVERRIDES, f"act={','.join(acts)}", seed_override(params["seeds"])), params
        )
    if "leaky_relu" in params["act"]:
        runs += run_sweep(
            (*OVERRIDES, "act=leaky_relu", "act.slope=0.1", seed_override(params["seeds"])), params
        )
    return sorted(runs, key=lambda run: params["act"].index(run.config.act["name"]))


def measure(params: Params) -> Quantities:
    """Return the accuracies of every seed, and the curves."""
    groups: dict[str, dict[str, Any]] = {}
    for run in sweep_runs(params):
        group = groups.setdefault(run.config.act["name"], {"seeds": [], "curves": []})
        metrics, summary = run.metrics(), run.summary
        epochs = metrics["epoch"]
        measured = ~np.isnan(metrics["val/accuracy"])
        curve = metrics["val/accuracy"][measured]
        group["curves"].append({"epoch": epochs[measured], "accuracy": curve})
        group["seeds"].append(
            {
                "seed": run.config.seed,
                "state": run.status["state"],
                "test_accuracy": summary.get("test_accuracy"),
                "best_epoch": summary.get("best_epoch"),
                "epochs": round(summary.get("epochs") or 0),
                "dead_frac": summary.get("dead_frac"),
                "at_chance": int((np.cumsum(curve > CHANCE) == 0).sum()) - 1,
            }
        )
    return {"groups": groups}


def accuracies(group: Mapping[str, Any]) -> dict[int, float]:
    """Return the test accuracies, %, of the seeds that were completed."""
    done = [seed for seed in group["seeds"] if seed["state"] == "complete"]
    return {seed["seed"]: 100 * seed["test_accuracy"] for seed in done}


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw test accuracies with intervals, and validation accuracy over epochs."""
    figure, (left, right) = plotting.panels(2, 2, width=4.4, height=3.4, share=False)
    for place, (act, group) in enumerate(result["groups"].items()):
        values = list(accuracies(group).values())
        colour = plotting.colour(act)
        if values:
            mean, half = mean_interval(values)
            left.errorbar(
                place, mean, yerr=half, color=colour, capsize=4, marker="_", markersize=14
            )
            left.plot([place + 0.15] * len(values), values, "o", color=colour, alpha=0.6)
        if act in CLAIMED_ACCURACIES:
            left.plot(place - 0.15, CLAIMED_ACCURACIES[act], "kx")
        for number, curve in enumerate(group["curves"]):
            style = plotting.line_style(act) | {"label": None if number else act}
            right.plot(curve["epoch"], 100 * np.array(curve["accuracy"], float), **style, alpha=0.7)
    left.plot([], [], "kx", label="claimed, one run")
    left.legend()
    left.set_xticks(range(len(result["groups"])), [a.replace("_", "\n") for a in result["groups"]])
    left.set_ylabel("test accuracy, %: mean ± 95 %, each seed")
    right.set_xlabel("epoch")
    right.set_ylabel("validation accuracy, %")
    right.legend(fontsize=8)
    return {"accuracy": figure}


def tables(result: Quantities) -> Sequence[Table]:
    """Return a row an activation."""
    rows = []
    for act, group in result["groups"].items():
        values = list(accuracies(group).values())
        mean, half = mean_interval(values) if values else (None, None)
        by_seed = lambda key, group=group: " ".join(str(s[key]) for s in group["seeds"])  # noqa: E731
        rows.append(
            [
                act,
                " ".join(f"{value:.2f}" for value in values),
                "–" if mean is None else f"{mean:.2f}" + (f" ± {half:.2f}" if half else ""),
                CLAIMED_ACCURACIES.get(act),
                by_seed("best_epoch"),
                by_seed("epochs"),
                by_seed("at_chance"),
            ]
        )
    start = ("activation", "test accuracy, %", "mean ± 95 %", "claimed")
    heading = (*start, "best epoch", "epochs", "epochs at chance")
    return [Table("The tutorial's comparison", heading, rows)]


EXPERIMENT = Experiment(
    "tutorial3",
    "Six activations on FashionMNIST: which is best, and is that more than noise?",
    "S2",
    measure,
    draw,
    tables,
    {"act": tuple(CLAIMED_ACCURACIES), "seeds": 5},
    quick=None,
    trains=True,
)
