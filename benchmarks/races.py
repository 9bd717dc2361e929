"""Races of made-up groups: how often a verdict is false, and how many runs the verdicts take.

Each race is run by the product's own rules and comparison; only the scores are drawn. The numbers
repeat: they are drawn from fixed seeds.
"""

import itertools
from dataclasses import asdict, dataclass

import numpy as np

from actsweep.stats import fixed, race
from actsweep.stats.paired import ALPHA, BETTER, WORSE, Cell, Pair, compare
from actsweep.stats.race import Rules
from benchmarks.harness import Result, figure

TRIALS = 500
RULES = Rules(seeds=50)
MARGIN = 0.25
"""In standard deviations of a score."""
NULLS = (2, 4, 8)
PLANTED: dict[str, tuple[float, ...]] = {
    "one of four ahead by 1 sd": (1, 0, 0, 0),
    "one of four ahead by 2 sd": (2, 0, 0, 0),
    "six groups, 1 sd apart": (5, 4, 3, 2, 1, 0),
    "six groups, 2 sd apart": (10, 8, 6, 4, 2, 0),
}

Pairs = dict[tuple[int, int], Pair]


@dataclass(frozen=True)
class Raced:
    """Many races of groups with the same true means.

    Attributes:
        groups: what they are.
        wrong: share of races that end with a false verdict: worse or better the wrong way round,
            or between groups of the same mean.
        decided: share that find the best group to be better than all others; None if none is.
        runs: of a race, on average.
        fixed_runs: with which a fixed number of seeds finds as often, by Holm's t tests, that the
            best group is better than all others; None if it isn't decided.
    """

    groups: str
    wrong: float
    decided: float | None
    runs: float
    fixed_runs: int | None


def races(rounds: int, toy: bool) -> Result:
    """Races in which nothing differs, and races with a winner."""
    trials = 20 if toy else TRIALS
    rows = [raced(f"{n} alike", (0.0,) * n, trials) for n in NULLS[: 1 if toy else None]]
    planted = dict([*PLANTED.items()][-1:] if toy else PLANTED)
    rows += [raced(name, means, trials) for name, means in planted.items()]
    figures = [figure(f"{row.groups}: races with a false verdict", row.wrong, 0.05) for row in rows]
    figures += [
        figure(f"{row.groups}: runs / of a fixed design", row.runs / row.fixed_runs, 0.5)
        for row in rows
        if row.fixed_runs
    ]
    return {"trials": trials, "races": [asdict(row) for row in rows], "figures": figures}


def raced(name: str, means: tuple[float, ...], trials: int) -> Raced:
    """Race groups of normal scores with these means and standard deviation 1."""
    rng = np.random.default_rng([len(means), *(int(mean) for mean in means)])
    scores = rng.normal(0, 1, (trials, len(means), RULES.seeds)) + np.array(means)[:, None]
    ended = [run_race(each, RULES, MARGIN) for each in scores]
    wrong = np.mean([_any_false(pairs, means) for pairs, _ in ended])
    runs = float(np.mean([sum(seeds.values()) for _, seeds in ended]))
    if max(means) == sorted(means)[-2]:
        return Raced(name, float(wrong), None, runs, None)
    best = int(np.argmax(means))
    decided = float(np.mean([_beats_all(pairs, best) for pairs, _ in ended]))
    return Raced(name, float(wrong), decided, runs, _fixed_runs(scores, best, decided))


def run_race(scores: np.ndarray, rules: Rules, margin: float) -> tuple[Pairs, dict[int, int]]:
    """Return the pairs and the seeds of each group at the end of a race over scores [groups, n]."""
    seeds = dict.fromkeys(range(len(scores)), rules.first)
    while True:
        cells: dict[int, dict[Cell, float]] = {
            g: {(s,): float(scores[g, s]) for s in range(n)} for g, n in seeds.items()
        }
        pairs = compare(cells, margin)
        further = race.seeds_next(pairs, seeds, rules)
        if not further:
            return pairs, seeds
        seeds |= further


def _any_false(pairs: Pairs, means: tuple[float, ...]) -> bool:
    verdict = {1.0: BETTER, -1.0: WORSE}
    return any(
        pair.verdict in (BETTER, WORSE)
        and pair.verdict != verdict.get(np.sign(means[a] - means[b]))
        for (a, b), pair in pairs.items()
    )


def _beats_all(pairs: Pairs, best: int) -> bool:
    return all(
        pair.verdict == (BETTER if a == best else WORSE)
        for (a, b), pair in pairs.items()
        if best in (a, b)
    )


def _fixed_runs(scores: np.ndarray, best: int, decided: float) -> int | None:
    """Return the runs with which Holm's t tests find the best group as often; None if none do."""
    groups = scores.shape[1]
    places = list(itertools.combinations(range(groups), 2))
    for n in range(2, scores.shape[2] + 1):
        found = 0
        for each in scores[..., :n]:
            differences = [each[a] - each[b] for a, b in places]
            p_values = [fixed.t_test(d.mean(), d.std(ddof=1), n) for d in differences]
            corrected = fixed.holm(p_values)
            found += all(
                p is not None and p <= ALPHA and (d.mean() > 0) == (a == best)
                for (a, b), d, p in zip(places, differences, corrected, strict=True)
                if best in (a, b)
            )
        if found >= decided * len(scores):
            return n * groups
    return None


def table(measured: Result) -> str:
    """The races as a table."""
    head = "races with a false verdict | best one found | runs on average | of a fixed design"
    lines = [f"| groups | {head} |", "|---|---|---|---|---|"]
    for row in measured["races"]:
        found = "" if row["decided"] is None else f"{100 * row['decided']:.3g} %"
        design = row["fixed_runs"] or ""
        cells = (row["groups"], f"{100 * row['wrong']:.2g} %", found, f"{row['runs']:.3g}", design)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
