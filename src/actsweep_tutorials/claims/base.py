"""Claims, the verdicts on them, and functions that reach a verdict."""

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
    """A statement of a source, and how it is decided.

    Attributes:
        key: its source, S0 to S4 or traps, and a name.
        statement: what is claimed, in our words.
        experiment: the experiment that measures it.
        criterion: the quantity that decides, and the tolerance.
        decide: from the experiment's result to the verdict.
        figure: the experiment's figure that shows it; None if there is nothing to see.
        needs_training: whether it needs trained networks.
        reason: why it doesn't simply hold, where it doesn't.
    """

    key: str
    statement: str
    experiment: str
    criterion: str
    decide: Callable[[Any], Verdict]
    figure: str | None = None
    needs_training: bool = False
    reason: str = ""

    @property
    def source(self) -> str:
        """Return the tutorial that states it."""
        return self.key.partition(".")[0]


def holds_if(holds: Any, text: str) -> Verdict:
    """Return the verdict that a claim holds, or else that it is refuted."""
    return Verdict(HOLDS if holds else REFUTED, text)


def within(value: float, claimed: float, tolerance: float, text: str = "") -> Verdict:
    """Return whether a number is what is claimed, within a tolerance."""
    return holds_if(abs(value - claimed) <= tolerance, text or f"{value:.4g}")


def combine(cases: Mapping[str, Verdict], text: str, *, name_all: bool = False) -> Verdict:
    """Combine the verdicts on a claim that was tested under several conditions.

    It holds if it does under all of them. It holds only if some condition is met if it does under
    some. It is refuted if it is refuted under all. Anything else is noise. Where it holds in most
    cases, the condition names the others.

    Args:
        cases: the verdict under each condition.
        text: the numbers that it rests on.
        name_all: name the conditions under which it holds, even if they are most.
    """
    met = [name for name, verdict in cases.items() if verdict.verdict == HOLDS]
    others = [name for name in cases if name not in met]
    if not others:
        return Verdict(HOLDS, text)
    if len(met) > len(others) and not name_all:
        return Verdict(ONLY_IF, text, f"it isn't {', '.join(others)}")
    if met:
        return Verdict(ONLY_IF, text, ", ".join(met))
    refuted = [verdict.verdict == REFUTED for verdict in cases.values()]
    return Verdict(REFUTED if all(refuted) else NOISE, text)


def exceeds(a: Mapping[int, float], b: Mapping[int, float], unit: str = "") -> Verdict:
    """Return whether `a` exceeds `b`, both by seed.

    The 95 % interval of the mean difference over the seeds that both have decides. With fewer than
    two such seeds nothing can be decided.
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


def plausible_single_run(claimed: float, values: Iterable[float], unit: str = "") -> Verdict:
    """Return whether one further run could have given the claimed number, by the 95 % prediction
    interval, mean ± t(n - 1) s sqrt(1 + 1 / n).
    """
    values = list(values)
    n = len(values)
    if n < 2:
        return Verdict(NOISE, f"{n} seeds")
    mean, half = mean_interval(values)
    assert half is not None
    half_prediction = half * math.sqrt(n + 1)
    text = f"claimed {claimed:g}; one run: {mean:.2f} ± {half_prediction:.2f}{unit}, from {n} seeds"
    return holds_if(abs(claimed - mean) <= half_prediction, text)


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean; what is 0 counts as 1e-30."""
    return math.exp(sum(math.log(max(v, 1e-30)) for v in values) / len(values))


def mean(values: Iterable[float]) -> float:
    """Return the arithmetic mean."""
    values = list(values)
    return math.fsum(values) / len(values)
