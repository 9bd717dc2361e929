"""depth: which activation trains at which depth, and with which initialisation? (S0, S1)"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.training import run_sweep, seed_override

TRAINS = 0.5  # validation accuracy above which a network has learned something


def measure(params: Params) -> Quantities:
    """Return each seed's test accuracy and first epochs, by init, depth and activation."""
    inits: dict[str, Any] = {}
    for layers in params["depth"]:
        words = (
            f"act={','.join(params['act'])}",
            f"init={','.join(params['init'])}",
            seed_override(params["seeds"]),
            f"depth={layers}",
            f"depth.width={params['width']}",
            f"trainer.epochs={params['epochs']}",
            "trainer.patience=null",
            "callbacks=none",
            "logger=disabled",
        )
        for run in run_sweep(words, params):
            by_depth = inits.setdefault(run.config.init.name, {}).setdefault(str(layers), {})
            state, summary = run.status["state"], run.summary
            accuracy = run.metrics().get("val/accuracy", np.array([]))
            by_depth.setdefault(run.config.act["name"], []).append(
                {
                    "seed": run.config.seed,
                    "state": state,
                    "test_accuracy": summary.get("test_accuracy"),
                    "validation": accuracy[~np.isnan(accuracy)][1:],
                }
            )
    return {"inits": inits, "epochs": params["epochs"], "seeds": params["seeds"]}


def test_accuracies(result: Quantities, init: str, depth: int, act: str) -> dict[int, float]:
    """Return the test accuracy of each seed whose run ended well: it has a value of its own."""
    runs = result["inits"][init][str(depth)][act]
    return {run["seed"]: run["test_accuracy"] for run in runs if run["state"] == "complete"}


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw a heat map of test accuracies an init."""
    inits = result["inits"]
    title = f"Test accuracy, %, after {result['epochs']} epochs: mean of {result['seeds']} seeds"
    maps, flat = plotting.panels(
        len(inits), len(inits), width=3.6, height=3.4, share=False, title=title
    )
    for axes, (init, depths) in zip(flat, inits.items(), strict=True):
        acts = list(next(iter(depths.values())))
        values = [
            [_mean(test_accuracies(result, init, int(depth), act).values()) for depth in depths]
            for act in acts
        ]
        plotting.heatmap(axes, values, acts, list(depths), vmin=10, vmax=90)
        axes.set_title(f"init={init}")
        axes.set_xlabel("hidden layers (blank: all diverged)")
    return {"accuracy": maps}


def _mean(accuracies: Iterable[float]) -> float:
    """Return the mean, %; NaN of none."""
    values = [*accuracies]
    return 100 * float(np.mean(values)) if values else float("nan")


def tables(result: Quantities) -> Sequence[Table]:
    """Return the means of the seeds that ended well, and how many of all learn something."""
    made = []
    for init, depths in result["inits"].items():
        rows = []
        for act in next(iter(depths.values())):
            cells = []
            for depth, runs in depths.items():
                values = test_accuracies(result, init, int(depth), act).values()
                learned = sum(value > TRAINS for value in values)
                mean = f"{_mean(values):.1f}" if values else "–"
                cells.append(f"{mean} ({learned} of {len(runs[act])})")
            rows.append([act, *cells])
        heading = ("activation", *(f"{depth} layers" for depth in depths))
        title = f"init={init}: test accuracy, % (seeds above {100 * TRAINS:.0f} %)"
        made.append(Table(title, heading, rows))
    return made


EXPERIMENT = Experiment(
    "depth",
    "Which activation trains at 4, 10, 20 and 50 layers, and with which initialisation?",
    "S0, S1",
    measure,
    draw,
    tables,
    {
        "act": ("sigmoid", "tanh", "relu", "elu", "swish", "gelu"),
        "depth": (4, 10, 20, 50),
        "init": ("torch_uniform", "he_normal", "lecun_normal"),
        "seeds": 3,
        "epochs": 5,
        "width": 64,
    },
    quick=None,
    trains=True,
)
