"""circle, xor, xor-signs: a 2-8-1 network from scratch, one example at a time, in float64. (S4)

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
from actsweep_tutorials.base import MAIN_ACTIVATIONS, Experiment, Params, Quantities, Table
from actsweep_tutorials.scalar import ScalarActivation, leaky_relu, scalar_activations, sigmoid

HALF, POINTS, HIDDEN, SPREAD = 2.0, 200, 8, 0.5
GRID = 81
Point = tuple[float, float]
RULES: Mapping[str, Callable[[float, float], bool]] = {
    "circle": lambda x, y: x**2 + y**2 < 1.5,
    "xor-signs": lambda x, y: x * y < 0,
}
TRUTH_TABLE = [(0.0, 0.0, 0), (0.0, 1.0, 1), (1.0, 0.0, 1), (1.0, 1.0, 0)]
"""The exclusive or, in the order of the source's table."""


def examples_of(problem: str, seed: int) -> list[tuple[float, float, int]]:
    """Return (x, y, label) of a problem's examples; the four of xor need no `seed`."""
    return TRUTH_TABLE if problem == "xor" else sample_points(seed, RULES[problem])


def sample_points(
    seed: int, rule: Callable[[float, float], bool]
) -> list[tuple[float, float, int]]:
    """Return (x, y, label) of 200 points of (-2, 2)^2, x drawn before y."""
    rng = random.Random(seed)
    drawn = [(rng.uniform(-HALF, HALF), rng.uniform(-HALF, HALF)) for _ in range(POINTS)]
    return [(x, y, int(rule(x, y))) for x, y in drawn]


@dataclass
class Net:
    """A 2-8-1 network with a sigmoid output. `slope` is what PReLU learns, None for the others."""

    act: ScalarActivation
    weights: list[list[float]]
    biases: list[float]
    outputs: list[float]
    bias: float
    slope: float | None = None

    def hidden(self, x: float, y: float) -> list[float]:
        """Return z of every hidden unit."""
        rows = zip(self.weights, self.biases, strict=True)
        return [w[0] * x + w[1] * y + b for w, b in rows]

    def output(self, h: Sequence[float]) -> float:
        """Return the network's output for the hidden units' values."""
        z = 0.0
        for weight, value in zip(self.outputs, h, strict=True):
            z += weight * value
        return sigmoid(z + self.bias)

    def sgd_step(self, x: float, y: float, label: int, rate: float) -> tuple[float, bool]:
        """Take one step of SGD; return the squared error before it, and whether that was right."""
        f, df = self.act
        z = self.hidden(x, y)
        h = [f(value) for value in z]
        output = self.output(h)
        error = output - label
        delta = error * output * (1 - output)
        slope_grad = 0.0
        for i in range(HIDDEN):
            unit_delta = delta * self.outputs[i]
            if self.slope is not None and z[i] <= 0:
                slope_grad += unit_delta * z[i]
            unit_delta *= df(z[i])
            self.outputs[i] -= rate * delta * h[i]
            self.weights[i][0] -= rate * unit_delta * x
            self.weights[i][1] -= rate * unit_delta * y
            self.biases[i] -= rate * unit_delta
        self.bias -= rate * delta
        if self.slope is not None:
            self.slope -= rate * slope_grad
            self.act = leaky_relu(self.slope)
        return error * error, (output > 0.5) == bool(label)


def initial_network(name: str, act: ScalarActivation, seed: int) -> Net:
    """Return the initial network: two weights a hidden unit, biases 0, then the output weights."""
    rng = random.Random(seed)
    weights = [[rng.gauss(0, SPREAD), rng.gauss(0, SPREAD)] for _ in range(HIDDEN)]
    outputs = [rng.gauss(0, SPREAD) for _ in range(HIDDEN)]
    return Net(act, weights, [0.0] * HIDDEN, outputs, 0.0, 0.25 if name == "prelu" else None)


def train(name: str, act: ScalarActivation, problem: str, params: Params) -> dict[str, Any]:
    """Train a network; return each epoch's mean loss and accuracy, as it went, and the outcome."""
    examples = examples_of(problem, params["data_seed"])
    network = initial_network(name, act, params["seed"])
    losses, accuracies = [], []
    for _ in range(params["epochs"]):
        total, correct_count = 0.0, 0
        for x, y, label in examples:
            loss, correct = network.sgd_step(x, y, label, params["rate"])
            total += loss
            correct_count += correct
        losses.append(total / len(examples))
        accuracies.append(correct_count / len(examples))
    predict = lambda x, y: network.output([network.act.f(z) for z in network.hidden(x, y)])  # noqa: E731
    final = sum((predict(x, y) > 0.5) == bool(label) for x, y, label in examples)
    ticks = np.linspace(-HALF, HALF, GRID)
    return {
        "loss": losses,
        "accuracy": accuracies,
        "improvement": 1 - losses[-1] / losses[0],
        "final_accuracy": final / len(examples),
        "slope": network.slope,
        "map": [[round(predict(float(x), float(y)), 3) for x in ticks] for y in ticks],
    }


def measure(problem: str, params: Params) -> Quantities:
    """Train each activation from the same weights on the same points in the same order."""
    acts = scalar_activations(params["act"])
    return {
        "points": examples_of(problem, params["data_seed"]),
        "runs": {name: train(name, act, problem, params) for name, act in acts.items()},
    }


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw the loss, and the output of each network over the plane."""
    runs: Mapping[str, Mapping[str, Any]] = result["runs"]
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
    examples = np.array(result["points"])
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
        inside = examples[:, 2] == 1
        size = 2.5 if len(examples) > 4 else 6
        axes.plot(*examples[~inside, :2].T, "o", color="black", markersize=size)
        axes.plot(*examples[inside, :2].T, "o", color="white", markersize=size)
        axes.set_title(f"{name}: {100 * run['final_accuracy']:.1f} %")
        axes.grid(visible=False)
    return {"loss": curves, "plane": maps}


def tables(result: Quantities) -> Sequence[Table]:
    """Return the first and last epoch."""
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
        for name, run in result["runs"].items()
    ]
    start = ("activation", "first loss", "last loss", "improvement, %", "first accuracy, %")
    heading = (*start, "last accuracy, %", "accuracy after training, %", "learned slope")
    return [Table("First and last epoch", heading, rows)]


def _experiment(problem: str, question: str, epochs: int) -> Experiment:
    params = {
        "act": (*MAIN_ACTIVATIONS, "prelu"),
        "epochs": epochs,
        "rate": 0.1,
        "seed": 0,
        "data_seed": 42,
    }
    return Experiment(problem, question, "S4", partial(measure, problem), draw, tables, params)


CIRCLE = _experiment("circle", "Which activation separates a disc from its surroundings?", 200)
# As many steps as on the circle.
XOR = _experiment("xor", "Which activation learns the exclusive or, from its four points?", 10_000)
XOR_SIGNS = _experiment("xor-signs", "Which activation separates points whose signs differ?", 200)
