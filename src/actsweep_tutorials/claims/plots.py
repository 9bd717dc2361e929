"""Claims of S0, the plots of six activations, and of S1, the catalogue."""

import math
from typing import Any

from actsweep_tutorials.claims.base import (
    ONLY_IF,
    Claim,
    Verdict,
    combine,
    exceeds,
    holds_if,
    within,
)
from actsweep_tutorials.depth import test_accuracies
from actsweep_tutorials.dying_relu import dead_shares
from actsweep_tutorials.gallery import SIX


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
    text = f"|f'| < 0.001: {small or 'nowhere'}; exactly 0 in float32: {zero or 'nowhere'}"
    if not at:
        return holds_if(True, text)
    return Verdict(ONLY_IF, text, f"z > {max(at.values()):.1f}; leaky ReLU everywhere")


def _collapse(result: Any) -> Verdict:
    gaps = [run["gap"] / result["spread"] for run in result["runs"].values() if "gap" in run]
    text = f"largest |network - (W x + b)|: {max(gaps):.1g} of the data's range"
    return holds_if(max(gaps) < 1e-5, text)


def _high_rate(result: Any) -> Verdict:
    rates = [float(rate) for rate in next(iter(result["acts"]["relu"].values()))]
    low = dead_shares(result, "relu", 0.0, min(rates))
    cases, parts = {}, []
    for rate in sorted(rates)[1:]:
        high = dead_shares(result, "relu", 0.0, rate)
        cases[f"lr={rate:g}"] = exceeds(high, low)
        parts.append(f"lr={rate:g}: {cases[f'lr={rate:g}'].text}")
    return combine(cases, f"dead units more than at lr={min(rates):g}, points: " + "; ".join(parts))


def _bad_bias(result: Any) -> Verdict:
    biases = [float(bias) for bias in result["acts"]["relu"]]
    rate = min(float(r) for r in result["acts"]["relu"][str(biases[0])])
    normal = dead_shares(result, "relu", 0.0, rate)
    low = dead_shares(result, "relu", min(biases), rate)
    verdict = exceeds(low, normal, " points")
    return Verdict(
        verdict.verdict, f"bias {min(biases):g} against 0 at lr={rate:g}: dead {verdict.text}"
    )


def _elu(key: str, epoch: int | None) -> Any:
    """Return the decision on ELU against ReLU beyond five layers, by init and depth."""

    def values(result: Any, init: str, depth: int, act: str) -> dict[int, float]:
        if epoch is None:
            return {seed: 100 * x for seed, x in test_accuracies(result, init, depth, act).items()}
        runs = result["inits"][init][str(depth)][act]
        return {s["seed"]: 100 * (s["validation"][epoch] or 0) for s in runs if s["validation"]}

    def decide(result: Any) -> Verdict:
        cases = {}
        for init, depths in result["inits"].items():
            for depth in (int(d) for d in depths if int(d) > 5):
                pair = [values(result, init, depth, act) for act in ("elu", "relu")]
                cases[f"{init} with {depth} layers"] = exceeds(pair[0], pair[1])
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
        "Leaky ReLU, ELU and swish have no region without gradient on the left.",
        "gallery",
        "the z below which |f'| < 0.001, down to -200",
        _flat,
        "gallery",
        reason=(
            "ELU's derivative is exp(z), swish's tail falls as fast: not zero, but soon "
            "too small to learn from."
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
        "dead share after training beside the lowest rate's; 95 % interval over seeds",
        _high_rate,
        "dead",
        needs_training=True,
        reason=(
            "Where the rate is high enough to kill, some seeds diverge, and what dies "
            "differs from seed to seed."
        ),
    ),
    Claim(
        "S0.bad-inits-kill",
        "Bad initialisation kills ReLUs.",
        "dying-relu",
        "dead share after training with the lowest bias beside none; 95 % interval over seeds",
        _bad_bias,
        "dead",
        needs_training=True,
    ),
    Claim(
        "S1.elu-faster",
        "ELU learns faster than ReLU in networks of more than five layers.",
        "depth",
        "validation accuracy after one epoch; 95 % interval over seeds",
        _elu("after one epoch", 0),
        "accuracy",
        needs_training=True,
        reason=(
            "The initialisation decides: it must keep the activation's signal alive "
            "through all layers."
        ),
    ),
    Claim(
        "S1.elu-better",
        "ELU generalises better than ReLU in networks of more than five layers.",
        "depth",
        "test accuracy; 95 % interval over seeds",
        _elu("test", None),
        "accuracy",
        needs_training=True,
        reason=(
            "The initialisation decides: he_normal is made for ReLU, and makes ELU's "
            "signal explode at 50 layers; lecun_normal lets ReLU's vanish."
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
        "Softmax is for labels that exclude each other, sigmoid for those that can hold together.",
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
