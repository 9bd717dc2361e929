"""born-dead: how many narrow ReLU networks are constant before training, and what helps.

Lu et al. 2019, "Dying ReLU and initialization: theory and numerical examples". A network is born
dead if some hidden layer is 0 for every input: its output is constant, and no gradient reaches the
layers before. Inputs are one number from -√3 to √3, as in the paper.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool
from matplotlib.figure import Figure

from actsweep.nn.models.recording import Intermediates
from actsweep.nn.network import Network, Task, split
from actsweep.report import colours, plotting
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.theory.jacobian import born_dead, born_dead_on_line
from actsweep.theory.units import unit_of
from actsweep.train.population import ONCE
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import compose_run

INPUTS = 33
TASK = Task((1,), None, 1, 1.0, 0.0, 1)
REMEDY = "randomized_asymmetric"
CHUNK = 1000


def dead_from_layer(
    init: str, width: int, depth: int, networks: int, seed: int
) -> Bool[np.ndarray, "networks depth"]:
    """Return which drawn networks have a hidden layer that is 0 for every input, up to each layer.

    The networks are the product's own: an MLP of ReLUs, drawn as for training.

    Args:
        init: the initialisation.
        width: units of each hidden layer.
        depth: hidden layers; the first ones of a deeper network are a shallower one.
        networks: how many are drawn.
        seed: of the first; the others have the next.
    """
    run = compose_run("act=relu", f"init={init}", f"depth={depth}", f"depth.width={width}")
    pack = make_pack([make_member(run)])
    hparams = {key: jnp.asarray(value[0]) for key, value in stack_hparams(pack).items()}
    net = Network(pack.static, TASK, hparams)
    x = jnp.linspace(-math.sqrt(3), math.sqrt(3), INPUTS)[:, None]

    def dead(seed: jax.Array) -> jax.Array:
        params, held = split(net.draw({**hparams, "seed": seed}))
        layers = Intermediates()
        net.forward(params, held, x, layers)
        return jnp.stack([jnp.all(a == 0) for a in layers.act.values()])

    seeds = np.arange(seed, seed + networks, dtype=np.uint32)
    all_dead = jax.jit(jax.vmap(dead), compiler_options=ONCE)
    parts = [np.asarray(all_dead(seeds[i : i + CHUNK])) for i in range(0, networks, CHUNK)]
    return np.logical_or.accumulate(np.concatenate(parts), axis=1)


def measure(params: Params) -> Quantities:
    """Return the share of networks born dead by init, width and depth, and the formulas beside."""
    depths, networks = sorted(params["depth"]), params["networks"]
    relu = unit_of({"name": "relu"})
    cells = []
    for width in params["width"]:
        shares = {
            init: dead_from_layer(init, width, depths[-1], networks, params["seed"]).mean(axis=0)
            for init in params["init"]
        }
        for depth in depths:
            widths = [width] * depth
            on_line, error = born_dead_on_line(widths)
            cells.append(
                {
                    "width": width,
                    "depth": depth,
                    "share": {init: share[depth - 1] for init, share in shares.items()},
                    "one_input": born_dead(relu, [1.0] * depth, widths),
                    "all_inputs": on_line,
                    "all_inputs_error": error,
                }
            )
    return {"cells": cells, "networks": networks}


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw the share of dead networks by depth, a panel a width."""
    widths = list(dict.fromkeys(cell["width"] for cell in result["cells"]))
    figure, flat = plotting.panels(len(widths), 3, width=3.2, height=2.8)
    marks = {"he_normal": ("o", colours.RED), REMEDY: ("s", colours.BLUE)}
    for axes, width in zip(flat, widths, strict=True):
        cells = [cell for cell in result["cells"] if cell["width"] == width]
        depths = [cell["depth"] for cell in cells]
        for key, style in (("all_inputs", "k-"), ("one_input", "k:")):
            label = {"all_inputs": "no biases, all inputs", "one_input": "upper bound: one input"}
            axes.plot(depths, [cell[key] for cell in cells], style, lw=1, label=label[key])
        for init in cells[0]["share"]:
            mark, colour = marks.get(init, ("^", colours.ORANGE))
            values = [cell["share"][init] for cell in cells]
            axes.plot(depths, values, mark, color=colour, label=init)
        axes.set_title(f"{width} units a layer")
        axes.set_xlabel("hidden layers")
    flat[0].set_ylabel("share of networks born dead")
    flat[0].legend()
    return {"born-dead": figure}


def tables(result: Quantities) -> Sequence[Table]:
    """Return the shares, in %, with the formulas."""
    inits = list(result["cells"][0]["share"])
    rows = []
    for cell in result["cells"]:
        shares = [*(cell["share"][init] for init in inits), cell["all_inputs"], cell["one_input"]]
        rows.append([cell["width"], cell["depth"], *(100 * share for share in shares)])
    title = f"Networks born dead, %, of {result['networks']} drawn"
    heading = ("width", "hidden layers", *inits, "theory, all inputs", "upper bound, one input")
    return [Table(title, heading, rows)]


EXPERIMENT = Experiment(
    "born-dead",
    "How many narrow ReLU networks are constant before training, and what helps?",
    "S4",
    measure,
    draw,
    tables,
    {
        "width": (2, 3, 5),
        "depth": (5, 10, 20),
        "init": ("he_normal", REMEDY),
        "networks": 10_000,
        "seed": 0,
    },
    quick=None,
)
