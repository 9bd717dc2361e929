"""A race as a strategy: seeds are added until the comparison has decided. No jax."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from actsweep.launch.job import count
from actsweep.stats import race
from actsweep.stats.race import Rules
from actsweep.sweeps.plan import SEARCH_FILE, Plan
from actsweep.sweeps.results import Result
from actsweep.sweeps.search import Params, Trial, factors_of, read_plain, trials_of, typed
from actsweep.utils import files
from actsweep.utils.errors import UserError, bad_value

if TYPE_CHECKING:
    from actsweep.report.compare import Comparison
    from actsweep.report.design import Label

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Race:
    """A race between groups of runs.

    Attributes:
        groups: what each of them is typed as, but for the seed.
        rules: which groups get further seeds.
        metric, margin: of the comparison, as for `actsweep compare`; None for its defaults.
        budget: seconds of training after which no round is begun; None without a limit.
        first_seed: the seeds are this one and those after it.
        trials: the runs so far, one a trial.
    """

    groups: tuple[Params, ...]
    rules: Rules
    metric: str | None = None
    margin: float | None = None
    budget: float | None = None
    first_seed: int = 0
    trials: tuple[Trial, ...] = ()

    def and_then(self, trials: Sequence[Trial]) -> "Race":
        """Return the race with further runs."""
        return replace(self, trials=(*self.trials, *trials))

    def ask(self, plan: Plan | None, ended: Mapping[str, Result]) -> list[Params]:
        """Return the next round: further seeds of the groups that have an open pair."""
        if plan is None:
            targets = dict.fromkeys(range(len(self.groups)), self.rules.first)
        elif self._spent(ended):
            return []
        else:
            targets = self._targets(plan, ended)
        seeds = self._seeds()
        return [
            {**self.groups[group], "seed": self.first_seed + number}
            for group, target in targets.items()
            for number in range(seeds[group], target)
        ]

    def standing(self, plan: Plan, ended: Mapping[str, Result]) -> str:
        """Return which groups are out, and which pairs are open."""
        from actsweep.stats.power import MAX_FURTHER_SEEDS

        comparison = self._compare(plan)
        runs = {run for trial in self.trials for run in trial.runs}
        groups = len({*comparison.design.labels.values()}) if comparison else len(self.groups)
        text = f"race: {count(len(runs), 'run')} of {count(groups, 'group')}"
        if comparison is None:
            return f"{text}, none complete"
        beaten, pairs = race.beaten(comparison.pairs), comparison.pairs
        if out := [" ".join(label) for label in comparison.groups if label in beaten]:
            text += f"; beaten: {', '.join(out)}"
        undecided = race.open_pairs(pairs, self.rules.aim)
        if not undecided:
            return (
                f"{text}; every pair{' of the others' * (self.rules.aim == race.BEST)} is decided"
            )
        nearest = min(undecided, key=lambda pair: pairs[pair].more or MAX_FURTHER_SEEDS)
        named = " and ".join(" ".join(label) for label in nearest)
        more = pairs[nearest].more
        needs = f", {named} nearest: about {count(more, 'further seed')}" if more else ""
        return f"{text}; open: {count(len(undecided), 'pair')}{needs}"

    def conclusion(self, plan: Plan, ended: Mapping[str, Result]) -> str:
        """Return the comparison, and why the race has ended."""
        comparison = self._compare(plan)
        standing = self.standing(plan, ended)
        if comparison is None:
            return standing
        if race.open_pairs(comparison.pairs, self.rules.aim):
            standing += f". Ended: {self._why(plan, ended)}"
        return f"\n{comparison}\n{standing}"

    def write(self, folder: Path) -> None:
        """Write the race as JSON."""
        files.write_json(folder / SEARCH_FILE, {"race": asdict(self)})

    def record(self, plan: Plan, ended: Mapping[str, Result]) -> "Race":
        """Return the same and write nothing: the comparison is made of the runs."""
        return self

    def differs(self, known: "Race") -> str:
        """Return in what this race differs from one that has begun; empty if it may go on so.

        Its limits may be others than before: verdicts hold whenever one stops.
        """
        for name, title in (("first_seed", "seed"), ("metric", ""), ("margin", "")):
            before, now = getattr(known, name), getattr(self, name)
            if before != now:
                return f"{title or f'hydra.sweeper.{name}'}={before}, not {now}"
        for mine, theirs in zip(self.groups, known.groups, strict=False):
            if mine != theirs:
                return f"{typed(theirs)}, not {typed(mine)}"
        if len(self.groups) != len(known.groups):
            return f"{len(known.groups)} groups, not {len(self.groups)}"
        return ""

    @property
    def by(self) -> list[str]:
        """Return the factors that tell the groups apart, as for `actsweep compare --by`."""
        return factors_of(self.groups[0])

    def _seeds(self) -> list[int]:
        """Return the number of seeds of each group so far."""
        seeds = [0] * len(self.groups)
        for trial in self.trials:
            seeds[self._group_of(trial)] += 1
        return seeds

    def _group_of(self, trial: Trial) -> int:
        return self.groups.index({k: v for k, v in trial.params.items() if k != "seed"})

    def _compare(self, plan: Plan) -> "Comparison | None":
        """Return the comparison of all runs so far; None if no run is complete."""
        from actsweep.report.compare import compare
        from actsweep.report.design import gather

        entries = gather([plan.folder])
        if not any(entry.state == "complete" for entry in entries):
            return None
        return compare(entries, self.by, self.metric, self.margin)

    def _targets(self, plan: Plan, ended: Mapping[str, Result]) -> dict[int, int]:
        comparison = self._compare(plan)
        if comparison is None:
            return {}
        groups: dict[Label, int] = {}
        for trial in self.trials:
            for run_id in trial.runs:
                groups[comparison.design.labels[run_id]] = self._group_of(trial)
        seeds, failed = self._seeds(), self._failed(ended)
        trained = {label: seeds[group] for label, group in groups.items()}
        pairs = {
            pair: answer
            for pair, answer in comparison.pairs.items()
            if not {groups[label] for label in pair} & failed
        }
        targets = race.seeds_next(pairs, trained, self.rules)
        return {groups[label]: target for label, target in targets.items()}

    def _failed(self, ended: Mapping[str, Result]) -> set[int]:
        """Return the groups of which a run has failed: more seeds of them would fail, too."""
        return {
            self._group_of(trial)
            for trial in self.trials
            if not trial.runs or any(ended[run]["state"] == "failed" for run in trial.runs)
        }

    def _spent(self, ended: Mapping[str, Result]) -> bool:
        spent = sum(float(result.get("seconds") or 0) for result in ended.values())
        return self.budget is not None and spent >= self.budget

    def _why(self, plan: Plan, ended: Mapping[str, Result]) -> str:
        if self._spent(ended):
            return "hydra.sweeper.budget is spent"
        if failed := self._failed(ended):
            return f"{', '.join(typed(self.groups[group]) for group in sorted(failed))} failed"
        return f"hydra.sweeper.seeds={self.rules.seeds}"


def read(folder: Path) -> Race | None:
    """Return the race in a sweep's folder; None if there is none.

    Raises:
        UserError: it can't be read, or the folder holds something else.
    """
    path, whole = folder / SEARCH_FILE, read_plain(folder, "race")
    if whole is None:
        return None
    try:
        plain = whole["race"]
        return Race(
            **{
                **plain,
                "groups": tuple(plain["groups"]),
                "rules": Rules(**plain["rules"]),
                "trials": trials_of(plain["trials"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path}: can't be read as a race ({error}); type another hydra.sweep.dir"
        ) from error


def seconds_of(budget: object) -> float | None:
    """Return a budget such as `2h`, `90m` or `1.5d` in seconds; None for none.

    Raises:
        UserError: it isn't a duration.
    """
    if budget is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d*)?)([smhd])", str(budget))
    if not match or not float(match[1]):
        raise bad_value(
            "hydra.sweeper.budget",
            budget,
            "a duration in s, m, h or d",
            "hydra.sweeper.budget=2h",
        )
    return float(match[1]) * UNITS[match[2]]
