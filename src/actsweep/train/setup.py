"""Preparation of a pack: its data, its callbacks, a compiled program that fits."""

import contextlib
import functools
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from actsweep import callbacks, data
from actsweep.callbacks import Callback
from actsweep.config import by_layer
from actsweep.config.schema import DataConfig, RunConfig, varied_sources
from actsweep.data import Dataset, image_sets
from actsweep.loggers import wandb_support
from actsweep.nn.network import Task
from actsweep.runs.members import Pack, stack_hparams
from actsweep.runtime.devices import check_platform, set_up_devices
from actsweep.runtime.distributed import ProcessGroup
from actsweep.train import augment, own_code
from actsweep.train.memory import MemoryPlan, plan_memory
from actsweep.utils.errors import UserError, bad_value
from actsweep.utils.progress import slow

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedPack:
    """A pack with its data, callbacks and compiled program, ready to train."""

    pack: Pack
    task: Task
    callbacks: Mapping[str, Callback]
    data: Dataset
    memory: MemoryPlan


def set_up(
    pack: Pack,
    most: int | None = None,
    group: ProcessGroup | None = None,
    *,
    estimate: bool = False,
    keep: bool = False,
) -> PreparedPack:
    """Load the data and compile the pack; return it, prepared.

    It is compiled for as many members as memory and `most` allow.

    Args:
        pack: the members.
        most: how many may train at once; None for as many as fit.
        group: the processes that train them distributed; None for this one alone.
        estimate: whether the memory may be estimated; what is returned isn't to be trained then.
        keep: whether compiled programs may be taken from disk, and kept there: nothing of ours may
            have been changed in this process.

    Raises:
        UserError: bad input that only shows once data and devices are there.
    """
    set_up_devices()
    check_platform()
    config = pack.static
    with _said(config, group, f"loading data={config.data.name}"):
        examples = _load(json.dumps(asdict(config.data)))
    _check_split(pack)
    _check_batch(config, len(examples.train_x))
    augment.check(config.data.augment, examples.train_x.shape[1:], examples.name)
    observers = callbacks.build(config.callbacks)
    task = task_of(config, examples)
    hparams = stack_hparams(pack)
    own_code.check(config, task, hparams)
    logged = config.logger.mode != "disabled"
    held = 1 + wandb_support.FILES_A_RUN * logged + len(config.logger.writers)
    files = wandb_support.runs_that_fit(len(pack.members), held)
    most = max(1, min(files, most or files))
    with _said(config, group, f"compiling {_title(pack)}"):
        memory = plan_memory(
            *(config, task, hparams, observers, examples, most, group),
            estimate=estimate,
            keep=keep,
        )
    return PreparedPack(pack, task, observers, examples, memory)


def _said(
    config: RunConfig, group: ProcessGroup | None, what: str
) -> contextlib.AbstractContextManager[None]:
    """Return what says that something takes long, where and by whom progress is shown."""
    shown = config.logger.console and (group is None or group.rank == 0)
    return slow(what) if shown else contextlib.nullcontext()


def _title(pack: Pack) -> str:
    config, runs = pack.static, len(pack.members)
    name = f"{by_layer.label(config.act)} {config.model.name}{len(config.widths)}"
    return f"{name} ({runs} run{'s' * (runs > 1)})"


@functools.lru_cache(maxsize=1)
def _load(config: str) -> Dataset:
    """Load the data of a `DataConfig` in JSON; cached, since most packs of a sweep share it."""
    return data.load(DataConfig(**json.loads(config)), log.info)


def task_of(config: RunConfig, examples: Dataset) -> Task:
    """Return the task of the network on this data: shapes, scaling, number of steps."""
    steps = len(examples.train_x) // config.trainer.batch_size
    return Task(
        input_shape=examples.train_x.shape[1:],
        classes=examples.classes,
        outputs=examples.outputs,
        scale=examples.scale,
        offset=examples.offset,
        total_steps=steps * config.trainer.epochs,
        vocabulary=examples.vocabulary,
        kind=examples.task,
    )


def _check_split(pack: Pack) -> None:
    """Refuse to vary the split of a set that brings its own."""
    cfg = pack.static.data
    varies = (m.config.vary for m in pack.members if "split" in varied_sources(m.config.vary))
    vary = next(varies, None)
    if vary and cfg.source is not None and image_sets.has_own_splits(cfg):
        raise UserError(
            f"vary={vary}: the split of data={cfg.source} data.name={cfg.name}, which brings "
            "validation and test, is fixed; type for example vary=init or vary=order"
        )


def _check_batch(config: RunConfig, examples: int) -> None:
    if config.trainer.batch_size > examples:
        raise bad_value(
            "trainer.batch_size",
            config.trainer.batch_size,
            f"at most {examples}, the number of training examples of data={config.data.name}",
            f"trainer.batch_size={min(256, max(1, examples // 10))}",
        )
