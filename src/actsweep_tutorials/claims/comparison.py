"""Claims of S2, the UvA tutorial's comparison."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from actsweep_tutorials.claims.base import (
    HOLDS,
    NOISE,
    REFUTED,
    Claim,
    Verdict,
    combine,
    exceeds,
    geometric_mean,
    holds_if,
    inside,
    inside_factor,
    mean,
    of_all,
    one_run,
)
from actsweep_tutorials.tutorial3 import CLAIMED_ACCURACIES, accuracies

INIT = "torch_uniform"
OTHERS = ("tanh", "relu", "leaky_relu", "elu", "swish")
TEST_IMAGES = 10_000
POINT = 1.0  # of accuracy: three standard errors of 10,000 images
MARGIN = 0.5  # points of accuracy below which a difference doesn't matter
FACTOR_ALIKE = 3.0
HALF_NORMAL_KURTOSIS = 0.87  # excess, of |N(0, 1)|: what a ReLU leaves of a normal z


def _head(result: Any) -> Verdict:
    """Return whether one batch's largest gradient is 0.1 up to a factor of 2."""
    by_batch = result["inits"][INIT]["sigmoid"]["head"]["largest_by_batch"]
    draws = list(itertools.chain.from_iterable(by_batch))
    shares = [mean(size >= limit for size in draws) for limit in (0.1, 0.05)]
    text = f"largest |dL/dw|: {min(draws):.3f} … {max(draws):.3f} in {len(by_batch)} networks on "
    text += f"{len(by_batch[0])} batches each; {100 * shares[0]:.0f} % reach 0.1, "
    text += f"{100 * shares[1]:.0f} % reach 0.05"
    if inside_factor([geometric_mean(sizes) for sizes in by_batch], 0.1, 2).verdict == HOLDS:
        return Verdict(HOLDS, text)
    one_batch = one_run(-1.0, [math.log10(size) for size in draws], math.log10(2))
    return Verdict(REFUTED if one_batch.verdict == REFUTED else NOISE, text)


def _smallest_first(result: Any) -> Verdict:
    norms = [layer["norm"] for layer in result["inits"][INIT]["sigmoid"].values()]
    ratios = [min(others) / first for first, *others in zip(*norms, strict=True)]
    verdict = inside(ratios, 1, math.inf)
    text = f"norms, input to output: {', '.join(f'{mean(norm):.2g}' for norm in norms)}; "
    return Verdict(verdict.verdict, f"{text}the next smallest is {verdict.text}, times as large")


def _about_1e5(result: Any) -> Verdict:
    sizes_of_layer = result["inits"][INIT]["sigmoid"]["hidden_1"]
    others = {
        "the root mean square": "rms",
        "the mean |dL/dw|": "mean_size",
        "the largest |dL/dw|": "largest",
    }
    verdict = inside_factor(sizes_of_layer["norm"], 1e-5, 3)
    beside = ", ".join(f"{label} {mean(sizes_of_layer[key]):.2g}" for label, key in others.items())
    return Verdict(verdict.verdict, f"the L2 norm {verdict.text}; not norms: {beside}")


def _alike(result: Any) -> Verdict:
    """Return whether the layers' gradients are alike up to a factor, for every activation."""
    acts = result["inits"][INIT]
    cases = {}
    for act in (*OTHERS, "sigmoid"):
        by_seed = zip(*(layer["rms"] for layer in acts[act].values()), strict=True)
        ratios = [max(sizes) / min(sizes) for sizes in by_seed]
        cases[act] = inside(ratios, -math.inf, FACTOR_ALIKE)
    text = "largest rms of a layer over the smallest: "
    text += "; ".join(f"{act} {verdict.text}" for act, verdict in cases.items())
    return combine({f"act={act}": cases[act] for act in OTHERS}, text)


def _spike(result: Any) -> Verdict:
    def most(act: str) -> list[float]:
        zeros = [layer["zeros"] for layer in result["inits"][INIT][act].values()]
        return [max(shares) for shares in zip(*zeros, strict=True)]

    text = "exact zeros in the layer that has most: "
    text += ", ".join(f"{a} {100 * mean(most(a)):.1f} %" for a in ("relu", "tanh", "elu"))
    spike = inside(most("relu"), 0.05, math.inf)
    others = max(*most("tanh"), *most("elu"))
    return Verdict(spike.verdict if others < 0.001 else REFUTED, text)


def _accuracy(act: str) -> Callable[[Any], Verdict]:
    return lambda result: one_run(
        CLAIMED_ACCURACIES[act], accuracies(result["groups"][act]).values(), POINT, " %"
    )


def _at_chance(result: Any) -> Verdict:
    groups = result["groups"]
    waits = {act: [seed["at_chance"] for seed in group["seeds"]] for act, group in groups.items()}
    others = max(max(waits[act]) for act in OTHERS)
    sigmoid = waits["sigmoid"]
    waits_long = inside(sigmoid, 5, math.inf)
    text = f"epochs below 20 %: {waits_long.text} ({min(sigmoid)} … {max(sigmoid)}); "
    text += f"others at most {others}"
    return Verdict(waits_long.verdict if others <= 1 else REFUTED, text)


def _differences(
    result: Any, first: str, rest: Sequence[str], by: float = 0.0
) -> dict[str, Verdict]:
    """Return whether the first exceeds each of the others.

    What has to hold against all of them needs no correction for their number.
    """
    reference = accuracies(result["groups"][first])
    return {act: exceeds(reference, accuracies(result["groups"][act]), by=by) for act in rest}


def _relu_best(result: Any) -> Verdict:
    cases = _differences(result, "relu", [act for act in result["groups"] if act != "relu"])
    differences = "; ".join(f"{act} {verdict.text}" for act, verdict in cases.items())
    return Verdict(of_all(cases), f"ReLU minus the others, points: {differences}")


def _default(result: Any) -> Verdict:
    others = [act for act in result["groups"] if act != "relu"]
    cases = _differences(result, "relu", others, by=-MARGIN)
    differences = "; ".join(f"{act} {verdict.text}" for act, verdict in cases.items())
    return Verdict(of_all(cases), f"ReLU minus the others, points: {differences}")


def _sigmoid_last(result: Any) -> Verdict:
    cases = {a: _differences(result, a, ["sigmoid"])["sigmoid"] for a in OTHERS}
    differences = "; ".join(f"{act} {verdict.text}" for act, verdict in cases.items())
    return Verdict(of_all(cases), f"minus sigmoid, points: {differences}")


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


def _ends(act: str, ends: tuple[str, str], named: Sequence[int], length: float) -> Any:
    """Return the decision on where an activation's outputs pile up: one rule for all.

    In each layer that is named, more must be within 0.05 of either end than if they were spread
    evenly over the range, and more of both than in every layer that isn't named.

    Args:
        act: the activation.
        ends: the keys of the shares near its ends.
        named: the layers of which it is said.
        length: of its range.
    """

    def decide(result: Any) -> Verdict:
        rows, even = _layers(result, act, *ends), 0.05 / length
        others = [row for place, row in enumerate(rows) if place not in named]
        cases = {}
        for place in named:
            for end in ends:
                shares = _layers(result, act, end)[place].values()
                cases[f"{place} {end}"] = inside(shares, even, math.inf)
            for number, other in enumerate(others):
                cases[f"{place} {number}"] = exceeds(rows[place], other)
        text = f"within 0.05 of an end, by layer: {_percent(rows)} %; "
        text += f"if spread evenly {200 * even:.0f} %; {len(rows[0])} seeds"
        return Verdict(of_all(cases), text)

    return decide


def _relu_shape(result: Any) -> Verdict:
    zero, tails = _layers(result, "relu", "zero"), _layers(result, "relu", "rest_kurtosis")
    text = f"exactly 0, by layer: {_percent(zero)} %; excess kurtosis of the rest: "
    text += ", ".join(f"{mean(row.values()):.1f}" for row in tails)
    cases = {f"zero {i}": inside(row.values(), 0.2, math.inf) for i, row in enumerate(zero)}
    for i, row in enumerate(tails):
        cases[f"tail {i}"] = inside(row.values(), HALF_NORMAL_KURTOSIS, math.inf)
    return Verdict(of_all(cases), f"{text}; {len(zero[0])} seeds")


def _gaussian(result: Any) -> Verdict:
    def distance(act: str) -> dict[int, float]:
        skews, tails = _layers(result, act, "act_skew"), _layers(result, act, "act_kurtosis")
        pairs = list(zip(skews, tails, strict=True))
        return {i: mean(abs(s[i]) + abs(k[i]) for s, k in pairs) for i in skews[0]}

    elu = distance("elu")
    others = [act for act in result["layers"] if act != "elu"]
    cases = {act: exceeds(distance(act), elu, looks=len(others)) for act in others}
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
    return one_run(15, [max(layer[seed] for layer in layers) for seed in layers[0]], 3)


CLAIMS = (
    Claim(
        "S2.sigmoid-head",
        "Before training, the gradients of sigmoid's output layer reach 0.1.",
        "gradient-flow",
        "largest |dL/dw| of the head on one batch: 95 % prediction interval, a factor of 2",
        _head,
        "histograms",
        reason=(
            "The head reads values near 0.5 and a batch's classes nearly balance: a "
            "gradient is about half the imbalance, and depends on the batch, which isn't known."
        ),
    ),
    Claim(
        "S2.sigmoid-first",
        "Sigmoid's input layer has the smallest gradient norm.",
        "gradient-flow",
        "L2 norm of the next smallest over it: above 1, 95 % over networks",
        _smallest_first,
        "histograms",
    ),
    Claim(
        "S2.sigmoid-1e-5",
        "That norm is about 1e-5.",
        "gradient-flow",
        "L2 norm; a factor of 3, 95 % either side over networks",
        _about_1e5,
        "histograms",
        reason=(
            "The largest |dL/dw| is near, which isn't a norm; of four measures that span three "
            "powers of ten one is near most numbers."
        ),
    ),
    Claim(
        "S2.others-alike",
        "The other activations' gradients are alike across layers.",
        "gradient-flow",
        "largest rms of a layer over the smallest: at most 3, 95 % either side over networks",
        _alike,
        "histograms",
        reason="They are alike beside sigmoid's only.",
    ),
    Claim(
        "S2.relu-spike",
        "ReLU's weight gradients have a spike at 0.",
        "gradient-flow",
        "exact zeros in some layer: over 5 % for ReLU, 95 % over networks; under 0.1 % for tanh, "
        "ELU",
        _spike,
        "histograms",
    ),
    *(
        Claim(
            f"S2.accuracy-{act}",
            f"{act} reaches {CLAIMED_ACCURACIES[act]} % on the test images.",
            "tutorial3",
            "mean ± 1 point (three standard errors of one run), 95 % either side; refuted if no "
            "run of ours would come so near",
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
        "epochs before 20 % validation accuracy: above 5, 95 % over seeds; others at most 1",
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
        "at most 0.5 points behind each other one: differences paired by seed, 95 % intervals",
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
        "share within 0.05 of either end: above an even spread's, and both above the other "
        "layers', 95 % over seeds",
        _ends("sigmoid", ("near_0", "near_1"), (3,), 1.0),
        "distributions",
        needs_training=True,
    ),
    Claim(
        "S2.tanh-ends",
        "Tanh lies near -1 and 1 in the first and the last layer.",
        "activation-distributions",
        "share within 0.05 of either end: above an even spread's, and both above the other "
        "layers', 95 % over seeds",
        _ends("tanh", ("near_minus_1", "near_1"), (0, 3), 2.0),
        "distributions",
        needs_training=True,
    ),
    Claim(
        "S2.relu-tail",
        "ReLU has a spike at 0 and a long right tail.",
        "activation-distributions",
        "in every layer exact zeros over 20 %, and excess kurtosis of the rest above a "
        "half-normal's 0.87; 95 % over seeds",
        _relu_shape,
        "distributions",
        needs_training=True,
    ),
    Claim(
        "S2.elu-gaussian",
        "ELU's activations are more Gaussian.",
        "activation-distributions",
        "|skewness| + |excess kurtosis| below every other's; 95 % over seeds, Bonferroni over the "
        "five",
        _gaussian,
        "distributions",
        needs_training=True,
        reason="Bounded activations have no tails at all, and come closer by this measure.",
    ),
    Claim(
        "S2.swish-15",
        "Swish goes up to 15.",
        "activation-distributions",
        "largest f(z) of any layer: mean ± 3, 95 % either side; refuted if no run of ours would "
        "come so near",
        _swish_15,
        "distributions",
        needs_training=True,
    ),
)
