"""What Hydra's sweepers share whose runs follow from results: batches, in packs, by any launcher.

Hydra imports this at every start: nothing here may import jax.
"""

import abc
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from actsweep.config.compose import Composer
from actsweep.config.error_messages import explain
from actsweep.config.schema import RunConfig
from actsweep.launch.entry import check_called, is_input, this_process
from actsweep.launch.hydra import train
from actsweep.launch.job import check_before, show_plan
from actsweep.launch.search import Kept, Steps, Strategy, Suggested, first_batch, go_on
from actsweep.runs import run_dir
from actsweep.runs.members import make_member
from actsweep.sweeps.exit_codes import OK
from actsweep.sweeps.plan import (
    FreshFiles,
    Plan,
    check_folder,
    freeze,
    read_plan,
    typed_now,
)
from actsweep.sweeps.search import Params
from actsweep.utils.errors import UserError
from hydra_plugins.actsweep_pack.space import Typed, check_ends, variants_of
from hydra_plugins.actsweep_pack.sweeper import check_alike, check_distinct, merge
from hydra_plugins.actsweep_pack.words import expanded, parsed

Composed = Callable[[Sequence[Params]], Sequence[Suggested | UserError]]
"""From trials to their runs, or why one is refused."""


class GrowingSweeper(Sweeper, abc.ABC):
    """Sweeper whose next runs follow from the results of those before.

    Attributes:
        name: of the sweeper, as typed.
        params: further overrides, by key.
        takes_seeds: it takes seeds by itself, from `first_seed` on; else they are typed.
    """

    name: str
    params: dict[str, Any]
    takes_seeds = False
    first_seed = 0

    @abc.abstractmethod
    def check_settings(self) -> None:
        """Check what was typed as `hydra.sweeper.*`.

        Raises:
            UserError: a value isn't allowed.
        """

    @abc.abstractmethod
    def divide(self, overrides: Sequence[Override]) -> Typed:
        """Return a command's overrides, divided; of two with the same key the later counts.

        Raises:
            UserError: one of them doesn't fit.
        """

    @abc.abstractmethod
    def strategy(self, typed: Typed) -> Strategy:
        """Return the strategy that was asked for, with no trial yet."""

    @abc.abstractmethod
    def read(self, folder: Path, asked: Any) -> Strategy | None:
        """Return the strategy that a folder holds, to go on as asked; None if it holds none.

        Raises:
            UserError: it is another one.
        """

    def check_run(self, run: RunConfig, typed: Typed) -> None:
        """Check the settings against a run; a sweeper may refuse here what can't be before.

        Raises:
            UserError: they don't fit.
        """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra gives every sweeper, and set the launcher up."""
        self.hydra_context, self.config = hydra_context, config
        self._loader = hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Check the space, then suggest, train and tell, batch after batch.

        Raises:
            UserError: bad input; nothing has started.
            SystemExit: with the sweep's exit code.
        """
        assert self.config is not None
        self.check_settings()
        process, config = this_process(), self.config
        given = [f"{key}={value}" for key, value in self.params.items()]
        typed = self.divide(parsed([*given, *arguments], self._loader))
        compose = Composer(self._loader, config)
        self._check_sweep(typed, compose)
        composed = functools.partial(self._composed, typed, compose)
        launcher = config.hydra.runtime.choices["hydra/launcher"]
        run = self._check_all(composed(check_ends(typed.space)), launcher)
        self.check_run(run, typed)
        check_called(process, launcher, run.trainer.distributed)
        variants = [
            each for each in composed(variants_of(typed.space)) if isinstance(each, Suggested)
        ]
        check_distinct([member for each in variants for member in each.members])
        self._check_seeds_matter(typed, composed)
        folder = Path(config.hydra.sweep.dir)
        strategy, plan = self._known(folder, typed, run, composed)
        fresh = FreshFiles(folder)
        by_launcher = functools.partial(train, launcher=self.launcher, process=process)
        steps = Steps(
            *(folder, composed, merge, self._begin),
            lambda plan, end: by_launcher(plan, end=end),
        )
        if run.pack.plan:
            show_plan(first_batch(steps, strategy) if plan is None else plan.packs)
            raise SystemExit(OK)
        process.folder = folder
        try:
            code = go_on(steps, strategy, plan, process)
        except UserError as error:
            if plan is None and not isinstance(error, Kept):
                fresh.discard()
            raise
        raise SystemExit(code)

    def _begin(self, plan: Plan) -> None:
        """Check what can refuse, then write the plan."""
        assert self.config is not None
        check_before(check_folder(plan, "hydra.sweep.dir"))
        run_dir.check_writable(plan.config.paths.outputs)
        freeze(plan, self.config)

    def _composed(
        self, typed: Typed, compose: Composer, asked: Sequence[Params]
    ) -> list[Suggested | UserError]:
        return [self._suggested(typed, params, compose) for params in asked]

    def _check_sweep(self, typed: Typed, compose: Composer) -> None:
        assert self.config is not None
        settings = compose.sweep(expanded([typed.fixed], self._loader, self.config)[0])
        for key in ("pairs", "exclude"):
            if getattr(settings, key):
                raise UserError(
                    f"sweep.{key}: is for hydra/sweeper=pack, which combines lists; leave it out"
                )

    def _check_seeds_matter(self, typed: Typed, composed: Composed) -> None:
        """Check, where the sweeper takes seeds, that two of them are two runs, with all choices.

        Raises:
            UserError: they are one run.
        """
        if not self.takes_seeds:
            return
        seeds = (self.first_seed, self.first_seed + 1)
        for params in check_ends(typed.space):
            pair = composed([{**params, "seed": seed} for seed in seeds])
            check_distinct(
                [m for each in pair if isinstance(each, Suggested) for m in each.members]
            )

    def _suggested(self, typed: Typed, params: Params, compose: Composer) -> Suggested | UserError:
        """Return the runs of a suggestion, or why it is refused."""
        acts = typed.space["act"].choices if "act" in typed.space else ()
        assert self.config is not None
        words = expanded(typed.words(params), self._loader, self.config, acts)
        try:
            return Suggested(tuple(make_member(compose.run(each)) for each in words), tuple(words))
        except Exception as error:
            if not is_input(error):
                raise
            return error if isinstance(error, UserError) else UserError(explain(error))

    def _known(
        self, folder: Path, typed: Typed, run: RunConfig, composed: Any
    ) -> tuple[Strategy, Plan | None]:
        """Return the strategy that a folder holds, or a new one, and its plan if it has begun.

        Raises:
            UserError: it is another one, or its runs would be others today.
        """
        asked = self.strategy(typed)
        found = self.read(folder, asked)
        if found is None:
            return asked, None
        for trial, made in zip(
            found.trials, composed([trial.params for trial in found.trials]), strict=True
        ):
            ids = () if isinstance(made, UserError) else tuple(m.run_id for m in made.members)
            if trial.runs and ids != trial.runs:
                pairs = itertools.zip_longest(trial.runs, ids)
                before, now = next((a, b) for a, b in pairs if a != b)
                if not ids:
                    now = "refused"
                change = (
                    f"{before} would be {now or 'left out'}" if before else f"{now} would be added"
                )
                raise UserError(
                    f"{folder.name}: conf/, its fixed overrides, its seeds or your own code have "
                    f"changed since it began: {change}; type another hydra.sweep.dir for a new one"
                )
        plan = read_plan(folder).with_configs(slurm=run.slurm)
        # Whoever goes on next has the same limits.
        return found, replace(plan, command=typed_now())

    def _check_all(self, made: Sequence[Suggested | UserError], launcher: str) -> RunConfig:
        """Check the ends of a space; return one run.

        Raises:
            UserError: a run is refused, or the launcher can't wait for its jobs.
        """
        configs = []
        for each in made:
            if isinstance(each, UserError):
                raise each
            configs += [member.config for member in each.members]
        check_alike(configs)
        run = configs[0]
        if run.trainer.distributed and launcher != "slurm":
            raise UserError(
                f"trainer.distributed={run.trainer.distributed}: needs hydra/launcher=slurm with "
                f"hydra/sweeper={self.name}; leave one of them out"
            )
        for key in ("wait", "submit"):
            if launcher == "slurm" and not getattr(run.slurm, key):
                raise UserError(
                    f"slurm.{key}=false: hydra/sweeper={self.name} waits for its jobs, whose "
                    "results decide what comes next; leave it out"
                )
        return run


def other(folder: Path, what: str, difference: str) -> UserError:
    """Return the error about a folder that holds another search or race."""
    return UserError(
        f"hydra.sweep.dir={folder}: holds a {what} of its own: {difference}; type another "
        "folder, or what was typed first"
    )
