"""signal-through-layers: what is left of a signal, layer after layer? (S4)

The tutorial's chain: five inputs by `gauss(0, 1)`; each layer draws five weights by `gauss(0, 1)`,
z is the sum of weight * value, and f(z) becomes all five values. One seed decides by luck whether
a ReLU chain survives its layers, so many seeds are looked at as well.
"""

import random
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep_tutorials.base import MAIN, Experiment, Params, Quantities, Table
from actsweep_tutorials.scalar import Scalar, scalars

WIDTH = 5
FLOOR = 1e-20  # the figure's smallest number


def chain(one: Scalar, layers: int, seed: int) -> list[float]:
    """|value| after each layer, in float64; the draws are those of `random.Random(seed)`."""
    rng = random.Random(seed)
    values = [rng.gauss(0, 1) for _ in range(WIDTH)]
    sizes = []
    for _ in range(layers):
        z = 0.0
        for value in values:
            z += rng.gauss(0, 1) * value
        a = one.f(z)
        values = [a] * WIDTH
        sizes.append(abs(a))
    return sizes


def measure(params: Params) -> Quantities:
    """The tutorial's seed; and over seeds 0 … n - 1 quartiles and the share that is exactly 0."""
    acts = scalars(params["act"])
    layers = params["layers"]
    single = {name: chain(one, layers, params["seed"]) for name, one in acts.items()}
    many = {}
    for name, one in acts.items():
        sizes = np.array([chain(one, layers, seed) for seed in range(params["seeds"])])
        low, middle, high = np.quantile(sizes, (0.25, 0.5, 0.75), axis=0)
        zero = (sizes == 0).mean(axis=0)
        many[name] = {"q25": low, "median": middle, "q75": high, "zero": zero}
    return {"seed": params["seed"], "seeds": params["seeds"], "single": single, "many": many}


def draw(found: Quantities) -> Mapping[str, Figure]:
    """A panel an activation: the one seed, the median and quartiles over all; and what died."""
    many: Mapping[str, Mapping[str, list[float]]] = found["many"]
    title = f"|value| layer after layer: seed {found['seed']} beside {found['seeds']} seeds"
    figure, flat = plotting.panels(len(many), 4, title=title)
    for axes, (name, over) in zip(flat, many.items(), strict=True):
        layer = np.arange(1, len(over["median"]) + 1)
        own = plotting.colour(name)
        axes.fill_between(layer, over["q25"], over["q75"], color=own, alpha=0.2, linewidth=0)
        axes.plot(
            layer, over["median"], color=own, label=f"{found['seeds']} seeds: median, quartiles"
        )
        one = found["single"][name]
        axes.plot(layer, one, ".", color="black", markersize=4, label=f"seed {found['seed']}")
        axes.set_yscale("symlog", linthresh=FLOOR)
        axes.set_yticks([0, FLOOR, 1e-15, 1e-10, 1e-5, 1])
        axes.set_ylim(-FLOOR / 4, 20)
        gone = next((i for i, value in enumerate(one, 1) if value == 0), None)
        axes.set_title(
            name if gone is None else f"{name}: seed {found['seed']} is 0 from layer {gone}"
        )
        axes.set_xlabel("layer, input to output")
    flat[0].set_ylabel("|value|")
    flat[0].legend(fontsize=7, loc="lower left")
    dead, (axes,) = plotting.panels(1, 1, width=6, height=3.2)
    for name, over in many.items():
        layer = np.arange(1, len(over["zero"]) + 1)
        axes.plot(
            layer,
            100 * np.array(over["zero"]),
            **plotting.line_style(name, marker=True),
            markevery=max(1, len(layer) // 10),
        )
    axes.plot(layer, 100 * (1 - 0.5**layer), "k:", linewidth=1, label="1 - 1/2^layer")
    axes.set_xlabel("layer, input to output")
    axes.set_ylabel("chains that are exactly 0, %")
    axes.legend(ncols=2, fontsize=8)
    return {"signal": figure, "extinct": dead}


def tables(found: Quantities) -> Sequence[Table]:
    """Last layers."""
    rows = [
        [
            name,
            found["single"][name][0],
            found["single"][name][-1],
            over["median"][-1],
            over["q25"][-1],
            over["q75"][-1],
            100 * over["zero"][-1],
        ]
        for name, over in found["many"].items()
    ]
    seed, seeds = f"seed {found['seed']}", f"{found['seeds']} seeds"
    heading = ("activation", f"{seed}: layer 1", f"{seed}: last layer", f"{seeds}: median", "25 %")
    return [Table("|value| in the last layer", (*heading, "75 %", "exactly 0, %"), rows)]


EXPERIMENT = Experiment(
    "signal-through-layers",
    "What is left of a signal, layer after layer, for one seed and for many?",
    "S4",
    measure,
    draw,
    tables,
    {"act": MAIN, "layers": 50, "seed": 42, "seeds": 1000},
)
