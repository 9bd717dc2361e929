"""A sweep that grows by its results, batch after batch: ask, train, tell, to its end. No jax."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from filelock import FileLock, Timeout

from actsweep.config.overrides import as_typed
from actsweep.launch.finish import finish
from actsweep.launch.job import End, count
from actsweep.runs.leases import Leases
from actsweep.runs.members import Member
from actsweep.runtime.process import Process
from actsweep.sweeps import results as sweep_results
from actsweep.sweeps import search as searches
from actsweep.sweeps.judging import with_curves
from actsweep.sweeps.plan import SEARCHING, Plan, new_plan
from actsweep.sweeps.pruning import PRUNED
from actsweep.sweeps.results import Result
from actsweep.sweeps.search import Outcome, Params, Search, Trial
from actsweep.utils.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Suggested:
    """The runs of one suggestion, one a seed, and what each would be typed as."""

    members: tuple[Member, ...]
    overrides: tuple[list[str], ...]


class Strategy(Protocol):
    """What decides which runs come next, such as a search or a race.

    It is asked again in a process that goes on, with the same results: its answers depend on
    nothing else.
    """

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Return everything that was asked for so far."""

    def and_then(self: "S", trials: Sequence[Trial]) -> "S":
        """Return it with further trials."""

    def ask(self, plan: Plan | None, ended: Mapping[str, Result]) -> list[Params]:
        """Return the next trials; none if it has come to its end. `plan` is None at first."""

    def standing(self, plan: Plan, ended: Mapping[str, Result]) -> str:
        """Return what is known by now, in a line."""

    def conclusion(self, plan: Plan, ended: Mapping[str, Result]) -> str:
        """Return what is known at the end."""

    def write(self, folder: Path) -> None:
        """Write into the sweep's folder what a process needs that goes on."""

    def record(self: "S", plan: Plan, ended: Mapping[str, Result]) -> "S":
        """Return it as it is now that all runs have ended; what others may want to know is written.

        That is in the sweep's folder.
        """


S = TypeVar("S", bound=Strategy)


@dataclass(frozen=True)
class Suggesting:
    """A search of Optuna's as a strategy.

    Attributes:
        search: what was suggested so far.
        wanted: suggestions in all.
        batch: suggestions that are trained at once.
    """

    search: Search
    wanted: int
    batch: int

    @property
    def trials(self) -> tuple[Trial, ...]:
        return self.search.trials

    def and_then(self, trials: Sequence[Trial]) -> "Suggesting":
        return replace(self, search=self.search.and_then(trials))

    def ask(self, plan: Plan | None, ended: Mapping[str, Result]) -> list[Params]:
        wanted = min(self.batch, self.wanted - len(self.trials))
        outcomes = self._outcomes(ended)
        return searches.ask(self.search, outcomes, wanted) if wanted > 0 else []

    def standing(self, plan: Plan, ended: Mapping[str, Result]) -> str:
        """Return how many trials have ended, were pruned, and which is the best."""
        outcomes = self._outcomes(ended)
        text = f"search: {len(outcomes)} of {count(self.wanted, 'trial')}"
        if self.search.pruner:
            text += f", {sum(each.state == PRUNED for each in outcomes)} pruned"
        best = searches.best_of(outcomes)
        if best is None:
            return f"{text}, none complete"
        outcome, params = outcomes[best], self.trials[best].params
        words = " ".join(as_typed([f"{key}={value}" for key, value in params.items()]))
        return f"{text}, best val/{outcome.score} {outcome.value:.4g}: {words}"

    def conclusion(self, plan: Plan, ended: Mapping[str, Result]) -> str:
        """Return the same at the end."""
        return self.standing(plan, ended)

    def write(self, folder: Path) -> None:
        self.search.write(folder)

    def record(self, plan: Plan, ended: Mapping[str, Result]) -> "Suggesting":
        """Write `study.log`; where runs may be pruned, the search then knows their curves."""
        known = self
        if self.search.pruner:
            known = replace(self, search=with_curves(self.search, plan.runs, ended))
        searches.write_study(plan.folder, known.search, known._outcomes(ended))
        return known

    def _outcomes(self, ended: Mapping[str, Result]) -> list[Outcome]:
        """Return how each trial ended; before `record` of what was pruned nothing is known."""
        curves = self.search.curves if self.search.pruner else None
        return [searches.outcome_of(trial, ended, curves) for trial in self.trials]


@dataclass(frozen=True)
class Steps:
    """What is done in each batch.

    Attributes:
        folder: the sweep's.
        compose: from trials to their runs, or why one is refused.
        pack: from runs to packs.
        begin: checks and freezes the sweep, before its first batch is trained.
        train: trains what a plan has left; its second argument gets the results.
    """

    folder: Path
    compose: Callable[[Sequence[Params]], Sequence[Suggested | UserError]]
    pack: Callable[[Sequence[Member]], Iterable[list[Member]]]
    begin: Callable[[Plan], None]
    train: Callable[[Plan, End], int]


class Kept(UserError):
    """Bad input after a search or race has begun, here or elsewhere: its folder stays."""


def go_on(steps: Steps, strategy: Strategy, plan: Plan | None, process: Process) -> int:
    """Train a search or a race to its end, from wherever it stands; return the exit code.

    Raises:
        UserError: a run of the first batch is refused.
        Kept: another process goes on with it, or a later batch can't be asked for or trained.
    """
    steps.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(steps.folder / SEARCHING, timeout=0):
            if plan is None:
                strategy, plan = _extended(steps, strategy, None, strategy.ask(None, {}))
                steps.begin(plan)
            else:
                plan = _asked_for(plan, strategy)
                plan.write()
            strategy.write(steps.folder)
            # So that `actsweep status` shows between two batches, too, that a process goes on.
            with Leases(plan.outputs, plan.folder.name):
                return _batches(steps, strategy, plan, process)
    except Timeout as error:
        raise Kept(
            f"{steps.folder.name}: another process goes on with it; wait for it, or stop it"
        ) from error


def _asked_for(plan: Plan, strategy: Strategy) -> Plan:
    """Return a plan without a batch that its strategy doesn't know of: it will ask for it again.

    The process that planned it died before it had written all; its runs weren't begun.
    """
    known = {run_id for trial in strategy.trials for run_id in trial.runs}
    packs = [[member for member in pack if member.run_id in known] for pack in plan.packs]
    overrides = {run_id: words for run_id, words in plan.overrides.items() if run_id in known}
    return replace(plan, packs=[pack for pack in packs if pack], overrides=overrides)


def _batches(steps: Steps, strategy: Strategy, plan: Plan, process: Process) -> int:
    ended: dict[str, Result] = {}
    code = steps.train(plan, _noting(ended))
    try:
        while True:
            if not ended:  # SLURM's jobs go on, and nobody waits for them
                return code
            if any(result["state"] in ("preempted", "running") for result in ended.values()):
                return finish(plan, [*ended.values()], process.stop.asked)
            strategy = strategy.record(plan, ended)
            asked = [] if sweep_results.failed_run(plan) else strategy.ask(plan, ended)
            if not asked:
                strategy.write(steps.folder)
                code = finish(plan, [*ended.values()], process.stop.asked)
                print(strategy.conclusion(plan, ended), flush=True)
                return code
            log.info("%s", strategy.standing(plan, ended))
            strategy, plan = _extended(steps, strategy, plan, asked)
            plan.write()
            strategy.write(steps.folder)
            ended = {}
            code = steps.train(plan, _noting(ended))
    except UserError as error:
        raise Kept(str(error)) from error


def _noting(ended: dict[str, Result]) -> End:
    """Return what keeps the results of all runs for the strategy, and says nothing."""

    def end(plan: Plan, results: Sequence[Result], asked: object) -> int:
        del plan, asked
        if all("refused" in result for result in results):
            raise UserError(results[0]["refused"])
        ended.update({result["run_id"]: result for result in results})
        return sweep_results.exit_code([result["state"] for result in results])

    return end


def first_batch(steps: Steps, strategy: Strategy) -> list[list[Member]]:
    """Return the packs of a first batch; nothing is written.

    Raises:
        UserError: one of its runs is refused.
    """
    return _extended(steps, strategy, None, strategy.ask(None, {}))[1].packs


def _extended(
    steps: Steps, strategy: S, plan: Plan | None, asked: Sequence[Params]
) -> tuple[S, Plan]:
    """Return the strategy and its plan with the next batch, neither of them written."""
    known = dict(plan.runs) if plan else {}
    trials, fresh, overrides = [], dict[str, Member](), dict[str, list[str]]()
    for params, made in zip(asked, steps.compose(asked), strict=True):
        if isinstance(made, UserError):
            if plan is None:
                raise made
            log.warning("%s; what was suggested with it is left out", made)
            trials.append(Trial(params, ()))
            continue
        trials.append(Trial(params, tuple(member.run_id for member in made.members)))
        for member, words in zip(made.members, made.overrides, strict=True):
            if member.run_id not in known:
                fresh[member.run_id], overrides[member.run_id] = member, words
    packs = [*steps.pack([*fresh.values()])]
    if plan is None:
        return strategy.and_then(trials), new_plan(steps.folder, packs, overrides)
    return strategy.and_then(trials), plan.extended(packs, overrides)
