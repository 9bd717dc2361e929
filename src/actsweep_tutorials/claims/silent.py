"""Claims of S2 about silent units: before training, after it, and why."""

import itertools
from collections.abc import Sequence
from typing import Any

from actsweep_tutorials.claims.base import NOISE, Claim, Verdict, above, mean, one_run, truth

INIT = "torch_uniform"
TEN = (0, 1, 1, 19, 75, 53, 71, 57, 64, 69)


def _silent(found: Any, depth: str, init: str = INIT) -> list[list[int]]:
    """Of each hidden layer, every seed's silent units."""
    return list(found["untrained"][depth][init]["silent"].values())


def _counts(rows: Sequence[Sequence[float]]) -> str:
    return "[" + ", ".join(f"{mean(row):.1f}" for row in rows) + "]"


def _untrained(found: Any) -> Verdict:
    rows = _silent(found, "tutorial")
    means = [mean(row) for row in rows]
    text = f"claimed [0, 0, 3, 7]; means of {len(rows[0])} seeds {_counts(rows)}"
    return truth(max(means[:2]) < 1 and means[1] <= means[2] < means[3], text)


def _untrained_last(found: Any) -> Verdict:
    return one_run(7, _silent(found, "tutorial")[-1])


def _ten(found: Any) -> Verdict:
    one = found["untrained"]["deep10"][INIT]
    rows, widths = list(one["silent"].values()), list(one["width"].values())
    share = [mean(row) / width for row, width in zip(rows, widths, strict=True)]
    text = f"claimed {list(TEN)}; means of {len(rows[0])} seeds {_counts(rows)}"
    rises = all(a <= b for a, b in itertools.pairwise(share[:6]))
    return truth(max(share[:3]) < 0.05 and rises and all(0.35 < s < 0.65 for s in share[5:]), text)


def _trained(found: Any) -> Verdict:
    before, after = (list(found["trained"][k]["silent"].values()) for k in ("before", "after"))
    text = f"claimed [0, 0, 3, 7] to [0, 0, 3, 3]; ours {_counts(before)} to {_counts(after)}"
    one = above(dict(enumerate(before[-1])), dict(enumerate(after[-1])))
    return Verdict(one.verdict, f"{text}; last layer, before - after: {one.text}")


def _never(found: Any) -> Verdict:
    one = found["fates"]["hidden_1"]
    text = f"of {one['silent']} silent units of the input layer, {one['recovered']} recovered"
    if not one["silent"]:
        return Verdict(NOISE, text)
    return truth(one["recovered"] == 0, text)


def _can(found: Any) -> Verdict:
    deeper = [one for layer, one in found["fates"].items() if layer != "hidden_1"]
    silent, back = (sum(one[key] for one in deeper) for key in ("silent", "recovered"))
    return truth(back > 0, f"of {silent} silent units of deeper layers, {back} recovered")


def _init_decides(found: Any) -> Verdict:
    inits = found["untrained"]["deep10"]
    said, low = [], []
    for init, one in inits.items():
        width = list(one["width"].values())[-1]
        share = mean(list(one["silent"].values())[-1]) / width
        cosine = mean([c for c in list(one["cosine"].values())[-1] if c is not None])
        said.append(f"{init} {100 * share:.0f} % silent, cosine {cosine:.3f}")
        if init != INIT:
            low.append(share)
    own = mean(list(inits[INIT]["silent"].values())[-1]) / width
    return truth(max(low) < own / 4, f"layer 10: {'; '.join(said)}")


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
        trained=True,
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
        trained=True,
    ),
    Claim(
        "S2.can-recover",
        "Dead units of deeper layers can recover.",
        "dying-relu",
        "units silent on all training images before training, over all runs; at least one",
        _can,
        "dead",
        trained=True,
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
