"""A tuning as a strategy: settings in validation, then fresh seeds at the best. No jax."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from actsweep.launch.job import count
from actsweep.sweeps.plan import Plan, name_of
from actsweep.sweeps.results import Result
from actsweep.sweeps.search import Params, Trial, typed
from actsweep.sweeps.tuning import Tuning


@dataclass(frozen=True)
class Tune:
    """A tuning that is trained.

    Attributes:
        tuning: what is asked for, and was so far.
    """

    tuning: Tuning

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Return every run that was asked for so far."""
        return self.tuning.trials

    def and_then(self, trials: Sequence[Trial]) -> "Tune":
        """Return it with further runs."""
        return Tune(replace(self.tuning, trials=(*self.trials, *trials)))

    def ask(self, plan: Plan | None, ended: Mapping[str, Result]) -> list[Params]:
        """Return the next round, which is the first of these that lacks runs.

        Every group with every setting and choosing seed; further settings, where a group is best
        at an edge; each group's best with fresh seeds. What was chosen once stays chosen: no range
        grows after the first fresh seed.
        """
        tuning = self.tuning
        if plan is None:
            return self._choosing(tuning.first_settings())
        if lacking := self._lacking(self._choosing(tuning.settings)):
            return lacking
        if tuning.failed(ended):
            return []
        if further := self._further(ended):
            return self._choosing(further)
        return self._fresh(ended)

    def standing(self, plan: Plan, ended: Mapping[str, Result]) -> str:
        """Return how many runs there are, in how many settings."""
        tuning = self.tuning
        runs = {run for trial in tuning.trials for run in trial.runs}
        text = (
            f"tuning: {count(len(runs), 'run')} of {count(len(tuning.groups), 'group')}, "
            f"{count(len(tuning.settings), 'setting')} each"
        )
        if more := len(tuning.settings) - len(tuning.first_settings()):
            text += f", {more} of them beyond the edge at which some group was best"
        if failed := tuning.failed(ended):
            text += (
                f"; {count(len(failed), 'run')} failed, so nothing is chosen: "
                f"actsweep retry {name_of(plan.folder)}"
            )
        return text

    def conclusion(self, plan: Plan, ended: Mapping[str, Result]) -> str:
        """Return the verdicts of the fresh seeds, and what tuning has shown."""
        from actsweep.report.tuned import tuned_text

        standing = self.standing(plan, ended)
        if self.tuning.failed(ended):
            return standing
        if not self.tuning.chosen(ended):
            return f"{standing}; all of them diverged, so nothing could be chosen"
        return f"\n{tuned_text([plan.folder])}{standing}"

    def write(self, folder: Path) -> None:
        """Write the tuning as JSON."""
        self.tuning.write(folder)

    def record(self, plan: Plan, ended: Mapping[str, Result]) -> "Tune":
        """Return the same and write nothing: all answers are made of the runs."""
        return self

    def differs(self, known: Tuning) -> str:
        """Return in what this tuning differs from one that has begun; empty if it may go on so.

        More seeds may be added, and the budget be another: the verdicts hold however often one
        looks.
        """
        tuning = self.tuning
        named = {"first": "seed", "fresh": "tune.fresh", "size": "tune.trials"}
        for name, title in {**named, "grow": "tune.grow", "seed": "hydra.sweeper.seed"}.items():
            before, now = getattr(known, name), getattr(tuning, name)
            if before != now:
                return f"{title}={before}, not {now}"
        for before, now in zip(known.groups, tuning.groups, strict=False):
            if before != now:
                return f"{typed(before)}, not {typed(now)}"
        if len(known.groups) != len(tuning.groups):
            return f"{len(known.groups)} groups, not {len(tuning.groups)}"
        if dict(known.space) != dict(tuning.space):
            return f"{known.protocol.text}, not {tuning.protocol.text}"
        return ""

    def _choosing(self, settings: Sequence[Params]) -> list[Params]:
        return [
            {**group, **setting, "seed": seed}
            for group in self.tuning.groups
            for setting in settings
            for seed in self.tuning.choosing_seeds
        ]

    def _fresh(self, ended: Mapping[str, Result]) -> list[Params]:
        """Return the fresh runs that are lacking, whatever their setting would be by now."""
        tuning = self.tuning
        known = {
            (tuning.group_of(trial), trial.params["seed"])
            for trial in filter(tuning.is_fresh, tuning.trials)
        }
        return [
            {**tuning.groups[group], **setting, "seed": tuning.fresh_seed(seed)}
            for group, settings in tuning.chosen(ended).items()
            for seed, setting in zip(tuning.tuned_seeds, settings, strict=True)
            if (group, tuning.fresh_seed(seed)) not in known
        ]

    def _lacking(self, asked: Sequence[Params]) -> list[Params]:
        known = {frozenset(trial.params.items()) for trial in self.trials}
        return [params for params in asked if frozenset(params.items()) not in known]

    def _further(self, ended: Mapping[str, Result]) -> list[Params]:
        """Return the settings by which ranges grow; none once it was chosen, or beyond the budget.

        Every group gets them, whichever was at the edge: all have the same number of trials, and
        the same settings.
        """
        tuning = self.tuning
        if any(map(tuning.is_fresh, tuning.trials)):
            return []
        further = tuning.further_settings(tuning.edges(tuning.scores(ended)))
        runs = len(tuning.tuned_seeds) * (len(tuning.settings) + len(further) + 1)
        return [] if tuning.budget is not None and runs > tuning.budget else further
