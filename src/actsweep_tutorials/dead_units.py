"""dead-units: which of 20 random units never fire, and how a bias shift kills them. (S4)

The tutorial's detector: `random.seed`; weights of 20 units on 5 inputs row by row by `gauss(0, 1)`,
then 20 biases; then 1000 samples of 5 inputs. A unit fires where z > 0. It is dead if it never
does, weak if on fewer than 5 % of the samples.
"""

import random
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import colours, plotting
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.scalar import ScalarActivation, scalar_activations

UNITS, INPUTS, WEAK, DEAD_DERIVATIVE = 20, 5, 0.05, 1e-3
SHIFT_STEP = 0.01
COLOURS = {"dead": colours.RED, "weak": colours.ORANGE, "ok": colours.BLUE}


def preactivations(seed: int, samples: int) -> list[list[float]]:
    """Return z of every unit for every sample, [units][samples], float64; without a bias shift."""
    rng = random.Random(seed)
    weights = [[rng.gauss(0, 1) for _ in range(INPUTS)] for _ in range(UNITS)]
    biases = [rng.gauss(0, 1) for _ in range(UNITS)]
    preacts: list[list[float]] = [[] for _ in range(UNITS)]
    for _ in range(samples):
        x = [rng.gauss(0, 1) for _ in range(INPUTS)]
        for unit, (row, bias) in enumerate(zip(weights, biases, strict=True)):
            z = 0.0
            for weight, value in zip(row, x, strict=True):
                z += weight * value
            preacts[unit].append(z + bias)
    return preacts


def classify_unit(rate: float) -> str:
    """Return what a unit that fires at this rate is: dead, weak or ok."""
    return "dead" if rate == 0 else "weak" if rate < WEAK else "ok"


def flat_units(act: ScalarActivation, z: np.ndarray) -> int:
    """Return how many units have |f'(z)| < 0.001 on all samples; z: [units, samples]."""
    slopes = np.abs(np.vectorize(act.derivative)(z))
    return int(np.all(slopes < DEAD_DERIVATIVE, axis=1).sum())


def _first_dead(act: ScalarActivation, z: np.ndarray, shifts: Sequence[float]) -> float | None:
    """Return the largest bias shift that leaves a unit dead by |f'|; None: none of these does.

    Found by bisection to 0.01 between the last of the descending shifts that doesn't and the next.
    """
    alive = shifts[0]
    dead = next((shift for shift in shifts if flat_units(act, z + shift)), None)
    if dead is None or dead == alive:
        return dead
    alive = min(shift for shift in shifts if shift > dead)
    while alive - dead > SHIFT_STEP:
        middle = (alive + dead) / 2
        alive, dead = (alive, middle) if flat_units(act, z + middle) else (middle, dead)
    return dead


def measure(params: Params) -> Quantities:
    """Return the units' firing rates; by bias shift, how many are dead, and how many by |f'|; and
    how far down the shift may go, by activation, before the first is dead by |f'|.
    """
    z = np.array(preactivations(params["seed"], params["samples"]))
    rates = (z > 0).mean(axis=1)
    acts = scalar_activations(params["act"])
    shifted = {}
    for shift in params["shift"]:
        rate = ((z + shift) > 0).mean(axis=1)
        counts = {name: int(sum(classify_unit(r) == name for r in rate)) for name in COLOURS}
        flat = {name: flat_units(act, z + shift) for name, act in acts.items()}
        shifted[str(shift)] = {"firing": counts, "flat": flat}
    return {
        "first_dead": {
            name: _first_dead(act, z, sorted(params["shift"], reverse=True))
            for name, act in acts.items()
        },
        "rates": rates,
        "kinds": [classify_unit(rate) for rate in rates],
        "shifted": shifted,
        "samples": params["samples"],
    }


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw a bar a unit, and the dead units by bias shift."""
    bars, (axes,) = plotting.panels(1, 1, width=7, height=3)
    for name, colour in COLOURS.items():
        chosen = [i for i, unit_kind in enumerate(result["kinds"]) if unit_kind == name]
        heights = [100 * result["rates"][i] for i in chosen]
        axes.bar(chosen, heights, color=colour, label=f"{name}: {len(chosen)}")
        axes.plot(chosen, [0] * len(chosen), "x", color=colour, clip_on=False)
    axes.axhline(100 * WEAK, color="black", linestyle=":", linewidth=1)
    axes.set_xticks(range(UNITS))
    axes.set_xlabel("unit")
    axes.set_ylabel(f"fires on … % of {result['samples']} samples")
    axes.legend()
    curve, (axes,) = plotting.panels(1, 1, width=6, height=3.2)
    shifts = [float(text) for text in result["shifted"]]
    for name in next(iter(result["shifted"].values()))["flat"]:
        dead = [counts["flat"][name] for counts in result["shifted"].values()]
        axes.plot(shifts, dead, **plotting.line_style(name, marker=True))
    axes.set_xlabel("added to every bias")
    axes.set_ylabel(f"of {UNITS} units, |f'| < {DEAD_DERIVATIVE:g} on all samples")
    axes.invert_xaxis()
    axes.legend()
    return {"units": bars, "shift": curve}


def tables(result: Quantities) -> Sequence[Table]:
    """Return the units of each kind, and the dead ones, by shift."""
    rows = [
        [shift, *counts["firing"].values(), *counts["flat"].values()]
        for shift, counts in result["shifted"].items()
    ]
    acts = next(iter(result["shifted"].values()))["flat"]
    heading = (
        "bias shift",
        *COLOURS,
        *(f"{name}: |f'| < {DEAD_DERIVATIVE:g} throughout" for name in acts),
    )
    first = [[name, shift] for name, shift in result["first_dead"].items()]
    titles = ("activation", f"first unit with |f'| < {DEAD_DERIVATIVE:g} throughout, bias shift")
    return [Table(f"Of {UNITS} units", heading, rows), Table("The first to die", titles, first)]


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
