"""Claims of S2, the UvA tutorial's comparison."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from actsweep_tutorials.claims.base import (
    NOISE,
    ONLY_IF,
    REFUTED,
    Claim,
    Verdict,
    combine,
    exceeds,
    holds_if,
    mean,
    plausible_single_run,
)
from actsweep_tutorials.tutorial3 import CLAIMED_ACCURACIES, accuracies

INIT = "torch_uniform"
OTHERS = ("tanh", "relu", "leaky_relu", "elu", "swish")
TEST_IMAGES = 10_000


def _head(result: Any) -> Verdict:
    largest = result["inits"][INIT]["sigmoid"]["head"]["largest"]
    text = f"largest |dL/dw|: {min(largest):.3f} … {max(largest):.3f}, {len(largest)} seeds"
    return holds_if(0.05 <= mean(largest) <= 0.2, text)


def _smallest_first(result: Any) -> Verdict:
    layers = result["inits"][INIT]["sigmoid"]
    first = [min(layers, key=lambda k: layers[k]["norm"][i]) for i in range(result["seeds"])]
    norms = ", ".join(f"{mean(layer['norm']):.2g}" for layer in layers.values())
    return holds_if(set(first) == {"hidden_1"}, f"norms, input to output: {norms}")


def _about_1e5(result: Any) -> Verdict:
    sizes_of_layer = result["inits"][INIT]["sigmoid"]["hidden_1"]
    names = {
        "norm": "the L2 norm",
        "rms": "the root mean square",
        "mean_size": "the mean |dL/dw|",
        "largest": "the largest |dL/dw|",
    }
    sizes = {label: mean(sizes_of_layer[key]) for key, label in names.items()}
    text = ", ".join(f"{label} {size:.2g}" for label, size in sizes.items())
    matching = [label for label, size in sizes.items() if 1 / 3 <= size / 1e-5 <= 3]
    if sizes["the L2 norm"] <= 3e-5:
        return holds_if(True, text)
    if matching:
        return Verdict(ONLY_IF, text, f"it means {' or '.join(matching)}")
    return Verdict(REFUTED, text)


def _alike(result: Any) -> Verdict:
    cases, parts = {}, []
    for act in OTHERS:
        sizes = [mean(layer["rms"]) for layer in result["inits"][INIT][act].values()]
        ratio = max(sizes) / min(sizes)
        cases[f"act={act}"] = holds_if(ratio <= 10, "")
        parts.append(f"{act} {ratio:.1f}")
    sizes = [mean(layer["rms"]) for layer in result["inits"][INIT]["sigmoid"].values()]
    parts.append(f"sigmoid {max(sizes) / min(sizes):.0f}")
    return combine(cases, f"largest rms of a layer over the smallest: {', '.join(parts)}")


def _spike(result: Any) -> Verdict:
    acts = result["inits"][INIT]
    most = {
        a: max(mean(layer["zeros"]) for layer in acts[a].values()) for a in ("relu", "tanh", "elu")
    }
    text = ", ".join(f"{act} {100 * share:.1f} %" for act, share in most.items())
    holds = most["relu"] > 0.05 and max(most["tanh"], most["elu"]) < 0.001
    return holds_if(holds, f"exact zeros in the layer that has most: {text}")


def _accuracy(act: str) -> Callable[[Any], Verdict]:
    return lambda result: plausible_single_run(
        CLAIMED_ACCURACIES[act], accuracies(result["groups"][act]).values(), " %"
    )


def _at_chance(result: Any) -> Verdict:
    groups = result["groups"]
    waits = {act: [seed["at_chance"] for seed in group["seeds"]] for act, group in groups.items()}
    others = max(max(waits[act]) for act in OTHERS)
    sigmoid = waits["sigmoid"]
    text = (
        f"{min(sigmoid)} … {max(sigmoid)} epochs below 20 % over {len(sigmoid)} seeds; "
        f"others at most {others}"
    )
    return holds_if(min(sigmoid) >= 5 and others <= 1, text)


def _differences(result: Any, first: str, rest: Sequence[str]) -> dict[str, Verdict]:
    reference = accuracies(result["groups"][first])
    return {act: exceeds(reference, accuracies(result["groups"][act])) for act in rest}


def _relu_best(result: Any) -> Verdict:
    cases = _differences(result, "relu", [act for act in OTHERS if act != "relu"])
    differences = "; ".join(f"{act} {verdict.text}" for act, verdict in cases.items())
    verdicts = {verdict.verdict for verdict in cases.values()}
    ahead = REFUTED if REFUTED in verdicts else NOISE if NOISE in verdicts else "holds"
    return Verdict(ahead, f"ReLU minus the others, points: {differences}")


def _default(result: Any) -> Verdict:
    cases = {a: _differences(result, a, ["relu"])["relu"] for a in result["groups"] if a != "relu"}
    better = [act for act, verdict in cases.items() if verdict.verdict == "holds"]
    differences = "; ".join(f"{act} {verdict.text}" for act, verdict in cases.items())
    return holds_if(not better, f"the others minus ReLU, points: {differences}")


def _sigmoid_last(result: Any) -> Verdict:
    cases = {a: _differences(result, a, ["sigmoid"])["sigmoid"] for a in OTHERS}
    differences = "; ".join(f"{act} {verdict.text}" for act, verdict in cases.items())
    return combine(cases, f"minus sigmoid, points: {differences}")


def _noise(result: Any) -> Verdict:
    values = list(accuracies(result["groups"]["relu"]).values())
    p = mean(values) / 100
    error = 100 * math.sqrt(p * (1 - p) / TEST_IMAGES)
    spread = float(np.std(values, ddof=1))
    text = f"sqrt(p (1 - p) / 10,000) = {error:.2f} points; ReLU's seeds spread by {spread:.2f}"
    return holds_if(abs(error - 0.32) < 0.01, text)


def _layers(result: Any, act: str, *keys: str) -> list[dict[int, float]]:
    """Return, of each hidden layer, every seed's value of a key, or the sum of several."""
    layers = result["layers"][act].values()
    return [{s["seed"]: sum(s[key] for key in keys) for s in layer["shape"]} for layer in layers]


def _percent(rows: Sequence[Mapping[int, float]]) -> str:
    return ", ".join(f"{100 * mean(row.values()):.0f}" for row in rows)


def _sigmoid_ends(result: Any) -> Verdict:
    rows = _layers(result, "sigmoid", "near_0", "near_1")
    cases = [exceeds(rows[-1], row).verdict == "holds" for row in rows[:-1]]
    text = f"within 0.05 of 0 or 1, by layer: {_percent(rows)} %, {len(rows[0])} seeds"
    return holds_if(all(cases) and mean(rows[-1].values()) > 0.3, text)


def _tanh_ends(result: Any) -> Verdict:
    rows = _layers(result, "tanh", "near_minus_1", "near_1")
    text = f"within 0.05 of -1 or 1, by layer: {_percent(rows)} %, {len(rows[0])} seeds"
    cases = {
        name: holds_if(all(exceeds(rows[i], rows[j]).verdict == "holds" for j in (1, 2)), "")
        for name, i in (("it is said of the first layer", 0), ("it is said of the last layer", -1))
    }
    return combine(cases, text)


def _relu_shape(result: Any) -> Verdict:
    zero, tails = _layers(result, "relu", "zero"), _layers(result, "relu", "rest_kurtosis")
    text = f"exactly 0, by layer: {_percent(zero)} %; excess kurtosis of the rest: "
    text += ", ".join(f"{mean(row.values()):.1f}" for row in tails)
    spike = min(mean(row.values()) for row in zero) > 0.2
    return holds_if(spike and min(mean(row.values()) for row in tails) > 0, text)


def _gaussian(result: Any) -> Verdict:
    def distance(act: str) -> dict[int, float]:
        skews, tails = _layers(result, act, "act_skew"), _layers(result, act, "act_kurtosis")
        pairs = list(zip(skews, tails, strict=True))
        return {i: mean(abs(s[i]) + abs(k[i]) for s, k in pairs) for i in skews[0]}

    elu = distance("elu")
    cases = {act: exceeds(distance(act), elu) for act in result["layers"] if act != "elu"}
    distances = ", ".join(f"{act} {mean(distance(act).values()):.1f}" for act in result["layers"])
    text = f"|skewness| + |excess kurtosis| of f(z), mean over layers: {distances}"
    verdict = combine(cases, text, name_all=True)
    return (
        replace(verdict, condition=f"compared with {verdict.condition}")
        if verdict.condition
        else verdict
    )


def _swish_15(result: Any) -> Verdict:
    layers = _layers(result, "swish", "largest")
    return plausible_single_run(15, [max(layer[seed] for layer in layers) for seed in layers[0]])


CLAIMS = (
    Claim(
        "S2.sigmoid-head",
        "Before training, the gradients of sigmoid's output layer reach 0.1.",
        "gradient-flow",
        "largest |dL/dw| of the head, mean of seeds; a factor of 2",
        _head,
        "histograms",
        reason=(
            "The head reads values near 0.5 and a batch's classes nearly balance: a "
            "gradient is about half the imbalance."
        ),
    ),
    Claim(
        "S2.sigmoid-first",
        "Sigmoid's input layer has the smallest gradient norm.",
        "gradient-flow",
        "L2 norms of all layers; in every seed",
        _smallest_first,
        "histograms",
    ),
    Claim(
        "S2.sigmoid-1e-5",
        "That norm is about 1e-5.",
        "gradient-flow",
        "four measures of size; a factor of 3",
        _about_1e5,
        "histograms",
        reason=(
            "Measures of size differ by the root of the number of weights, here 634; the "
            "source doesn't say which."
        ),
    ),
    Claim(
        "S2.others-alike",
        "The other activations' gradients are alike across layers.",
        "gradient-flow",
        "largest rms of a layer over the smallest; at most 10",
        _alike,
        "histograms",
    ),
    Claim(
        "S2.relu-spike",
        "ReLU's weight gradients have a spike at 0.",
        "gradient-flow",
        "exact zeros: over 5 % for ReLU, under 0.1 % for tanh and ELU",
        _spike,
        "histograms",
    ),
    *(
        Claim(
            f"S2.accuracy-{act}",
            f"{act} reaches {CLAIMED_ACCURACIES[act]} % on the test images.",
            "tutorial3",
            "95 % prediction interval for one run, from our seeds",
            _accuracy(act),
            "accuracy",
            needs_training=True,
        )
        for act in CLAIMED_ACCURACIES
    ),
    Claim(
        "S2.sigmoid-waits",
        "Sigmoid stays at chance for many epochs first.",
        "tutorial3",
        "epochs before 20 % validation accuracy: at least 5 in every seed, others at most 1",
        _at_chance,
        "accuracy",
        needs_training=True,
    ),
    Claim(
        "S2.relu-best",
        "ReLU is the best of the six.",
        "tutorial3",
        "differences paired by seed; 95 % intervals",
        _relu_best,
        "accuracy",
        needs_training=True,
        reason=(
            "The differences are of the size of the spread over seeds; five can't tell it from ELU."
        ),
    ),
    Claim(
        "S4.mlp-default",
        "In a simple MLP ReLU will do.",
        "tutorial3",
        "no other is better: differences paired by seed, 95 % intervals",
        _default,
        "accuracy",
        needs_training=True,
    ),
    Claim(
        "S2.sigmoid-last",
        "Sigmoid is the worst of the six.",
        "tutorial3",
        "differences paired by seed; 95 % intervals",
        _sigmoid_last,
        "accuracy",
        needs_training=True,
    ),
    Claim(
        "traps.binomial",
        "With 10,000 test images the standard error of an accuracy is 0.32 points.",
        "tutorial3",
        "from ReLU's mean accuracy; ± 0.01",
        _noise,
        "accuracy",
        needs_training=True,
    ),
    Claim(
        "S2.sigmoid-ends",
        "After training sigmoid piles up at 0 and 1 in the last layer.",
        "activation-distributions",
        "share within 0.05 of an end: over 30 % and above every other layer, 95 % over seeds",
        _sigmoid_ends,
        "distributions",
        needs_training=True,
        reason="It is the layer with most outputs near an end, but four in five lie in between.",
    ),
    Claim(
        "S2.tanh-ends",
        "Tanh lies near -1 and 1 in the first and the last layer.",
        "activation-distributions",
        "share within 0.05 of an end, above the middle layers', 95 % over seeds",
        _tanh_ends,
        "distributions",
        needs_training=True,
    ),
    Claim(
        "S2.relu-tail",
        "ReLU has a spike at 0 and a long right tail.",
        "activation-distributions",
        "exact zeros over 20 % in every layer; excess kurtosis of the rest above 0",
        _relu_shape,
        "distributions",
        needs_training=True,
    ),
    Claim(
        "S2.elu-gaussian",
        "ELU's activations are more Gaussian.",
        "activation-distributions",
        "|skewness| + |excess kurtosis| below every other's, 95 % over seeds",
        _gaussian,
        "distributions",
        needs_training=True,
        reason="Bounded activations have no tails at all, and come closer by this measure.",
    ),
    Claim(
        "S2.swish-15",
        "Swish goes up to 15.",
        "activation-distributions",
        "largest f(z) of any layer; 95 % prediction interval for one run",
        _swish_15,
        "distributions",
        needs_training=True,
    ),
)
