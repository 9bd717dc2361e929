"""gradient-flow: the weight gradients of every layer before training, by activation and init. (S2)

One batch of 256 training images of FashionMNIST; the tutorial's network, and its ten-layer one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep_tutorials.base import MAIN, Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import BATCH, Inside, Lab, over_seeds

BINS = 30
MIDDLE = 1e-5  # bins about zero count as a spike where |dL/dw| is below this share of the largest


def measure(params: Params) -> Quantities:
    """For every init and activation: histograms and norms by layer, for each seed the ratios."""
    lab = Lab()
    found: dict[str, Any] = {"seeds": params["seeds"], "inits": {}, "deep": {}}
    found["one_sign"] = _one_sign(lab, params)
    for init in params["init"]:
        found["inits"][init] = {
            act: _layers(lab, ("depth=tutorial", f"act={act}", f"init={init}"), params)
            for act in params["act"]
        }
        found["deep"][init] = {
            act: _relative(lab, ("depth=deep10", f"act={act}", f"init={init}"), params)
            for act in params["act"]
        }
    return found


def _nets(lab: Lab, words: Sequence[str], params: Params) -> list[Inside]:
    runs = over_seeds([*words, f"data={params['data']}"], params["seeds"])
    return [lab.drawn(run) for run in runs]


def _layers(lab: Lab, words: Sequence[str], params: Params) -> Mapping[str, Any]:
    """Of seed 0 the histograms; over seeds the largest |gradient|, norm and share of zeros."""
    views = [lab.first_batch(net, BATCH)["grads"] for net in _nets(lab, words, params)]
    found: dict[str, Any] = {}
    for layer, grad in views[0].items():
        counts, edges = np.histogram(grad, BINS)
        over = [view[layer] for view in views]
        found[layer] = {
            "counts": counts,
            "edges": edges,
            "largest": [np.abs(g).max() for g in over],
            "norm": [np.linalg.norm(g) for g in over],
            "rms": [np.sqrt(np.mean(np.square(g))) for g in over],
            "mean_size": [np.abs(g).mean() for g in over],
            "zeros": [(g == 0).mean() for g in over],
        }
    return found


def _one_sign(lab: Lab, params: Params) -> Mapping[str, float]:
    """Sigmoid's outputs are all positive. The share of the second layer's units whose weight
    gradients have one sign: for the first image alone, and for the batch; a mean over seeds."""
    words = ("depth=tutorial", f"init={params['init'][0]}", "act=sigmoid")
    shares: dict[str, list[float]] = {"example": [], "batch": []}
    for net in _nets(lab, words, params):
        for name, size in (("example", 1), ("batch", BATCH)):
            grad = lab.first_batch(net, size)["grads"]["hidden_2"]
            shares[name].append(float(np.mean((grad >= 0).all(axis=0) | (grad <= 0).all(axis=0))))
    return {name: float(np.mean(values)) for name, values in shares.items()}


def _relative(lab: Lab, words: Sequence[str], params: Params) -> Mapping[str, Any]:
    """By hidden layer, the root mean square of dL/dz over that of the last: [seeds][layers]."""
    rows = []
    for net in _nets(lab, words, params):
        view = lab.first_batch(net, BATCH)["preact_grads"]
        sizes = [float(np.sqrt(np.mean(np.square(g, dtype=np.float64)))) for g in view.values()]
        rows.append([size / sizes[-1] for size in sizes])
    return {"ratio": rows}


def draw(found: Quantities) -> Mapping[str, Figure]:
    """Histograms for the first init, layer by layer; and ratios for each init."""
    drawn = {}
    init, acts = next(iter(found["inits"].items()))
    layers = list(next(iter(acts.values())))
    title = f"Weight gradients before training, init={init}: {BATCH} images, seed 0"
    count = len(acts) * len(layers)
    figure, flat = plotting.panels(
        count, len(layers), width=2.3, height=1.6, share=False, title=title
    )
    for place, axes in enumerate(flat):
        act, layer = list(acts)[place // len(layers)], layers[place % len(layers)]
        one = acts[act][layer]
        edges = np.array(one["edges"])
        axes.stairs(one["counts"], edges, fill=True, color=plotting.colour(act))
        axes.set_yscale("log")
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 0), useMathText=True)
        axes.tick_params(labelsize=7)
        axes.xaxis.get_offset_text().set_fontsize(7)
        axes.locator_params(axis="x", nbins=3)
        if place < len(layers):
            axes.set_title(layer)
        if place % len(layers) == 0:
            axes.set_ylabel(act)
    drawn["histograms"] = figure
    ratios, flat = plotting.panels(
        len(found["deep"]),
        3,
        width=3.4,
        height=3,
        title="Ten layers: rms of dL/dz, over the last layer's",
    )
    for axes, (init, acts) in zip(flat, found["deep"].items(), strict=True):
        for act, one in acts.items():
            middle = np.exp(np.mean(np.log(np.maximum(one["ratio"], 1e-30)), axis=0))
            axes.plot(
                np.arange(1, len(middle) + 1), middle, **plotting.line_style(act, marker=True)
            )
        axes.set_yscale("log")
        axes.set_title(init)
        axes.set_xlabel("layer, input to output")
    flat[0].set_ylabel(f"geometric mean of {found['seeds']} seeds")
    flat[-1].legend(fontsize=7)
    return drawn | {"ten-layers": ratios}


def tables(found: Quantities) -> Sequence[Table]:
    """Norms a layer, for every init."""
    made = []
    for init, acts in found["inits"].items():
        layers = list(next(iter(acts.values())))
        rows = [
            [act, *(float(np.mean(one[layer]["rms"])) for layer in layers)]
            for act, one in acts.items()
        ]
        made.append(
            Table(f"rms of the weight gradient, init={init}", ("activation", *layers), rows)
        )
        zeros = [
            [act, *(100 * float(np.mean(one[layer]["zeros"])) for layer in layers)]
            for act, one in acts.items()
        ]
        made.append(
            Table(
                f"Weight gradients that are exactly 0, %, init={init}",
                ("activation", *layers),
                zeros,
            )
        )
    rows = [
        [act, init, float(np.exp(np.mean(np.log(np.maximum(np.array(one["ratio"])[:, 0], 1e-30)))))]
        for init, acts in found["deep"].items()
        for act, one in acts.items()
    ]
    made.append(
        Table("Ten layers: dL/dz of the first over the last", ("activation", "init", "ratio"), rows)
    )
    return made


EXPERIMENT = Experiment(
    "gradient-flow",
    "How large are the weight gradients of every layer before training?",
    "S2, S4",
    measure,
    draw,
    tables,
    {
        "act": MAIN,
        "init": ("torch_uniform", "he_normal", "lecun_normal"),
        "seeds": 5,
        "data": "fashion_mnist",
    },
)
