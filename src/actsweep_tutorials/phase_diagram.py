"""phase-diagram: how deep does a network train, by the size of its initial weights?

Schoenholz et al. 2017, "Deep information propagation", figure 5: networks of all depths and
variances of the weights are trained, and those that are deeper than about 6 xi_c learn nothing,
where xi_c is the depth scale of correlations between two inputs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from actsweep.report import colours, plotting
from actsweep.stats.paired import mean_interval
from actsweep.theory import mean_field
from actsweep.theory.card import TRAINABLE
from actsweep.theory.mean_field import Layer, Unit
from actsweep.theory.units import unit_of
from actsweep.utils.errors import bad_value
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import compose_run
from actsweep_tutorials.training import run_sweep, seed_override

INPUT = 1.0
"""Mean square of an input's features, of which the first layer's pre-activations are made."""
CURVE = 81
"""Values of sigma_w at which the curve of xi_c is drawn."""


def measure(params: Params) -> Quantities:
    """Return each seed's accuracy by depth and sigma_w, and xi_c; all sigmas share packs."""
    depths, sigmas = sorted(params["depth"]), sorted(params["sigma_w"])
    for key, values in (("depth", depths), ("sigma_w", sigmas)):
        if len(set(values)) < 2:
            raise bad_value(key, values[0], "at least two values", f"{key}=…,…")
    act, sigma_b = params["act"], params["sigma_b"]
    unit = unit_of(compose_run(f"act={act}").act)
    words = (
        f"act={act}",
        "init=normal",
        f"init.sigma_w={','.join(map(str, sigmas))}",
        f"init.sigma_b={sigma_b}",
        f"depth={','.join(map(str, depths))}",
        f"depth.width={params['width']}",
        f"optim.lr={params['lr']}",
        f"trainer.epochs={params['epochs']}",
        "trainer.patience=null",
        seed_override(params["seeds"]),
        "callbacks=none",
        "logger=none",
        *(() if any(word.startswith("data=") for word in params["overrides"]) else DATA),
    )
    accuracy = np.full((params["seeds"], len(depths), len(sigmas)), np.nan)
    for run in run_sweep(words, params):
        config = run.config
        place = depths.index(len(config.widths)), sigmas.index(config.init.sigma_w)
        if run.status["state"] == "complete":
            accuracy[(config.seed, *place)] = run.summary["test_accuracy"]
    curve = np.linspace(sigmas[0], sigmas[-1], CURVE)
    return {
        "act": act,
        "sigma_b": sigma_b,
        "depth": depths,
        "sigma_w": sigmas,
        "accuracy": accuracy,
        "xi_c": [correlation_depth(unit, sigma, sigma_b) for sigma in sigmas],
        "curve": {
            "sigma_w": curve,
            "xi_c": [correlation_depth(unit, sigma, sigma_b) for sigma in curve],
        },
        **depth_correlation(accuracy, depths, unit, sigmas, sigma_b),
    }


DATA = ("data=digits", "data.val_size=300", "trainer.batch_size=50")
"""Where no other data are asked for."""


def correlation_depth(unit: Unit, sigma_w: float, sigma_b: float) -> float:
    """Return xi_c at the fixed point that second moments go to; infinite on the edge of chaos, and
    NaN where they grow without bound."""
    layer = Layer(sigma_w**2, sigma_b**2)
    point = mean_field.attractor(unit, layer, layer.sigma_w2 * INPUT + layer.sigma_b2)
    if point is None:
        return math.nan
    c = mean_field.fixed_correlation(unit, layer, point.q)
    return mean_field.depth_scale(mean_field.correlation_slope(unit, layer, point.q, c))


def trainable_depths(
    accuracy: Float64[np.ndarray, "depths sigmas"], depths: Sequence[int]
) -> Float64[np.ndarray, " sigmas"]:
    """Return the depth at which accuracy falls below halfway between the worst and the best.

    Between two depths it is interpolated in the logarithm. What is above at every depth has the
    largest depth, what is below at the first has the first; what diverged counts as the worst.

    Args:
        accuracy: of one seed; NaN where a run diverged.
        depths: in ascending order.
    """
    worst = np.nanmin(accuracy)
    filled = np.where(np.isnan(accuracy), worst, accuracy)
    half = (worst + np.nanmax(accuracy)) / 2
    found = []
    for column in filled.T:
        below = np.flatnonzero(column < half)
        if not len(below) or below[0] == 0:
            found.append(float(depths[0] if len(below) else depths[-1]))
            continue
        i = below[0]
        share = (column[i - 1] - half) / (column[i - 1] - column[i])
        found.append(math.exp(np.interp(share, [0, 1], np.log(depths[i - 1 : i + 1]))))
    return np.array(found)


def depth_correlation(
    accuracy: Float64[np.ndarray, "seeds depths sigmas"],
    depths: Sequence[int],
    unit: Unit,
    sigmas: Sequence[float],
    sigma_b: float,
) -> dict[str, Any]:
    """Return how trainable depths and xi_c are ranked alike: Spearman's correlation of each seed,
    and its mean with a 95 % interval over seeds (Student t).

    Returns:
        `trainable`: [seeds, sigmas]; `rank`: [seeds], NaN where all depths are the same; `mean` and
        `half_width`.
    """
    xi = np.array([correlation_depth(unit, sigma, sigma_b) for sigma in sigmas])
    trainable = np.array([trainable_depths(each, depths) for each in accuracy])
    known = ~np.isnan(xi)
    ranks = [
        float(spearmanr(each[known], xi[known]).statistic) if len({*each[known]}) > 1 else math.nan
        for each in trainable
    ]
    kept = [rank for rank in ranks if not math.isnan(rank)]
    mean, half_width = mean_interval(kept) if kept else (math.nan, None)
    return {"trainable": trainable, "rank": ranks, "mean": mean, "half_width": half_width}


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw the mean accuracies as colours, and 6 xi_c as a curve over them."""
    depths, sigmas = result["depth"], result["sigma_w"]
    accuracy = np.array(result["accuracy"], float)  # None of a run that diverged becomes NaN
    with np.errstate(all="ignore"):
        counted = np.maximum((~np.isnan(accuracy)).sum(0), 1)
        mean = np.where(np.isnan(accuracy).all(0), np.nan, np.nansum(accuracy, 0) / counted)
    width = max(4.0, 0.55 * len(sigmas))
    figure, (axes,) = plotting.panels(1, 1, width=width, height=3.6, share=False)
    labels = [f"{sigma**2:.3g}" for sigma in sigmas]
    plotting.heatmap(axes, (100 * mean).tolist(), list(map(str, depths)), labels, vmin=10, vmax=100)
    axes.invert_yaxis()
    x = np.interp(result["curve"]["sigma_w"], sigmas, np.arange(len(sigmas)))
    scales = np.array([math.inf if v is None else v for v in result["curve"]["xi_c"]], float)
    rows = np.array([depths[0] ** 2 / depths[1], *depths, depths[-1] ** 2 / depths[-2]])
    reach = np.log(np.clip(TRAINABLE * scales, rows[0], rows[-1]))
    places = np.interp(reach, np.log(rows), np.arange(-1, len(depths) + 1))
    axes.plot(x, places, color=colours.RED, linewidth=2)
    axes.set_ylim(-0.5, len(depths) - 0.5)
    axes.set_xlabel("sigma_w²")
    axes.set_ylabel("hidden layers")
    axes.set_title(
        f"{result['act']}, sigma_b² = {result['sigma_b'] ** 2:.3g}: test accuracy, %; "
        f"line: {TRAINABLE} xi_c"
    )
    return {"accuracy": figure}


def tables(result: Quantities) -> Sequence[Table]:
    """Return xi_c and the mean trainable depth of each sigma_w, and how they are ranked alike."""
    trainable = np.array(result["trainable"], float)
    rows = [
        [float(sigma**2), xi, None if xi is None else TRAINABLE * xi, *mean_interval(depths)]
        for sigma, xi, depths in zip(result["sigma_w"], result["xi_c"], trainable.T, strict=True)
    ]
    heading = ("sigma_w²", "xi_c", f"{TRAINABLE} xi_c", "trains to, layers", "± 95 %")
    mean, half = result["mean"], result["half_width"]
    seeds = len(trainable)
    return [
        Table("Depth scale of theory, and depth at which accuracy falls by half", heading, rows),
        Table(
            "Rank correlation of trainable depth with xi_c",
            ("mean of seeds", "± 95 %", "seeds"),
            [[mean, half, seeds]],
        ),
    ]


EXPERIMENT = Experiment(
    "phase-diagram",
    "How deep does a network train, by the size of its initial weights, and does xi_c tell?",
    "Schoenholz et al. 2017",
    measure,
    draw,
    tables,
    {
        "act": "tanh",
        "depth": (5, 10, 20, 40, 80),
        "sigma_w": (1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0),
        "sigma_b": 0.22360679774997896,
        "seeds": 3,
        "epochs": 10,
        "width": 100,
        "lr": 0.003,
    },
    quick=None,
    trains=True,
    on_record=False,
)
