"""dead-neurons: ReLUs that are exactly 0 on the whole training set, and why they are. (S2)

Before training: the tutorial's network and its ten-layer one, by init, with the cosine similarity
of different images' activations beside it. After training: the tutorial's comparison.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from actsweep.callbacks.units import mean_cosine
from actsweep.report import colours, plotting
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import Network, NetworkInspector, compose_seeds, layer_sort_key
from actsweep_tutorials.training import run_sweep, seed_override
from actsweep_tutorials.tutorial3 import OVERRIDES

PROBED = 512
DEPTHS = ("tutorial", "deep10")


def measure(params: Params) -> Quantities:
    """Return the silent units by layer, for each seed, with the cosine similarity beside them."""
    inspector = NetworkInspector()
    result: dict[str, Any] = {"seeds": params["seeds"], "untrained": {}, "trained": None}
    for depth in DEPTHS:
        result["untrained"][depth] = {}
        for init in params["init"]:
            words = (f"depth={depth}", f"init={init}", "act=relu", f"data={params['data']}")
            networks = [inspector.initialised(run) for run in compose_seeds(words, params["seeds"])]
            result["untrained"][depth][init] = _count(inspector, networks)
    if params["trained"]:
        words = (
            *OVERRIDES,
            "act=relu",
            f"data={params['data']}",
            seed_override(params["trained_seeds"]),
        )
        runs = run_sweep(words, params)
        before = [inspector.initialised(run.config) for run in runs]
        after = [inspector.trained(run) for run in runs]
        result["trained"] = {"before": _count(inspector, before), "after": _count(inspector, after)}
        result["fate"] = _fates(inspector, before, after)
    return result


def _count(inspector: NetworkInspector, networks: Sequence[Network]) -> Mapping[str, Any]:
    """Return silent units and similarity by layer, lists over seeds; and the layers' widths."""
    silent = [inspector.silent_units(net) for net in networks]
    acts = [inspector.probe_first_batch(net, PROBED)["act"] for net in networks]
    return {
        "silent": {k: [int(mask[k].sum()) for mask in silent] for k in silent[0]},
        "cosine": {
            k: [float(mean_cosine(jnp.asarray(layers[k]))) for layers in acts] for k in acts[0]
        },
        "width": {k: len(v) for k, v in silent[0].items()},
    }


def _fates(
    inspector: NetworkInspector, before: Sequence[Network], after: Sequence[Network]
) -> Mapping[str, Any]:
    """Return how many units fell silent, and how many silent ones recovered, by layer."""
    pairs = [
        (inspector.silent_units(a), inspector.silent_units(b))
        for a, b in zip(before, after, strict=True)
    ]
    return {
        layer: {
            "silent": sum(int(a[layer].sum()) for a, _ in pairs),
            "recovered": sum(int((a[layer] & ~b[layer]).sum()) for a, b in pairs),
            "died": sum(int((~a[layer] & b[layer]).sum()) for a, b in pairs),
        }
        for layer in sorted(pairs[0][0], key=layer_sort_key)
    }


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw the silent share and the similarity of the ten layers, by init."""
    figure, (left, right) = plotting.panels(2, 2, width=4.2, height=3.2, share=False)
    palette = (colours.RED, colours.BLUE, colours.GREEN, colours.ORANGE, colours.PINK)
    marks = "^soDv"
    deep = result["untrained"]["deep10"]
    for (init, counts_by_layer), colour, mark in zip(deep.items(), palette, marks, strict=False):
        layer = np.arange(1, len(counts_by_layer["width"]) + 1)
        share = np.array(
            [
                100 * np.array(counts_by_layer["silent"][k]) / counts_by_layer["width"][k]
                for k in counts_by_layer["width"]
            ]
        )
        left.plot(layer, share.mean(axis=1), color=colour, marker=mark, label=init)
        left.fill_between(layer, share.min(axis=1), share.max(axis=1), color=colour, alpha=0.15)
        cosine = np.array(list(counts_by_layer["cosine"].values()), float)
        right.plot(layer, np.nanmean(cosine, axis=1), color=colour, marker=mark)
    left.set_ylabel("silent units, %")
    left.set_title(f"0 on all training images; mean and range of {result['seeds']} seeds")
    left.legend()
    right.set_ylabel("mean cosine similarity")
    right.set_title("How alike are different images?")
    right.set_ylim(0, 1.02)
    for axes in (left, right):
        axes.set_xlabel("layer, input to output")
    figures = {"ten-layers": figure}
    if result["trained"]:
        bars, (axes,) = plotting.panels(1, 1, width=5.5, height=3)
        for place, (when, counts_by_layer) in enumerate(result["trained"].items()):
            means = [np.mean(silent) for silent in counts_by_layer["silent"].values()]
            at = np.arange(len(means)) + 0.4 * place - 0.2
            colour = (colours.SKY, colours.RED)[place]
            axes.bar(at, means, 0.38, color=colour, label=f"{when} training")
            for x, silent in zip(at, counts_by_layer["silent"].values(), strict=True):
                axes.plot([x] * len(silent), silent, "k.", markersize=4)
        plotting.label_layers(axes, list(result["trained"]["before"]["silent"]))
        axes.set_ylabel("silent units: mean, each seed")
        axes.legend()
        figures["trained"] = bars
    return figures


def tables(result: Quantities) -> Sequence[Table]:
    """Return the counts of every seed."""
    made = []
    for depth, inits in result["untrained"].items():
        for init, counts_by_layer in inits.items():
            rows = [
                [
                    k,
                    counts_by_layer["width"][k],
                    " ".join(map(str, v)),
                    float(np.mean(v)),
                    _mean(counts_by_layer["cosine"][k]),
                ]
                for k, v in counts_by_layer["silent"].items()
            ]
            heading = ("layer", "units", "silent, each seed", "mean", "cosine similarity")
            made.append(Table(f"Untrained, depth={depth} init={init}", heading, rows))
    if result["trained"]:
        rows = [
            [
                k,
                *(" ".join(map(str, moment["silent"][k])) for moment in result["trained"].values()),
                *fate.values(),
            ]
            for k, fate in result["fate"].items()
        ]
        titles = ("layer", "before", "after", "silent before", "recovered", "died")
        made.append(Table("The tutorial's network before and after training", titles, rows))
    return made


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


EXPERIMENT = Experiment(
    "dead-neurons",
    "How many ReLUs are 0 on the whole training set, before and after training, and why?",
    "S2",
    measure,
    draw,
    tables,
    {
        "init": ("torch_uniform", "he_normal", "orthogonal"),
        "seeds": 5,
        "data": "fashion_mnist",
        "trained": True,
        "trained_seeds": 3,
    },
    quick={"trained": False},
    trains=True,
)
