"""Hydra's sweeper that searches: Optuna suggests what is trained next.

Hydra imports this at every start: nothing here may import jax or Optuna.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from actsweep.config.schema import RunConfig
from actsweep.launch.search import Strategy, Suggesting
from actsweep.sweeps import search as searches
from actsweep.sweeps.pruning import Pruner
from actsweep.sweeps.search import Search
from actsweep.utils.errors import UserError, unknown_name
from hydra_plugins.actsweep_pack.growing import GrowingSweeper, other
from hydra_plugins.actsweep_pack.space import Typed, check_number, divide

LEAST = {
    "n_startup_trials": 0,
    "n_warmup_epochs": 0,
    "interval_epochs": 1,
    "min_resource": 1,
    "reduction_factor": 2,
}
"""Least values of a pruner's settings."""


class OptunaSweeper(GrowingSweeper):
    """Sweeper over suggestions of Optuna's, within intervals and lists, in packs."""

    name = "optuna"

    def __init__(
        self,
        params: dict[str, Any],
        sampler: str,
        trials: int,
        batch: int,
        seed: int,
        pruner: str,
        **pruning: int,
    ) -> None:
        self.params, self._sampler, self._seed = params, sampler, seed
        self._trials, self._batch = trials, batch
        self._pruner = Pruner(pruner, **pruning)

    def check_settings(self) -> None:
        """Check the sampler, the pruner and the numbers, and that Optuna is there."""
        searches.check_installed()
        if self._sampler not in searches.SAMPLERS:
            raise unknown_name("hydra.sweeper.sampler", self._sampler, searches.SAMPLERS)
        for key, least in (("trials", 1), ("batch", 1), ("seed", 0)):
            check_number(key, getattr(self, f"_{key}"), least)
        self._pruner.check_name()
        for key, least in LEAST.items():
            check_number(key, getattr(self._pruner, key), least)
        if self._pruner.name != "none":
            self._pruner.check_batches(self._trials, self._batch)

    def check_run(self, run: RunConfig, typed: Typed) -> None:
        """Check that the pruner decides something, and can."""
        if self._pruner.name == "none":
            return
        typed_so = f"hydra.sweeper.pruner={self._pruner.name}"
        if "trainer.epochs" in typed.space:
            raise UserError(
                f"{typed_so}: compares runs epoch by epoch, and trainer.epochs is searched; leave "
                "one of them out"
            )
        if run.rerun == "all":
            raise UserError(
                f"{typed_so}: might end runs that are complete, and rerun=all trains them again; "
                "leave one of them out"
            )
        if run.trainer.distributed:
            raise UserError(
                f"{typed_so}: isn't there for runs that several processes train "
                f"(trainer.distributed={run.trainer.distributed}); leave one of them out"
            )
        self._pruner = replace(self._pruner, epochs=run.trainer.epochs)
        self._pruner.check_epochs()

    def divide(self, overrides: Sequence[Override]) -> Typed:
        """Return what is fixed, what is searched, and the seeds of each suggestion."""
        return divide(overrides)

    def strategy(self, typed: Typed) -> Suggesting:
        """Return the search that was asked for."""
        pruner = None if self._pruner.name == "none" else self._pruner
        search = Search(typed.space, self._sampler, self._seed, pruner=pruner)
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
    before, now = _shown_pruner(found.pruner), _shown_pruner(asked.pruner)
    if before != now:
        return f"{before}, not {now}"
    for key in [*found.space, *asked.space]:
        if found.space.get(key) != asked.space.get(key):
            return f"{_shown(key, found)}, not {_shown(key, asked)}"
    return ""


def _shown_pruner(pruner: Pruner | None) -> str:
    """Return a pruner and its settings as they are typed."""
    if pruner is None:
        return "hydra.sweeper.pruner=none"
    settings = [f"hydra.sweeper.{key}={getattr(pruner, key)}" for key in LEAST]
    return " ".join([f"hydra.sweeper.pruner={pruner.name}", *settings])


def _shown(key: str, search: Search) -> str:
    parameter = search.space.get(key)
    if parameter is None:
        return f"no {key}"
    if parameter.choices:
        return f"{key}={','.join(parameter.choices)}"
    numbers = f"{parameter.low:g} to {parameter.high:g}"
    step = f" by {parameter.step:g}" if parameter.step else ""
    return f"{key} from {numbers}{step}{' in its logarithm' * parameter.log}"
