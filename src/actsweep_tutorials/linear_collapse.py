"""linear-collapse: layers without an activation are one layer. (S3)

200 points of y = x^2 + noise. Networks of one hidden layer and of nine, with and without
activations, of several seeds, trained by Adam for 1000 steps on all points at once; beside them
ordinary least squares, and the single matrix that the linear layers multiply to.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep.runs.load import Run
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import NetworkInspector, layer_sort_key
from actsweep_tutorials.training import run_sweep, seed_override

SHALLOW, DEEP = "[32]", "[4,16,32,64,128,64,32,16,4]"
WORDS = (
    "data=quadratic",
    "data.examples=200",
    "data.split_seed=0",
    "optim=adam",
    "optim.lr=0.01",
    "trainer.batch_size=200",
    "trainer.patience=null",
    "callbacks=none",
    "logger=disabled",
    f"depth.widths={SHALLOW},{DEEP}",
)


def collapse(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return W = W1 W2 … and b = (b1 W2 + b2) W3 + … of a network's layers, in float64."""
    params, _ = run.parameters("last")
    layers = params["layers"]
    w, b = np.eye(1), np.zeros(1)
    for name in sorted(layers, key=layer_sort_key):
        kernel = np.asarray(layers[name]["kernel"][...], np.float64)
        w, b = w @ kernel, b @ kernel + np.asarray(layers[name]["bias"][...], np.float64)
    return w, b


def measure(params: Params) -> Quantities:
    """Return each seed's predictions on the training points, their mean squared error, and the
    collapsed layers.
    """
    words = (
        *WORDS,
        f"act={','.join(params['act'])}",
        f"trainer.epochs={params['steps']}",
        seed_override(params["seeds"]),
    )
    inspector = NetworkInspector()
    result: dict[str, Any] = {"runs": {}}
    for run in run_sweep(words, params):
        examples = inspector.dataset(run.config)
        x, y = examples.train_x[:].astype(np.float64), examples.train_y.astype(np.float64)
        depth = "nine layers" if len(run.config.widths) > 1 else "one layer"
        act = run.config.act["name"]
        prediction = np.asarray(run.logits(examples.train_x[:], "last"), np.float64)
        numbers: dict[str, Any] = {
            "guess": prediction[:, 0],
            "error": np.mean((prediction - y) ** 2),
        }
        if act == "identity":
            w, b = collapse(run)
            numbers |= {"w": w[0, 0], "b": b[0], "gap": np.abs(x @ w + b - prediction).max()}
        network = result["runs"].setdefault(f"{act}, {depth}", {})
        for key, value in numbers.items():
            network.setdefault(key, []).append(value)
    slope, offset = np.polyfit(x[:, 0], y[:, 0], 1)
    line = slope * x[:, 0] + offset
    parabola = np.polyval(np.polyfit(x[:, 0], y[:, 0], 2), x[:, 0])
    return result | {
        "x": x[:, 0],
        "y": y[:, 0],
        "ols": {"w": slope, "b": offset, "error": np.mean((line - y[:, 0]) ** 2)},
        "quadratic_error": np.mean((parabola - y[:, 0]) ** 2),
        "spread": np.ptp(y),
    }


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw every network's function over the points."""
    runs = result["runs"]
    figure, flat = plotting.panels(len(runs), 4, height=2.4)
    x = np.array(result["x"])
    for axes, (name, network) in zip(flat, runs.items(), strict=True):
        act = name.partition(",")[0]
        axes.plot(x, result["y"], ".", color="0.75", markersize=3)
        axes.plot(x, result["ols"]["w"] * x + result["ols"]["b"], "k--", linewidth=1)
        for guess in network["guess"]:
            axes.plot(x, guess, color=plotting.colour(act), linewidth=1.8, alpha=0.7)
        low, high = min(network["error"]), max(network["error"])
        same = f"{low:.3g}" == f"{high:.3g}"
        axes.set_title(f"{name}: error {low:.3g}" + ("" if same else f" … {high:.3g}"), fontsize=9)
        axes.set_xlabel("x")
    flat[0].set_ylabel("y; dashed: least squares")
    return {"fits": figure}


def tables(result: Quantities) -> Sequence[Table]:
    """Return each seed's error, and the line that a linear network computes."""
    rows: list[list[Any]] = [
        [name, seed, error, *(network.get(key, missing)[seed] for key in ("w", "b", "gap"))]
        for name, network in result["runs"].items()
        for seed, error in enumerate(network["error"])
        for missing in [[None] * len(network["error"])]
    ]
    ols = result["ols"]
    rows += [["least squares, a line", None, ols["error"], ols["w"], ols["b"], None]]
    rows += [["least squares, a parabola", None, result["quadratic_error"], None, None, None]]
    heading = ("network", "seed", "mean squared error", "collapsed W", "collapsed b")
    return [Table("Fits", (*heading, "largest |network - (W x + b)|"), rows)]


EXPERIMENT = Experiment(
    "linear-collapse",
    "What can layers do without an activation between them?",
    "S3, S0",
    measure,
    draw,
    tables,
    {"act": ("identity", "sigmoid", "tanh", "relu"), "steps": 1000, "seeds": 5},
    quick=None,
    trains=True,
)
