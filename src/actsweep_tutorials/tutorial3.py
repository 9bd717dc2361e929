"""tutorial3: the UvA tutorial's comparison of six activations, with seeds and intervals. (S2)"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep.runs.load import Run
from actsweep.stats.paired import mean_interval
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.training import seeds, sweep

CLAIMED = {
    "sigmoid": 78.46,
    "tanh": 88.57,
    "relu": 88.65,
    "leaky_relu": 88.33,
    "elu": 88.32,
    "swish": 88.33,
}
WORDS = ("experiment=tutorial3",)
CHANCE = 0.2


def runs_of(params: Params) -> list[Run]:
    """The sweep's runs; leaky ReLU has the tutorial's slope, 0.1."""
    own = [act for act in params["act"] if act != "leaky_relu"]
    found = []
    if own:
        found += sweep((*WORDS, f"act={','.join(own)}", seeds(params["seeds"])), params)
    if "leaky_relu" in params["act"]:
        found += sweep((*WORDS, "act=leaky_relu", "act.slope=0.1", seeds(params["seeds"])), params)
    return sorted(found, key=lambda run: params["act"].index(run.config.act["name"]))


def measure(params: Params) -> Quantities:
    """Accuracies of every seed, and the curves."""
    groups: dict[str, dict[str, Any]] = {}
    for run in runs_of(params):
        own = groups.setdefault(run.config.act["name"], {"seeds": [], "curves": []})
        metrics, summary = run.metrics(), run.summary
        epochs = metrics["epoch"]
        whole = ~np.isnan(metrics["val/accuracy"])
        curve = metrics["val/accuracy"][whole]
        own["curves"].append({"epoch": epochs[whole], "accuracy": curve})
        own["seeds"].append(
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
    """Test accuracies, %, of the seeds that were completed."""
    done = [one for one in group["seeds"] if one["state"] == "complete"]
    return {one["seed"]: 100 * one["test_accuracy"] for one in done}


def draw(found: Quantities) -> Mapping[str, Figure]:
    """Test accuracies with intervals; validation over epochs."""
    figure, (left, right) = plotting.panels(2, 2, width=4.4, height=3.4, share=False)
    for place, (act, group) in enumerate(found["groups"].items()):
        values = list(accuracies(group).values())
        own = plotting.colour(act)
        if values:
            mean, half = mean_interval(values)
            left.errorbar(place, mean, yerr=half, color=own, capsize=4, marker="_", markersize=14)
            left.plot([place + 0.15] * len(values), values, "o", color=own, alpha=0.6)
        if act in CLAIMED:
            left.plot(place - 0.15, CLAIMED[act], "kx")
        for number, curve in enumerate(group["curves"]):
            style = plotting.line_style(act) | {"label": None if number else act}
            right.plot(curve["epoch"], 100 * np.array(curve["accuracy"], float), **style, alpha=0.7)
    left.plot([], [], "kx", label="claimed, one run")
    left.legend()
    left.set_xticks(range(len(found["groups"])), [a.replace("_", "\n") for a in found["groups"]])
    left.set_ylabel("test accuracy, %: mean ± 95 %, each seed")
    right.set_xlabel("epoch")
    right.set_ylabel("validation accuracy, %")
    right.legend(fontsize=8)
    return {"accuracy": figure}


def tables(found: Quantities) -> Sequence[Table]:
    """A row an activation."""
    rows = []
    for act, group in found["groups"].items():
        values = list(accuracies(group).values())
        mean, half = mean_interval(values) if values else (None, None)
        listed = lambda key, g=group: " ".join(str(s[key]) for s in g["seeds"])  # noqa: E731
        rows.append(
            [
                act,
                " ".join(f"{value:.2f}" for value in values),
                "–" if mean is None else f"{mean:.2f}" + (f" ± {half:.2f}" if half else ""),
                CLAIMED.get(act),
                listed("best_epoch"),
                listed("epochs"),
                listed("at_chance"),
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
    {"act": tuple(CLAIMED), "seeds": 5},
    quick=None,
    trains=True,
)
