"""Jobs of a sweep, started through any Hydra launcher, and how each ended, even if it died."""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.conf import HydraConf
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from yaml import YAMLError

from actsweep.launch import slurm_submit
from actsweep.launch.entry import run
from actsweep.launch.finish import finish
from actsweep.launch.job import End, Ends, Jobs, is_coordinator, run_worker, train_all
from actsweep.runtime.process import Process
from actsweep.sweeps import results
from actsweep.sweeps.plan import LAUNCH_FILE, Plan
from actsweep.utils.errors import UserError, first_line

SLURM = "hydra_plugins.actsweep_pack.slurm_launcher.SlurmLauncher"


class Frozen:
    """Replacement of Hydra's config loader in a launcher.

    Every job gets the config that the sweep had when it was submitted, and its runs. No file of
    `conf/` is read again, however late the job starts.
    """

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Return the job's config; its only override is `pack.members=[…]`."""
        (override,) = sweep_overrides
        config = copy.deepcopy(master_config)
        with open_dict(config):
            config.pack.members = override.partition("=")[2].strip("[]").split(",")
            config.hydra.overrides.task = [override]
        return config


def train(plan: Plan, launcher: Any, process: Process, end: End = finish) -> int:
    """Train a planned sweep through a launcher that is set up; return the exit code.

    `end` gets the results of all runs, in order.

    Raises:
        UserError: the launcher can't start jobs; nothing has started.
    """
    assert launcher.hydra_context is not None
    assert launcher.config is not None
    if launcher.config.hydra.launcher._target_ == SLURM:
        return slurm_submit.train(plan, process, end)
    launcher.hydra_context = HydraContext(Frozen(), launcher.hydra_context.callbacks)  # type: ignore[arg-type]
    name = launcher.config.hydra.runtime.choices["hydra/launcher"]
    if not is_coordinator(plan.config):
        return run_worker(plan.config, process)
    before = results.statuses_of_attempt(plan)

    def start(jobs: Jobs) -> Ends:
        try:
            return launch(launcher, [[f"pack.members=[{','.join(job)}]"] for job in jobs])
        except Exception as error:
            process.stop.check()
            if results.statuses_of_attempt(plan) != before:  # some job has begun
                return [error] * len(jobs)
            raise UserError(f"hydra/launcher={name}: {first_line(error)}") from error

    return train_all(plan, start, process, end)


def go_on(plan: Plan, process: Process) -> int:
    """Train the runs that a sweep has left, through its launcher; return the exit code.

    Raises:
        UserError: the launcher can't start jobs; every run was refused.
    """
    setup_globals()
    config = _config(plan.folder)
    JobRuntime.instance().set("name", config.hydra.job.name)
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    context = HydraContext(Frozen(), Callbacks(config))  # type: ignore[arg-type]
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=run, config=config
    )
    return train(plan, launcher, process)


def _config(folder: Path) -> DictConfig:
    """Return Hydra's config of a sweep that was submitted before."""
    try:
        config = OmegaConf.load(folder / LAUNCH_FILE)
    except (OSError, YAMLError) as error:
        raise UserError(
            f"{folder / LAUNCH_FILE}: can't be read ({error}); type the sweep's command again"
        ) from error
    assert isinstance(config, DictConfig)
    typed = OmegaConf.structured(HydraConf, flags={"struct": False})
    config.hydra = OmegaConf.merge(typed, config.hydra)
    config.hydra.sweep.dir = str(folder)
    return config


def launch(launcher: Launcher, jobs: Sequence[Sequence[str]]) -> list[Any]:
    """Run jobs, given as overrides; return each one's value, or the exception that ended it.

    Raises:
        Exception: what the launcher raises if it can't start jobs or wait for them.
    """
    try:
        with _deaths_returned(launcher):
            returns = launcher.launch(jobs, initial_job_idx=0)
    except BrokenExecutor as died:  # joblib: when one process dies, all results are lost
        return [died] * len(jobs)
    # `return_value` would raise and print the error that ended the job.
    return [job._return_value for job in returns]


@contextlib.contextmanager
def _deaths_returned(launcher: Launcher) -> Iterator[None]:
    """Make submitit's launcher wait for all jobs, instead of ending at the first that died."""
    if "submitit" not in type(launcher).__module__:
        yield
        return
    from submitit.core.core import Job
    from submitit.core.utils import UncompletedJobError

    original = Job.results

    def results(job: Job) -> list[Any]:
        try:
            return original(job)
        except UncompletedJobError as died:
            return [JobReturn(status=JobStatus.FAILED, _return_value=died)]

    Job.results = results  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Job.results = original  # type: ignore[method-assign]
