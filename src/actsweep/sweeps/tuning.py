"""A tuning in a sweep's folder: which settings each group is tried with, and with which seeds. No
jax.

Every seed is a tuning of its own. Its choosing seed trains each group with each setting; the best
in validation is trained once more, with its fresh seed, whose score is what counts.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actsweep.stats.scores import SCORES
from actsweep.sweeps.plan import SEARCH_FILE
from actsweep.sweeps.search import (
    COMPLETE,
    DIVERGED,
    FAILED,
    Outcome,
    Parameter,
    Params,
    Space,
    Trial,
    Value,
    kind_of,
    outcome_of,
    read_plain,
    space_of,
    trials_of,
)
from actsweep.utils import files
from actsweep.utils.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    Scores = Float[np.ndarray, "seeds settings"]

ENDED = (COMPLETE, DIVERGED, FAILED)
EDGE = 0.1
"""Share of a range at either end, at least 1 / trials, in which a best value makes it grow."""
STEP = 0.5
"""By which share of its first width, in the logarithm, a range grows."""

Results = Mapping[str, Mapping[str, Any]]
"""Results of runs by their ids; a run that isn't there hasn't ended."""


@dataclass(frozen=True)
class Protocol:
    """How groups were tuned, as far as sweeps must agree on it to be compared.

    Attributes:
        nuisance: the config paths that were tuned.
        text: the protocol in words.
    """

    nuisance: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Tuning:
    """A tuning of groups.

    Attributes:
        groups: what each is typed as, without the nuisance parameters and the seed.
        space: the nuisance parameters, each a range of numbers.
        size: settings of the first round, the same for every group.
        seeds: tunings of each group.
        first, fresh: the first choosing seed, and the first fresh one.
        grow: how often each end of a logarithmic range may move out.
        budget: runs of each group at most; None without a limit.
        seed: of the points.
        trials: what was asked for so far, each a single run.
    """

    groups: tuple[Params, ...]
    space: Space
    size: int
    seeds: int
    first: int = 0
    fresh: int = 1000
    grow: int = 2
    budget: int | None = None
    seed: int = 0
    trials: tuple[Trial, ...] = ()

    @property
    def protocol(self) -> Protocol:
        """Return how groups are tuned."""
        ends = sorted((key, each.low, each.high) for key, each in self.space.items())
        ranges = ", ".join(f"{key} {low:g} to {high:g}" for key, low, high in ends)
        grows = f", ranges may grow {self.grow} times" if self.grow else ""
        text = f"{ranges}: {self.size} trials for each seed{grows}"
        return Protocol(tuple(sorted(self.space)), text)

    @property
    def counted_seeds(self) -> int:
        """Return the number of tunings of each group, at most as many as the budget buys."""
        if self.budget is None:
            return self.seeds
        return max(len(self.tuned_seeds), min(self.seeds, bought(self)))

    @property
    def choosing_seeds(self) -> range:
        """Return the seeds by which settings are chosen."""
        return range(self.first, self.first + self.counted_seeds)

    def fresh_seed(self, choosing: int) -> int:
        """Return the fresh seed that belongs to a choosing one."""
        return choosing - self.first + self.fresh

    @property
    def settings(self) -> list[Params]:
        """Return the settings that were tried so far, in their order; at first none.

        Those that a key doesn't allow, and no group was trained with, don't count.
        """
        return self._settings_of(trial for trial in self.trials if trial.runs)

    def _settings_of(self, trials: Iterable[Trial]) -> list[Params]:
        tried = [self.setting_of(trial) for trial in trials if not self.is_fresh(trial)]
        return [dict(each) for each in dict.fromkeys(tuple(setting.items()) for setting in tried)]

    def setting_of(self, trial: Trial) -> Params:
        """Return a trial's nuisance parameters."""
        return {key: trial.params[key] for key in self.space}

    def group_of(self, trial: Trial) -> int:
        """Return the place of a trial's group."""
        nuisance = {"seed", *self.space}
        return self.groups.index({k: v for k, v in trial.params.items() if k not in nuisance})

    def is_fresh(self, trial: Trial) -> bool:
        """Return whether a trial is trained with a fresh seed, not to choose by."""
        seed = int(trial.params["seed"])
        return seed >= self.fresh if self.fresh > self.first else seed < self.first

    def first_settings(self) -> list[Params]:
        """Return the settings of the first round: points of a scrambled Sobol sequence."""
        return points(self.space, self.size, [self.seed])

    def ranges(self) -> dict[str, Parameter]:
        """Return the ranges, with what they have grown by."""
        return {key: self._grown(key, *steps) for key, steps in self._steps().items()}

    def further_settings(self, edges: Collection[tuple[str, int]]) -> list[Params]:
        """Return the settings by which ranges grow, as dense as the first ones.

        Args:
            edges: ends of ranges that are to move out: a nuisance parameter, and 0 for its lower,
                1 for its upper end. An end that may not move any more stays.
        """
        further: list[Params] = []
        now = self._steps()
        for (number, key), side in itertools.product(enumerate(self.space), (0, 1)):
            if (key, side) not in edges or not _grows(self.space[key]):
                continue
            if now[key][side] == self.grow:
                continue
            box = {other: self._grown(other, *now[other]) for other in self.space}
            volume = STEP * math.prod(1 + STEP * sum(now[k]) for k in self.space if k != key)
            inner = box[key]
            now[key] = (now[key][0] + (side == 0), now[key][1] + (side == 1))
            outer = self._grown(key, *now[key])
            low, high = (outer.low, inner.low) if side == 0 else (inner.high, outer.high)
            box[key] = replace(inner, low=low, high=high)
            count = math.ceil(self.size * volume)
            further += points(box, count, [self.seed, number, side, now[key][side]])
        return further

    def _steps(self) -> dict[str, tuple[int, int]]:
        """Return how often each range's lower and upper end have moved out, by what was tried."""
        steps = {}
        for key, each in self.space.items():
            steps[key] = (0, 0)
            if _grows(each):
                width = math.log(each.high / each.low) * STEP
                asked = self._settings_of(self.trials)
                tried = [math.log(float(setting[key])) for setting in asked]
                beyond = (
                    math.log(each.low) - min(tried, default=math.inf),
                    max(tried, default=-math.inf) - math.log(each.high),
                )
                low, high = (max(0, math.ceil(by / width - 1e-9)) if tried else 0 for by in beyond)
                steps[key] = (low, high)
        return steps

    def _grown(self, key: str, below: int, above: int) -> Parameter:
        each = self.space[key]
        if not _grows(each):
            return each
        factor = (each.high / each.low) ** STEP
        return replace(each, low=each.low / factor**below, high=each.high * factor**above)

    def edges(self, scores: Mapping[int, "Scores"]) -> set[tuple[str, int]]:
        """Return the ends of ranges at which some group is best, by its mean over seeds."""
        import numpy as np

        from actsweep.stats.tuning import choose

        found = set()
        settings, share = self.settings, max(EDGE, 1 / self.size)
        for table in scores.values():
            best = choose(np.mean(table, 0))
            for key, each in self.ranges().items() if best is not None else ():
                if not _grows(each):
                    continue
                width = math.log(self.space[key].high / self.space[key].low)
                value = math.log(float(settings[best or 0][key]))
                if value - math.log(each.low) <= share * width:
                    found.add((key, 0))
                if math.log(each.high) - value <= share * width:
                    found.add((key, 1))
        return found

    def outcomes(self, results: Results) -> list[Outcome | None]:
        """Return how each trial ended; None for one that hasn't, or whose run was refused."""
        ended = {run for run, result in results.items() if result["state"] in ENDED}
        return [
            outcome_of(trial, results) if trial.runs and {*trial.runs} <= ended else None
            for trial in self.trials
        ]

    def scores(self, results: Results) -> dict[int, "Scores"]:
        """Return each group's scores in validation [seeds, settings], larger is better.

        NaN where a trial has none: it has diverged, was refused, failed, or hasn't ended.
        """
        import numpy as np

        places = {tuple(setting.items()): place for place, setting in enumerate(self.settings)}
        seeds = {seed: place for place, seed in enumerate(self.tuned_seeds)}
        shape = (len(seeds), len(places))
        tables = {group: np.full(shape, np.nan) for group in range(len(self.groups))}
        for trial, outcome in zip(self.trials, self.outcomes(results), strict=True):
            if self.is_fresh(trial) or outcome is None or outcome.value is None:
                continue
            at = seeds[int(trial.params["seed"])], places[tuple(self.setting_of(trial).items())]
            assert outcome.score is not None
            tables[self.group_of(trial)][at] = SCORES[outcome.score].sign * outcome.value
        return tables

    @property
    def tuned_seeds(self) -> list[int]:
        """Return the choosing seeds that settings were tried with so far."""
        seeds = [int(trial.params["seed"]) for trial in self.trials if not self.is_fresh(trial)]
        return [*dict.fromkeys(seeds)]

    def chosen(self, results: Results) -> dict[int, list[Params]]:
        """Return each group's settings, one for each of `tuned_seeds`: its best in validation.

        A seed with which every setting diverged takes the first one, since a tuning that finds
        nothing is trained all the same. A group without a single score isn't there.
        """
        import numpy as np

        from actsweep.stats.tuning import choose

        settings = self.settings
        return {
            group: [settings[choose(row) or 0] for row in table]
            for group, table in self.scores(results).items()
            if not np.isnan(table).all()
        }

    def failed(self, results: Results) -> list[Trial]:
        """Return the choosing trials whose runs have failed: they say nothing of a setting."""
        return [
            trial
            for trial, outcome in zip(self.trials, self.outcomes(results), strict=True)
            if outcome and outcome.state == FAILED and not self.is_fresh(trial)
        ]

    @property
    def choosing_runs(self) -> frozenset[str]:
        """Return the ids of the runs by which settings are chosen."""
        choosing = (trial for trial in self.trials if not self.is_fresh(trial))
        return frozenset(run for trial in choosing for run in trial.runs)

    def write(self, folder: Path) -> None:
        """Write it as JSON."""
        files.write_json(folder / SEARCH_FILE, {"tuning": asdict(self)})


def found(folder: Path) -> Tuning | None:
    """Return the tuning in a sweep's folder; None if the sweep is none.

    Raises:
        UserError: it can't be read.
    """
    return read(folder) if kind_of(folder) == "tuning" else None


def bought(tuning: Tuning) -> int:
    """Return how many tunings of each group the budget buys, without further growth."""
    assert tuning.budget is not None
    return tuning.budget // (max(tuning.size, len(tuning.settings)) + 1)


def _grows(parameter: Parameter) -> bool:
    """Return whether a range may grow: linear ones, such as those of shares, end for a reason."""
    return parameter.log and parameter.step is None and not isinstance(parameter.low, int)


def points(space: Space, count: int, seed: Sequence[int]) -> list[Params]:
    """Return points of a scrambled Sobol sequence in a space, without doubles (Owen 1998)."""
    import numpy as np
    from scipy.stats import qmc

    sampler = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(seed))
    unit = sampler.random_base2(max(0, math.ceil(math.log2(count))))[:count]
    settings = [
        {key: _value(each, float(u)) for (key, each), u in zip(space.items(), row, strict=True)}
        for row in unit
    ]
    return [dict(each) for each in dict.fromkeys(tuple(setting.items()) for setting in settings)]


def _value(parameter: Parameter, u: float) -> Value:
    """Return the value of a parameter at u in [0, 1)."""
    low, high = parameter.low, parameter.high
    if parameter.log:
        value = low * (high / low) ** u
    elif parameter.step is not None or isinstance(low, int):
        step = parameter.step or 1
        value = low + step * math.floor(u * (round((high - low) / step) + 1))
    else:
        value = low + u * (high - low)
    if isinstance(low, int) and isinstance(high, int):
        return min(max(round(value), low), high)
    return parameter.shown(float(value))


def read(folder: Path) -> Tuning | None:
    """Return the tuning in a sweep's folder; None if there is none.

    Raises:
        UserError: it can't be read, or the folder holds something else.
    """
    plain = read_plain(folder, "tuning")
    if plain is None:
        return None
    try:
        tuning = plain["tuning"]
        return Tuning(
            **{
                **tuning,
                "groups": tuple(tuning["groups"]),
                "space": space_of(tuning["space"]),
                "trials": trials_of(tuning["trials"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder / SEARCH_FILE}: can't be read as a tuning ({error}); type another "
            "hydra.sweep.dir"
        ) from error
