"""A run read back from disk: its config, its measurements, its trained network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Shaped
from omegaconf import DictConfig, OmegaConf

from actsweep import data
from actsweep.config import resolve
from actsweep.config.schema import RunConfig
from actsweep.data import Dataset
from actsweep.data.dataset import SPLITS, DiskRows
from actsweep.nn.network import Network, Task
from actsweep.runs import checkpoint, run_dir
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.runs.metrics_file import HistogramSeries, read_histograms, read_metrics
from actsweep.runs.run_dir import RunDir
from actsweep.stats.scores import SCORES
from actsweep.utils.errors import UserError
from actsweep.utils.notebook import as_html

SLICE = 4096
"""Examples of one forward pass."""
SHOWN = ("state", "cause", *(f"test_{name}" for name in SCORES), "best_epoch", "epochs", "seconds")
"""What a notebook shows of a run's status and summary."""
BEST, LAST = ("best", "best_model_state"), ("params", "model_state")
"""Names of arrays in checkpoints: the parameters, and the state that belongs to them."""


@dataclass(frozen=True, repr=False)
class Run:
    """A run on disk.

    Attributes:
        folder: its folder.
        config: its resolved config.
    """

    folder: RunDir
    config: RunConfig

    @property
    def status(self) -> dict[str, Any]:
        """Return `status.json`: state, step, times, git SHA."""
        return run_dir.read_status(self.folder) or {}

    @property
    def summary(self) -> dict[str, Any]:
        """Return `summary.json`: the final numbers; empty before the end."""
        return run_dir.read_summary(self.folder) or {}

    def metrics(self) -> dict[str, np.ndarray]:
        """Return one column per metric, one value per logged step; NaN where a step lacks it.

        `pandas.DataFrame(run.metrics())` is a data frame.
        """
        return read_metrics(self.folder.metrics)

    def histograms(self) -> dict[str, HistogramSeries]:
        """Return counts, edges and steps by metric name."""
        return read_histograms(self.folder.histograms)

    def model(self, which: str = "best") -> nnx.Module:
        """Return the trained network; call it on normalised examples, or see `logits`.

        >>> run.model()(normalised)  # doctest: +SKIP

        Args:
            which: `best`, by validation, or `last`.

        Raises:
            UserError: the checkpoint is missing or damaged.
        """
        network, params, held = self._network(which)
        return network.merge(params, held)

    def parameters(self, which: str = "best") -> tuple[Any, Any]:
        """Return the trained parameters, and what else the network holds, as in training.

        Args, Raises: as `model`.
        """
        return self._network(which)[1:]

    @property
    def params(self) -> Any:
        """Return the trained parameters, the best by validation; see `parameters`.

        Raises:
            UserError: the checkpoint is missing or damaged.
        """
        return self.parameters()[0]

    def dataset(self) -> Dataset:
        """Return the data set that the run was trained on, with its splits.

        Raises:
            UserError: it can't be loaded.
        """
        return data.load(self.config.data)

    def logits(self, x: np.ndarray, which: str = "best") -> Float[Array, "batch outputs"]:
        """Return the network's outputs for examples as the data set stores them.

        >>> run.logits(run.dataset().test_x[:100]).shape  # doctest: +SKIP
        (100, 10)

        Args:
            x: [n, ...] such as `run.dataset().test_x`; images are uint8 from 0 to 255.
            which: `best`, by validation, or `last`.

        Raises:
            UserError: the checkpoint is missing or damaged, or these aren't such examples.
        """
        return _logits(self._network(which), x)

    def predict(
        self, x: np.ndarray | DiskRows, which: str = "best"
    ) -> Shaped[np.ndarray, "batch ..."]:
        """Return what the network takes examples for.

        >>> run.predict(run.dataset().test_x) == run.dataset().test_y  # doctest: +SKIP

        Args:
            x: [n, ...] such as `run.dataset().test_x`; images are uint8 from 0 to 255.
            which: `best`, by validation, or `last`.

        Returns:
            As `run.dataset().test_y`: int64 [n] classes; float32 [n, outputs] numbers of a
            regression; 0 or 1, int64 [n, labels], where several labels may hold together; or int64
            [n, length], after each token the most likely next one.

        Raises:
            UserError: as `logits`.
        """
        trained = self._network(which)
        starts = range(0, max(len(x), 1), SLICE)
        logits = np.concatenate([_logits(trained, x[start : start + SLICE]) for start in starts])
        task = trained[0].task.name
        if task == "regression":
            return logits
        if task == "multilabel":
            return (logits > 0).astype(np.int64)
        return np.argmax(logits, axis=-1)

    def confusion(self, split: str = "test", which: str = "best") -> Int[np.ndarray, "true said"]:
        """Return how many examples of each class (row) were taken for each class (column).

        The diagonal over the rows' sums is the accuracy of each class; `run.dataset().labels` are
        the classes' names.

        >>> run.confusion().diagonal() / run.confusion().sum(1)  # doctest: +SKIP

        Args:
            split: `train`, `val` or `test`.
            which: `best`, by validation, or `last`.

        Raises:
            UserError: the run learned no classes, or the checkpoint is missing or damaged.
        """
        if split not in SPLITS:
            raise UserError(f"split={split}: must be one of {', '.join(SPLITS)}")
        examples = self.dataset()
        if examples.task != "classification" or examples.classes is None:
            raise UserError(
                f"{self.folder.path}: has learned no classes, but a task of {examples.task}, so "
                "that there is nothing to confuse"
            )
        x, y = getattr(examples, f"{split}_x"), getattr(examples, f"{split}_y")
        counts = np.zeros((examples.classes, examples.classes), int)
        np.add.at(counts, (y, self.predict(x, which)), 1)
        return counts

    def __repr__(self) -> str:
        return f"<Run {self.folder.run_id}: {self.status.get('state', 'waiting')}>"

    def _repr_html_(self) -> str:
        numbers = {**self.status, **self.summary}
        lines = [f"{key:24} {value}" for key, value in numbers.items() if key in SHOWN]
        return as_html("\n".join([self.folder.run_id, *lines]))

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
            params, state = BEST if which == "best" else LAST
            hparams_like, state_like = network.held
            like = {params: network.params, "act_hparams": hparams_like, state: state_like}
            arrays = checkpoint.unflatten(like, flat)
        except checkpoint.CheckpointError as error:
            raise UserError(
                f"{self.folder.path}: {error}; train it again with rerun=all"
            ) from error
        return network, arrays[params], (arrays["act_hparams"], arrays[state])


def _logits(
    trained: tuple[Network, Any, Any], x: np.ndarray | DiskRows
) -> Float[Array, "batch outputs"]:
    """Return the outputs of a network with its parameters, and what else it holds."""
    network, params, held = trained
    x = np.asarray(x)
    _check_examples(x, network.task)
    return network.forward(params, held, jnp.asarray(x))


def _check_examples(x: np.ndarray, task: Task) -> None:
    """Check that these are examples as the data set stores them.

    Raises:
        UserError: they have another shape, or are images that are scaled already.
    """
    if x.shape == task.input_shape:
        raise UserError(
            f"x of shape {list(x.shape)} is one example without a batch axis; type logits(x[None])"
        )
    if x.shape[1:] != task.input_shape:
        raise UserError(
            f"x has shape {list(x.shape)}: must be [n, {', '.join(map(str, task.input_shape))}], "
            "as run.dataset().test_x"
        )
    if task.vocabulary is not None:
        _check_tokens(x, task.vocabulary)
    if (task.scale, task.offset) == (1.0, 0.0):
        return
    whole = np.issubdtype(x.dtype, np.integer) or bool((x == np.round(x)).all())
    if x.size and not (whole and x.min() >= 0 and x.max() <= 255):
        raise UserError(
            f"x of {x.dtype} lies in [{x.min():g}, {x.max():g}]: this network takes images as they "
            "are stored, whole numbers from 0 to 255, and scales them itself; type logits(255 * x) "
            "if x lies in [0, 1]"
        )


def _check_tokens(x: np.ndarray, vocabulary: int) -> None:
    whole = np.issubdtype(x.dtype, np.integer)
    if x.size and not (whole and x.min() >= 0 and x.max() < vocabulary):
        raise UserError(
            f"x of {x.dtype} lies in [{x.min():g}, {x.max():g}]: this network takes tokens, whole "
            f"numbers from 0 to {vocabulary - 1}, as run.dataset().test_x"
        )


def load_run(path: str | Path) -> Run:
    """Open a run's folder, `outputs/runs/<run_id>`, and return the run.

    >>> run = load_run("outputs/runs/relu-mlp4-torch-s0-3fa9c1d2")  # doctest: +SKIP
    >>> run.metrics()["val/accuracy"]  # doctest: +SKIP

    Raises:
        UserError: there is no run, its config can't be read, or it is another run's.
    """
    path = Path(path)
    file = path / "config.yaml"
    if not file.is_file():
        raise UserError(f"{path}: no run here; a run's folder holds config.yaml")
    plain = OmegaConf.load(file)
    assert isinstance(plain, DictConfig)
    run = Run(RunDir(path.parent.parent, path.name), resolve.resolve(plain))
    run_dir.check_owner(run.folder, run.summary)
    return run
