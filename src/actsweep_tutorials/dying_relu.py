"""dying-relu: how learning rate and bias kill units. (S0, S4)

The tutorial's network on FashionMNIST. A unit is dead if |f'(z)| < 0.001 on all 50,000 training
images.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import Lab
from actsweep_tutorials.training import seeds, sweep


def measure(params: Params) -> Quantities:
    """By activation, bias and learning rate: each seed's dead share before training and with the
    best parameters; and which units, silent before training, are heard after its last epoch."""
    words = (
        f"act={','.join(params['act'])}",
        f"optim.lr={','.join(map(str, params['lr']))}",
        f"init.bias={','.join(map(str, params['bias']))}",
        seeds(params["seeds"]),
        f"trainer.epochs={params['epochs']}",
        "trainer.patience=null",
        "callbacks=light",
        "~callbacks.health",
        "~callbacks.gradients",
        "logger=disabled",
    )
    lab = Lab()
    acts: dict[str, Any] = {}
    fates: dict[str, dict[str, int]] = {}
    for run in sweep(words, params):
        own = run.config
        act = acts.setdefault(own.act["name"], {})
        cell = act.setdefault(str(own.init.bias), {}).setdefault(str(own.optim.lr), [])
        column = run.metrics().get("exact_dead_frac/all", np.array([]))
        known = column[~np.isnan(column)]
        done = run.status["state"] == "complete"
        cell.append(
            {
                "seed": own.seed,
                "state": run.status["state"],
                "before": known[0] if len(known) else None,
                "after": known[-1] if done and len(known) > 1 else None,
                "test_accuracy": run.summary.get("test_accuracy"),
            }
        )
        if done and own.act["name"] == "relu":
            _add_fates(fates, lab.silent(lab.drawn(own)), lab.silent(lab.trained(run, "last")))
    return {"acts": acts, "fates": fates, "epochs": params["epochs"], "seeds": params["seeds"]}


def _add_fates(fates: dict, before: Mapping[str, np.ndarray], after: Mapping) -> None:
    for layer, silent in before.items():
        own = fates.setdefault(layer, {"silent": 0, "recovered": 0})
        own["silent"] += int(silent.sum())
        own["recovered"] += int((silent & ~after[layer]).sum())


def shares(found: Quantities, act: str, bias: float, lr: float) -> dict[int, float]:
    """Dead units after training, %, of each seed that was completed."""
    cells = found["acts"][act][str(bias)][str(lr)]
    return {one["seed"]: 100 * one["after"] for one in cells if one["after"] is not None}


def draw(found: Quantities) -> Mapping[str, Figure]:
    """Dead units by learning rate and bias, a panel an activation."""
    acts = found["acts"]
    title = f"Dead units after {found['epochs']} epochs, %: mean of {found['seeds']} seeds"
    figure, flat = plotting.panels(
        len(acts), len(acts), width=3.4, height=3, share=False, title=title
    )
    for axes, (act, biases) in zip(flat, acts.items(), strict=True):
        rates = list(next(iter(biases.values())))
        values = [
            [_mean(shares(found, act, float(bias), float(rate)).values()) for rate in rates]
            for bias in biases
        ]
        plotting.heatmap(axes, values, list(biases), rates, form="{:.1f}", vmin=0, vmax=100)
        axes.set_title(act)
        axes.set_xlabel("learning rate (blank: diverged)")
    flat[0].set_ylabel("added to every bias")
    return {"dead": figure}


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else float("nan")


def tables(found: Quantities) -> Sequence[Table]:
    """Every cell; and the fate of units that were silent from the start."""
    rows = []
    for act, biases in found["acts"].items():
        for bias, rates in biases.items():
            for rate, cells in rates.items():
                after = shares(found, act, float(bias), float(rate))
                before = [100 * one["before"] for one in cells if one["before"] is not None]
                good = [100 * s["test_accuracy"] for s in cells if s["test_accuracy"] is not None]
                done = f"{len(after)} of {len(cells)}"
                cell = [_mean(before), _mean(after.values()), _mean(good)]
                rows.append([act, bias, rate, done, *cell])
    heading = ("activation", "bias", "lr", "completed", "dead before, %", "dead after, %")
    fates = [[layer, one["silent"], one["recovered"]] for layer, one in found["fates"].items()]
    return [
        Table("Dead units", (*heading, "test accuracy, %"), rows),
        Table("ReLUs silent before training", ("layer", "units, all runs", "recovered"), fates),
    ]


EXPERIMENT = Experiment(
    "dying-relu",
    "How do learning rate and bias kill units, and do they come back?",
    "S0, S4",
    measure,
    draw,
    tables,
    {
        "act": ("relu", "gelu"),
        "lr": (0.01, 0.1, 0.2, 0.3),
        "bias": (0.0, -0.1, -0.2, -0.5),
        "seeds": 5,
        "epochs": 5,
    },
    quick=None,
    trains=True,
)
