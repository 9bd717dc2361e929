"""From what Hydra composed, or a run's `config.yaml`, to a checked `RunConfig`.

Nothing here imports jax, so that `--help` and a config error answer at once and login nodes can
plan sweeps.
"""

import functools
from dataclasses import asdict, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from actsweep.config import validate
from actsweep.config.error_messages import explain_value
from actsweep.config.overrides import current_keys
from actsweep.config.schema import (
    DATASETS,
    INITS,
    DataConfig,
    DepthConfig,
    InitConfig,
    LoggerConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    PackConfig,
    PathsConfig,
    RunConfig,
    SlurmConfig,
    TrainerConfig,
)
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import train_command

__all__ = [
    "DATASETS",
    "INITS",
    "DataConfig",
    "DepthConfig",
    "InitConfig",
    "LoggerConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimConfig",
    "PackConfig",
    "PathsConfig",
    "RunConfig",
    "SlurmConfig",
    "TrainerConfig",
    "finish",
    "from_dict",
    "register",
    "resolve",
    "to_dict",
    "typed",
]


def register() -> None:
    """Give Hydra the schema, so that a misspelt key or a wrong type is refused when it composes,
    and its help the command that was typed."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=RunConfig, provider="actsweep")
    OmegaConf.register_new_resolver("train_command", train_command, replace=True)
    # Hydra copies its search path, store and all, for every group that --help lists and every run
    # of a sweep; what it takes out of the store is a copy anyhow.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]


def resolve(cfg: DictConfig | dict[str, Any]) -> RunConfig:
    """Type, check and normalise a composed config.

    Args:
        cfg: what Hydra composed, or a plain nested dict such as a run's `config.yaml`. Keys that a
            plain dict leaves out take the schema's defaults.

    Returns:
        A `RunConfig` whose `depth.widths` lists every hidden layer.

    Raises:
        UserError: a value is out of bounds, a name is unknown, or two fields contradict.
    """
    return finish(typed(cfg))


def finish(cfg: DictConfig) -> RunConfig:
    """The checked run of a `typed` config.

    Raises:
        UserError: as `resolve`.
    """
    try:
        run = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        raise UserError(explain_value(error)) from error
    assert isinstance(run, RunConfig)
    run.depth.widths = validate.widths(run.depth)
    run.depth.layers, run.depth.width = len(run.depth.widths), None
    validate.check(run)
    return run


def typed(cfg: DictConfig | dict[str, Any]) -> DictConfig:
    """A composed config, or plain values, under the schema's types; interpolations stay.

    Raises:
        UserError: a value of the wrong type, or a key that the schema doesn't have.
    """
    if isinstance(cfg, DictConfig):
        own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        plain: Any = OmegaConf.to_container(own)  # so that the schema meets every key again
    else:
        plain = cfg
    try:
        found = OmegaConf.merge(_schema(), current_keys(plain))
    except OmegaConfBaseException as error:
        raise UserError(explain_value(error)) from error
    assert isinstance(found, DictConfig)
    return found


@functools.cache
def _schema() -> DictConfig:
    return OmegaConf.structured(RunConfig)


def from_dict(plain: dict[str, Any]) -> RunConfig:
    """The run that `to_dict` took apart: for what has been checked before, as in `plan.json`."""
    return _build(RunConfig, current_keys(plain))


def _build(kind: Any, plain: dict[str, Any]) -> Any:
    default = vars(kind())
    return kind(
        **{
            key: _build(type(default[key]), value) if is_dataclass(default[key]) else value
            for key, value in plain.items()
        }
    )


def to_dict(run: RunConfig) -> dict[str, Any]:
    """The run as nested plain dicts, lists and numbers: what `config.yaml` holds."""
    return asdict(run)
