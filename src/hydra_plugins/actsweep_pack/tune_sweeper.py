"""Hydra's sweeper that tunes: the same trials for every group, then fresh seeds at its best.

Hydra imports this at every start: nothing here may import jax.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override

from actsweep.config import identity, resolve
from actsweep.config.compose import Composer
from actsweep.config.schema import RunConfig
from actsweep.launch.search import Strategy, Suggested
from actsweep.launch.tune import Tune
from actsweep.sweeps.search import Parameter, Params, factors_of
from actsweep.sweeps.tuning import Tuning, bought, read
from actsweep.utils.errors import UserError, bad_value, unknown_name
from hydra_plugins.actsweep_pack.combinations import values_of
from hydra_plugins.actsweep_pack.growing import GrowingSweeper, other
from hydra_plugins.actsweep_pack.space import Typed, check_number, parameter_of

EXAMPLE = "act=relu,gelu tune.nuisance=[optim.lr]"
DECADE = 10.0
"""A range that isn't typed is from the config's value over this to its value times this."""
PARTS = ("optim.", "init.", "loss.", "model.")
"""What nuisance parameters belong to."""


class TuneSweeper(GrowingSweeper):
    """Sweeper over what is listed, each tuned over the nuisance parameters."""

    name = "tune"
    takes_seeds = True

    def __init__(
        self,
        params: dict[str, Any],
        nuisance: Sequence[str],
        trials: int,
        seeds: int,
        fresh: int,
        grow: int,
        budget: int | None,
        seed: int,
    ) -> None:
        self.params, self._nuisance = params, nuisance
        self._trials, self._seeds, self._fresh = trials, seeds, fresh
        self._grow, self._budget, self._seed = grow, budget, seed

    def check_settings(self) -> None:
        """Check the numbers."""
        settings = {"trials": 2, "seeds": 2, "fresh": 0, "grow": 0, "seed": 0}
        for key, least in settings.items():
            _check_setting(key, getattr(self, f"_{key}"), least)
        if self._budget is not None:
            _check_setting("budget", self._budget, 1)
        names = self._nuisance
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise bad_value(
                "tune.nuisance", names, "a list of config keys", "tune.nuisance=[optim.lr]"
            )

    def divide(self, overrides: Sequence[Override]) -> Typed:
        """Return what is fixed, what tells the groups apart, and the nuisance parameters."""
        fixed: dict[str, list[str]] = {}
        listed, ranges = dict[str, Parameter](), dict[str, Parameter]()
        for key, override in {each.get_key_element(): each for each in overrides}.items():
            if key == "seed":
                self.first_seed = _first_seed(override)
            elif not override.is_sweep_override():
                fixed[key] = values_of(override)
            elif isinstance(override.value(), IntervalSweep):
                _check_nuisance(key, override.input_line or key)
                ranges[key] = parameter_of(override)
            else:
                _check_listed(key, override, self._nuisance)
                words = [word.partition("=")[2] for word in values_of(override)]
                listed[key] = Parameter(choices=tuple(dict.fromkeys(words)))
        for name in self._nuisance:
            _check_nuisance(name, f"tune.nuisance: {name}")
        if math.prod(len(each.choices) for each in listed.values()) < 2:
            raise UserError(
                f"hydra/sweeper=tune: one group has no rival; type for example {EXAMPLE}"
            )
        words = [word for some in fixed.values() for word in some]
        around = [name for name in self._nuisance if name not in ranges]
        if around:
            configs = self._configs(Typed(words, listed, [""]))
            ranges |= {name: _around(name, configs) for name in dict.fromkeys(around)}
        if not ranges:
            raise UserError(f"tune.nuisance=[]: nothing is tuned; type for example {EXAMPLE}")
        words = [word for key, some in fixed.items() if key not in ranges for word in some]
        return Typed(words, {**listed, **ranges}, [""])

    def strategy(self, typed: Typed) -> Tune:
        """Return the tuning that was asked for."""
        tuning = Tuning(
            groups=tuple(_groups(typed)),
            space={key: each for key, each in typed.space.items() if not each.choices},
            size=self._trials,
            seeds=self._seeds,
            first=self.first_seed,
            fresh=self._fresh,
            grow=self._grow,
            budget=self._budget,
            seed=self._seed,
        )
        _check_factors(tuning.groups[0])
        _check_settings_fit(tuning)
        _check_seeds(tuning)
        return Tune(tuning)

    def read(self, folder: Path, asked: Any) -> Strategy | None:
        """Return the tuning that a folder holds, with today's seeds and budget."""
        found = read(folder)
        if found is None:
            return None
        if difference := asked.differs(found):
            raise other(folder, "tuning", difference)
        return Tune(replace(asked.tuning, space=found.space, trials=found.trials))

    def _configs(self, typed: Typed) -> list[RunConfig]:
        """Return each group's config, without the nuisance parameters that are typed as ranges."""
        assert self.config is not None
        made = self._composed(typed, Composer(self._loader, self.config), _groups(typed))
        configs = []
        for each in made:
            if not isinstance(each, Suggested):
                raise each
            configs += [member.config for member in each.members]
        return configs


def _groups(typed: Typed) -> list[Params]:
    listed = [
        [(key, choice) for choice in each.choices]
        for key, each in typed.space.items()
        if each.choices
    ]
    return [dict(group) for group in itertools.product(*listed)]


def _around(name: str, configs: Sequence[RunConfig]) -> Parameter:
    """Return a decade to each side of the values that the groups' configs have.

    Raises:
        UserError: there is no such key, or it isn't a number above 0.
    """
    values = []
    for config in configs:
        flat = identity.flatten(resolve.to_dict(config))
        if name not in flat:
            raise unknown_name("tune.nuisance", name, [k for k in flat if k.startswith(PARTS)])
        value = flat[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(
                f"tune.nuisance: {name}={value}: isn't a number; type its range, for example "
                f"'{name}=tag(log,interval(0.1,10))', or leave it out"
            )
        if not 0 < value < math.inf:
            raise UserError(
                f"tune.nuisance: {name}={value}: has no decade around it; type its range, for "
                f"example '{name}=tag(log,interval(1e-6,1e-2))'"
            )
        if isinstance(value, int):
            raise UserError(
                f"tune.nuisance: {name}={value}: is a whole number; type its range, for example "
                f"'{name}=int(interval({value},{2 * value}))'"
            )
        values.append(value)
    low, high = (float(f"{v:.6g}") for v in (min(values) / DECADE, max(values) * DECADE))
    return Parameter((), low, high, True, None)


def _check_setting(key: str, value: object, least: int) -> None:
    try:
        check_number(key, value, least)
    except UserError as error:
        raise UserError(str(error).replace("hydra.sweeper.", "tune.")) from None


def _first_seed(override: Override) -> int:
    value = override.value()
    if override.is_sweep_override() or isinstance(value, bool) or not isinstance(value, int):
        raise UserError(
            f"{override.input_line}: tuning takes seeds of its own; type tune.seeds=5 for their "
            "number, or the first one to choose by, seed=0"
        )
    return value


def _check_nuisance(key: str, line: str) -> None:
    if key.startswith("act."):
        raise UserError(
            f"{line}: belongs to the activation, and other activations don't have it; list its "
            f"values, for example {key}=0.1,0.3, which are groups of their own"
        )
    if not key.startswith(PARTS):
        raise UserError(
            f"{line}: can't be tuned over; must be a number of {', '.join(p[:-1] for p in PARTS)}; "
            "type for example tune.nuisance=[optim.lr,init.gain]"
        )


def _check_listed(key: str, override: Override, nuisance: Sequence[str]) -> None:
    line = override.input_line
    if key in nuisance:
        raise UserError(
            f"{line}: is a list, and tune.nuisance names it; type its range, for example "
            f"'{key}=tag(log,interval(1e-3,1))', or leave it out of one of them"
        )
    if key == "data":
        raise UserError(
            f"{line}: scores on different data don't compare; type one tuning for each, then "
            "actsweep tune --show with both"
        )
    if key.startswith("sweep."):
        raise UserError(f"{line}: is the sweep's; type one value")
    if key.startswith("optim."):
        raise UserError(
            f"{line}: is what suits each activation; type tune.nuisance=[{key}], which tunes over "
            "it, or one value"
        )


def _check_factors(group: Params) -> None:
    if len(factors_of(group)) > 2:
        raise UserError(
            f"hydra/sweeper=tune: {', '.join(factors_of(group))} are listed; must be one or two "
            f"things; type for example {EXAMPLE}"
        )


def _check_settings_fit(tuning: Tuning) -> None:
    """Refuse a space with fewer settings than trials, as of few whole numbers."""
    if (there := len(tuning.first_settings())) < tuning.size:
        raise bad_value(
            "tune.trials",
            tuning.size,
            f"at most {there}: so many settings differ",
            f"tune.trials={there}",
        )


def _check_seeds(tuning: Tuning) -> None:
    """Refuse fewer than two seeds, and fresh seeds that were chosen by."""
    if tuning.budget is not None and bought(tuning) < 2:
        raise UserError(
            f"tune.budget={tuning.budget}: doesn't buy two seeds of {tuning.size + 1} runs each "
            f"({tuning.size} trials and a fresh one); type tune.budget={2 * (tuning.size + 1)}, or "
            "fewer tune.trials"
        )
    choosing = tuning.choosing_seeds
    fresh = range(tuning.fresh, tuning.fresh + tuning.counted_seeds)
    if both := [*{*choosing} & {*fresh}]:
        raise UserError(
            f"tune.fresh={tuning.fresh}: seed {min(both)} would be reported, and is used for "
            f"choosing (seeds {choosing[0]} to {choosing[-1]}); type tune.fresh="
            f"{choosing[-1] + 1000}"
        )
