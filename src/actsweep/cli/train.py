"""`actsweep train`: what train.py does, in any folder, with the conf/ that actsweep brings.

Hydra names its job, and the job's log, after this module: `train`, as for train.py.
"""

from collections.abc import Sequence

import hydra
from omegaconf import DictConfig

from actsweep.config import resolve
from actsweep.config.conf_dir import conf_dir
from actsweep.launch import entry
from actsweep.utils.invocation import as_train


def train(words: Sequence[str]) -> int:
    """Train what the words ask for, all of which are Hydra's; the exit code."""
    as_train(words)
    resolve.register()
    at = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
    return entry.guard(at(_task))


def _task(cfg: DictConfig) -> object:
    return entry.run(cfg)
