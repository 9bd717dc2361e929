"""What looking after every seed costs, and what it doesn't, by simulation.

Made-up sweeps are looked at after 2, 3, … 50 seeds, with the product's own e-values and intervals,
many sweeps at once. The numbers repeat: they are drawn from fixed seeds.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from actsweep.stats import fixed, sequential
from actsweep.stats.paired import ALPHA
from actsweep.stats.spread import resolution, spread
from benchmarks.harness import Result, figure

TRIALS = 2000
MAX_SEEDS = 50
GROUPS = (2, 6, 10)
EFFECTS = (1.0, 2.0, 3.0)
SEEDS = (2, 3, 5, 10, 50)
"""At which coverage is shown."""
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Noise:
    """A distribution of scores, its mean, and what stands for its standard deviation."""

    draw: Draw
    mean: float
    scale: float


NORMAL, SKEWED = "normal", "every other group skewed (lognormal)"
NOISE: dict[str, Noise] = {
    NORMAL: Noise(lambda rng, shape: rng.normal(0, 1, shape), 0, 1),
    "Student t, 2 degrees": Noise(lambda rng, shape: rng.standard_t(2, shape), 0, 1),
    "lognormal": Noise(
        lambda rng, shape: rng.lognormal(0, 1, shape),
        math.exp(0.5),
        math.sqrt(math.e * (math.e - 1)),
    ),
    "accuracies of 1,000 images": Noise(
        lambda rng, shape: rng.binomial(1000, 0.9, shape) / 10, 90, math.sqrt(0.9)
    ),
    "one run in ten collapses": Noise(
        lambda rng, shape: np.where(rng.random(shape) < 0.1, -50.0, rng.normal(0, 1, shape)), -5, 1
    ),
    SKEWED: Noise(
        lambda rng, shape: np.where(
            np.arange(shape[-2])[:, None] % 2,
            math.exp(0.5) - rng.lognormal(0, 1, shape),
            rng.normal(0, 1, shape),
        ),
        0,
        1,
    ),
}
"""Shapes are [sweeps, groups, seeds]."""


@dataclass(frozen=True)
class Null:
    """Sweeps in which nothing differs, looked at after every seed: the share that ever has a false
    verdict, by e-values, and by the t tests that are for one look, if no run diverges."""

    noise: str
    groups: int
    wrong: float
    wrong_one_look: float | None


@dataclass(frozen=True)
class Equivalence:
    """Every other group is ahead by the margin, one standard deviation of a difference: the share
    of sweeps in which two that differ by it are ever called equivalent."""

    noise: str
    groups: int
    wrong: float


@dataclass(frozen=True)
class Power:
    """One group is ahead by `effect` standard deviations of a difference: after how many seeds its
    lead on another is found on average, and with how many t tests find it in 80 % of sweeps."""

    groups: int
    effect: float
    seeds: float
    seeds_one_look: int


@dataclass(frozen=True)
class Coverage:
    """How often an interval of 95 % holds the mean, by the number of seeds.

    Attributes:
        interval: which one.
        noise: of each group.
        held: by the number of seeds; of a confidence sequence, up to that number in one.
    """

    interval: str
    noise: str
    held: dict[int, float]


def draw(noise: str, groups: int, trials: int) -> np.ndarray:
    """Scores [trials, groups, seeds]."""
    rng = np.random.default_rng([groups, list(NOISE).index(noise)])
    return NOISE[noise].draw(rng, (trials, groups, MAX_SEEDS))


@dataclass(frozen=True)
class Look:
    """All pairs after n seeds: mean and spread of their differences, [trials, pairs]."""

    n: int
    mean: np.ndarray
    spread: np.ndarray

    @property
    def t(self) -> np.ndarray:
        """|t| of each pair; no difference at all is none."""
        spread = np.where(self.spread > 0, self.spread, math.inf)
        return np.abs(self.mean) * math.sqrt(self.n) / spread


def looks(scores: np.ndarray) -> Iterator[Look]:
    """What is seen after every seed, as `actsweep.stats.paired.compare` sees it."""
    first, second = np.triu_indices(scores.shape[1], 1)
    differences = scores[:, first] - scores[:, second]
    for n in range(2, MAX_SEEDS + 1):
        step = resolution(scores[:, :, :n].reshape(len(scores), -1))
        part = differences[..., :n]
        yield Look(n, part.mean(-1), spread(part, step[:, None]))


def found(look: Look) -> np.ndarray:
    """Pairs that are better or worse after any number of looks, [trials, pairs]."""
    return sequential.adjust(sequential.e_value(look.mean, look.spread, look.n)) >= 1 / ALPHA


def equivalent(look: Look, margin: float) -> np.ndarray:
    """Pairs that are equivalent after any number of looks, [trials, pairs]."""
    e_values = sequential.e_value_equivalent(look.mean, look.spread, look.n, margin)
    return sequential.adjust(e_values) >= 1 / ALPHA


def found_once(look: Look) -> np.ndarray:
    """Pairs that are better or worse by t tests with Holm's correction, [trials, pairs]."""
    t = look.t
    order = np.argsort(-t, -1)
    pairs = t.shape[-1]
    least = np.array([fixed.critical(look.n, ALPHA / (pairs - place)) for place in range(pairs)])
    rejected = np.cumprod(np.take_along_axis(t, order, -1) >= least, -1).astype(bool)
    pairs_found = np.empty_like(rejected)
    np.put_along_axis(pairs_found, order, rejected, -1)
    return pairs_found


def null(noise: str, groups: int, trials: int = TRIALS) -> Null:
    """Count sweeps with any false verdict after any look."""
    wrong, wrong_once = np.zeros((2, trials), bool)
    for look in looks(draw(noise, groups, trials)):
        wrong |= found(look).any(-1)
        wrong_once |= found_once(look).any(-1)
    return Null(noise, groups, float(wrong.mean()), float(wrong_once.mean()))


def diverging(groups: int, trials: int = TRIALS) -> Null:
    """The same where one run in ten diverges: it has no value, and counts by itself."""
    rng = np.random.default_rng(groups)
    scores = draw(NORMAL, groups, trials)
    scores[rng.random(scores.shape) < 0.1] = np.nan
    first, second = np.triu_indices(groups, 1)
    ended = ~np.isnan(scores)
    both = ended[:, first] & ended[:, second]
    differences = np.where(both, scores[:, first] - scores[:, second], 0.0)
    wrong = np.zeros(trials, bool)
    for n in range(2, MAX_SEEDS + 1):
        counts, part = both[..., :n].sum(-1), differences[..., :n]
        mean = part.sum(-1) / np.maximum(counts, 1)
        squares = (both[..., :n] * (part - mean[..., None]) ** 2).sum(-1)
        e_values = sequential.e_value(mean, np.sqrt(squares / np.maximum(counts - 1, 1)), counts)
        alone = (ended[:, first] & ~ended[:, second])[..., :n].sum(-1)
        other = (ended[:, second] & ~ended[:, first])[..., :n].sum(-1)
        told_apart = sequential.e_value_ended(alone, other)
        # Without a seed that tells them apart the question isn't asked.
        asked = np.where(alone + other > 0, told_apart, math.inf)
        adjusted = sequential.adjust(np.concatenate([e_values, asked], -1))
        wrong |= ((adjusted >= 1 / ALPHA) & np.isfinite(adjusted)).any(-1)
    return Null("one run in ten diverges", groups, float(wrong.mean()), None)


def equivalence(noise: str, groups: int, trials: int = TRIALS) -> Equivalence:
    """Count sweeps with any false equivalence after any look."""
    margin = NOISE[noise].scale * math.sqrt(2)
    margin = round(margin, 1) if noise.startswith("accuracies") else margin  # stays on the grid
    ahead = np.arange(groups) % 2
    first, second = np.triu_indices(groups, 1)
    apart = ahead[first] != ahead[second]
    wrong = np.zeros(trials, bool)
    for look in looks(draw(noise, groups, trials) + margin * ahead[:, None]):
        wrong |= equivalent(look, margin)[:, apart].any(-1)
    return Equivalence(noise, groups, float(wrong.mean()))


def power(groups: int, effect: float, trials: int = TRIALS) -> Power:
    """Count the seeds until a lead is found; where 50 don't do, they count as 50."""
    scores = draw(NORMAL, groups, trials)
    scores[:, 0] += effect * math.sqrt(2)
    first_found = np.full((trials, groups - 1), MAX_SEEDS)
    once = MAX_SEEDS
    for look in looks(scores):
        pairs = found(look)[:, : groups - 1]  # those of the first group
        first_found = np.where(pairs, np.minimum(first_found, look.n), first_found)
        if once == MAX_SEEDS and found_once(look)[:, : groups - 1].mean() >= 0.8:
            once = look.n
    return Power(groups, effect, float(first_found.mean()), once)


def coverage(noise: str, trials: int = TRIALS) -> list[Coverage]:
    """Count how often each interval that is shown holds what it is of."""
    scores = draw(noise, 2, trials)
    shown: dict[str, dict[int, float]] = {"mean": {}, "difference, one look": {}, "difference": {}}
    always = np.ones(trials, bool)
    for look in looks(scores):
        always &= np.abs(look.mean[:, 0]) <= _half(sequential, look.spread[:, 0], look.n)
        if look.n in SEEDS:
            values = scores[:, 0, : look.n]
            error = np.abs(values.mean(-1) - NOISE[noise].mean)
            half = _half(fixed, spread(values), look.n)
            shown["mean"][look.n] = float(np.mean(error <= half))
            half = _half(fixed, look.spread[:, 0], look.n)
            shown["difference, one look"][look.n] = float(np.mean(np.abs(look.mean[:, 0]) <= half))
            shown["difference"][look.n] = float(always.mean())
    return [Coverage(interval, noise, held) for interval, held in shown.items()]


def _half(method: Any, spread: np.ndarray, n: int) -> np.ndarray:
    """Half-widths; infinite where there is no interval."""
    unit = method.half_width(1.0, n)
    return np.full_like(spread, math.inf) if unit is None else unit * spread


def table(result: dict[str, list[dict[str, Any]]]) -> str:
    """All of it as Markdown; docs/statistics.md shows it."""
    lines = [
        "| nothing differs: noise | groups | any false verdict | by t tests for one look |",
        "|---|---|---|---|",
    ]
    for one in result["null"]:
        once = one["wrong_one_look"]
        rates = f"{one['wrong']:.1%} | {'–' if once is None else f'{once:.1%}'}"
        lines += [f"| {one['noise']} | {one['groups']} | {rates} |"]
    lines += [
        "",
        "| every other group is ahead by the margin: noise | groups | any called equivalent |",
        "|---|---|---|",
    ]
    for one in result["equivalence"]:
        lines += [f"| {one['noise']} | {one['groups']} | {one['wrong']:.1%} |"]
    lines += [
        "",
        "| one is ahead by | groups | seeds until it is found, mean | t tests for one look: seeds "
        "for 80 % | more |",
        "|---|---|---|---|---|",
    ]
    for one in result["power"]:
        once = one["seeds_one_look"]
        seeds = f"{one['seeds']:.1f} | {once} | {one['seeds'] / once - 1:.0%}"
        lines += [f"| {one['effect']:g} sd | {one['groups']} | {seeds} |"]
    lines += [
        "",
        f"| 95 % interval of | noise | {' | '.join(f'{n} seeds' for n in SEEDS)} |",
        f"|---|---|{'---|' * len(SEEDS)}",
    ]
    for one in result["coverage"]:
        held = {int(n): share for n, share in one["held"].items()}
        cells = " | ".join(f"{held[n]:.1%}" for n in SEEDS)
        lines += [f"| {one['interval']} | {one['noise']} | {cells} |"]
    return "\n".join(lines).replace("%", " %").replace("  %", " %")


def every_look(rounds: int, toy: bool) -> Result:
    """All simulations, of 2,000 sweeps each."""
    del rounds  # seeds are fixed: it comes out the same
    trials = 8 if toy else TRIALS
    even = [noise for noise in NOISE if noise != SKEWED]
    result: Result = {
        "null": [
            *(asdict(null(noise, groups, trials)) for noise in NOISE for groups in GROUPS),
            *(asdict(diverging(groups, trials)) for groups in GROUPS),
        ],
        "equivalence": [
            asdict(equivalence(noise, groups, trials)) for noise in NOISE for groups in GROUPS
        ],
        "power": [asdict(power(groups, effect, trials)) for groups in GROUPS for effect in EFFECTS],
        "coverage": sorted(
            (asdict(one) for noise in even for one in coverage(noise, trials)),
            key=lambda one: one["interval"],
        ),
    }
    worst = max(one["wrong"] for one in result["null"] if one["noise"] != SKEWED)
    more = [one["seeds"] / one["seeds_one_look"] for one in result["power"]]
    figures = [
        figure("worst share of false verdicts + 1", 1 + worst, 1.05),
        figure("seeds / seeds for one look", float(np.mean(more)), 1.35),
    ]
    return result | {"figures": figures}
