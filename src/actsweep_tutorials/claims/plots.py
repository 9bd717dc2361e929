"""Claims of S0, the plots of six activations, and of S1, the catalogue."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from actsweep_tutorials.claims.base import (
    HOLDS,
    ONLY_IF,
    Claim,
    Verdict,
    combine,
    exceeds,
    exceeds_where_both_learn,
    holds_if,
    within,
)
from actsweep_tutorials.dying_relu import dead_shares, seeds_of
from actsweep_tutorials.gallery import SIX
from actsweep_tutorials.training import learned


def _slope(act: str, most: float) -> Any:
    def decide(result: Any) -> Verdict:
        card = result["cards"][act]
        text = f"at most {card['slope_most']:.4f}, at {card['slope_most_at'] + 0.0:.2f}"
        at_zero = abs(card["slope_most_at"]) < 0.01
        return holds_if(at_zero and abs(card["slope_most"] - most) < 1e-4, text)

    return decide


def _relu(result: Any) -> Verdict:
    forms = result["curves"]["relu"]
    zero = result["z"].index(0.0)
    hand, ours = forms["by hand"]["slope"], forms["ours"]["slope"]
    text = f"f'(0) of jnp.maximum(z, 0) is {hand[zero]:g}, ours {ours[zero]:g}"
    if set(ours) != {0.0, 1.0}:
        return holds_if(False, text)
    if set(hand) == {0.0, 1.0}:
        return holds_if(True, text)
    return Verdict(ONLY_IF, text, "f'(0) is taken from one side, which JAX's maximum doesn't do")


def _only_swish(result: Any) -> Verdict:
    falls = [act for act in SIX if not result["cards"][act]["monotone"]]
    return holds_if(falls == ["swish"], f"not monotone: {', '.join(falls)}")


def _flat(result: Any) -> Verdict:
    cards = {act: result["cards"][act]["flat_left"] for act in ("leaky_relu", "elu", "swish")}
    at = {act: limits["small"] for act, limits in cards.items() if limits["small"] is not None}
    small = ", ".join(f"{act} below {z:.1f}" for act, z in at.items())
    zero = ", ".join(
        f"{a} below {limits['zero']:.0f}" for a, limits in cards.items() if limits["zero"]
    )
    text = f"f' exactly 0 in float32: {zero or 'nowhere'}; |f'| < 0.001: {small or 'nowhere'}"
    ends = [limits["zero"] for limits in cards.values() if limits["zero"]]
    if not ends:
        return holds_if(True, text)
    return Verdict(ONLY_IF, text, f"z > {max(ends):.0f}, in float32; leaky ReLU everywhere")


def _collapse(result: Any) -> Verdict:
    gaps = [max(run["gap"]) / result["spread"] for run in result["runs"].values() if "gap" in run]
    text = f"largest |network - (W x + b)|: {max(gaps):.1g} of the data's range"
    return holds_if(max(gaps) < 1e-5, text)


def _high_rate(result: Any) -> Verdict:
    rates = sorted(float(rate) for rate in next(iter(result["acts"]["relu"].values())))
    shares = {rate: dead_shares(result, "relu", 0.0, rate) for rate in rates}
    lowest, *others = rates
    cases = {
        f"lr={rate:g}": exceeds(shares[rate], shares[lowest], looks=len(others)) for rate in others
    }
    text = f"dead units more than at lr={lowest:g}, points, where both learn: "
    text += "; ".join(f"{name}: {verdict.text}" for name, verdict in cases.items())
    counts = ", ".join(f"{rate:g}: {len(values)}" for rate, values in shares.items())
    seeds = len(seeds_of(result, "relu", 0.0, lowest))
    return combine(cases, f"{text}; of {seeds} networks so many learn, by rate: {counts}")


def _bad_bias(result: Any) -> Verdict:
    """Return whether a lower bias kills, from the start and in networks that learn."""
    biases = sorted(float(bias) for bias in result["acts"]["relu"])
    rates = sorted(float(rate) for rate in result["acts"]["relu"][str(0.0)])

    def before(bias: float) -> dict[int, float]:
        seeds = seeds_of(result, "relu", bias, rates[0])
        return {s["seed"]: 100 * s["before"] for s in seeds if s["before"] is not None}

    lower = [bias for bias in biases if bias < 0]
    start = {bias: exceeds(before(bias), before(0.0), " points") for bias in lower}
    text = "dead before training, more than without a bias: "
    text += "; ".join(f"{bias:g}: {verdict.text}" for bias, verdict in start.items())
    after = {
        (bias, rate): dead_shares(result, "relu", bias, rate) for bias in lower for rate in rates
    }
    total = sum(len(seeds_of(result, "relu", *cell)) for cell in after)
    text += f"; of {total} networks with a lower bias {sum(map(len, after.values()))} learn"
    verdict = combine({f"bias={bias:g}": found for bias, found in start.items()}, text)
    known = {cell: values for cell, values in after.items() if len(values) > 1}
    trained = {
        f"bias={bias:g} lr={rate:g}": exceeds(
            values, dead_shares(result, "relu", 0.0, rate), " points", looks=len(known)
        )
        for (bias, rate), values in known.items()
    }
    more = [f"{cell}: {found.text}" for cell, found in trained.items() if found.verdict == HOLDS]
    if trained:
        text += f"; dead after training, more than without: {', '.join(more) or 'in no cell'}"
        text += f", of {len(trained)} cells that learn" * bool(more)
    if verdict.verdict == HOLDS and len(more) < max(1, len(trained)):
        return Verdict(ONLY_IF, text, "it means dead before the first step")
    return replace(verdict, text=text)


def _elu(key: str, epoch: int | None) -> Any:
    """Return the decision on ELU against ReLU beyond five layers, by init and depth.

    Diverged networks, and such that learn nothing in any epoch, have no value.
    """

    def values(runs: Sequence[Mapping[str, Any]]) -> dict[int, float]:
        good = [run for run in runs if learned(run)]
        if epoch is None:
            return {run["seed"]: 100 * run["test_accuracy"] for run in good}
        return {run["seed"]: 100 * (run["validation"][epoch] or 0) for run in good}

    def decide(result: Any) -> Verdict:
        cells = {
            f"{init} with {depth} layers": acts
            for init, depths in result["inits"].items()
            for depth, acts in depths.items()
            if int(depth) > 5
        }
        cases = {}
        for name, acts in cells.items():
            elu, relu = (values(acts[act]) for act in ("elu", "relu"))
            seeds = [run["seed"] for run in acts["relu"]]
            cases[name] = exceeds_where_both_learn(elu, relu, seeds, looks=len(cells))
        differences = "; ".join(f"{name}: {verdict.text}" for name, verdict in cases.items())
        return combine(cases, f"{key}, ELU - ReLU in points: {differences}")

    return decide


def _tails(result: Any) -> Verdict:
    z, soft, tanh = (result["tails"][key] for key in ("z", "softsign", "tanh"))
    power = math.log(soft[-1] / soft[-2]) / math.log(z[-1] / z[-2])
    rate = math.log(tanh[-1] / tanh[-2]) / (z[-1] - z[-2])
    text = f"1 - f: softsign ~ z^{power:.2f}, tanh ~ exp({rate:.2f} z)"
    return holds_if(abs(power + 1) < 0.1 and abs(rate + 2) < 0.01, text)


def _glu(result: Any) -> Verdict:
    outputs, inputs = len(result["jacobian"]["glu"]), len(result["jacobian"]["glu"][0])
    return holds_if(2 * outputs == inputs, f"{inputs} inputs, {outputs} outputs")


def _labels(result: Any) -> Verdict:
    soft = result["softmax"]
    text = (
        f"at the example: softmax sums to {soft['sum']:.6f}, sigmoids to {soft['sigmoid_sum']:.3f}"
    )
    return holds_if(abs(soft["sum"] - 1) < 1e-6 < abs(soft["sigmoid_sum"] - 1), text)


def _prelu(result: Any) -> Verdict:
    shape = result["flax_prelu_shape"]
    return holds_if(shape == [], f"flax.nnx.PReLU: slope of shape {tuple(shape)}")


CLAIMS = (
    Claim(
        "S0.sigmoid-gradient",
        "Sigmoid's gradient is at most 0.25, at 0.",
        "gallery",
        "largest f' on 100,001 points of [-5, 5]; ± 1e-4",
        _slope("sigmoid", 0.25),
        "sigmoid",
    ),
    Claim(
        "S0.tanh-gradient",
        "Tanh's gradient is at most 1, at 0.",
        "gallery",
        "largest f' on 100,001 points of [-5, 5]; ± 1e-4",
        _slope("tanh", 1.0),
        "tanh",
    ),
    Claim(
        "S0.relu-gradient",
        "ReLU's gradient is 0 or 1.",
        "numerics",
        "f' on 964 points of [-120, 121); exact",
        _relu,
        "by-hand",
        reason=(
            "At a kink any number from 0 to 1 is a subgradient; JAX's maximum shares it "
            "between both sides."
        ),
    ),
    Claim(
        "S0.swish-dip",
        "Swish dips near z = -1.3.",
        "gallery",
        "where f is smallest; ± 0.05",
        lambda result: within(result["cards"]["swish"]["smallest_at"], -1.3, 0.05),
        "swish",
    ),
    Claim(
        "S0.only-swish-falls",
        "Swish is the only one of the six that isn't monotone.",
        "gallery",
        "falls of f on 100,001 points of [-5, 5]; 1e-6",
        _only_swish,
        "gallery",
    ),
    Claim(
        "S0.no-flat-left",
        "Leaky ReLU, ELU and swish have no zero-gradient region on the left.",
        "gallery",
        "the z below which f' is exactly 0, down to -200",
        _flat,
        "gallery",
        reason=(
            "ELU's derivative is exp(z), swish's tail falls as fast: never zero, but soon too "
            "small to learn from, and in float32 zero in the end."
        ),
    ),
    Claim(
        "S0.linear-collapse",
        "Linear layers collapse into one.",
        "linear-collapse",
        "trained networks beside their own W x + b; 1e-5 of the range of y",
        _collapse,
        "fits",
        needs_training=True,
    ),
    Claim(
        "S0.high-rates-kill",
        "High learning rates kill ReLUs.",
        "dying-relu",
        "dead share after training beside the lowest rate's, of networks that learn; 95 % "
        "interval, Bonferroni over rates",
        _high_rate,
        "dead",
        needs_training=True,
        reason=(
            "Where the rate is high enough to kill, networks diverge or collapse to chance, and "
            "too few are left that learn."
        ),
    ),
    Claim(
        "S0.bad-inits-kill",
        "Bad initialisation kills ReLUs.",
        "dying-relu",
        "dead share before training, every lower bias beside none, 95 % interval; and after it, of "
        "networks that learn",
        _bad_bias,
        "dead",
        needs_training=True,
        reason=(
            "A bias that kills many silences the last hidden layer as well, and then nothing "
            "trains."
        ),
    ),
    Claim(
        "S1.elu-faster",
        "ELU learns faster than ReLU in networks of more than five layers.",
        "depth",
        "validation accuracy after one epoch, of networks that learn; 95 % interval, Bonferroni "
        "over the cells; and how many learn, exact test",
        _elu("after one epoch", 0),
        "accuracy",
        needs_training=True,
        reason=(
            "The initialisation decides who learns at all: it must keep the activation's signal "
            "alive through all layers. Three seeds a cell decide little more."
        ),
    ),
    Claim(
        "S1.elu-better",
        "ELU reaches a higher test accuracy than ReLU in networks of more than five layers.",
        "depth",
        "test accuracy, of networks that learn; 95 % interval, Bonferroni over the cells; and how "
        "many learn, exact test",
        _elu("test", None),
        "accuracy",
        needs_training=True,
        reason=(
            "The source says that it generalises better; how far training and test accuracy are "
            "apart isn't measured. Where one of the two learns nothing, it has nothing to "
            "generalise: he_normal makes ELU's signal explode at 50 layers, lecun_normal lets "
            "ReLU's vanish."
        ),
    ),
    Claim(
        "S1.tails",
        "Softsign's tails are polynomial, tanh's exponential.",
        "numerics",
        "1 - f between z = 16 and 32: exponent -1 ± 0.1, rate -2 ± 0.01",
        _tails,
    ),
    Claim(
        "S1.glu-halves",
        "GLU halves the features.",
        "jacobians",
        "shape of the Jacobian; exact",
        _glu,
        "jacobians",
    ),
    Claim(
        "S1.labels",
        "Softmax's outputs share a sum of 1, so that labels exclude each other; sigmoids' don't.",
        "jacobians",
        "sum of the outputs: 1 ± 1e-6, or not",
        _labels,
    ),
    Claim(
        "S1.prelu-flax",
        "Flax's PReLU has one slope for all channels.",
        "numerics",
        "shape of the parameter; exact",
        _prelu,
    ),
)
