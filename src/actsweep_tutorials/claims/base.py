"""What a claim is, what can be found about it, and how findings are put together."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actsweep.stats.paired import mean_interval

HOLDS = "holds"
ONLY_IF = "holds only if"
REFUTED = "refuted"
NOISE = "not decidable (noise)"
VERDICTS = (HOLDS, ONLY_IF, REFUTED, NOISE)


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, and the numbers that it rests on."""

    verdict: str
    text: str
    condition: str = ""

    def __str__(self) -> str:
        return f"{self.verdict} {self.condition}".strip()


@dataclass(frozen=True, eq=False)
class Claim:
    """Something that a source says, and how it is decided.

    Attributes:
        key: its source, S0 to S4 or traps, and a name.
        words: what is claimed, in our words.
        experiment: what measures it.
        by: the quantity that decides, and the tolerance.
        decide: from what the experiment found to the verdict.
        figure: of the experiment, to look at; none if there is nothing to see.
        trained: whether it needs trained networks.
        because: why it doesn't simply hold, where it doesn't.
    """

    key: str
    words: str
    experiment: str
    by: str
    decide: Callable[[Any], Verdict]
    figure: str | None = None
    trained: bool = False
    because: str = ""

    @property
    def source(self) -> str:
        """Which tutorial says so."""
        return self.key.partition(".")[0]


def truth(holds: Any, text: str) -> Verdict:
    """A claim that either holds or is refuted."""
    return Verdict(HOLDS if holds else REFUTED, text)


def within(value: float, claimed: float, tolerance: float, text: str = "") -> Verdict:
    """A number that is claimed to be another, give or take."""
    return truth(abs(value - claimed) <= tolerance, text or f"{value:.4g}")


def where(cases: Mapping[str, Verdict], text: str, *, name_all: bool = False) -> Verdict:
    """A claim without a condition, looked at under several: it holds if it does under all of them,
    only if some condition is met if it does under some, and is refuted where it is under all. What
    is neither is noise. Where it holds in most cases, the condition names the others, unless it
    has to `name_all`."""
    good = [name for name, found in cases.items() if found.verdict == HOLDS]
    rest = [name for name in cases if name not in good]
    if not rest:
        return Verdict(HOLDS, text)
    if len(good) > len(rest) and not name_all:
        return Verdict(ONLY_IF, text, f"it isn't {', '.join(rest)}")
    if good:
        return Verdict(ONLY_IF, text, ", ".join(good))
    bad = [found.verdict == REFUTED for found in cases.values()]
    return Verdict(REFUTED if all(bad) else NOISE, text)


def above(a: Mapping[int, float], b: Mapping[int, float], unit: str = "") -> Verdict:
    """Whether `a` exceeds `b`, both by seed: by the 95 % interval of the mean difference over the
    seeds that both have.

    With one seed, or none, it can't be told.
    """
    differences = [a[seed] - b[seed] for seed in a if seed in b]
    if len(differences) < 2:
        return Verdict(NOISE, f"{len(differences)} pairs of seeds")
    mean, half = mean_interval(differences)
    assert half is not None
    text = f"{mean:+.3g} ± {half:.2g}{unit}, {len(differences)} seeds"
    if mean - half > 0:
        return Verdict(HOLDS, text)
    return Verdict(REFUTED if mean + half < 0 else NOISE, text)


def one_run(claimed: float, values: Iterable[float], unit: str = "") -> Verdict:
    """Whether one further run could have given the claimed number: the 95 % prediction interval,
    mean ± t(n - 1) s sqrt(1 + 1 / n)."""
    values = list(values)
    n = len(values)
    if n < 2:
        return Verdict(NOISE, f"{n} seeds")
    mean, half = mean_interval(values)
    assert half is not None
    wide = half * math.sqrt(n + 1)
    text = f"claimed {claimed:g}; one run: {mean:.2f} ± {wide:.2f}{unit}, from {n} seeds"
    return truth(abs(claimed - mean) <= wide, text)


def geometric(values: Sequence[float]) -> float:
    """The geometric mean; what is 0 counts as 1e-30."""
    return math.exp(sum(math.log(max(v, 1e-30)) for v in values) / len(values))


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean."""
    values = list(values)
    return math.fsum(values) / len(values)
