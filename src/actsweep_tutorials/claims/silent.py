"""Claims of S2 about silent units: before training, after it, and why."""

import itertools
from collections.abc import Sequence
from typing import Any

from actsweep_tutorials.claims.base import (
    NOISE,
    Claim,
    Verdict,
    exceeds,
    holds_if,
    mean,
    plausible_single_run,
)

INIT = "torch_uniform"
TEN = (0, 1, 1, 19, 75, 53, 71, 57, 64, 69)


def _silent(result: Any, depth: str, init: str = INIT) -> list[list[int]]:
    """Return, for each hidden layer, every seed's number of silent units."""
    return list(result["untrained"][depth][init]["silent"].values())


def _counts(rows: Sequence[Sequence[float]]) -> str:
    return "[" + ", ".join(f"{mean(row):.1f}" for row in rows) + "]"


def _untrained(result: Any) -> Verdict:
    rows = _silent(result, "tutorial")
    means = [mean(row) for row in rows]
    text = f"claimed [0, 0, 3, 7]; means of {len(rows[0])} seeds {_counts(rows)}"
    return holds_if(max(means[:2]) < 1 and means[1] <= means[2] < means[3], text)


def _untrained_last(result: Any) -> Verdict:
    return plausible_single_run(7, _silent(result, "tutorial")[-1])


def _ten(result: Any) -> Verdict:
    layers = result["untrained"]["deep10"][INIT]
    rows, widths = list(layers["silent"].values()), list(layers["width"].values())
    share = [mean(row) / width for row, width in zip(rows, widths, strict=True)]
    text = f"claimed {list(TEN)}; means of {len(rows[0])} seeds {_counts(rows)}"
    rises = all(a <= b for a, b in itertools.pairwise(share[:6]))
    return holds_if(
        max(share[:3]) < 0.05 and rises and all(0.35 < s < 0.65 for s in share[5:]), text
    )


def _trained(result: Any) -> Verdict:
    before, after = (list(result["trained"][k]["silent"].values()) for k in ("before", "after"))
    text = f"claimed [0, 0, 3, 7] to [0, 0, 3, 3]; ours {_counts(before)} to {_counts(after)}"
    drop = exceeds(dict(enumerate(before[-1])), dict(enumerate(after[-1])))
    return Verdict(drop.verdict, f"{text}; last layer, before - after: {drop.text}")


def _never(result: Any) -> Verdict:
    fate = result["fates"]["hidden_1"]
    text = f"of {fate['silent']} silent units of the input layer, {fate['recovered']} recovered"
    if not fate["silent"]:
        return Verdict(NOISE, text)
    return holds_if(fate["recovered"] == 0, text)


def _can(result: Any) -> Verdict:
    deeper = [fate for layer, fate in result["fates"].items() if layer != "hidden_1"]
    silent, back = (sum(fate[key] for fate in deeper) for key in ("silent", "recovered"))
    return holds_if(back > 0, f"of {silent} silent units of deeper layers, {back} recovered")


def _init_decides(result: Any) -> Verdict:
    inits = result["untrained"]["deep10"]
    parts, other_shares = [], []
    for init, layers in inits.items():
        width = list(layers["width"].values())[-1]
        share = mean(list(layers["silent"].values())[-1]) / width
        cosine = mean([c for c in list(layers["cosine"].values())[-1] if c is not None])
        parts.append(f"{init} {100 * share:.0f} % silent, cosine {cosine:.3f}")
        if init != INIT:
            other_shares.append(share)
    default_share = mean(list(inits[INIT]["silent"].values())[-1]) / width
    return holds_if(max(other_shares) < default_share / 4, f"layer 10: {'; '.join(parts)}")


CLAIMS = (
    Claim(
        "S2.silent-shape",
        "Untrained, silent ReLUs appear from the third layer on and grow: [0, 0, 3, 7].",
        "dead-neurons",
        "means over seeds: below 1 in the first two layers, then growing",
        _untrained,
        "ten-layers",
    ),
    Claim(
        "S2.silent-seven",
        "The last layer has 7 of them.",
        "dead-neurons",
        "95 % prediction interval for one run",
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
        "means over seeds: under 5 %, rising, 35 to 65 %",
        _ten,
        "ten-layers",
    ),
    Claim(
        "S2.never-recover",
        "Dead units of the input layer never recover.",
        "dying-relu",
        "units silent on all training images before training, over all runs; exact",
        _never,
        "dead",
        needs_training=True,
    ),
    Claim(
        "S2.can-recover",
        "Dead units of deeper layers can recover.",
        "dying-relu",
        "units silent on all training images before training, over all runs; at least one",
        _can,
        "dead",
        needs_training=True,
    ),
    Claim(
        "traps.initialisation",
        "That dead units grow with depth is the initialisation: inputs collapse onto each other.",
        "dead-neurons",
        "silent share of layer 10 under other inits: below a quarter of torch_uniform's",
        _init_decides,
        "ten-layers",
    ),
)
