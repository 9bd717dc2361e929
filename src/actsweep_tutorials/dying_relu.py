"""dying-relu: how learning rate and bias kill units. (S0, S4)

The tutorial's network on FashionMNIST. A unit is dead if |f'(z)| < 0.001 on all 50,000 training
images. A bias of -0.1 silences the last hidden layer of every ReLU network from the start, so that
nothing can train: such networks are shown before training, and count for nothing after it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep.runs.load import Run
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import NetworkInspector
from actsweep_tutorials.training import learned, run_sweep, seed_override


def measure(params: Params) -> Quantities:
    """Return by activation, bias and learning rate each seed's dead share, before training and with
    the best parameters; of ReLUs also how large the gradients are after the last epoch, and how
    many units, silent before training, have recovered by then.
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
    for run in run_sweep(words, params):
        config = run.config
        act = acts.setdefault(config.act["name"], {})
        seeds_of_cell = act.setdefault(str(config.init.bias), {}).setdefault(
            str(config.optim.lr), []
        )
        column = run.metrics().get("exact_dead_frac/all", np.array([]))
        known = column[~np.isnan(column)]
        done = run.status["state"] == "complete"
        seed = {
            "seed": config.seed,
            "state": run.status["state"],
            "before": known[0] if len(known) else None,
            "after": known[-1] if done and len(known) > 1 else None,
            "test_accuracy": run.summary.get("test_accuracy"),
        }
        if done and config.act["name"] == "relu":
            seed |= _last_epoch(inspector, run)
        seeds_of_cell.append(seed)
    return {"acts": acts, "epochs": params["epochs"], "seeds": params["seeds"]}


def _last_epoch(inspector: NetworkInspector, run: Run) -> Mapping[str, Any]:
    """Return, by layer after the last epoch, the mean |dL/dw|, and the fate of silent units."""
    last = inspector.trained(run, "last")
    before = inspector.silent_units(inspector.initialised(run.config))
    after = inspector.silent_units(last)
    grads = inspector.probe_first_batch(last)["grads"]
    return {
        "mean_gradient": {layer: np.abs(grad).mean() for layer, grad in grads.items()},
        "fates": {
            layer: {"silent": silent.sum(), "recovered": (silent & ~after[layer]).sum()}
            for layer, silent in before.items()
        },
    }


def seeds_of(result: Quantities, act: str, bias: float, lr: float) -> Sequence[Mapping[str, Any]]:
    """Return what is recorded of each seed."""
    cells: Sequence[Mapping[str, Any]] = result["acts"][act][str(bias)][str(lr)]
    return cells


def dead_shares(result: Quantities, act: str, bias: float, lr: float) -> dict[int, float]:
    """Return the share of dead units after training, %, of each network that learned something."""
    cells = seeds_of(result, act, bias, lr)
    return {
        seed["seed"]: 100 * seed["after"]
        for seed in cells
        if learned(seed) and seed["after"] is not None
    }


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw the dead units by learning rate and bias, a panel an activation."""
    acts = result["acts"]
    title = f"Dead units after {result['epochs']} epochs, %: mean of the seeds that learned"
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
        axes.set_xlabel("learning rate (blank: nothing learned)")
    flat[0].set_ylabel("added to every bias")
    return {"dead": figure}


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else float("nan")


def tables(result: Quantities) -> Sequence[Table]:
    """Return every cell, and what became of silent units in networks that learned."""
    rows: list[list[Any]] = []
    fates: dict[str, list[int]] = {}
    for act, biases in result["acts"].items():
        for bias, rates in biases.items():
            for rate, cells in rates.items():
                after = dead_shares(result, act, float(bias), float(rate))
                before = [100 * seed["before"] for seed in cells if seed["before"] is not None]
                ended = [seed for seed in cells if seed["state"] == "complete"]
                good = [100 * seed["test_accuracy"] for seed in ended]
                counts = [f"{len(some)} of {len(cells)}" for some in (ended, after)]
                cell = [_mean(before), _mean(after.values()), _mean(good)]
                rows.append([act, bias, rate, *counts, *cell])
                for seed in filter(learned, cells):
                    for layer, fate in seed.get("fates", {}).items():
                        silent, back = fates.get(layer, (0, 0))
                        fates[layer] = [silent + fate["silent"], back + fate["recovered"]]
    heading = ("activation", "bias", "lr", "completed", "learned", "dead before, %")
    fate_rows = [[layer, *counts] for layer, counts in fates.items()]
    return [
        Table("Dead units", (*heading, "dead after, % (learned)", "test accuracy, %"), rows),
        Table(
            "ReLUs silent before training, in networks that learned",
            ("layer", "units, all runs", "recovered"),
            fate_rows,
        ),
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
        "bias": (0.0, -0.02, -0.05, -0.1),
        "seeds": 5,
        "epochs": 5,
    },
    quick=None,
    trains=True,
)
