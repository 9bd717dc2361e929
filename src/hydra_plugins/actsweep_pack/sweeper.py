"""Hydra's sweeper for actsweep, which checks every run before any starts, and makes packs.

Hydra imports this at every start: nothing here may import jax.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore

from actsweep.config import identity, resolve
from actsweep.config.compose import Composer
from actsweep.config.overrides import expand_all
from actsweep.config.schema import RunConfig
from actsweep.launch.entry import check_called, tell_twins, this_process
from actsweep.launch.hydra import train
from actsweep.launch.job import check_before, is_coordinator, run_worker, show_plan
from actsweep.runs import run_dir
from actsweep.runs.members import Member, make_member
from actsweep.sweeps.exit_codes import OK
from actsweep.sweeps.plan import FreshFiles, check_folder, freeze, new_plan
from actsweep.utils.errors import UserError
from actsweep.utils.progress import counted
from hydra_plugins.actsweep_pack.combinations import (
    combine,
    settings_of,
    without_excluded,
)
from hydra_plugins.actsweep_pack.words import expanded, parsed


@dataclass
class PackSweeperConf:
    """Config of the sweeper; `params` holds further sweeps, as typed: `{seed: "0,1,2"}`."""

    _target_: str = "hydra_plugins.actsweep_pack.sweeper.PackSweeper"
    params: dict[str, Any] = field(default_factory=dict)


ConfigStore.instance().store(
    group="hydra/sweeper", name="pack", node=PackSweeperConf, provider="actsweep"
)


class PackSweeper(BasicSweeper):
    """Sweeper over the Cartesian product of all overrides, in packs, for any launcher."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> Any:
        """Compose, check and freeze every run; launch the packs; finish the sweep.

        Raises:
            UserError: some run's config is bad; nothing has started.
            SystemExit: with the sweep's exit code.
        """
        assert self.config is not None
        assert self.launcher is not None
        process = this_process()
        assert self.hydra_context is not None
        compose = Composer(self.hydra_context.config_loader, self.config)
        overrides = self._product(arguments, compose)
        members = [
            make_member(compose.run(given)) for given in counted(overrides, "checked {} runs")
        ]
        given_by_id: dict[str, list[str]] = {}
        for member, given in zip(members, overrides, strict=True):
            given_by_id.setdefault(member.run_id, given)
        runs = [member.config for member in members]
        launcher = self.config.hydra.runtime.choices["hydra/launcher"]
        check_called(process, launcher, runs[0].trainer.distributed)
        check_alike(runs)
        check_distinct(members)
        tell_twins(runs)
        packs = list(merge(counted(members, "planned {} runs")))
        if runs[0].pack.plan:
            show_plan(packs)
            raise SystemExit(OK)
        if runs[0].trainer.distributed and launcher not in ("basic", "slurm"):
            raise UserError(
                f"trainer.distributed={runs[0].trainer.distributed}: needs hydra/launcher=basic or "
                f"slurm, not {launcher}; leave the launcher out"
            )
        if launcher != "slurm" and not is_coordinator(runs[0]):
            raise SystemExit(run_worker(runs[0], process))
        folder = Path(self.config.hydra.sweep.dir)
        plan = check_folder(new_plan(folder, packs, given_by_id), "hydra.sweep.dir")
        check_before(plan)
        run_dir.check_writable(runs[0].paths.outputs)
        fresh = FreshFiles(folder)
        freeze(plan, self.config)
        process.folder = folder
        try:
            code = train(plan, self.launcher, process)
        except UserError:  # nothing has started
            fresh.discard()
            raise
        raise SystemExit(code)

    def _product(self, arguments: list[str], compose: Composer) -> list[list[str]]:
        assert self.config is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        typed = parsed([*expand_all(self._parse_config()), *arguments], loader)
        settings = settings_of(typed, compose.sweep)
        jobs = without_excluded(combine(typed, settings.pairs), settings.exclude)
        return expanded(jobs, loader, self.config)


def check_distinct(members: Sequence[Member]) -> None:
    """Check that no two runs differ only in what can't change a result: they would be one run.

    Where `vary` lists several, they share the run of seed 0, beside those of other seeds.

    Raises:
        UserError: two do.
    """
    if len({member.run_id for member in members}) == len(members):
        return
    first: dict[str, dict[str, Any]] = {}
    several_seeds = len({member.config.seed for member in members}) > 1
    for member in members:
        flat = identity.flatten(resolve.to_dict(member.config))
        known = first.setdefault(member.run_id, flat)
        differ = [key for key, value in flat.items() if known.get(key) != value]
        if differ and not (differ == ["vary"] and several_seeds):
            key, own = differ[0], vars(member.config.seeds)
            if key == "seed" and None not in own.values():
                fixed = {f"seeds.{source}": seed for source, seed in own.items()}
                raise UserError(
                    f"{' '.join(f'{k}={v}' for k, v in fixed.items())}: nothing follows seed="
                    f"{known.get(key)},{flat[key]}, so they are one run; leave "
                    f"{' or '.join(fixed)} out"
                )
            raise UserError(
                f"{key}={known.get(key)},{flat[key]}: can't change a result, so all its values are "
                f"one run; type one value, or one command for each"
            )


def check_alike(runs: Sequence[RunConfig]) -> None:
    """Check that all runs ask SLURM for the same.

    Raises:
        UserError: two runs differ there.
    """
    settings = [vars(run.slurm) for run in runs]
    for key, value in settings[0].items():
        if differ := {str(s[key]): s[key] for s in settings if s[key] != value}:
            values = ",".join([str(value), *differ])
            raise UserError(
                f"slurm.{key}={values}: must be one value, for all jobs of the sweep; type for "
                f"example slurm.{key}={value}"
            )


def merge(members: Iterable[Member]) -> Iterator[list[Member]]:
    """Yield packs of runs that one program can train, each run once, in their order.

    With `pack.size=auto` each pack holds all such runs: only the job, on the machine that trains,
    can measure how many fit at once.
    """
    groups: dict[str, dict[str, Member]] = {}
    for member in members:
        group = groups.setdefault(member.pack_key, {})
        group.setdefault(member.run_id, member)
    for group in groups.values():
        alike = list(group.values())
        size = alike[0].config.pack.size
        step = len(alike) if size == "auto" else size
        for start in range(0, len(alike), step):
            yield alike[start : start + step]
