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
from actsweep.report import plotting
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import Inside, Lab, layer_order, over_seeds
from actsweep_tutorials.training import seeds, sweep
from actsweep_tutorials.tutorial3 import WORDS

PROBED = 512
DEPTHS = ("tutorial", "deep10")


def measure(params: Params) -> Quantities:
    """Silent units by layer, for each seed; cosine similarity beside them."""
    lab = Lab()
    found: dict[str, Any] = {"seeds": params["seeds"], "untrained": {}, "trained": None}
    for depth in DEPTHS:
        found["untrained"][depth] = {}
        for init in params["init"]:
            words = (f"depth={depth}", f"init={init}", "act=relu", f"data={params['data']}")
            nets = [lab.drawn(run) for run in over_seeds(words, params["seeds"])]
            found["untrained"][depth][init] = _count(lab, nets)
    if params["trained"]:
        words = (*WORDS, "act=relu", f"data={params['data']}", seeds(params["trained_seeds"]))
        runs = sweep(words, params)
        before = [lab.drawn(run.config) for run in runs]
        after = [lab.trained(run) for run in runs]
        found["trained"] = {"before": _count(lab, before), "after": _count(lab, after)}
        found["fate"] = _fates(lab, before, after)
    return found


def _count(lab: Lab, nets: Sequence[Inside]) -> Mapping[str, Any]:
    """Silent units and similarity: a list over seeds for every layer; and the layers' widths."""
    silent = [lab.silent(net) for net in nets]
    acts = [lab.first_batch(net, PROBED)["act"] for net in nets]
    return {
        "silent": {k: [int(one[k].sum()) for one in silent] for k in silent[0]},
        "cosine": {k: [float(mean_cosine(jnp.asarray(one[k]))) for one in acts] for k in acts[0]},
        "width": {k: len(v) for k, v in silent[0].items()},
    }


def _fates(lab: Lab, before: Sequence[Inside], after: Sequence[Inside]) -> Mapping[str, Any]:
    """Of the units that were silent before, how many are heard after; and the other way round."""
    pairs = [(lab.silent(a), lab.silent(b)) for a, b in zip(before, after, strict=True)]
    return {
        layer: {
            "silent": sum(int(a[layer].sum()) for a, _ in pairs),
            "recovered": sum(int((a[layer] & ~b[layer]).sum()) for a, b in pairs),
            "died": sum(int((~a[layer] & b[layer]).sum()) for a, b in pairs),
        }
        for layer in sorted(pairs[0][0], key=layer_order)
    }


def draw(found: Quantities) -> Mapping[str, Figure]:
    """Silent share and similarity of the ten layers, by init."""
    figure, (left, right) = plotting.panels(2, 2, width=4.2, height=3.2, share=False)
    palette = (plotting.RED, plotting.BLUE, plotting.GREEN, plotting.ORANGE, plotting.PINK)
    marks = "^soDv"
    deep = found["untrained"]["deep10"]
    for (init, one), own, mark in zip(deep.items(), palette, marks, strict=False):
        layer = np.arange(1, len(one["width"]) + 1)
        share = np.array([100 * np.array(one["silent"][k]) / one["width"][k] for k in one["width"]])
        left.plot(layer, share.mean(axis=1), color=own, marker=mark, label=init)
        left.fill_between(layer, share.min(axis=1), share.max(axis=1), color=own, alpha=0.15)
        cosine = np.array(list(one["cosine"].values()), float)
        right.plot(layer, np.nanmean(cosine, axis=1), color=own, marker=mark)
    left.set_ylabel("silent units, %")
    left.set_title(f"0 on all training images; mean and range of {found['seeds']} seeds")
    left.legend()
    right.set_ylabel("mean cosine similarity")
    right.set_title("How alike are different images?")
    right.set_ylim(0, 1.02)
    for axes in (left, right):
        axes.set_xlabel("layer, input to output")
    drawn = {"ten-layers": figure}
    if found["trained"]:
        bars, (axes,) = plotting.panels(1, 1, width=5.5, height=3)
        for place, (when, one) in enumerate(found["trained"].items()):
            means = [np.mean(counts) for counts in one["silent"].values()]
            at = np.arange(len(means)) + 0.4 * place - 0.2
            own = (plotting.SKY, plotting.RED)[place]
            axes.bar(at, means, 0.38, color=own, label=f"{when} training")
            for x, counts in zip(at, one["silent"].values(), strict=True):
                axes.plot([x] * len(counts), counts, "k.", markersize=4)
        plotting.label_layers(axes, list(found["trained"]["before"]["silent"]))
        axes.set_ylabel("silent units: mean, each seed")
        axes.legend()
        drawn["trained"] = bars
    return drawn


def tables(found: Quantities) -> Sequence[Table]:
    """Counts of every seed."""
    made = []
    for depth, inits in found["untrained"].items():
        for init, one in inits.items():
            rows = [
                [
                    k,
                    one["width"][k],
                    " ".join(map(str, v)),
                    float(np.mean(v)),
                    _mean(one["cosine"][k]),
                ]
                for k, v in one["silent"].items()
            ]
            heading = ("layer", "units", "silent, each seed", "mean", "cosine similarity")
            made.append(Table(f"Untrained, depth={depth} init={init}", heading, rows))
    if found["trained"]:
        rows = [
            [
                k,
                *(" ".join(map(str, one["silent"][k])) for one in found["trained"].values()),
                *fate.values(),
            ]
            for k, fate in found["fate"].items()
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
