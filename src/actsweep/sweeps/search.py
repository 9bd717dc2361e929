"""A search in a sweep's folder: what Optuna was asked for, and what it was told. No jax.

`search.json` holds the space and every suggestion with its runs. From these and the runs' results
all else follows, so a search that was interrupted suggests what it would have suggested anyway.
`study.log` is the same as an Optuna study, for Optuna's own tools.
"""

import contextlib
import hashlib
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from actsweep.stats.scores import SCORES, TASKS, task_in
from actsweep.sweeps.plan import SEARCH_FILE, STUDY_FILE
from actsweep.sweeps.pruning import (
    COMPLETE,
    DIVERGED,
    FAILED,
    PRUNED,
    STUDY,
    Curve,
    Pruner,
    quiet,
)
from actsweep.utils import files
from actsweep.utils.errors import UserError

SAMPLERS = ("tpe", "random", "sobol")
DIGITS = 6
"""Significant digits of a suggested number."""
ALL_DIGITS = 12
"""Those of a number in a range, which its steps decide: without what sums in float64 add."""
KINDS = {"space": "search", "race": "race", "tuning": "tuning"}
"""What a sweep is, by a key that `search.json` then has."""

Value = str | int | float
Params = dict[str, Value]


@dataclass(frozen=True)
class Parameter:
    """What may be suggested for a config key: one of `choices`, or a number in `[low, high]`.

    Attributes:
        choices: words, as typed; empty for a number.
        low, high: the bounds, both included.
        log: whether the logarithm is searched evenly.
        step: the distance between two numbers; None for any number, 1 for whole ones.
    """

    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None

    @property
    def ends(self) -> list[Value]:
        """Return values that between them show whether the parameter can be typed."""
        return [*self.choices] if self.choices else list(dict.fromkeys([self.low, self.high]))

    def shown(self, value: Value) -> Value:
        """Return a suggested value as it is typed: a number with `DIGITS` digits, in its bounds.

        One of a range has as many digits as that takes: Optuna refuses what lies between its steps.
        """
        if not isinstance(value, float):
            return value
        digits = DIGITS if self.step is None else ALL_DIGITS
        return min(max(float(f"{value:.{digits}g}"), self.low), self.high)

    def distribution(self) -> Any:
        """Return Optuna's distribution."""
        from optuna import distributions as kinds

        if self.choices:
            return kinds.CategoricalDistribution(self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            step = 1 if self.step is None else int(self.step)
            return kinds.IntDistribution(self.low, self.high, log=self.log, step=step)
        return kinds.FloatDistribution(self.low, self.high, log=self.log, step=self.step)


Space = Mapping[str, Parameter]  # by config key


@dataclass(frozen=True)
class Trial:
    """One suggestion, and the runs that it became: one a seed; none if it was refused."""

    params: Params
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a suggestion ended.

    Attributes:
        state: `complete`, `diverged` or `pruned` (one of its runs was), or `failed`.
        value: the mean over its runs of the task's own score in validation, at the best epoch.
        score: what the score is called, such as `accuracy`.
        steps: where runs may be pruned, the mean over its runs after each epoch that all have.
    """

    state: str
    value: float | None = None
    score: str | None = None
    steps: tuple[float, ...] = ()


@dataclass(frozen=True)
class Search:
    """A search: what is searched, how, and what was suggested so far.

    Attributes:
        space, sampler, seed: what suggests.
        trials: what was suggested.
        pruner: what ends runs on the way, if anything; only then there are the others.
        batches: the number of the first trial of each batch.
        curves: of the runs that have ended, by id.
    """

    space: Space
    sampler: str
    seed: int
    trials: tuple[Trial, ...] = ()
    pruner: Pruner | None = None
    batches: tuple[int, ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """Return what tells a search that prunes from others in its folder, before or after it.

        It is the same for two that begin alike, and so prune alike; empty if it prunes nothing.
        """
        if not self.pruner:
            return ""
        first = self.trials[: self.batches[1] if len(self.batches) > 1 else None]
        of: list[Any] = [
            asdict(self.pruner),
            {key: asdict(each) for key, each in self.space.items()},
        ]
        of += [self.sampler, self.seed, [asdict(trial) for trial in first]]
        return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]

    def write(self, folder: Path) -> None:
        """Write `search.json`."""
        space = {key: asdict(each) for key, each in self.space.items()}
        trials = [asdict(trial) for trial in self.trials]
        plain = {"space": space, "sampler": self.sampler, "seed": self.seed, "trials": trials}
        if self.pruner:
            curves = {run_id: asdict(curve) for run_id, curve in self.curves.items()}
            plain |= {"pruner": asdict(self.pruner), "batches": self.batches, "curves": curves}
        files.write_json(folder / SEARCH_FILE, plain)

    def and_then(self, trials: Sequence[Trial]) -> "Search":
        """Return the search with further suggestions."""
        batches = (*self.batches, len(self.trials)) if self.pruner else ()
        return replace(self, trials=(*self.trials, *trials), batches=batches)


def check_installed() -> None:
    """Check that Optuna is there.

    Raises:
        UserError: it isn't.
    """
    if not find_spec("optuna"):
        raise UserError(
            'hydra/sweeper=optuna: needs the package optuna; type pip install "actsweep[optuna]"'
        )


def typed(params: Params) -> str:
    """Return parameters as they are typed."""
    return " ".join(f"{key}={value}" for key, value in params.items())


def factors_of(params: Params) -> list[str]:
    """Return what tells groups apart that are typed as these parameters, for `compare --by`."""
    names = {"depth.width": "depth.widths"}  # in a run the widths of all its layers
    return list(dict.fromkeys(names.get(key, re.sub(r"^act\..*", "act", key)) for key in params))


def kind_of(folder: Path) -> str | None:
    """Return what a sweep is, one of `KINDS`; None for one that doesn't grow.

    Raises:
        UserError: its `search.json` can't be read.
    """
    path = folder / SEARCH_FILE
    try:
        plain = json.loads(path.read_text())
        return next(key for key in KINDS if key in plain)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, StopIteration) as error:
        raise UserError(f"{path}: can't be read ({error}); type another hydra.sweep.dir") from error


def read_plain(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the contents of `search.json`, None if there is none.

    Args:
        folder: the sweep's.
        key: one of `KINDS`: what the sweep should be.

    Raises:
        UserError: it can't be read, or the sweep is of another kind.
    """
    kind = kind_of(folder)
    if kind is None:
        return None
    if kind != key:
        raise UserError(f"{folder.name}: holds a {KINDS[kind]}; type another hydra.sweep.dir")
    plain: dict[str, Any] = json.loads((folder / SEARCH_FILE).read_text())
    return plain


def space_of(plain: Mapping[str, Any]) -> dict[str, Parameter]:
    """Return a space from plain values, as `asdict` makes them."""
    return {
        key: Parameter(**{**each, "choices": tuple(each["choices"])}) for key, each in plain.items()
    }


def trials_of(plain: Sequence[Mapping[str, Any]]) -> tuple[Trial, ...]:
    """Return trials from plain values, as `asdict` makes them."""
    return tuple(Trial(each["params"], tuple(each["runs"])) for each in plain)


def read(folder: Path) -> Search | None:
    """Return the search in a sweep's folder; None if there is none.

    Raises:
        UserError: it can't be read, or the folder holds something else.
    """
    path, plain = folder / SEARCH_FILE, read_plain(folder, "space")
    if plain is None:
        return None
    try:
        trials = trials_of(plain["trials"])
        search = Search(space_of(plain["space"]), plain["sampler"], plain["seed"], trials)
        if "pruner" not in plain:
            return search
        curves = {run_id: _curve_of(each) for run_id, each in plain["curves"].items()}
        pruner, batches = Pruner(**plain["pruner"]), tuple(plain["batches"])
        return replace(search, pruner=pruner, batches=batches, curves=curves)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: can't be read ({error}); type another hydra.sweep.dir") from error


def token_in(folder: Path) -> str:
    """Return the token of the search that prunes in a sweep's folder; empty if there is none.

    That is so, too, where its `search.json` can't be read: what it has pruned counts as cut short.
    """
    with contextlib.suppress(UserError):
        search = read(folder) if kind_of(folder) == "space" else None
        return search.token if search else ""
    return ""


def _curve_of(plain: Mapping[str, Any]) -> Curve:
    values = (math.nan if value is None else float(value) for value in plain["values"])
    return Curve(plain["state"], tuple(values))


def ask(search: Search, outcomes: Sequence[Outcome], count: int) -> list[Params]:
    """Return the next suggestions; the same whenever the search and its outcomes are the same.

    Each has a sampler of its own, seeded by the search's seed and the suggestion's number. TPE
    (Bergstra et al., 2011, *Algorithms for hyper-parameter optimization*) takes what is still open
    for bad, so that a batch spreads; what diverged is worse than all that didn't.

    Args:
        search: with every suggestion so far.
        outcomes: how each of them ended.
        count: how many.
    """
    import optuna

    with quiet():
        space = {key: each.distribution() for key, each in search.space.items()}
        study = optuna.create_study(direction=_direction(outcomes))
        if search.sampler == "sobol":
            suggestions = _sobol(study, space, search.seed, len(search.trials), count)
        else:
            study.add_trials(_frozen(search, outcomes))
            suggestions = []
            for number in range(len(search.trials), len(search.trials) + count):
                study.sampler = _sampler(search, number)
                suggestions.append(study.ask(space).params)
    return [
        {key: search.space[key].shown(value) for key, value in params.items()}
        for params in suggestions
    ]


def _sampler(search: Search, number: int) -> Any:
    import numpy as np
    from optuna import samplers

    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    if search.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    return samplers.TPESampler(seed=seed, constant_liar=True)


def _sobol(study: Any, space: Mapping[str, Any], seed: int, first: int, count: int) -> list[Params]:
    """Return points of the scrambled Sobol sequence; they depend on no outcome.

    Optuna takes the space from a trial that is there, and would draw the first one at random.
    """
    from optuna import samplers
    from optuna.trial import TrialState, create_trial

    study.sampler = samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=seed)
    some = {
        key: each.choices[0] if hasattr(each, "choices") else each.low
        for key, each in space.items()
    }
    study.add_trial(create_trial(state=TrialState.RUNNING, params=some, distributions=dict(space)))
    return [study.ask(dict(space)).params for _ in range(first + count)][first:]


def outcome_of(
    trial: Trial,
    results: Mapping[str, Mapping[str, Any]],
    curves: Mapping[str, Curve] | None = None,
) -> Outcome:
    """Return how a suggestion ended, by the results of its runs, all of which have ended.

    Of a search that prunes, the runs' curves say how these ended for it.
    """
    ended = [results[run_id] for run_id in trial.runs]
    states = [result["state"] for result in ended]
    seen = [curves[run_id] for run_id in trial.runs] if curves else []
    if seen:
        states = [curve.state for curve in seen]
    steps = tuple(map(statistics.fmean, zip(*(curve.values for curve in seen), strict=False)))
    scores = {TASKS[task_in(result)].own for result in ended}
    if DIVERGED in states and FAILED not in states:
        return Outcome(DIVERGED)
    if PRUNED in states and FAILED not in states and len(scores) == 1:
        return Outcome(PRUNED, score=scores.pop(), steps=steps)
    values = [result.get(f"best_val_{score}") for result in ended for score in scores]
    known = [float(value) for value in values if value is not None]
    if len(scores) != 1 or len(known) < len(ended) or {*states} != {COMPLETE}:
        return Outcome(FAILED)
    return Outcome(COMPLETE, statistics.fmean(known), scores.pop(), steps)


def best_of(outcomes: Sequence[Outcome]) -> int | None:
    """Return the number of the best suggestion, the first of equal ones; None if none is done."""
    done = [number for number, each in enumerate(outcomes) if each.value is not None]
    return max(done, key=lambda number: (_goodness(outcomes[number]), -number), default=None)


def _goodness(outcome: Outcome) -> float:
    assert outcome.value is not None
    assert outcome.score is not None
    return SCORES[outcome.score].sign * outcome.value


def _direction(outcomes: Sequence[Outcome]) -> Literal["minimize", "maximize"]:
    """Return Optuna's direction, which follows from the task; before any score either will do."""
    signs = [SCORES[each.score].sign for each in outcomes if each.score]
    return "minimize" if signs and signs[0] < 0 else "maximize"


def _frozen(search: Search, outcomes: Sequence[Outcome]) -> list[Any]:
    """Return the suggestions with their outcomes as Optuna's trials.

    What was pruned is a pruned one, for TPE the worse the sooner; what diverged is one without any
    value, which is worse still. What failed tells nothing.
    """
    from optuna.trial import TrialState, create_trial

    states = {
        COMPLETE: TrialState.COMPLETE,
        DIVERGED: TrialState.PRUNED,
        PRUNED: TrialState.PRUNED,
        FAILED: TrialState.FAIL,
    }
    space = {key: each.distribution() for key, each in search.space.items()}
    return [
        create_trial(
            state=states[outcome.state],
            value=outcome.value,
            params=dict(trial.params),
            distributions=space,
            intermediate_values=dict(enumerate(outcome.steps, 1)),
            user_attrs={"runs": [*trial.runs], "score": outcome.score},
        )
        for trial, outcome in zip(search.trials, outcomes, strict=True)
    ]


def write_study(folder: Path, search: Search, outcomes: Sequence[Outcome]) -> None:
    """Bring `study.log` up to date: an Optuna study in a journal file, named `search`.

    It is made anew where it isn't a study of what came first, as after a retry.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path, trials = folder / STUDY_FILE, _frozen(search, outcomes)
    if not any(outcome.score for outcome in outcomes):  # the direction isn't known yet
        return
    with quiet():
        known = _known(path) if path.exists() else []
        if known is None or [_key(trial) for trial in trials[: len(known)]] != known:
            files.remove(path)
            known = []
        storage = JournalStorage(JournalFileBackend(str(path)))
        study = optuna.create_study(
            storage=storage,
            study_name=STUDY,
            direction=_direction(outcomes),
            load_if_exists=True,
        )
        study.add_trials(trials[len(known) :])


def _known(path: Path) -> list[Any] | None:
    """Return the keys of the trials in a journal; None if it can't be read."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if not path.read_bytes().endswith(b"\n"):  # a line was cut off: the next would be joined to it
        return None
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        return [*map(_key, optuna.load_study(study_name=STUDY, storage=storage).trials)]
    except Exception:  # not a journal, or one of another version: JSON's errors, KeyError, …
        return None


def _key(trial: Any) -> tuple[Any, ...]:
    return trial.state, trial.value, trial.params, trial.intermediate_values
