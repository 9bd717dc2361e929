"""Hydra's sweeper that searches: Optuna suggests what is trained next.

Hydra imports this at every start: nothing here may import jax or Optuna.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from actsweep.launch.search import Strategy, Suggesting
from actsweep.sweeps import search as searches
from actsweep.sweeps.search import Search
from actsweep.utils.errors import unknown_name
from hydra_plugins.actsweep_pack.growing import GrowingSweeper, other
from hydra_plugins.actsweep_pack.space import Typed, check_number, divide


class OptunaSweeper(GrowingSweeper):
    """Sweeper over suggestions of Optuna's, within intervals and lists, in packs."""

    name = "optuna"

    def __init__(
        self, params: dict[str, Any], sampler: str, trials: int, batch: int, seed: int
    ) -> None:
        self.params, self._sampler, self._seed = params, sampler, seed
        self._trials, self._batch = trials, batch

    def check_settings(self) -> None:
        """Check the sampler and the numbers, and that Optuna is there."""
        searches.check_installed()
        if self._sampler not in searches.SAMPLERS:
            raise unknown_name("hydra.sweeper.sampler", self._sampler, searches.SAMPLERS)
        for key, least in (("trials", 1), ("batch", 1), ("seed", 0)):
            check_number(key, getattr(self, f"_{key}"), least)

    def divide(self, overrides: Sequence[Override]) -> Typed:
        """Return what is fixed, what is searched, and the seeds of each suggestion."""
        return divide(overrides)

    def strategy(self, typed: Typed) -> Suggesting:
        """Return the search that was asked for."""
        search = Search(typed.space, self._sampler, self._seed)
        return Suggesting(search, self._trials, self._batch)

    def read(self, folder: Path, asked: Suggesting) -> Strategy | None:
        """Return the search that a folder holds, if any."""
        found = searches.read(folder)
        if found is None:
            return None
        if difference := _difference(found, asked.search):
            raise other(folder, "search", difference)
        return replace(asked, search=found)


def _difference(found: Search, asked: Search) -> str:
    """Return in what two searches differ; empty if in nothing."""
    for name in ("sampler", "seed"):
        before, now = getattr(found, name), getattr(asked, name)
        if before != now:
            return f"hydra.sweeper.{name}={before}, not {now}"
    for key in [*found.space, *asked.space]:
        if found.space.get(key) != asked.space.get(key):
            return f"{_shown(key, found)}, not {_shown(key, asked)}"
    return ""


def _shown(key: str, search: Search) -> str:
    parameter = search.space.get(key)
    if parameter is None:
        return f"no {key}"
    if parameter.choices:
        return f"{key}={','.join(parameter.choices)}"
    numbers = f"{parameter.low:g} to {parameter.high:g}"
    step = f" by {parameter.step:g}" if parameter.step else ""
    return f"{key} from {numbers}{step}{' in its logarithm' * parameter.log}"
