"""linear-collapse: layers without an activation are one layer. (S3)

200 points of y = x^2 + noise. Networks of one hidden layer and of nine, with and without
activations, trained by Adam for 1000 steps on all points at once; beside them ordinary least
squares, and the single matrix that the linear layers multiply to.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep.runs.load import Run
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import Lab, layer_order
from actsweep_tutorials.training import sweep

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
    """W = W1 W2 … and b = (b1 W2 + b2) W3 + … of a network's layers, in float64."""
    params, _ = run.parameters("last")
    layers = params["layers"]
    w, b = np.eye(1), np.zeros(1)
    for name in sorted(layers, key=layer_order):
        kernel = np.asarray(layers[name]["kernel"][...], np.float64)
        w, b = w @ kernel, b @ kernel + np.asarray(layers[name]["bias"][...], np.float64)
    return w, b


def measure(params: Params) -> Quantities:
    """Predictions on the training points and their mean squared error, and what collapses."""
    words = (*WORDS, f"act={','.join(params['act'])}", f"trainer.epochs={params['steps']}")
    lab = Lab()
    found: dict[str, Any] = {"runs": {}}
    for run in sweep(words, params):
        examples = lab.examples(run.config)
        x, y = examples.train_x.astype(np.float64), examples.train_y.astype(np.float64)
        kind = "nine layers" if len(run.config.widths) > 1 else "one layer"
        act = run.config.act["name"]
        guess = np.asarray(run.logits(examples.train_x, "last"), np.float64)
        one: dict[str, Any] = {"guess": guess[:, 0], "error": np.mean((guess - y) ** 2)}
        if act == "identity":
            w, b = collapse(run)
            one |= {"w": w[0, 0], "b": b[0], "gap": np.abs(x @ w + b - guess).max()}
        found["runs"][f"{act}, {kind}"] = one
    slope, offset = np.polyfit(x[:, 0], y[:, 0], 1)
    line = slope * x[:, 0] + offset
    square = np.polyval(np.polyfit(x[:, 0], y[:, 0], 2), x[:, 0])
    return found | {
        "x": x[:, 0],
        "y": y[:, 0],
        "ols": {"w": slope, "b": offset, "error": np.mean((line - y[:, 0]) ** 2)},
        "quadratic_error": np.mean((square - y[:, 0]) ** 2),
        "spread": np.ptp(y),
    }


def draw(found: Quantities) -> Mapping[str, Figure]:
    """Every network's function over the points."""
    runs = found["runs"]
    figure, flat = plotting.panels(len(runs), 4, height=2.4)
    x = np.array(found["x"])
    for axes, (name, one) in zip(flat, runs.items(), strict=True):
        act = name.partition(",")[0]
        axes.plot(x, found["y"], ".", color="0.75", markersize=3)
        axes.plot(x, found["ols"]["w"] * x + found["ols"]["b"], "k--", linewidth=1)
        axes.plot(x, one["guess"], color=plotting.colour(act), linewidth=2.4)
        axes.set_title(f"{name}: error {one['error']:.3g}")
        axes.set_xlabel("x")
    flat[0].set_ylabel("y; dashed: least squares")
    return {"fits": figure}


def tables(found: Quantities) -> Sequence[Table]:
    """Errors, and the lines that linear networks are."""
    rows = [
        [name, one["error"], one.get("w"), one.get("b"), one.get("gap")]
        for name, one in found["runs"].items()
    ]
    ols = found["ols"]
    rows += [["least squares, a line", ols["error"], ols["w"], ols["b"], None]]
    rows += [["least squares, a parabola", found["quadratic_error"], None, None, None]]
    heading = ("network", "mean squared error", "collapsed W", "collapsed b")
    return [Table("Fits", (*heading, "largest |network - (W x + b)|"), rows)]


EXPERIMENT = Experiment(
    "linear-collapse",
    "What can layers do without an activation between them?",
    "S3, S0",
    measure,
    draw,
    tables,
    {"act": ("identity", "sigmoid", "tanh", "relu"), "steps": 1000},
    quick=None,
    trains=True,
)
