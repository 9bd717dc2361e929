"""Claims of S4, from scratch, and the traps found in all of them."""

from collections.abc import Callable
from typing import Any

from actsweep_tutorials.claims.base import (
    ONLY_IF,
    Claim,
    Verdict,
    combine,
    geometric_mean,
    holds_if,
    mean,
    within,
)
from actsweep_tutorials.dying_relu import dead_shares


def _vanishes(act: str, *, claimed: bool) -> Callable[[Any], Verdict]:
    """Return what decides whether the median signal falls below 1 % of layer 1's by layer 10."""

    def decide(result: Any) -> Verdict:
        many, single = result["many"][act], result["single"][act]
        ratio = many["median"][9] / many["median"][0]
        text = f"layer 10: seed {result['seed']} {single[9]:.3g}; "
        text += f"of {result['seeds']} seeds the median "
        text += f"{many['median'][9]:.3g}, exactly 0 in {100 * many['zero'][9]:.1f} %"
        return holds_if((ratio < 0.01) == claimed, text)

    return decide


def _power(result: Any) -> Verdict:
    most = result["cards"]["sigmoid"]["slope_most"]
    return within(most**10, 9.5e-7, 5e-9, f"{most:g}^10 = {most**10:.3g}")


def _range(result: Any) -> Verdict:
    card = result["cards"]["gelu"]
    text = f"{card['smallest']:.4f} at z = {card['smallest_at']:.3f}"
    return within(card["smallest"], -0.17, 0.005, text)


def _tenth(result: Any) -> Verdict:
    cases, parts = {}, []
    for bias, rates in result["acts"]["relu"].items():
        for rate in rates:
            shares = dead_shares(result, "relu", float(bias), float(rate))
            if len(shares) > 1:
                share = mean(shares.values())
                cases[f"lr={rate} bias={bias}"] = holds_if(10 <= share <= 40, "")
                parts.append(f"{rate}/{bias}: {share:.1f}")
    return combine(cases, f"dead after training, %, by lr/bias: {', '.join(parts)}")


def _solves(result: Any) -> Verdict:
    cases, parts = {}, []
    for bias, rates in result["acts"]["gelu"].items():
        for rate in rates:
            gelu, relu = (
                dead_shares(result, act, float(bias), float(rate)) for act in ("gelu", "relu")
            )
            if gelu:
                cases[f"lr={rate} bias={bias}"] = holds_if(mean(gelu.values()) < 0.1, "")
                beside = f"{mean(relu.values()):.1f}" if relu else "–"
                parts.append(f"{rate}/{bias}: {mean(gelu.values()):.1f} ({beside})")
    return combine(cases, f"dead after training, % (ReLU), by lr/bias: {', '.join(parts)}")


def _first_of_ten(act: str, claimed: float) -> Callable[[Any], Verdict]:
    def decide(result: Any) -> Verdict:
        cases, parts = {}, []
        for init, acts in result["deep"].items():
            ratio = geometric_mean([row[0] for row in acts[act]["ratio"]])
            cases[f"init={init}"] = holds_if(0.1 <= ratio / claimed <= 10, "")
            parts.append(f"{init} {ratio:.2g}")
        return combine(cases, f"claimed {claimed:g}; {', '.join(parts)}, {result['seeds']} seeds")

    return decide


def _monitor(result: Any) -> Verdict:
    sizes = {
        name: mean(layer["mean_size"])
        for name, layer in result["inits"]["torch_uniform"]["relu"].items()
    }
    text = "mean |dL/dw| of ReLU, a network that reaches 88 %, by layer: "
    text += ", ".join(f"{size:.1g}" for size in sizes.values())
    return holds_if(min(sizes.values()) >= 1e-3, text)


def _elu_dead(result: Any) -> Verdict:
    dead = {float(shift): counts["flat"]["elu"] for shift, counts in result["shifted"].items()}
    killed = [shift for shift, count in dead.items() if count]
    relu = max(counts["flat"]["relu"] for counts in result["shifted"].values())
    text = ", ".join(f"{shift:g}: {count}" for shift, count in dead.items())
    text = f"of 20 units, by bias shift: {text} (ReLU up to {relu})"
    if killed and len(killed) < len(dead):
        return Verdict(ONLY_IF, text, f"the bias shift is above {max(killed):g}")
    return holds_if(not killed, text)


def _slope_by_hand(act: str, z: float) -> Callable[[Any], Any]:
    def value(result: Any) -> Any:
        return result["curves"][act]["by hand"]["slope"][result["z"].index(z)]

    return value


def _tanh_44(result: Any) -> Verdict:
    slopes = result["curves"]["tanh"]["by hand"]["slope"]
    at = dict(zip(result["z"], slopes, strict=True))
    first = min(z for z, slope in at.items() if z > 0 and slope is None)
    ours = result["curves"]["tanh"]["ours"]["slope"][result["z"].index(44.0)]
    text = f"f'(44) = {at[44.0]}, NaN from {first:g}; ours {ours:.2g}"
    return holds_if(at[44.0] == 1 and 88.5 <= first <= 89, text)


def _broken(act: str, z: float) -> Callable[[Any], Verdict]:
    def decide(result: Any) -> Verdict:
        slope = _slope_by_hand(act, z)(result)
        ours = result["curves"][act]["ours"]["slope"][result["z"].index(z)]
        return holds_if(slope is None, f"f'({z:g}) by hand {slope or 'NaN'}; ours {ours:.2g}")

    return decide


def _half(result: Any) -> Verdict:
    slope = _slope_by_hand("relu", 0.0)(result)
    return holds_if(slope == 0.5, f"{slope:g}")


def _finite(result: Any) -> Verdict:
    good = sum(all(by_dtype.values()) for by_dtype in result["finite"].values())
    return holds_if(good == len(result["finite"]), f"{good} of {len(result['finite'])}")


def _scan(act: str, share: float) -> Callable[[Any], Verdict]:
    return lambda result: within(result["share"][act], share, 0.0)


CLAIMS = (
    Claim(
        "S4.sigmoid-vanishes",
        "The signal of a sigmoid chain vanishes.",
        "signal-through-layers",
        "median of layer 10 below 1 % of layer 1's",
        _vanishes("sigmoid", claimed=True),
        "signal",
        reason=(
            "A sigmoid's output lies around 0.5 whatever comes in: what vanishes is the "
            "gradient, not the signal."
        ),
    ),
    Claim(
        "S4.relu-survives",
        "The signal of a ReLU chain doesn't.",
        "signal-through-layers",
        "median of layer 10 below 1 % of layer 1's",
        _vanishes("relu", claimed=False),
        "extinct",
        reason=(
            "All five values are equal, so z is negative with probability 1/2 in every "
            "layer, and then all is 0 for good: after k layers in 1 - 1/2^k of the "
            "chains."
        ),
    ),
    Claim(
        "S4.quarter",
        "0.25^10 = 9.5e-7: a sigmoid network's gradient shrinks so in ten layers.",
        "gallery",
        "largest f' to the 10; ± 5e-9",
        _power,
        "sigmoid",
    ),
    Claim(
        "S4.some-die",
        "10 to 40 % of ReLUs die in practice.",
        "dying-relu",
        "mean dead share after training, for every rate and bias with two seeds or more",
        _tenth,
        "dead",
        needs_training=True,
        reason=(
            "At rates that train well few die; at those where many do, some seeds "
            "diverge. With lower biases it is more than 40 %."
        ),
    ),
    Claim(
        "S4.gelu-range",
        "GELU's range starts at about -0.17.",
        "gallery",
        "smallest f; ± 0.005",
        _range,
        "gelu",
    ),
    Claim(
        "S4.gelu-solves",
        "GELU solves dead neurons.",
        "dying-relu",
        "mean dead share after training below 0.1 %, for every rate and bias",
        _solves,
        "dead",
        needs_training=True,
        reason=(
            "Its derivative is 0 at z = -0.75 and next to nothing below -4, so units can "
            "die, only later."
        ),
    ),
    *(
        Claim(
            f"S4.ten-layers-{act}",
            f"The first layer's gradients in a ten-layer {act} network are about {size:g}.",
            "gradient-flow",
            "rms of dL/dz over the last layer's, geometric mean over seeds; a factor of 10",
            _first_of_ten(act, size),
            "ten-layers",
            reason=(
                "How gradients shrink is the initialisation's doing as much as the activation's."
            ),
        )
        for act, size in (("sigmoid", 1e-6), ("tanh", 1e-3), ("relu", 1.0), ("gelu", 0.8))
    ),
    Claim(
        "S4.monitor",
        "A mean |gradient| under 0.001 in a layer says that gradients vanish.",
        "gradient-flow",
        "mean |dL/dw| of a ReLU network that trains well: no layer under 0.001",
        _monitor,
        "histograms",
        reason=(
            "A gradient's size depends on that of the layer and of the loss; only ratios "
            "between layers say something."
        ),
    ),
    Claim(
        "S4.elu-lives",
        "ELU's units don't die.",
        "dead-units",
        "units with |f'| < 0.001 on all samples, by bias shift; none",
        _elu_dead,
        "shift",
        reason=(
            "Its derivative is exp(z): positive, but below any threshold far enough on the left."
        ),
    ),
    Claim(
        "S4.scan-leaky",
        "Leaky ReLU has no points of the scan with next to no gradient.",
        "gradient-scan",
        "share with |f'| < 0.01; 0",
        _scan("leaky_relu", 0.0),
        "scan",
    ),
    Claim(
        "traps.tanh-by-hand",
        "Tanh by exponentials has gradient 1 at 44 and NaN from 88.8.",
        "numerics",
        "f' in float32; exact, ± 0.25 of z",
        _tanh_44,
        "by-hand",
    ),
    Claim(
        "traps.elu-by-hand",
        "ELU by exponentials has a NaN gradient at 100.",
        "numerics",
        "f' in float32",
        _broken("elu", 100.0),
        "by-hand",
    ),
    Claim(
        "traps.sigmoid-by-hand",
        "Sigmoid by exponentials has a NaN gradient at -100.",
        "numerics",
        "f' in float32",
        _broken("sigmoid", -100.0),
        "by-hand",
    ),
    Claim(
        "traps.maximum",
        "maximum(0, z) has gradient 0.5 at 0 under JAX.",
        "numerics",
        "f'(0); exact",
        _half,
        "by-hand",
    ),
    Claim(
        "traps.finite",
        "Every activation here is finite, value and gradient, in float32 and bfloat16.",
        "numerics",
        "801 inputs over the whole range of each type; all",
        _finite,
    ),
)
