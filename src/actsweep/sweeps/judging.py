"""Runs of a search that prunes: who is judged by which curves, and what became of them. No jax."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from actsweep.runs.members import Member
from actsweep.stats.scores import SCORES, TASKS, task_in
from actsweep.sweeps import search as searches
from actsweep.sweeps.pruning import COMPLETE, DIVERGED, FAILED, PRUNED, Curve, Judge
from actsweep.sweeps.results import Result
from actsweep.sweeps.search import Search
from actsweep.utils.errors import UserError

LAST = 2**62
"""A step after all others."""


class Judges:
    """Makers of the judges of a search's runs, from what `search.json` knows.

    It is written before a batch is trained and doesn't change meanwhile, so every process that
    trains a part of the batch, also one that goes on, comes to the same decisions.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._first_of: dict[str, tuple[int, int]] = {}  # run -> its first trial, and place there
        for number, trial in enumerate(search.trials):
            for place, run_id in enumerate(trial.runs):
                self._first_of.setdefault(run_id, (number, place))

    @property
    def token(self) -> str:
        """Return the search's token."""
        return self._search.token

    def __call__(self, run_id: str, sign: int) -> Judge | None:
        """Return a judge that has been told nothing yet; None for a run that isn't judged.

        Args:
            run_id: the run.
            sign: as for `Judge`.
        """
        search, pruner = self._search, self._search.pruner
        if pruner is None or run_id not in self._first_of:
            return None
        number, place = self._first_of[run_id]
        before = max(first for first in search.batches if first <= number)
        if not before:
            return None
        earlier = [
            search.curves.get(trial.runs[place], Curve(FAILED))
            if place < len(trial.runs)
            else Curve(FAILED)
            for trial in search.trials[:before]
        ]
        return Judge(pruner, number, earlier, sign)


def judges_in(folder: Path) -> Judges | None:
    """Return the judges of a sweep's runs; None if it isn't a search that prunes.

    Raises:
        UserError: its `search.json` can't be read.
    """
    if searches.kind_of(folder) != "space":
        return None
    search = searches.read(folder)
    return Judges(search) if search and search.pruner else None


def with_curves(
    search: Search, members: Mapping[str, Member], ended: Mapping[str, Result]
) -> Search:
    """Return a search that prunes with the curves of all its runs, each of which has ended.

    A curve is known for good once its run has ended well. One that another sweep trains further
    meanwhile, or has trained to its end before, counts as far as the pruner would have let it.

    Args:
        search: with all its trials.
        members: the runs, by id.
        ended: their results, by id.
    """
    for run_id in dict.fromkeys(run_id for trial in search.trials for run_id in trial.runs):
        known = search.curves.get(run_id)
        if known is None or known.state in (FAILED, DIVERGED):
            curve = _curve(Judges(search), members[run_id], ended[run_id])
            search = replace(search, curves={**search.curves, run_id: curve})
    return search


def _curve(judges: Judges, member: Member, result: Result) -> Curve:
    """Return a run's curve, which ends where the pruner ends it.

    A row is judged if its run trained on after it, as during training.
    """
    # It needs NumPy, which bad input is answered without.
    from actsweep.runs.metrics_file import read_rows

    state, score = result["state"], TASKS[task_in(result)].own
    try:
        rows = read_rows(member.dir.metrics, LAST) if state != FAILED else []
    except (OSError, UserError):
        rows = []
    scored = [row for row in rows if row.step and f"val/{score}" in row.scalars]
    if not scored:
        return Curve(state if state == DIVERGED else FAILED)
    values = tuple(row.scalars[f"val/{score}"] for row in scored)
    ends = state in (COMPLETE, DIVERGED) and scored[-1] is rows[-1]
    judge = judges(member.run_id, SCORES[score].sign)
    for row in scored[: len(scored) - ends] if judge else ():
        if judge and judge(round(row.epoch), row.scalars[f"val/{score}"]):
            return Curve(PRUNED, values[: round(row.epoch)])
    return Curve(state, values)
