"""activation-distributions: what passes through every hidden layer after training. (S2)"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep_tutorials import tutorial3
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import BATCH, NetworkInspector

BINS = 50
NEAR = 0.05  # how close to the end of a range counts as near, as a share of the range


def measure(params: Params) -> Quantities:
    """Return histograms of seed 0, and for every seed the numbers that describe the shapes."""
    inspector = NetworkInspector()
    layers_by_act: dict[str, dict[str, dict[str, Any]]] = {}
    for run in tutorial3.sweep_runs(params):
        if run.status["state"] != "complete":
            continue
        view = inspector.probe_first_batch(inspector.trained(run), BATCH)
        layers = layers_by_act.setdefault(run.config.act["name"], {})
        for layer, z in view["preact"].items():
            a = view["act"][layer]
            entry = layers.setdefault(layer, {"shape": []})
            entry["shape"].append({"seed": run.config.seed, **_shape(z, a)})
            if "preact" not in entry:
                entry["preact"], entry["act"] = _histogram(z), _histogram(a)
    return {"layers": layers_by_act}


def _histogram(values: np.ndarray) -> Mapping[str, Any]:
    counts, edges = np.histogram(values, BINS, density=True)
    return {"density": counts, "edges": edges}


def _shape(z: np.ndarray, a: np.ndarray) -> Mapping[str, float]:
    """Return skewness and excess kurtosis of z, of f(z) and of those f(z) that aren't 0.

    Of f(z) also the extremes, two quantiles, and the shares that are 0 or near -1, 0 and 1.
    """
    skew, kurtosis = _moments(z)
    act_skew, act_kurtosis = _moments(a)
    return {
        "skew": skew,
        "kurtosis": kurtosis,
        "act_skew": act_skew,
        "act_kurtosis": act_kurtosis,
        "rest_kurtosis": _moments(a[a != 0])[1],
        "largest": a.max(),
        "smallest": a.min(),
        "q50": np.median(a),
        "q99": np.quantile(a, 0.99),
        "zero": (a == 0).mean(),
        "near_0": (np.abs(a) < NEAR).mean(),
        "near_1": (np.abs(a - 1) < NEAR).mean(),
        "near_minus_1": (np.abs(a + 1) < NEAR).mean(),
    }


def _moments(values: np.ndarray) -> tuple[float, float]:
    centred = (values - values.mean()) / values.std()
    return float(np.mean(centred**3)), float(np.mean(centred**4) - 3)


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw a row an activation, a column a layer: z in grey, f(z) in colour."""
    acts = result["layers"]
    layers = list(next(iter(acts.values())))
    count = len(acts) * len(layers)
    title = f"After training, seed 0, {BATCH} training images: z (grey) and f(z) (colour)"
    figure, flat = plotting.panels(
        count, len(layers), width=2.6, height=1.6, share=False, title=title
    )
    for place, axes in enumerate(flat):
        act, layer = list(acts)[place // len(layers)], layers[place % len(layers)]
        entry = acts[act][layer]
        axes.stairs(entry["preact"]["density"], entry["preact"]["edges"], fill=True, color="0.8")
        style: Any = {"color": plotting.colour(act), "linewidth": 1.6}
        axes.stairs(entry["act"]["density"], entry["act"]["edges"], **style)
        axes.set_yscale("log")
        axes.tick_params(labelsize=7)
        if place < len(layers):
            axes.set_title(layer)
        if place % len(layers) == 0:
            axes.set_ylabel(f"{act}\ndensity", fontsize=8)
        if place >= count - len(layers):
            axes.set_xlabel("z, f(z)")
    return {"distributions": figure}


def tables(result: Quantities) -> Sequence[Table]:
    """Return the means over seeds."""
    first = next(iter(next(iter(result["layers"].values())).values()))
    keys = [key for key in first["shape"][0] if key != "seed"]
    rows = [
        [act, layer, len(entry["shape"]), *(_mean(entry["shape"], key) for key in keys)]
        for act, layers in result["layers"].items()
        for layer, entry in layers.items()
    ]
    return [Table("Means over seeds", ("activation", "layer", "seeds", *keys), rows)]


def _mean(shapes: Sequence[Mapping[str, float]], key: str) -> float:
    return float(np.mean([shape[key] for shape in shapes]))


EXPERIMENT = Experiment(
    "activation-distributions",
    "What passes through every hidden layer after training?",
    "S2",
    measure,
    draw,
    tables,
    dict(tutorial3.EXPERIMENT.params),
    quick=None,
    trains=True,
)
