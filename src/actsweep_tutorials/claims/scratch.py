"""Claims of S4, from scratch, and the traps found in all of them."""

import math
from collections.abc import Callable
from typing import Any

from actsweep_tutorials.claims.base import (
    HOLDS,
    NOISE,
    ONLY_IF,
    Claim,
    Verdict,
    combine,
    holds_if,
    inside,
    inside_factor,
    mean,
    within,
)
from actsweep_tutorials.dying_relu import dead_shares, seeds_of
from actsweep_tutorials.training import learned

MONITOR = 1e-3  # the mean |gradient| under which the source's monitor warns
DEAD = 0.1  # % of units: less than one of the network's 1,152


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


def _cells(result: Any, act: str) -> list[tuple[float, float]]:
    """Return all (bias, rate)."""
    return [(float(b), float(r)) for b, rates in result["acts"][act].items() for r in rates]


def _at_chance(result: Any, act: str) -> list[float]:
    """Return the dead share, %, of every network that was completed and learned nothing."""
    seeds = [seed for cell in _cells(result, act) for seed in seeds_of(result, act, *cell)]
    ended = [seed for seed in seeds if seed["state"] == "complete" and not learned(seed)]
    return [100 * seed["after"] for seed in ended if seed["after"] is not None]


def _tenth(result: Any) -> Verdict:
    shares = {cell: dead_shares(result, "relu", *cell).values() for cell in _cells(result, "relu")}
    cases = {
        f"lr={rate:g} bias={bias:g}": inside(values, 10, 40, looks=len(shares))
        for (bias, rate), values in shares.items()
        if len(values) > 1
    }
    text = "dead after training, %, of networks that learn: "
    text += "; ".join(f"{name}: {verdict.text}" for name, verdict in cases.items())
    lost = _at_chance(result, "relu")
    if lost:
        text += f"; of {len(lost)} networks at chance {min(lost):.0f} … {max(lost):.0f}"
    return combine(cases, text)


def _solves(result: Any) -> Verdict:
    """Return whether no GELU dies in networks that learn."""
    cases, parts, count = {}, [], 0
    for bias, rate in _cells(result, "gelu"):
        gelu, relu = (dead_shares(result, act, bias, rate) for act in ("gelu", "relu"))
        count += len(gelu)
        if len(gelu) > 1:
            cases[f"lr={rate:g} bias={bias:g}"] = inside(gelu.values(), -math.inf, DEAD)
        if gelu and relu:
            parts.append(f"{rate:g}/{bias:g} {mean(gelu.values()):.1f} ({mean(relu.values()):.1f})")
    lost = _at_chance(result, "gelu")
    text = f"dead after training, %: in {count} networks that learn at most "
    most = [
        max(dead_shares(result, "gelu", *c).values(), default=0) for c in _cells(result, "gelu")
    ]
    text += f"{max(most):.1f}, in {len(lost)} at chance up to {max(lost, default=0):.0f}; "
    text += f"beside ReLU, where both learn, by lr/bias: {', '.join(parts)}"
    verdict = combine(cases, text)
    if verdict.verdict == HOLDS and max(lost, default=0) >= DEAD:
        return Verdict(ONLY_IF, text, "the network learns")
    return verdict


def _first_of_ten(act: str, claimed: float) -> Callable[[Any], Verdict]:
    def decide(result: Any) -> Verdict:
        inits = result["deep"]
        cases = {}
        for init, acts in inits.items():
            ratios = [row[0] for row in acts[act]["ratio"]]
            cases[f"init={init}"] = inside_factor(ratios, claimed, 10, looks=len(inits))
        found = ", ".join(f"{init[5:]} {verdict.text}" for init, verdict in cases.items())
        return combine(cases, f"claimed {claimed:g}; {found}; {result['seeds']} seeds")

    return decide


def _monitor(result: Any) -> Verdict:
    """Return whether the monitor keeps silent on networks that go on learning.

    At the lowest rate: more epochs take the same networks further (S2.accuracy-relu).
    """
    rate = min(rate for _, rate in _cells(result, "relu"))
    seeds = [seed for seed in seeds_of(result, "relu", 0.0, rate) if learned(seed)]
    sizes = [list(seed["mean_gradient"].values()) for seed in seeds if "mean_gradient" in seed]
    if not sizes:
        return Verdict(NOISE, "gradients after training aren't in the record yet")
    by_layer = ", ".join(f"{mean(layer):.1g}" for layer in zip(*sizes, strict=True))
    text = (
        f"mean |dL/dw| of ReLU after {result['epochs']} epochs at lr={rate:g}, by layer: {by_layer}"
    )
    return Verdict(inside(map(min, sizes), MONITOR, math.inf).verdict, text)


def _elu_dead(result: Any) -> Verdict:
    dead = {float(shift): counts["flat"]["elu"] for shift, counts in result["shifted"].items()}
    relu = max(counts["flat"]["relu"] for counts in result["shifted"].values())
    first = result["first_dead"]["elu"]
    text = ", ".join(f"{shift:g}: {count}" for shift, count in dead.items())
    text = f"of 20 units, by bias shift: {text} (ReLU up to {relu})"
    if first is None or first == max(dead):
        return holds_if(first is None, text)
    return Verdict(
        ONLY_IF, f"{text}; the first at {first:.2f}", f"the bias shift is above {first:.2f}"
    )


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


def _scan_leaky(result: Any) -> Verdict:
    share, slopes = result["share"]["leaky_relu"], result["slopes"]["leaky_relu"]
    least = min(map(abs, slopes))
    note = ", the limit itself" if least == result["threshold"] else ""
    return within(share, 0.0, 0.0, f"{share:g}; the least |f'| is {least:g}{note}")


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
        "0.25^10 = 9.5e-7: so much is left of a gradient after ten sigmoids at their steepest.",
        "gallery",
        "largest f' to the 10; ± 5e-9: arithmetic; of networks see S4.ten-layers-sigmoid",
        _power,
        "sigmoid",
    ),
    Claim(
        "S4.some-die",
        "10 to 40 % of ReLUs die in practice.",
        "dying-relu",
        "mean dead share after training, of networks that learn, by rate and bias: 10 to 40 %, 95 "
        "% either side",
        _tenth,
        "dead",
        needs_training=True,
        reason=(
            "In networks that learn fewer die. So many are dead only in networks that have "
            "collapsed to chance, or whose last hidden layer is silent from the start."
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
        "GELU solves dead neurons: none is dead after training.",
        "dying-relu",
        "mean dead share after training below 0.1 %, 95 %, of networks that learn, for every rate "
        "and bias",
        _solves,
        "dead",
        needs_training=True,
        reason=(
            "Its derivative is next to nothing below -4, so units can die: they do in networks "
            "that collapse to chance at high rates, and at the highest nearly all diverge."
        ),
    ),
    *(
        Claim(
            f"S4.ten-layers-{act}",
            f"The first layer's gradients in a ten-layer {act} network are about {size:g}.",
            "gradient-flow",
            "rms of dL/dz over the last layer's: a factor of 10, for one of three inits of its "
            "cube root, 2.15; 95 % either side, Bonferroni over inits",
            _first_of_ten(act, size),
            "ten-layers",
            reason=(
                "How gradients shrink is the initialisation's doing as much as the activation's; "
                "under no init are all four numbers of the source found."
            ),
        )
        for act, size in (("sigmoid", 1e-6), ("tanh", 1e-3), ("relu", 1.0), ("gelu", 0.8))
    ),
    Claim(
        "S4.monitor",
        "A mean |gradient| under 0.001 in a layer says that gradients vanish.",
        "dying-relu",
        "mean |dL/dw| of the smallest layer of ReLU networks that go on learning, after some "
        "epochs: above 0.001, 95 % over seeds",
        _monitor,
        needs_training=True,
        reason="Before training every layer is under 0.001 (gradient-flow), and networks learn.",
    ),
    Claim(
        "S4.elu-lives",
        "ELU's units don't die.",
        "dead-units",
        "units with |f'| < 0.001 on all samples, by bias shift; none; the limit to 0.01",
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
        _scan_leaky,
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
        "Every activation here is finite, value and gradient, in float32 and bfloat16, wherever "
        "the exact ones can be represented.",
        "numerics",
        "801 inputs up to half the largest number, of gated ones and squared ReLU up to half its "
        "root; all",
        _finite,
    ),
)
