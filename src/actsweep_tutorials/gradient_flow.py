"""gradient-flow: the weight gradients of every layer before training, by activation and init. (S2)

Several batches of 256 training images of FashionMNIST, the same for every network: what is said
of a network is a mean over them. The tutorial's network, and its ten-layer one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep_tutorials.base import MAIN_ACTIVATIONS, Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import BATCH, Network, NetworkInspector, View, compose_seeds

BINS = 30
FEW_BATCHES = 3  # of other inits, and of ten-layer networks
SIZES: Mapping[str, Callable[[np.ndarray], Any]] = {
    "largest": lambda g: np.abs(g).max(),
    "norm": np.linalg.norm,
    "rms": lambda g: np.sqrt(np.mean(np.square(g))),
    "mean_size": lambda g: np.abs(g).mean(),
    "zeros": lambda g: (g == 0).mean(),
}
MIDDLE = 1e-5  # bins about zero count as a spike where |dL/dw| is below this share of the largest


def measure(params: Params) -> Quantities:
    """Return histograms and sizes by layer, and each seed's ratios, by init and activation."""
    inspector = NetworkInspector()
    result: dict[str, Any] = {"seeds": params["seeds"], "inits": {}, "deep": {}}
    result["one_sign"] = _one_sign(inspector, params)
    for init in params["init"]:
        few = min(params["batches"], FEW_BATCHES)
        batches = params["batches"] if init == params["init"][0] else few
        result["inits"][init] = {
            act: _layers(
                inspector, ("depth=tutorial", f"act={act}", f"init={init}"), params, batches
            )
            for act in params["act"]
        }
        result["deep"][init] = {
            act: _relative(inspector, ("depth=deep10", f"act={act}", f"init={init}"), params, few)
            for act in params["act"]
        }
    return result


def _networks(inspector: NetworkInspector, words: Sequence[str], params: Params) -> list[Network]:
    runs = compose_seeds([*words, f"data={params['data']}"], params["seeds"])
    return [inspector.initialised(run) for run in runs]


def _layers(
    inspector: NetworkInspector, words: Sequence[str], params: Params, batches: int
) -> Mapping[str, Any]:
    """Return a histogram of seed 0's first batch; and of each seed the means over batches of the
    largest |gradient|, sizes and share of zeros, and the largest of each batch.
    """
    views = [
        [view["grads"] for view in _views(inspector, network, batches)]
        for network in _networks(inspector, words, params)
    ]
    layers: dict[str, Any] = {}
    for layer, grad in views[0][0].items():
        counts, edges = np.histogram(grad, BINS)
        layers[layer] = {"counts": counts, "edges": edges}
        for key, size in SIZES.items():
            by_batch = [[float(size(view[layer])) for view in network] for network in views]
            layers[layer][key] = [np.mean(values) for values in by_batch]
            if key == "largest":
                layers[layer]["largest_by_batch"] = by_batch
    return layers


def _views(inspector: NetworkInspector, network: Network, batches: int) -> list[View]:
    """Return what a network's probe sees on each of the first full batches of training images."""
    examples = inspector.dataset(network.run)
    full = max(1, len(examples.train_x) // BATCH)
    starts = range(0, BATCH * min(batches, full), BATCH)
    return [
        inspector.probe(network, examples.train_x[i : i + BATCH], examples.train_y[i : i + BATCH])
        for i in starts
    ]


def _one_sign(inspector: NetworkInspector, params: Params) -> Mapping[str, float]:
    """Return the share of the second layer's units whose weight gradients have one sign.

    With sigmoid, whose outputs are all positive: for the first image alone, and for the batch; a
    mean over seeds.
    """
    words = ("depth=tutorial", f"init={params['init'][0]}", "act=sigmoid")
    shares: dict[str, list[float]] = {"example": [], "batch": []}
    for network in _networks(inspector, words, params):
        for name, size in (("example", 1), ("batch", BATCH)):
            grad = inspector.probe_first_batch(network, size)["grads"]["hidden_2"]
            shares[name].append(float(np.mean((grad >= 0).all(axis=0) | (grad <= 0).all(axis=0))))
    return {name: float(np.mean(values)) for name, values in shares.items()}


def _relative(
    inspector: NetworkInspector, words: Sequence[str], params: Params, batches: int
) -> Mapping[str, Any]:
    """Return by hidden layer the rms of dL/dz over that of the last: [seeds][layers].

    Of several batches the geometric mean.
    """
    rows = []
    for network in _networks(inspector, words, params):
        sizes = np.array(
            [
                [np.sqrt(np.mean(np.square(g, dtype=np.float64))) for g in view.values()]
                for view in (v["preact_grads"] for v in _views(inspector, network, batches))
            ]
        )
        logs = np.log(np.maximum(sizes / sizes[:, -1:], 1e-30))
        rows.append(np.exp(logs.mean(axis=0)))
    return {"ratio": rows}


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw histograms for the first init, layer by layer; and the ratios for each init."""
    figures = {}
    init, acts = next(iter(result["inits"].items()))
    layers = list(next(iter(acts.values())))
    title = f"Weight gradients before training, init={init}: {BATCH} images, seed 0"
    count = len(acts) * len(layers)
    figure, flat = plotting.panels(
        count, len(layers), width=2.3, height=1.6, share=False, title=title
    )
    for place, axes in enumerate(flat):
        act, layer = list(acts)[place // len(layers)], layers[place % len(layers)]
        histogram = acts[act][layer]
        edges = np.array(histogram["edges"])
        axes.stairs(histogram["counts"], edges, fill=True, color=plotting.colour(act))
        axes.set_yscale("log")
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 0), useMathText=True)
        axes.tick_params(labelsize=7)
        axes.xaxis.get_offset_text().set_fontsize(7)
        axes.locator_params(axis="x", nbins=3)
        if place < len(layers):
            axes.set_title(layer)
        if place % len(layers) == 0:
            axes.set_ylabel(act)
    figures["histograms"] = figure
    ratios, flat = plotting.panels(
        len(result["deep"]),
        3,
        width=3.4,
        height=3,
        title="Ten layers: rms of dL/dz, over the last layer's",
    )
    for axes, (init, acts) in zip(flat, result["deep"].items(), strict=True):
        for act, entry in acts.items():
            middle = np.exp(np.mean(np.log(np.maximum(entry["ratio"], 1e-30)), axis=0))
            axes.plot(
                np.arange(1, len(middle) + 1), middle, **plotting.line_style(act, marker=True)
            )
        axes.set_yscale("log")
        axes.set_title(init)
        axes.set_xlabel("layer, input to output")
    flat[0].set_ylabel(f"geometric mean of {result['seeds']} seeds")
    flat[-1].legend(fontsize=7)
    return figures | {"ten-layers": ratios}


def tables(result: Quantities) -> Sequence[Table]:
    """Return the norms of each layer, for every init."""
    made = []
    for init, acts in result["inits"].items():
        layers = list(next(iter(acts.values())))
        rows = [
            [act, *(float(np.mean(layers_of_act[layer]["rms"])) for layer in layers)]
            for act, layers_of_act in acts.items()
        ]
        made.append(
            Table(f"rms of the weight gradient, init={init}", ("activation", *layers), rows)
        )
        zeros = [
            [act, *(100 * float(np.mean(layers_of_act[layer]["zeros"])) for layer in layers)]
            for act, layers_of_act in acts.items()
        ]
        made.append(
            Table(
                f"Weight gradients that are exactly 0, %, init={init}",
                ("activation", *layers),
                zeros,
            )
        )
    rows = [
        [
            act,
            init,
            float(
                np.exp(np.mean(np.log(np.maximum(np.array(layers_of_act["ratio"])[:, 0], 1e-30))))
            ),
        ]
        for init, acts in result["deep"].items()
        for act, layers_of_act in acts.items()
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
        "act": MAIN_ACTIVATIONS,
        "init": ("torch_uniform", "he_normal", "lecun_normal"),
        "seeds": 5,
        "batches": 12,
        "data": "fashion_mnist",
    },
)
