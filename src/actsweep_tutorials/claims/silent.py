"""Claims of S2 about silent units: before training, after it, and why."""

import math
from collections.abc import Sequence
from typing import Any

from actsweep_tutorials.claims.base import (
    NOISE,
    Claim,
    Verdict,
    exceeds,
    holds_if,
    inside,
    mean,
    of_all,
    one_run,
)

INIT = "torch_uniform"
EPSILON = 1e-9  # what is more than 0
TEN = (0, 1, 1, 19, 75, 53, 71, 57, 64, 69)


def _silent(result: Any, depth: str, init: str = INIT) -> list[list[int]]:
    """Return, for each hidden layer, every seed's number of silent units."""
    return list(result["untrained"][depth][init]["silent"].values())


def _counts(rows: Sequence[Sequence[float]]) -> str:
    return "[" + ", ".join(f"{mean(row):.1f}" for row in rows) + "]"


def _more(rows: Sequence[Sequence[float]], lower: int) -> Verdict:
    """Return whether the layer after `lower` has more, paired by seed; one side, 95 %."""
    return inside((b - a for a, b in zip(*rows[lower : lower + 2], strict=True)), EPSILON, math.inf)


def _untrained(result: Any) -> Verdict:
    rows = _silent(result, "tutorial")
    text = f"claimed [0, 0, 3, 7]; means of {len(rows[0])} seeds {_counts(rows)}"
    cases = {f"layer {i + 1}": inside(row, -math.inf, 1) for i, row in enumerate(rows[:2])}
    cases |= {f"after {lower + 1}": _more(rows, lower) for lower in (1, 2)}
    return Verdict(of_all(cases), text)


def _untrained_last(result: Any) -> Verdict:
    return one_run(7, _silent(result, "tutorial")[-1], 2)


def _ten(result: Any) -> Verdict:
    layers = result["untrained"]["deep10"][INIT]
    rows, widths = list(layers["silent"].values()), list(layers["width"].values())
    shares = [[count / width for count in row] for row, width in zip(rows, widths, strict=True)]
    text = f"claimed {list(TEN)}; means of {len(rows[0])} seeds {_counts(rows)}"
    cases = {f"layer {i + 1}": inside(row, -math.inf, 0.05) for i, row in enumerate(shares[:3])}
    cases |= {f"after {lower + 1}": _more(shares, lower) for lower in (2, 3, 4)}
    cases |= {f"layer {i}": inside(row, 0.35, 0.65) for i, row in enumerate(shares[5:], 6)}
    return Verdict(of_all(cases), text)


def _trained(result: Any) -> Verdict:
    before, after = (list(result["trained"][k]["silent"].values()) for k in ("before", "after"))
    text = f"claimed [0, 0, 3, 7] to [0, 0, 3, 3]; ours {_counts(before)} to {_counts(after)}"
    drop = exceeds(dict(enumerate(before[-1])), dict(enumerate(after[-1])))
    return Verdict(drop.verdict, f"{text}; last layer, before - after: {drop.text}")


def _fates(result: Any, *layers: str) -> tuple[int, int, str]:
    """Return how many units were silent before training, how many recovered, and in how many
    networks.
    """
    fates = [fate for layer, fate in result["fate"].items() if layer in layers]
    silent, back = (sum(fate[key] for fate in fates) for key in ("silent", "recovered"))
    networks = len(result["trained"]["before"]["silent"]["hidden_1"])
    return silent, back, f"in {networks} networks that learn"


def _never(result: Any) -> Verdict:
    silent, back, where = _fates(result, "hidden_1")
    if not silent:
        return Verdict(NOISE, f"no unit of the input layer is silent before training {where}")
    return holds_if(back == 0, f"of {silent} silent units of the input layer, {back} recovered")


def _can(result: Any) -> Verdict:
    deeper = [layer for layer in result["fate"] if layer != "hidden_1"]
    silent, back, where = _fates(result, *deeper)
    text = f"of {silent} silent units of deeper layers, {back} recovered {where}"
    return holds_if(back > 0, text) if silent else Verdict(NOISE, text)


def _init_decides(result: Any) -> Verdict:
    """Return whether other inits have below a quarter of the silent units, and less alike inputs,
    in the last layer.
    """
    inits = result["untrained"]["deep10"]
    last = {
        init: tuple(list(layers[key].values())[-1] for key in ("silent", "cosine"))
        for init, layers in inits.items()
    }
    width = list(inits[INIT]["width"].values())[-1]
    silent, cosine = last[INIT]
    cases, parts = {}, []
    for init, (counts, cosines) in last.items():
        alike = mean(c for c in cosines if c is not None)
        parts.append(f"{init} {100 * mean(counts) / width:.0f} % silent, cosine {alike:.3f}")
        if init != INIT:
            ratios = [a / b for a, b in zip(counts, silent, strict=True)]
            cases[init] = inside(ratios, -math.inf, 0.25)
            gaps = [b - a for a, b in zip(cosines, cosine, strict=True) if None not in (a, b)]
            cases[f"{init}, cosine"] = inside(gaps, EPSILON, math.inf)
    return Verdict(of_all(cases), f"layer 10: {'; '.join(parts)}; {len(silent)} seeds")


CLAIMS = (
    Claim(
        "S2.silent-shape",
        "Untrained, silent ReLUs appear from the third layer on and grow: [0, 0, 3, 7].",
        "dead-neurons",
        "below 1 in the first two layers, then more in each than before it; 95 % either side",
        _untrained,
        "ten-layers",
    ),
    Claim(
        "S2.silent-seven",
        "The last layer has 7 of them.",
        "dead-neurons",
        "mean ± 2, 95 % either side; refuted if no run of ours would come so near",
        _untrained_last,
        "ten-layers",
    ),
    Claim(
        "S2.silent-trained",
        "Training brings some of them back: [0, 0, 3, 3].",
        "dead-neurons",
        "last layer, before and after; 95 % interval over seeds",
        _trained,
        "trained",
        needs_training=True,
    ),
    Claim(
        "S2.silent-ten",
        "Untrained with ten layers: next to none in the first three, half of all from layer 6 on.",
        "dead-neurons",
        "under 5 % in the first three, rising to layer 6, 35 to 65 % from there; 95 % either side",
        _ten,
        "ten-layers",
    ),
    Claim(
        "S2.never-recover",
        "Dead units of the input layer never recover.",
        "dead-neurons",
        "units silent on all training images before training, in networks that learn; exact",
        _never,
        "trained",
        needs_training=True,
        reason=(
            "A unit that is silent on all training images has no gradient, and its inputs don't "
            "change. But where networks learn, the input layer has none to begin with."
        ),
    ),
    Claim(
        "S2.can-recover",
        "Dead units of deeper layers can recover.",
        "dead-neurons",
        "units silent on all training images before training, in networks that learn; at least one",
        _can,
        "trained",
        needs_training=True,
    ),
    Claim(
        "traps.initialisation",
        "That dead units grow with depth is largely the initialisation: inputs collapse onto each "
        "other.",
        "dead-neurons",
        "layer 10 under other inits: silent units below a quarter of torch_uniform's, and a lower "
        "cosine; 95 % either side",
        _init_decides,
        "ten-layers",
    ),
)
