"""hydra/launcher=slurm: the sweep's packs as an array of SLURM jobs. No jax."""

from collections.abc import Sequence
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from actsweep.utils.errors import UserError


class SlurmLauncher(Launcher):
    """Stands for SLURM where Hydra wants a launcher. The pack sweeper hands the whole plan over to
    `actsweep.launch.slurm_submit`, whose jobs outlive this process and may be queued again.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what every launcher is given."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        """For other sweepers: refused, since they don't plan.

        Raises:
            UserError: always.
        """
        raise UserError("hydra/launcher=slurm: needs hydra/sweeper=pack; leave the sweeper out")
