"""Launcher `hydra/launcher=slurm`: a sweep's packs as an array of SLURM jobs. No jax."""

from collections.abc import Sequence
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from actsweep.utils.errors import UserError


class SlurmLauncher(Launcher):
    """Placeholder for SLURM where Hydra wants a launcher.

    The pack sweeper passes the whole plan to `actsweep.launch.slurm_submit`, whose jobs outlive
    this process and may be queued again.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra gives every launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        """Refuse to launch: other sweepers don't make a plan.

        Raises:
            UserError: always.
        """
        raise UserError("hydra/launcher=slurm: needs hydra/sweeper=pack; leave the sweeper out")
