"""Tunings of made-up groups: how often a verdict is false, and how often the better one is found.

Each fight is led by the product's own strategy, which asks for runs, and its own comparison; only
the scores are drawn. The numbers repeat: they are drawn from fixed seeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np

from actsweep.launch.tune import Tune
from actsweep.stats.paired import BETTER, WORSE, Cell, Pair, compare
from actsweep.stats.tuning import choose
from actsweep.sweeps.search import Parameter, Params, Trial
from actsweep.sweeps.tuning import Tuning
from benchmarks.harness import Result, figure

TRIALS = 400
MARGIN = 0.25
"""In standard deviations of a score."""
SHARED = 0.5
"""Share of a score's variance that all groups have in common with the same seed."""
RATES = Parameter((), 1e-3, 1e-1, True, None)
ASKED = Tuning((), {"optim.lr": RATES}, size=16, seeds=10)


@dataclass(frozen=True)
class Surface:
    """A group's true mean by log10 of its learning rate: height - curvature * (log10 lr - best)^2.

    Beyond `diverges` a run has no score.
    """

    height: float = 0.0
    best: float = -2.0
    curvature: float = 4.0
    diverges: float = 0.0

    def mean(self, rate: float) -> float:
        """The true mean; NaN where a run diverges."""
        at = math.log10(rate)
        over = at > self.diverges
        return math.nan if over else self.height - self.curvature * (at - self.best) ** 2


NULLS: dict[str, tuple[Surface, ...]] = {
    "2 alike": (Surface(),) * 2,
    "2 alike, a wide best": (Surface(curvature=1.0),) * 2,
    "4 alike": (Surface(),) * 4,
    "2 alike, a narrow best": (Surface(curvature=100.0),) * 2,
    "2 alike, best beyond the range": (Surface(best=-0.8, diverges=-0.5),) * 2,
}
PLANTED: dict[str, tuple[Surface, ...]] = {
    "ahead by 3 sd, at its own rate alone": (
        Surface(3.0, best=-2.8, curvature=8.0),
        Surface(curvature=8.0),
    ),
    "ahead by 1.5 sd, at its own rate alone": (
        Surface(1.5, best=-2.8, curvature=8.0),
        Surface(curvature=8.0),
    ),
    "ahead by 3 sd, beyond the range alone": (
        Surface(3.0, best=-0.7, curvature=8.0),
        Surface(curvature=8.0, diverges=-0.9),
    ),
}


@dataclass(frozen=True)
class Fought:
    """Many fights between groups with the same true surfaces.

    Attributes:
        groups: what they are.
        wrong: share of fights that end with a false verdict, see `_any_false`.
        found: share that find the better group better; None if none is.
        once: the same as `wrong` where each group is tuned once, and all other runs of the fight
            are fresh seeds at the setting that was chosen.
        one_rate: share of verdicts that the better group is worse, if both are trained at the
            middle of the range, untuned; None if none is better.
        runs: of each group, on average.
    """

    groups: str
    wrong: float
    found: float | None
    once: float
    one_rate: float | None
    runs: float


def fights(rounds: int, toy: bool) -> Result:
    """Fights in which nothing differs, and fights with a winner."""
    trials = 5 if toy else TRIALS
    asked = replace(ASKED, size=8, seeds=6) if toy else ASKED
    every = {**NULLS, **PLANTED}
    names = [next(iter(NULLS)), next(iter(PLANTED))] if toy else [*every]
    rows = [fought(name, every[name], asked, trials) for name in names]
    validation, fresh = more_trials(asked, 10 * trials, times=4)
    figures = [
        figure(f"{row.groups}: fights with a false verdict", row.wrong, 0.05) for row in rows
    ]
    figures += [
        figure(f"{row.groups}: better one found", row.found, 0.5, at_most=False)
        for row in rows
        if row.found is not None
    ]
    return {
        "trials": trials,
        "seeds": asked.seeds,
        "size": asked.size,
        "fights": [asdict(row) for row in rows],
        "four times the trials": {"ahead in validation": validation, "ahead afresh": fresh},
        "figures": figures,
    }


def fought(name: str, surfaces: Sequence[Surface], asked: Tuning, trials: int) -> Fought:
    """Fight many times between groups with these surfaces, whose scores have deviation 1."""
    rng = np.random.default_rng([len(name), len(surfaces)])
    heights = [surface.height for surface in surfaces]
    wrong, found, once, one_rate, runs = [], [], [], [], []
    for number in range(trials):
        pairs, ended = fight(surfaces, replace(asked, seed=number), rng)
        wrong.append(_any_false(pairs, heights))
        found.append(pairs[0, 1].verdict == BETTER)
        runs.append(len(ended.trials) / len(surfaces))
        first = ended.chosen(_results(ended, surfaces, {}, rng))
        left = len(ended.trials) // len(surfaces) - len(ended.settings)
        rates = {group: [float(some[0]["optim.lr"])] * left for group, some in first.items()}
        once.append(_any_false(_compared(rates, surfaces, rng), heights))
        middle = math.sqrt(RATES.low * RATES.high)
        untuned = dict.fromkeys(range(len(surfaces)), [middle] * asked.seeds)
        one_rate.append(_any_false(_compared(untuned, surfaces, rng), heights))
    planted = len({*heights}) > 1
    return Fought(
        groups=name,
        wrong=float(np.mean(wrong)),
        found=float(np.mean(found)) if planted else None,
        once=float(np.mean(once)),
        one_rate=float(np.mean(one_rate)) if planted else None,
        runs=float(np.mean(runs)),
    )


def fight(
    surfaces: Sequence[Surface], asked: Tuning, rng: np.random.Generator
) -> tuple[dict[tuple[int, int], Pair], Tuning]:
    """Return the pairs at the end of a tuning of groups with these surfaces, and the tuning."""
    groups: tuple[Params, ...] = tuple({"act": f"g{place}"} for place in range(len(surfaces)))
    tune, results = Tune(replace(asked, groups=groups)), dict[str, Any]()
    plan: Any = None
    shared: dict[Any, float] = {}
    while wanted := tune.ask(plan, results):
        plan = cast(Any, "begun")
        first = len(tune.trials)
        names = [str(first + place) for place in range(len(wanted))]
        tune = tune.and_then([Trial(p, (n,)) for p, n in zip(wanted, names, strict=True)])
        drawn = _results(tune.tuning, surfaces, shared, rng)
        results |= {name: drawn[name] for name in names}
    fresh: dict[int, dict[Cell, float]] = {}
    for trial in filter(tune.tuning.is_fresh, tune.trials):
        result = results[trial.runs[0]]
        if result["state"] == "complete":
            cell = (trial.params["seed"],)
            fresh.setdefault(tune.tuning.group_of(trial), {})[cell] = result["test_accuracy"]
    return compare(fresh, MARGIN), tune.tuning


def _results(
    tuning: Tuning,
    surfaces: Sequence[Surface],
    common: dict[Any, float],
    rng: np.random.Generator,
) -> dict[str, dict[str, Any]]:
    """Return results of all runs, drawn anew; `common` has what runs of a seed share."""
    results = {}
    for trial in tuning.trials:
        seed = trial.params["seed"]
        mean = surfaces[tuning.group_of(trial)].mean(float(trial.params["optim.lr"]))
        shared = common.setdefault(seed, float(rng.normal()))
        scores = mean + math.sqrt(SHARED) * shared + math.sqrt(1 - SHARED) * rng.normal(size=2)
        ended = {"best_val_accuracy": scores[0], "test_accuracy": scores[1]}
        state = "diverged" if math.isnan(mean) else "complete"
        task = {"task": "classification"}
        results[trial.runs[0]] = {"state": state, **task, **({} if math.isnan(mean) else ended)}
    return results


def _compared(
    rates: Mapping[int, Sequence[float]], surfaces: Sequence[Surface], rng: np.random.Generator
) -> dict[tuple[int, int], Pair]:
    """Return the pairs of groups that are trained at these rates, one a seed."""
    shared = rng.normal(size=len(rates[0])) * math.sqrt(SHARED)
    means = {g: [surfaces[g].mean(rate) for rate in some] for g, some in rates.items()}
    own = {g: math.sqrt(1 - SHARED) * rng.normal(size=len(some)) for g, some in rates.items()}
    scores = {g: np.array(some) + shared + own[g] for g, some in means.items()}
    cells: dict[int, dict[Cell, float]] = {
        g: {(s,): float(v) for s, v in enumerate(some)} for g, some in scores.items()
    }
    return compare(cells, MARGIN)


def more_trials(asked: Tuning, trials: int, times: int) -> tuple[float, float]:
    """Return how often a group that has `times` the trials of one that is alike is ahead.

    First by the best score in validation, then by a fresh seed at the setting that has it. All
    settings are as good as each other, so that more trials find nothing.
    """
    rng = np.random.default_rng([times, trials])
    ahead = np.zeros((trials, 2))
    for row in ahead:
        counts = (times * asked.size, asked.size)
        tried = [rng.normal(size=count) for count in counts]
        best = [scores[choose(scores) or 0] for scores in tried]
        row[:] = best[0] > best[1], rng.normal() > rng.normal()
    return float(ahead[:, 0].mean()), float(ahead[:, 1].mean())


def _any_false(pairs: Mapping[tuple[int, int], Pair], heights: Sequence[float]) -> bool:
    """Return whether a verdict is better or worse the wrong way round, or between equals."""
    verdict = {1.0: BETTER, -1.0: WORSE}
    return any(
        pair.verdict in (BETTER, WORSE)
        and pair.verdict != verdict.get(float(np.sign(heights[a] - heights[b])))
        for (a, b), pair in pairs.items()
    )


def table(measured: Result) -> str:
    """The fights as a table."""
    head = "false verdicts | better one found | false if tuned once | false untuned | runs each"
    lines = [f"| groups | {head} |", "|---|---|---|---|---|---|"]
    for row in measured["fights"]:
        shares = (row["wrong"], row["found"], row["once"], row["one_rate"])
        cells = ["" if share is None else f"{100 * share:.3g} %" for share in shares]
        lines.append(f"| {' | '.join([row['groups'], *cells, format(row['runs'], '.3g')])} |")
    return "\n".join(lines)
