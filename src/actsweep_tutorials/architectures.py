"""architectures: which activation for which kind of network? (S1, S4)

Transformers, convolutional, residual and recurrent networks, small enough for a CPU. For each
activation the learning rate is chosen in validation with seeds of its own; what is compared are the
test scores of other seeds with it. The engine of `actsweep compare` chooses and compares.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep.report.compare import compare
from actsweep.report.design import Entry
from actsweep.report.values import Measure
from actsweep.stats.scores import TASKS, task_in
from actsweep.utils.errors import bad_value, unknown_name
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.pairs import compare_pairs, draw_group, interval_text, told
from actsweep_tutorials.tuning import train_tuned

MARGIN = 1.0  # points of accuracy that don't matter: three of the 297 test images of digits
COMMON = (
    "optim=adam",
    "trainer.batch_size=32",
    "trainer.patience=null",
    "callbacks=none",
    "logger=disabled",
    "logger.report=false",
)
DIGITS, TEXT = ("data=digits", "trainer.epochs=20"), ("data=pydocs", "trainer.epochs=1")
CONVOLUTIONAL = ("relu", "swish", "gelu", "elu", "leaky_relu", "sigmoid")
TRANSFORMER = ("gelu", "relu", "squared_relu", "swish", "tanh", "swiglu", "geglu")
RECURRENT = ("tanh", "relu", "gelu", "sigmoid")
BLOCK = ("model=transformer", "depth=1", "depth.width=32")
RESIDUAL = ("model=resnet", "init=he_normal", "depth.width=4", "data=digits")
CELL = ("model=rnn", "depth=1")


@dataclass(frozen=True)
class Network:
    """A kind of network on one data set.

    Attributes:
        acts: the activations that are compared in it.
        words: the overrides that make it.
        share: of the seeds that are asked for, rounded up.
    """

    acts: Sequence[str]
    words: Sequence[str]
    share: float = 1.0

    def seeds(self, asked: int) -> int:
        """Return with how many seeds it is trained."""
        return math.ceil(self.share * asked)


def _deep(layers: int, skip: bool, norm: str) -> Network:
    """Return a plain or residual network of so many layers, He et al. 2016."""
    words = (f"depth={layers}", f"model.skip={str(skip).lower()}", f"model.norm={norm}")
    return Network(("relu", "tanh"), (*RESIDUAL, *words, "trainer.epochs=3"), share=0.5)


DEEP: Mapping[str, Network] = {
    f"{'residual' if skip else 'plain'}-{layers}-{norm}": _deep(layers, skip, norm)
    for layers, skip, norm in itertools.product((20, 56), (False, True), ("none", "batch"))
}
NETWORKS: Mapping[str, Network] = {
    "encoder": Network(TRANSFORMER, (*BLOCK, "model.patch=2", *DIGITS), share=0.5),
    "decoder": Network(TRANSFORMER, (*BLOCK, *TEXT), share=0.5),
    "cnn": Network(
        CONVOLUTIONAL,
        ("model=cnn", "init=he_normal", "model.channels=[8,16]", "depth.widths=[32]", *DIGITS),
    ),
    "resnet": Network(
        CONVOLUTIONAL,
        (*RESIDUAL, "depth=8", "trainer.epochs=6"),
        share=0.5,
    ),
    "rnn-images": Network(RECURRENT, (*CELL, "depth.width=32", *DIGITS)),
    "rnn-text": Network(RECURRENT, (*CELL, "depth.width=64", *TEXT), share=0.5),
    **DEEP,
}


ACTS = tuple(dict.fromkeys(act for network in NETWORKS.values() for act in network.acts))


def measure(params: Params) -> Quantities:
    """Return by network each activation's learning rate and scores by seed, and their comparison.

    Raises:
        UserError: an unknown network, or an activation that isn't compared in any of them.
        TrainingStopped: as `train_sweep`.
    """
    networks = _chosen(params)
    found = {name: _measure(network, params) for name, network in networks.items()}
    return {"networks": found, "lr": params["lr"], "deep": [name for name in found if name in DEEP]}


def _chosen(params: Params) -> Mapping[str, Network]:
    """Return the networks that are asked for, each with those of its activations that are."""
    for name in params["network"]:
        if name not in NETWORKS:
            raise unknown_name("network", name, NETWORKS)
    asked = [NETWORKS[name] for name in params["network"]]
    known = tuple(dict.fromkeys(act for network in asked for act in network.acts))
    for act in params["act"]:
        if act not in ACTS or not set(params["act"]) & set(known):
            raise bad_value("act", act, f"some of {', '.join(known)}", f"act={','.join(known)}")
    kept = {}
    for name, network in zip(params["network"], asked, strict=True):
        if acts := [act for act in network.acts if act in params["act"]]:
            kept[name] = replace(network, acts=acts)
    return kept


def _measure(network: Network, params: Params) -> dict[str, Any]:
    """Tune each activation's learning rate in one network, and compare it with other seeds."""
    words = (*network.words, *COMMON)
    seeds = (network.seeds(params["seeds"]), network.seeds(params["tuning_seeds"]))
    tuned = train_tuned(words, ("act", "act"), network.acts, seeds, params)
    entries = tuned.entries
    classified = all(task_in(entry.summary) == "classification" for entry in entries)
    comparison = compare(entries, ["act"], margin=MARGIN if classified else None)
    scale = _scale(comparison.measure)
    acts: dict[str, Any] = {
        act: {"lr": rate, "tuning": _tuning(tuned.tuning, act), "seeds": _seeds(entries, act)}
        for act, rate in tuned.rates.items()
    }
    values = {act: scores({**scale, "acts": acts}, act) for act in acts}
    return {
        "words": network.words,
        **scale,
        "order": sorted(acts, key=lambda act: _rank(values[act], scale["sign"])),
        "acts": acts,
        "notes": [*tuned.notes, *comparison.notes],
    }


def _rank(values: Mapping[int, float], sign: int) -> tuple[int, float]:
    """Return a key that sorts the best first: how often it learns, then its mean."""
    return -len(values), -sign * float(np.mean([*values.values()])) if values else 0.0


def _scale(measure: Measure) -> dict[str, Any]:
    """Return what is compared, in the unit that is shown."""
    return {
        "metric": measure.metric,
        "sign": measure.sign,
        "scale": measure.scale,
        "unit": "%" if measure.unit else "nats per token",
        "margin": measure.scale * measure.margin,
    }


def _tuning(entries: Sequence[Entry], act: str) -> dict[str, list[float | None]]:
    """Return by learning rate each tuning seed's best score in validation; None if it diverged."""
    scores: dict[str, list[float | None]] = {}
    for entry in entries:
        if entry.config["act"]["name"] == act:
            own = TASKS[task_in(entry.summary)].own
            score = entry.summary.get(f"best_val_{own}") if entry.state == "complete" else None
            scores.setdefault(str(entry.config["optim"]["lr"]), []).append(score)
    return scores


def _seeds(entries: Sequence[Entry], act: str) -> list[dict[str, Any]]:
    """Return each seed's state, whether it stayed at chance, and its test score."""
    return [
        {
            "seed": entry.config["seed"],
            "state": entry.state,
            "at_chance": entry.summary.get("at_chance"),
            "score": entry.summary.get(f"test_{TASKS[task_in(entry.summary)].own}"),
        }
        for entry in entries
        if entry.config["act"]["name"] == act
    ]


def scores(network: Mapping[str, Any], act: str) -> dict[int, float]:
    """Return the test score of each seed that learned something, in the unit that is shown."""
    return {
        seed["seed"]: network["scale"] * seed["score"]
        for seed in network["acts"][act]["seeds"]
        if seed["state"] == "complete" and not seed["at_chance"]
    }


def _compare(network: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare the activations of a network in pairs."""
    trained = {act: [s["seed"] for s in found["seeds"]] for act, found in network["acts"].items()}
    values = {act: scores(network, act) for act in network["acts"]}
    return compare_pairs(values, trained, network["margin"], network["sign"])


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw each network's test scores, and those of deep networks by depth, skip and norm."""
    networks = result["networks"]
    figures = {}
    if shallow := {name: networks[name] for name in networks if name not in result["deep"]}:
        figures["scores"] = _draw_scores(shallow)
    if result["deep"]:
        figures["deep"] = _draw_deep({name: networks[name] for name in result["deep"]})
    return figures


def _draw_scores(networks: Mapping[str, Any]) -> Figure:
    figure, flat = plotting.panels(len(networks), 3, width=3.8, height=3, share=False)
    for axes, (name, network) in zip(flat, networks.items(), strict=True):
        for place, act in enumerate(network["order"]):
            values = [*scores(network, act).values()]
            draw_group(axes, place, values, plotting.colour(act))
        learned = [len(scores(network, act)) for act in network["order"]]
        counts = [
            f"{act}\n{count} of {len(network['acts'][act]['seeds'])}"
            for act, count in zip(network["order"], learned, strict=True)
        ]
        axes.set_xticks(range(len(counts)), counts, rotation=45, fontsize=8)
        axes.set_title(name)
        better = "higher" if network["sign"] > 0 else "lower"
        axes.set_ylabel(f"{network['metric']}, {network['unit']}: {better} is better", fontsize=8)
    return figure


def _draw_deep(networks: Mapping[str, Any]) -> Figure:
    """Draw a heat map an activation: the mean of the seeds that ended, chance included."""
    acts = list(dict.fromkeys(act for network in networks.values() for act in network["acts"]))
    kinds = list(dict.fromkeys(_kind(name)[0] for name in networks))
    depths = list(dict.fromkeys(_kind(name)[1] for name in networks))
    title = "Test accuracy, %: mean of the seeds that didn't diverge"
    figure, flat = plotting.panels(
        len(acts), len(acts), width=4, height=3, share=False, title=title
    )
    for axes, act in zip(flat, acts, strict=True):
        values = np.full((len(kinds), len(depths)), np.nan)
        for name, network in networks.items():
            kind, layers = _kind(name)
            ended = [s["score"] for s in network["acts"].get(act, {"seeds": []})["seeds"]]
            ended = [100 * score for score in ended if score is not None]
            if ended:
                values[kinds.index(kind), depths.index(layers)] = np.mean(ended)
        plotting.heatmap(axes, values.tolist(), kinds, depths, vmin=10, vmax=100)
        axes.set_title(act)
        axes.set_xlabel("layers (blank: all diverged)")
    return figure


def _kind(name: str) -> tuple[str, str]:
    """Return what a deep network is, and its number of layers."""
    kind, layers, norm = name.split("-")
    return f"{kind}, norm={norm}", layers


def tables(result: Quantities) -> Sequence[Table]:
    """Return a table a network: the rates, the scores, and who is told from whom."""
    return [_table(name, network) for name, network in result["networks"].items()]


def _table(name: str, network: Mapping[str, Any]) -> Table:
    rows, pairs = [], _compare(network)
    for act in network["order"]:
        values = [*scores(network, act).values()]
        count = f"{len(values)} of {len(network['acts'][act]['seeds'])}"
        rate = network["acts"][act]["lr"]
        rows.append([act, rate, interval_text(values), count, *told(pairs, act)])
    score = f"{network['metric']}, {network['unit']}: mean ± 95 %"
    heading = ("activation", "lr", score, "learned", "better than", "equivalent to")
    return Table(f"{name}: {' '.join(network['words'])}", heading, rows)


EXPERIMENT = Experiment(
    "architectures",
    "Which activation for transformers, convolutional, residual, recurrent and deep networks, "
    "each with its own learning rate?",
    "S1, S4",
    measure,
    draw,
    tables,
    {
        "network": tuple(NETWORKS),
        "act": ACTS,
        "seeds": 10,
        "tuning_seeds": 2,
        "lr": (0.001, 0.003, 0.01, 0.03, 0.1),
    },
    quick=None,
    trains=True,
)
