"""How often a verdict is wrong, and how often a true difference is found, by simulation.

These are verdicts for one look; `benchmarks.looks` has those that hold after every seed.

Every trial is a sweep of made-up scores: what a seed's groups share is drawn once a seed, and then
each group's own noise. The numbers repeat: they are drawn from fixed seeds.
"""

import math
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from actsweep.stats import paired
from actsweep.stats.paired import BETTER, EQUIVALENT, WORSE, compare
from actsweep.stats.power import MAX_FURTHER_SEEDS, power
from benchmarks.harness import Result, figure

TRIALS = 1000
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
Scores = dict[str, dict[tuple[Hashable, ...], float]]  # of each group, by seed
COARSE = "accuracies of 300 examples"
NOISE: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(0, 1, shape),
    "heavy tails (Student t, 3 degrees)": lambda rng, shape: rng.standard_t(3, shape),
    COARSE: lambda rng, shape: 100 * rng.binomial(300, 0.97, shape) / 300,
    "every other group skewed (lognormal)": lambda rng, shape: np.where(
        np.arange(shape[0])[:, None] % 2,
        math.exp(0.5) - rng.lognormal(0, 1, shape),
        rng.normal(0, 1, shape),
    ),
    "one run in ten diverges": lambda rng, shape: np.where(
        rng.random(shape) < 0.1, np.nan, rng.normal(0, 1, shape)
    ),
}
"""Each with mean 0, or the same for all groups; NaN where a run has no score."""


@dataclass(frozen=True)
class Null:
    """Sweeps in which no group differs: the share in which any pair is called better or worse."""

    noise: str
    groups: int
    seeds: int
    wrong: float


@dataclass(frozen=True)
class Found:
    """One group of six is ahead by `effect` standard deviations of the differences between two
    groups: the share of its five pairs that are found, and the least that is promised."""

    effect: float
    seeds: int
    found: float
    promised: float


@dataclass(frozen=True)
class Again:
    """Two groups that don't differ, extended by the seeds that were advised and looked at again:
    the share in which either look called one better, also if both were called one look."""

    seeds: int
    wrong: float
    wrong_one_look: float


@dataclass(frozen=True)
class Equivalence:
    """One group differs from all others by the margin exactly: the share of sweeps in which it is
    called equivalent to any."""

    groups: int
    seeds: int
    wrong: float


NULLS = [("normal", 2, 5), ("normal", 6, 3), ("normal", 6, 5), ("normal", 6, 10), ("normal", 10, 5)]
NULLS += [(COARSE, 6, seeds) for seeds in (2, 3)]
NULLS += [(noise, 6, seeds) for noise in NOISE if noise != "normal" for seeds in (5, 10)]
FOUND = [(effect, seeds) for seeds in (5, 10) for effect in (1.0, 2.0, 3.0)]
AGAIN = (5, 10)
"""Seeds at the first look."""
EQUIVALENCES = [(2, 5), (2, 10), (10, 5), (10, 10)]


def sweep(noise: str, groups: int, seeds: int, trial: int) -> Scores:
    """Scores of a sweep, by group and seed."""
    rng = np.random.default_rng([groups, seeds, trial, list(NOISE).index(noise)])
    shared = 0.0 if noise == COARSE else rng.normal(0, 1, (1, seeds))  # it would hide the grid
    table = shared + NOISE[noise](rng, (groups, seeds))
    return {f"g{g}": {(s,): float(table[g, s]) for s in range(seeds)} for g in range(groups)}


def _ended(scores: dict[tuple[Hashable, ...], float]) -> dict[tuple[Hashable, ...], float]:
    return {cell: score for cell, score in scores.items() if not math.isnan(score)}


def null(noise: str, groups: int, seeds: int, trials: int = TRIALS) -> Null:
    """Count sweeps with any false verdict."""
    wrong = 0
    for trial in range(trials):
        drawn = sweep(noise, groups, seeds, trial)
        ended = {group: _ended(scores) for group, scores in drawn.items()}
        lost = {
            group: {seed for (seed, *_) in scores if (seed,) not in ended[group]}
            for group, scores in drawn.items()
        }
        pairs = compare(ended, margin=0.0, lost=lost, one_look=True)
        wrong += any(one.verdict in (BETTER, WORSE) for one in pairs.values())
    return Null(noise, groups, seeds, wrong / trials)


def found(effect: float, seeds: int, trials: int = TRIALS) -> Found:
    """Count pairs of the one that is ahead."""
    hits = 0
    for trial in range(trials):
        scores = sweep("normal", 6, seeds, trial)
        ahead = {cell: score + effect * np.sqrt(2) for cell, score in scores["g0"].items()}
        pairs = compare({**scores, "g0": ahead}, margin=0.0, one_look=True)
        hits += sum(pairs["g0", f"g{other}"].verdict == BETTER for other in range(1, 6))
    return Found(effect, seeds, hits / trials / 5, power(effect, seeds, paired.ALPHA / 15))


def again(seeds: int, trials: int = TRIALS) -> Again:
    """Count pairs with a false verdict at the first look or the second."""
    wrong, wrong_one_look = (
        sum(_wrong_again(seeds, trial, one_look=one_look) for trial in range(trials)) / trials
        for one_look in (False, True)
    )
    return Again(seeds, wrong, wrong_one_look)


def _wrong_again(seeds: int, trial: int, *, one_look: bool) -> bool:
    scores, more = sweep("normal", 2, seeds + MAX_FURTHER_SEEDS, trial), 0
    for _ in range(2):
        part = {group: dict(list(own.items())[: seeds + more]) for group, own in scores.items()}
        pair = compare(part, margin=0.0, one_look=one_look)["g0", "g1"]
        if pair.verdict in (BETTER, WORSE):
            return True
        more = pair.more or 0
    return False


def equivalence(groups: int, seeds: int, trials: int = TRIALS) -> Equivalence:
    """Count sweeps with a false equivalence; the margin is a standard deviation of the noise."""
    wrong = 0
    for trial in range(trials):
        scores = sweep("normal", groups, seeds, trial)
        scores["g0"] = {cell: score + 1.0 for cell, score in scores["g0"].items()}
        pairs = compare(scores, margin=1.0, one_look=True)
        wrong += any(pairs["g0", f"g{g}"].verdict == EQUIVALENT for g in range(1, groups))
    return Equivalence(groups, seeds, wrong / trials)


def table(result: dict[str, list[dict[str, Any]]]) -> str:
    """All of it as Markdown; docs/statistics.md shows it."""
    lines = ["| nothing differs: noise | groups | seeds | sweeps with any false verdict |"]
    lines += ["|---|---|---|---|"]
    for one in result["null"]:
        lines += [f"| {one['noise']} | {one['groups']} | {one['seeds']} | {one['wrong']:.1%} |"]
    lines += [
        "",
        "| one of six is ahead by | seeds | found | promised at least |",
        "|---|---|---|---|",
    ]
    for one in result["found"]:
        told = f"{one['found']:.0%} | {one['promised']:.0%}"
        lines += [f"| {one['effect']:g} sd | {one['seeds']} | {told} |"]
    lines += [
        "",
        "| nothing differs, looked at again: seeds | false verdict | with `--one-look` |",
        "|---|---|---|",
    ]
    for one in result["again"]:
        rates = f"{one['wrong']:.1%} | {one['wrong_one_look']:.1%}"
        lines += [f"| {one['seeds']} + advised | {rates} |"]
    lines += [
        "",
        "| one differs from the others by the margin: groups | seeds | called equivalent to any |",
        "|---|---|---|",
    ]
    for one in result["equivalence"]:
        lines += [f"| {one['groups']} | {one['seeds']} | {one['wrong']:.1%} |"]
    return "\n".join(lines).replace("%", " %")


def verdicts(rounds: int, toy: bool) -> Result:
    """All simulations, of 1,000 sweeps each."""
    del rounds  # seeds are fixed: it comes out the same
    trials = 4 if toy else TRIALS
    result: Result = {
        "null": [asdict(null(*one, trials)) for one in NULLS],
        "found": [asdict(found(*one, trials)) for one in FOUND],
        "again": [asdict(again(seeds, trials)) for seeds in AGAIN],
        "equivalence": [asdict(equivalence(*one, trials)) for one in EQUIVALENCES],
    }
    hits, promised = (sum(one[key] for one in result["found"]) for key in ("found", "promised"))
    return result | {"figures": [figure("pairs found / promised", hits / promised)]}
