"""Hydra's application around the conf/ that actsweep brings, for the command and for Python.

Hydra names its job, and the job's log, after this module: `train`, as for train.py.
"""

from collections.abc import Callable

import hydra
from omegaconf import DictConfig

from actsweep.config import resolve
from actsweep.config.conf_dir import conf_dir
from actsweep.launch import entry


def application() -> Callable[[], None]:
    """Return what trains the overrides in `sys.argv`."""
    resolve.register()
    at = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
    return at(_task)


def _task(cfg: DictConfig) -> object:
    return entry.run(cfg)
