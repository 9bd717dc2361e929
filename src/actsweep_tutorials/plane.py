"""circle and xor: a 2-8-1 network trained from scratch, one example at a time, in float64. (S4)

The tutorial's algorithm to the letter: data, weights and order come from Python's `random`, sums
are taken from left to right, a unit's gradient uses its output weight from before the update.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep_tutorials.base import MAIN, Experiment, Params, Quantities, Table
from actsweep_tutorials.scalar import Scalar, leaky, scalars, sigmoid

HALF, POINTS, HIDDEN, SPREAD = 2.0, 200, 8, 0.5
GRID = 81
Point = tuple[float, float]
RULES: Mapping[str, Callable[[float, float], bool]] = {
    "circle": lambda x, y: x**2 + y**2 < 1.5,
    "xor": lambda x, y: x * y < 0,
}


def points(seed: int, rule: Callable[[float, float], bool]) -> list[tuple[float, float, int]]:
    """(x, y, label) of 200 points of (-2, 2)^2, x drawn before y."""
    rng = random.Random(seed)
    drawn = [(rng.uniform(-HALF, HALF), rng.uniform(-HALF, HALF)) for _ in range(POINTS)]
    return [(x, y, int(rule(x, y))) for x, y in drawn]


@dataclass
class Net:
    """2-8-1 with a sigmoid output. `slope` is PReLU's learned one, None for the others."""

    act: Scalar
    weights: list[list[float]]
    biases: list[float]
    outputs: list[float]
    bias: float
    slope: float | None = None

    def hidden(self, x: float, y: float) -> list[float]:
        """z of every hidden unit."""
        rows = zip(self.weights, self.biases, strict=True)
        return [w[0] * x + w[1] * y + b for w, b in rows]

    def output(self, h: Sequence[float]) -> float:
        """The output for the hidden units' values."""
        z = 0.0
        for weight, value in zip(self.outputs, h, strict=True):
            z += weight * value
        return sigmoid(z + self.bias)

    def learn(self, x: float, y: float, label: int, rate: float) -> tuple[float, bool]:
        """One step of SGD; the squared error before it, and whether the answer was right."""
        f, df = self.act
        z = self.hidden(x, y)
        h = [f(value) for value in z]
        out = self.output(h)
        error = out - label
        delta = error * out * (1 - out)
        turn = 0.0
        for i in range(HIDDEN):
            back = delta * self.outputs[i]
            if self.slope is not None and z[i] <= 0:
                turn += back * z[i]
            back *= df(z[i])
            self.outputs[i] -= rate * delta * h[i]
            self.weights[i][0] -= rate * back * x
            self.weights[i][1] -= rate * back * y
            self.biases[i] -= rate * back
        self.bias -= rate * delta
        if self.slope is not None:
            self.slope -= rate * turn
            self.act = leaky(self.slope)
        return error * error, (out > 0.5) == bool(label)


def start(name: str, act: Scalar, seed: int) -> Net:
    """The network as drawn: two weights a hidden unit, biases 0, then the output weights."""
    rng = random.Random(seed)
    weights = [[rng.gauss(0, SPREAD), rng.gauss(0, SPREAD)] for _ in range(HIDDEN)]
    outputs = [rng.gauss(0, SPREAD) for _ in range(HIDDEN)]
    return Net(act, weights, [0.0] * HIDDEN, outputs, 0.0, 0.25 if name == "prelu" else None)


def train(name: str, act: Scalar, problem: str, params: Params) -> dict[str, Any]:
    """Mean loss and accuracy of each epoch, as it went, and what came of it."""
    examples = points(params["data_seed"], RULES[problem])
    net = start(name, act, params["seed"])
    losses, accuracies = [], []
    for _ in range(params["epochs"]):
        total, right = 0.0, 0
        for x, y, label in examples:
            loss, good = net.learn(x, y, label, params["rate"])
            total += loss
            right += good
        losses.append(total / len(examples))
        accuracies.append(right / len(examples))
    answer = lambda x, y: net.output([net.act.f(z) for z in net.hidden(x, y)])  # noqa: E731
    final = sum((answer(x, y) > 0.5) == bool(label) for x, y, label in examples)
    ticks = np.linspace(-HALF, HALF, GRID)
    return {
        "loss": losses,
        "accuracy": accuracies,
        "improvement": 1 - losses[-1] / losses[0],
        "final_accuracy": final / len(examples),
        "slope": net.slope,
        "map": [[round(answer(float(x), float(y)), 3) for x in ticks] for y in ticks],
    }


def measure(problem: str, params: Params) -> Quantities:
    """Each activation, trained from the same weights on the same points in the same order."""
    acts = scalars(params["act"])
    return {
        "points": points(params["data_seed"], RULES[problem]),
        "runs": {name: train(name, one, problem, params) for name, one in acts.items()},
    }


def draw(found: Quantities) -> Mapping[str, Figure]:
    """The loss; and what each network thinks of the plane."""
    runs: Mapping[str, Mapping[str, Any]] = found["runs"]
    curves, (axes,) = plotting.panels(1, 1, width=6, height=3.4)
    for name, run in runs.items():
        epoch = np.arange(1, len(run["loss"]) + 1)
        axes.plot(
            epoch,
            run["loss"],
            **plotting.line_style(name, marker=True),
            markevery=max(1, len(epoch) // 8),
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean squared error")
    axes.set_yscale("log")
    axes.legend(ncols=2, fontsize=8)
    maps, flat = plotting.panels(len(runs), 4, width=2.3, height=2.5)
    points = np.array(found["points"])
    for axes, (name, run) in zip(flat, runs.items(), strict=True):
        extent = (-HALF, HALF, -HALF, HALF)
        axes.imshow(
            run["map"],
            origin="lower",
            extent=extent,
            cmap="RdBu",
            vmin=0,
            vmax=1,
            interpolation="nearest",
        )
        inside = points[:, 2] == 1
        axes.plot(*points[~inside, :2].T, "o", color="black", markersize=2.5)
        axes.plot(*points[inside, :2].T, "o", color="white", markersize=2.5)
        axes.set_title(f"{name}: {100 * run['final_accuracy']:.1f} %")
        axes.grid(visible=False)
    return {"loss": curves, "plane": maps}


def tables(found: Quantities) -> Sequence[Table]:
    """First and last epoch."""
    rows = [
        [
            name,
            run["loss"][0],
            run["loss"][-1],
            100 * run["improvement"],
            100 * run["accuracy"][0],
            100 * run["accuracy"][-1],
            100 * run["final_accuracy"],
            run["slope"],
        ]
        for name, run in found["runs"].items()
    ]
    start = ("activation", "first loss", "last loss", "improvement, %", "first accuracy, %")
    heading = (*start, "last accuracy, %", "accuracy after training, %", "learned slope")
    return [Table("First and last epoch", heading, rows)]


def _experiment(problem: str, question: str) -> Experiment:
    params = {"act": (*MAIN, "prelu"), "epochs": 200, "rate": 0.1, "seed": 0, "data_seed": 42}
    return Experiment(problem, question, "S4", partial(measure, problem), draw, tables, params)


CIRCLE = _experiment("circle", "Which activation separates a disc from its surroundings?")
XOR = _experiment("xor", "Which activation separates points whose signs differ?")
