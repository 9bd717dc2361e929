"""Hydra's sweeper that races: seeds are added until it is decided which group is better.

Hydra imports this at every start: nothing here may import jax.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from actsweep.launch import race
from actsweep.launch.race import Race
from actsweep.launch.search import Strategy
from actsweep.stats.race import AIMS, Rules
from actsweep.stats.scores import SCORES
from actsweep.sweeps.search import Parameter, Params
from actsweep.utils.errors import UserError, bad_value, unknown_name
from hydra_plugins.actsweep_pack.combinations import values_of
from hydra_plugins.actsweep_pack.growing import GrowingSweeper, other
from hydra_plugins.actsweep_pack.space import Typed, check_number

EXAMPLE = "act=relu,gelu,swish"


class RaceSweeper(GrowingSweeper):
    """Sweeper over all combinations of what is listed, with as many seeds as decide."""

    name = "race"
    takes_seeds = True

    def __init__(
        self,
        params: dict[str, Any],
        aim: str,
        seeds: int,
        first: int,
        batch: int,
        budget: str | None,
        metric: str | None,
        margin: float | None,
    ) -> None:
        self.params, self._rules = params, Rules(aim, first, batch, seeds)
        self._budget, self._metric, self._margin = budget, metric, margin

    def check_settings(self) -> None:
        """Check the rules, the budget and the margin."""
        rules, margin = self._rules, self._margin
        if rules.aim not in AIMS:
            raise unknown_name("hydra.sweeper.aim", rules.aim, AIMS)
        check_number("first", rules.first, 2)
        check_number("batch", rules.batch, 1)
        check_number("seeds", rules.seeds, rules.first)
        race.seconds_of(self._budget)
        _check_metric(self._metric)
        number = isinstance(margin, int | float) and not isinstance(margin, bool)
        if margin is not None and not (number and 0 <= margin < math.inf):
            raise bad_value(
                "hydra.sweeper.margin", margin, "a number of at least 0", "hydra.sweeper.margin=0.5"
            )

    def divide(self, overrides: Sequence[Override]) -> Typed:
        """Return what is fixed, and what tells the groups apart; the race chooses the seeds."""
        typed = {each.get_key_element(): each for each in overrides}
        fixed, space = [], {}
        for key, override in typed.items():
            if key == "seed":
                self.first_seed = _first_seed(override)
            elif not override.is_sweep_override():
                fixed += values_of(override)
            else:
                _check_raced(key, override)
                words = [word.partition("=")[2] for word in values_of(override)]
                space[key] = Parameter(choices=tuple(dict.fromkeys(words)))
        if math.prod(len(each.choices) for each in space.values()) < 2:
            raise UserError(
                f"hydra/sweeper=race: one group has no rival; type for example {EXAMPLE}"
            )
        return Typed(fixed, space, [""])

    def strategy(self, typed: Typed) -> Race:
        """Return the race that was asked for."""
        choices = [[(key, c) for c in each.choices] for key, each in typed.space.items()]
        groups: tuple[Params, ...] = tuple(dict(group) for group in itertools.product(*choices))
        asked = Race(
            groups,
            self._rules,
            self._metric,
            self._margin,
            race.seconds_of(self._budget),
            self.first_seed,
        )
        if len(asked.by) > 2:
            raise UserError(
                f"hydra/sweeper=race: {', '.join(asked.by)} are listed; must be one or two "
                f"things; type for example {EXAMPLE}"
            )
        return asked

    def read(self, folder: Path, asked: Race) -> Strategy | None:
        """Return the race that a folder holds, with the limits that were asked for."""
        found = race.read(folder)
        if found is None:
            return None
        if difference := asked.differs(found):
            raise other(folder, "race", difference)
        return replace(asked, trials=found.trials)


def _check_metric(metric: str | None) -> None:
    """Refuse what can't be a score; which other metrics there are, only trained runs tell."""
    split, _, score = str(metric).partition("/")
    known = [f"{each}/{name}" for each in ("test", "val") for name in SCORES]
    if metric is not None and split in ("test", "val") and score not in SCORES:
        raise unknown_name("hydra.sweeper.metric", metric, known)


def _first_seed(override: Override) -> int:
    value = override.value()
    if override.is_sweep_override() or isinstance(value, bool) or not isinstance(value, int):
        raise UserError(
            f"{override.input_line}: a race takes as many seeds as it needs; type "
            "hydra.sweeper.seeds=40 for the most of them, or the first one, seed=0"
        )
    return value


def _check_raced(key: str, override: Override) -> None:
    line = override.input_line
    if key == "data":
        raise UserError(f"{line}: scores on different data don't compare; type one race for each")
    if key.startswith("sweep."):
        raise UserError(f"{line}: is the sweep's; type one value")
    if key.startswith("optim."):
        raise UserError(
            f"{line}: what suits each activation is tuned, not raced: type actsweep tune, see "
            "docs/tune.md, or one value"
        )
