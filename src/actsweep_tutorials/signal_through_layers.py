"""signal-through-layers: what is left of a signal, layer after layer? (S4)

The tutorial's chain: five inputs by `gauss(0, 1)`; each layer draws five weights by `gauss(0, 1)`,
z is the sum of weight * value, and f(z) becomes all five values. One seed decides by luck whether
a ReLU chain survives its layers, so many seeds are measured as well.
"""

import random
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep_tutorials.base import MAIN_ACTIVATIONS, Experiment, Params, Quantities, Table
from actsweep_tutorials.scalar import ScalarActivation, scalar_activations

WIDTH = 5
FLOOR = 1e-20  # the figure's smallest number


def signal_sizes(act: ScalarActivation, layers: int, seed: int) -> list[float]:
    """Return |value| after each layer, in float64; the draws are those of `random.Random(seed)`."""
    rng = random.Random(seed)
    values = [rng.gauss(0, 1) for _ in range(WIDTH)]
    sizes = []
    for _ in range(layers):
        z = 0.0
        for value in values:
            z += rng.gauss(0, 1) * value
        a = act.f(z)
        values = [a] * WIDTH
        sizes.append(abs(a))
    return sizes


def measure(params: Params) -> Quantities:
    """Return the tutorial's seed; and, over seeds 0 … n - 1, quartiles and the share of zeros."""
    acts = scalar_activations(params["act"])
    layers = params["layers"]
    single = {name: signal_sizes(act, layers, params["seed"]) for name, act in acts.items()}
    by_act = {}
    for name, act in acts.items():
        sizes = np.array([signal_sizes(act, layers, seed) for seed in range(params["seeds"])])
        low, middle, high = np.quantile(sizes, (0.25, 0.5, 0.75), axis=0)
        zero = (sizes == 0).mean(axis=0)
        by_act[name] = {"q25": low, "median": middle, "q75": high, "zero": zero}
    return {"seed": params["seed"], "seeds": params["seeds"], "single": single, "many": by_act}


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw a panel an activation: one seed beside quartiles of all; and the share that is 0."""
    by_act: Mapping[str, Mapping[str, list[float]]] = result["many"]
    title = f"|value| layer after layer: seed {result['seed']} beside {result['seeds']} seeds"
    figure, flat = plotting.panels(len(by_act), 4, title=title)
    for axes, (name, quantiles) in zip(flat, by_act.items(), strict=True):
        layer = np.arange(1, len(quantiles["median"]) + 1)
        colour = plotting.colour(name)
        axes.fill_between(
            layer, quantiles["q25"], quantiles["q75"], color=colour, alpha=0.2, linewidth=0
        )
        axes.plot(
            layer,
            quantiles["median"],
            color=colour,
            label=f"{result['seeds']} seeds: median, quartiles",
        )
        sizes = result["single"][name]
        axes.plot(layer, sizes, ".", color="black", markersize=4, label=f"seed {result['seed']}")
        axes.set_yscale("symlog", linthresh=FLOOR)
        axes.set_yticks([0, FLOOR, 1e-15, 1e-10, 1e-5, 1])
        axes.set_ylim(-FLOOR / 4, 20)
        first_zero = next((i for i, value in enumerate(sizes, 1) if value == 0), None)
        axes.set_title(
            name
            if first_zero is None
            else f"{name}: seed {result['seed']} is 0 from layer {first_zero}"
        )
        axes.set_xlabel("layer, input to output")
    flat[0].set_ylabel("|value|")
    flat[0].legend(fontsize=7, loc="lower left")
    dead, (axes,) = plotting.panels(1, 1, width=6, height=3.2)
    for name, quantiles in by_act.items():
        layer = np.arange(1, len(quantiles["zero"]) + 1)
        axes.plot(
            layer,
            100 * np.array(quantiles["zero"]),
            **plotting.line_style(name, marker=True),
            markevery=max(1, len(layer) // 10),
        )
    axes.plot(layer, 100 * (1 - 0.5**layer), "k:", linewidth=1, label="1 - 1/2^layer")
    axes.set_xlabel("layer, input to output")
    axes.set_ylabel("chains that are exactly 0, %")
    axes.legend(ncols=2, fontsize=8)
    return {"signal": figure, "extinct": dead}


def tables(result: Quantities) -> Sequence[Table]:
    """Return the values of the last layer."""
    rows = [
        [
            name,
            result["single"][name][0],
            result["single"][name][-1],
            quantiles["median"][-1],
            quantiles["q25"][-1],
            quantiles["q75"][-1],
            100 * quantiles["zero"][-1],
        ]
        for name, quantiles in result["many"].items()
    ]
    seed, seeds = f"seed {result['seed']}", f"{result['seeds']} seeds"
    heading = ("activation", f"{seed}: layer 1", f"{seed}: last layer", f"{seeds}: median", "25 %")
    return [Table("|value| in the last layer", (*heading, "75 %", "exactly 0, %"), rows)]


EXPERIMENT = Experiment(
    "signal-through-layers",
    "What is left of a signal, layer after layer, for one seed and for many?",
    "S4",
    measure,
    draw,
    tables,
    {"act": MAIN_ACTIVATIONS, "layers": 50, "seed": 42, "seeds": 1000},
)
