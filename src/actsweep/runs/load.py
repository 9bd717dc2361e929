"""Read a run back: its config, its measurements, its trained network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from omegaconf import DictConfig, OmegaConf

from actsweep.config import resolve
from actsweep.config.schema import RunConfig
from actsweep.nn.network import Network, Task
from actsweep.runs import checkpoint, run_dir
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.runs.metrics_file import HistogramSeries, read_histograms, read_metrics
from actsweep.runs.run_dir import RunDir
from actsweep.utils.errors import UserError


@dataclass(frozen=True)
class Run:
    """A run on disk."""

    folder: RunDir
    config: RunConfig

    @property
    def status(self) -> dict[str, Any]:
        """`status.json`: state, step, times, git SHA."""
        return run_dir.read_status(self.folder) or {}

    @property
    def summary(self) -> dict[str, Any]:
        """`summary.json`: the final numbers; empty before the end."""
        return run_dir.read_summary(self.folder) or {}

    def metrics(self) -> dict[str, np.ndarray]:
        """A column a metric, a row a logged step; NaN where a row lacks it.

        `pandas.DataFrame(run.metrics())` is a data frame.
        """
        return read_metrics(self.folder.metrics)

    def histograms(self) -> dict[str, HistogramSeries]:
        """Counts, edges and steps by metric name."""
        return read_histograms(self.folder.histograms)

    def model(self, which: str = "best") -> nnx.Module:
        """The trained network; call it on normalised examples, or see `logits`.

        Args:
            which: `best`, by validation, or `last`.

        Raises:
            UserError: the checkpoint is missing or damaged.
        """
        network, params, act_hparams = self._network(which)
        return nnx.merge(network.graph, params, act_hparams)

    def parameters(self, which: str = "best") -> tuple[Any, Any]:
        """The network's parameters, and its numbers that aren't trained, as training holds them.

        Args, Raises: as `model`.
        """
        return self._network(which)[1:]

    def logits(self, x: np.ndarray, which: str = "best") -> Float[Array, "batch outputs"]:
        """The network's outputs for examples as the data set stores them (uint8 images)."""
        network, params, act_hparams = self._network(which)
        return network.forward(params, act_hparams, jnp.asarray(x))

    def _network(self, which: str) -> tuple[Network, Any, Any]:
        if which not in ("best", "last"):
            raise UserError(f"which={which}: must be best or last")
        try:
            folder = self.folder.checkpoints
            flat, about = checkpoint.load(folder, max(checkpoint.steps(folder), default=0))
            task = Task(**{**about["task"], "input_shape": tuple(about["task"]["input_shape"])})
            pack = make_pack([make_member(self.config)])
            hparams = {k: jnp.asarray(v[0]) for k, v in stack_hparams(pack).items()}
            network = Network(pack.static, task, hparams)
            params = "best" if which == "best" else "params"
            like = {params: network.params, "act_hparams": network.act_hparams}
            found = checkpoint.unflatten(like, flat)
        except checkpoint.CheckpointError as error:
            raise UserError(
                f"{self.folder.path}: {error}; train it again with rerun=all"
            ) from error
        return network, found[params], found["act_hparams"]


def load_run(path: str | Path) -> Run:
    """Open a run's folder, `outputs/runs/<run_id>`.

    >>> run = load_run("outputs/runs/relu-mlp4-torch-s0-3fa9c1d2")  # doctest: +SKIP
    >>> run.metrics()["val/accuracy"]  # doctest: +SKIP

    Raises:
        UserError: there is no run, or its config can't be read.
    """
    path = Path(path)
    file = path / "config.yaml"
    if not file.is_file():
        raise UserError(f"{path}: no run here; a run's folder holds config.yaml")
    plain = OmegaConf.load(file)
    assert isinstance(plain, DictConfig)
    return Run(RunDir(path.parent.parent, path.name), resolve.resolve(plain))
