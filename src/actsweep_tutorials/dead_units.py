"""dead-units: which of 20 random units never fire, and how a bias shift kills them. (S4)

The tutorial's detector: `random.seed`; weights of 20 units on 5 inputs row by row by `gauss(0, 1)`,
then 20 biases; then 1000 samples of 5 inputs. A unit fires where z > 0. It is dead if it never
does, weak if on fewer than 5 % of the samples.
"""

import random
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.scalar import scalars

UNITS, INPUTS, WEAK, DEAD_SLOPE = 20, 5, 0.05, 1e-3
COLOURS = {"dead": plotting.RED, "weak": plotting.ORANGE, "ok": plotting.BLUE}


def preactivations(seed: int, samples: int) -> list[list[float]]:
    """z of every unit for every sample, [units][samples], float64; without a bias shift."""
    rng = random.Random(seed)
    weights = [[rng.gauss(0, 1) for _ in range(INPUTS)] for _ in range(UNITS)]
    biases = [rng.gauss(0, 1) for _ in range(UNITS)]
    found: list[list[float]] = [[] for _ in range(UNITS)]
    for _ in range(samples):
        x = [rng.gauss(0, 1) for _ in range(INPUTS)]
        for unit, (row, bias) in enumerate(zip(weights, biases, strict=True)):
            z = 0.0
            for weight, value in zip(row, x, strict=True):
                z += weight * value
            found[unit].append(z + bias)
    return found


def kind(rate: float) -> str:
    """What a unit is that fires at this rate: dead, weak or ok."""
    return "dead" if rate == 0 else "weak" if rate < WEAK else "ok"


def measure(params: Params) -> Quantities:
    """Firing rates of the units; by bias shift how many are dead, and by |f'| for each act."""
    z = np.array(preactivations(params["seed"], params["samples"]))
    rates = (z > 0).mean(axis=1)
    shifted = {}
    for shift in params["shift"]:
        rate = ((z + shift) > 0).mean(axis=1)
        counts = {name: int(sum(kind(r) == name for r in rate)) for name in COLOURS}
        flat = {
            name: int(np.all(np.abs(np.vectorize(one.slope)(z + shift)) < DEAD_SLOPE, axis=1).sum())
            for name, one in scalars(params["act"]).items()
        }
        shifted[str(shift)] = {"firing": counts, "flat": flat}
    return {
        "rates": rates,
        "kinds": [kind(rate) for rate in rates],
        "shifted": shifted,
        "samples": params["samples"],
    }


def draw(found: Quantities) -> Mapping[str, Figure]:
    """A bar a unit; and dead units by bias shift."""
    bars, (axes,) = plotting.panels(1, 1, width=7, height=3)
    for name, own in COLOURS.items():
        chosen = [i for i, one in enumerate(found["kinds"]) if one == name]
        heights = [100 * found["rates"][i] for i in chosen]
        axes.bar(chosen, heights, color=own, label=f"{name}: {len(chosen)}")
        axes.plot(chosen, [0] * len(chosen), "x", color=own, clip_on=False)
    axes.axhline(100 * WEAK, color="black", linestyle=":", linewidth=1)
    axes.set_xticks(range(UNITS))
    axes.set_xlabel("unit")
    axes.set_ylabel(f"fires on … % of {found['samples']} samples")
    axes.legend()
    curve, (axes,) = plotting.panels(1, 1, width=6, height=3.2)
    shifts = [float(text) for text in found["shifted"]]
    for name in next(iter(found["shifted"].values()))["flat"]:
        dead = [one["flat"][name] for one in found["shifted"].values()]
        axes.plot(shifts, dead, **plotting.line_style(name, marker=True))
    axes.set_xlabel("added to every bias")
    axes.set_ylabel(f"of {UNITS} units, |f'| < {DEAD_SLOPE:g} on all samples")
    axes.invert_xaxis()
    axes.legend()
    return {"units": bars, "shift": curve}


def tables(found: Quantities) -> Sequence[Table]:
    """Units by kind, and dead ones by shift."""
    rows = [
        [shift, *one["firing"].values(), *one["flat"].values()]
        for shift, one in found["shifted"].items()
    ]
    acts = next(iter(found["shifted"].values()))["flat"]
    heading = (
        "bias shift",
        *COLOURS,
        *(f"{name}: |f'| < {DEAD_SLOPE:g} throughout" for name in acts),
    )
    return [Table(f"Of {UNITS} units", heading, rows)]


EXPERIMENT = Experiment(
    "dead-units",
    "Which of 20 random units never fire, and what does a bias shift do to them?",
    "S4",
    measure,
    draw,
    tables,
    {
        "act": ("relu", "leaky_relu", "elu", "gelu", "swish"),
        "seed": 0,
        "samples": 1000,
        "shift": (0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -10.0),
    },
)
