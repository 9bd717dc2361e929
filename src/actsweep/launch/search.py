"""A search, batch after batch: ask, train, tell, until there are enough trials. No jax."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from actsweep.config.overrides import as_typed
from actsweep.launch.finish import finish
from actsweep.launch.job import End, count
from actsweep.runs.leases import Leases
from actsweep.runs.members import Member
from actsweep.runtime.process import Process
from actsweep.sweeps import results as sweep_results
from actsweep.sweeps import search as searches
from actsweep.sweeps.plan import SEARCHING, Plan, new_plan
from actsweep.sweeps.results import Result
from actsweep.sweeps.search import Outcome, Params, Search, Trial
from actsweep.utils.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Suggested:
    """The runs of one suggestion, one a seed, and what each would be typed as."""

    members: tuple[Member, ...]
    overrides: tuple[list[str], ...]


@dataclass(frozen=True)
class Steps:
    """What a search does in its batches.

    Attributes:
        folder: the sweep's.
        trials: suggestions in all.
        batch: suggestions that are trained at once.
        compose: from suggestions to their runs, or why one is refused.
        pack: from runs to packs.
        begin: checks and freezes the sweep, before its first batch is trained.
        train: trains what a plan has left; its second argument gets the results.
    """

    folder: Path
    trials: int
    batch: int
    compose: Callable[[Sequence[Params]], Sequence[Suggested | UserError]]
    pack: Callable[[Sequence[Member]], Iterable[list[Member]]]
    begin: Callable[[Plan], None]
    train: Callable[[Plan, End], int]


class SearchTaken(UserError):
    """Another process goes on with the search: nothing of it is this one's to discard."""


def go_on(steps: Steps, search: Search, plan: Plan | None, process: Process) -> int:
    """Train a search to its end, from wherever it stands; return the exit code.

    Raises:
        UserError: every run of the first batch was refused.
        SearchTaken: another process goes on with it.
    """
    steps.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(steps.folder / SEARCHING, timeout=0):
            if plan is None:
                search, plan = _extended(steps, search, None, [])
                steps.begin(plan)
            search.write(steps.folder)
            # So that `actsweep status` shows between two batches, too, that a process goes on.
            with Leases(plan.outputs, plan.folder.name):
                return _batches(steps, search, plan, process)
    except Timeout as error:
        name = steps.folder.name
        raise SearchTaken(
            f"{name}: another process trains this search; wait for it, or stop it"
        ) from error


def _batches(steps: Steps, search: Search, plan: Plan, process: Process) -> int:
    while True:
        ended: dict[str, Result] = {}
        code = steps.train(plan, _noting(ended))
        if not ended:  # SLURM's jobs go on, and nobody waits for them
            return code
        if any(result["state"] in ("preempted", "running") for result in ended.values()):
            return finish(plan, [*ended.values()], process.stop.asked)
        outcomes = [searches.outcome_of(trial, ended) for trial in search.trials]
        searches.write_study(steps.folder, search, outcomes)
        if len(search.trials) >= steps.trials or sweep_results.failed_run(plan):
            code = finish(plan, [*ended.values()], process.stop.asked)
            print(_standing(search, outcomes, steps.trials), flush=True)
            return code
        log.info("%s", _standing(search, outcomes, steps.trials))
        search, plan = _extended(steps, search, plan, outcomes)
        plan.write()
        search.write(steps.folder)


def _noting(ended: dict[str, Result]) -> End:
    """Return what keeps the results of all runs for the search, and says nothing."""

    def end(plan: Plan, results: Sequence[Result], asked: object) -> int:
        del plan, asked
        if all("refused" in result for result in results):
            raise UserError(results[0]["refused"])
        ended.update({result["run_id"]: result for result in results})
        return sweep_results.exit_code([result["state"] for result in results])

    return end


def first_batch(steps: Steps, search: Search) -> list[list[Member]]:
    """Return the packs of a search's first batch; nothing is written.

    Raises:
        UserError: a suggestion is refused.
    """
    return _extended(steps, search, None, [])[1].packs


def _extended(
    steps: Steps, search: Search, plan: Plan | None, outcomes: Sequence[Outcome]
) -> tuple[Search, Plan]:
    """Return the search and its plan with the next batch, neither of them written."""
    wanted = min(steps.batch, steps.trials - len(search.trials))
    asked = searches.ask(search, outcomes, wanted)
    known = dict(plan.runs) if plan else {}
    trials, fresh, overrides = [], dict[str, Member](), dict[str, list[str]]()
    for params, made in zip(asked, steps.compose(asked), strict=True):
        if isinstance(made, UserError):
            if plan is None:
                raise made
            log.warning("search: %s; this suggestion is left out", made)
            trials.append(Trial(params, ()))
            continue
        trials.append(Trial(params, tuple(member.run_id for member in made.members)))
        for member, words in zip(made.members, made.overrides, strict=True):
            if member.run_id not in known:
                fresh[member.run_id], overrides[member.run_id] = member, words
    packs = [*steps.pack([*fresh.values()])]
    if plan is None:
        return search.and_then(trials), new_plan(steps.folder, packs, overrides)
    return search.and_then(trials), plan.extended(packs, overrides)


def _standing(search: Search, outcomes: Sequence[Outcome], wanted: int) -> str:
    """Return how many trials have ended, and which is the best."""
    text, best = f"search: {len(outcomes)} of {count(wanted, 'trial')}", searches.best_of(outcomes)
    if best is None:
        return f"{text}, none complete"
    outcome, params = outcomes[best], search.trials[best].params
    words = " ".join(as_typed([f"{key}={value}" for key, value in params.items()]))
    return f"{text}, best val/{outcome.score} {outcome.value:.4g}: {words}"
