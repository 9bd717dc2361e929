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
from actsweep_tutorials.networks import NetworkInspector
from actsweep_tutorials.training import run_sweep, seed_override


def measure(params: Params) -> Quantities:
    """Return by activation, bias and learning rate each seed's dead share, before training and with
    the best parameters; and which units, silent before training, recover until its last epoch.
    """
    words = (
        f"act={','.join(params['act'])}",
        f"optim.lr={','.join(map(str, params['lr']))}",
        f"init.bias={','.join(map(str, params['bias']))}",
        seed_override(params["seeds"]),
        f"trainer.epochs={params['epochs']}",
        "trainer.patience=null",
        "callbacks=light",
        "~callbacks.health",
        "~callbacks.gradients",
        "logger=disabled",
    )
    inspector = NetworkInspector()
    acts: dict[str, Any] = {}
    fates: dict[str, dict[str, int]] = {}
    for run in run_sweep(words, params):
        config = run.config
        act = acts.setdefault(config.act["name"], {})
        seeds_of_cell = act.setdefault(str(config.init.bias), {}).setdefault(
            str(config.optim.lr), []
        )
        column = run.metrics().get("exact_dead_frac/all", np.array([]))
        known = column[~np.isnan(column)]
        done = run.status["state"] == "complete"
        seeds_of_cell.append(
            {
                "seed": config.seed,
                "state": run.status["state"],
                "before": known[0] if len(known) else None,
                "after": known[-1] if done and len(known) > 1 else None,
                "test_accuracy": run.summary.get("test_accuracy"),
            }
        )
        if done and config.act["name"] == "relu":
            _add_fates(
                fates,
                inspector.silent_units(inspector.initialised(config)),
                inspector.silent_units(inspector.trained(run, "last")),
            )
    return {"acts": acts, "fates": fates, "epochs": params["epochs"], "seeds": params["seeds"]}


def _add_fates(fates: dict, before: Mapping[str, np.ndarray], after: Mapping) -> None:
    for layer, silent in before.items():
        fate = fates.setdefault(layer, {"silent": 0, "recovered": 0})
        fate["silent"] += int(silent.sum())
        fate["recovered"] += int((silent & ~after[layer]).sum())


def dead_shares(result: Quantities, act: str, bias: float, lr: float) -> dict[int, float]:
    """Return the share of dead units after training, %, of each seed that was completed."""
    cells = result["acts"][act][str(bias)][str(lr)]
    return {seed["seed"]: 100 * seed["after"] for seed in cells if seed["after"] is not None}


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw the dead units by learning rate and bias, a panel an activation."""
    acts = result["acts"]
    title = f"Dead units after {result['epochs']} epochs, %: mean of {result['seeds']} seeds"
    figure, flat = plotting.panels(
        len(acts), len(acts), width=3.4, height=3, share=False, title=title
    )
    for axes, (act, biases) in zip(flat, acts.items(), strict=True):
        rates = list(next(iter(biases.values())))
        values = [
            [_mean(dead_shares(result, act, float(bias), float(rate)).values()) for rate in rates]
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


def tables(result: Quantities) -> Sequence[Table]:
    """Return every cell, and the fate of units that were silent before training."""
    rows = []
    for act, biases in result["acts"].items():
        for bias, rates in biases.items():
            for rate, cells in rates.items():
                after = dead_shares(result, act, float(bias), float(rate))
                before = [100 * seed["before"] for seed in cells if seed["before"] is not None]
                ended = [seed for seed in cells if seed["state"] == "complete"]
                good = [100 * seed["test_accuracy"] for seed in ended]
                done = f"{len(after)} of {len(cells)}"
                cell = [_mean(before), _mean(after.values()), _mean(good)]
                rows.append([act, bias, rate, done, *cell])
    heading = ("activation", "bias", "lr", "completed", "dead before, %", "dead after, %")
    fates = [[layer, fate["silent"], fate["recovered"]] for layer, fate in result["fates"].items()]
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
