"""The way from a composed config, or a run's `config.yaml`, to a checked `RunConfig`.

Nothing here imports jax, so that `--help` and config errors appear at once and login nodes can plan
sweeps.
"""

import functools
from dataclasses import is_dataclass
from typing import Any, TypeVar

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
    LossConfig,
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

Part = TypeVar("Part")
_LEAVES = (str, int, float, bool)

__all__ = [
    "DATASETS",
    "INITS",
    "DataConfig",
    "DepthConfig",
    "InitConfig",
    "LoggerConfig",
    "LossConfig",
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
    "part",
    "register",
    "resolve",
    "to_dict",
    "typed",
]


def register() -> None:
    """Give Hydra the schema, so that it refuses a misspelt key or a wrong type while composing."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=RunConfig, provider="actsweep")
    OmegaConf.register_new_resolver("train_command", train_command, replace=True)  # for --help
    # Hydra copies its search path, with the store, for every group that --help lists and every run
    # of a sweep. What it loads from the store is a copy in any case.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]


def resolve(cfg: DictConfig | dict[str, Any]) -> RunConfig:
    """Type, check and normalise a composed config.

    Args:
        cfg: a config composed by Hydra, or a nested dict such as a run's `config.yaml`. Keys that a
            dict leaves out take the schema's defaults.

    Returns:
        A `RunConfig` whose `depth.widths` lists every hidden layer.

    Raises:
        UserError: a value is out of bounds, a name is unknown, or two fields contradict.
    """
    return finish(typed(cfg))


def finish(cfg: DictConfig) -> RunConfig:
    """Return the checked run of a `typed` config.

    Raises:
        UserError: as `resolve`.
    """
    run = part(cfg, RunConfig)
    run.depth.widths = validate.widths(run.depth, run.model.name)
    run.depth.layers, run.depth.width = len(run.depth.widths), None
    validate.check(run)
    return run


def part(cfg: DictConfig, kind: type[Part]) -> Part:
    """Return a typed config, or one of its groups, as an object of the schema.

    Raises:
        UserError: a value is missing, or an interpolation can't be resolved.
    """
    try:
        made = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        raise UserError(explain_value(error)) from error
    assert isinstance(made, kind)
    return made


def typed(cfg: DictConfig | dict[str, Any]) -> DictConfig:
    """Return a composed config, or a nested dict, with the schema's types; interpolations stay.

    Raises:
        UserError: a value of the wrong type, or a key that the schema doesn't have.
    """
    if isinstance(cfg, DictConfig):
        selected = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        plain: Any = OmegaConf.to_container(selected)  # so that the schema checks every key again
    else:
        plain = cfg
    try:
        merged = OmegaConf.merge(_schema(), current_keys(plain))
    except OmegaConfBaseException as error:
        raise UserError(explain_value(error)) from error
    assert isinstance(merged, DictConfig)
    return merged


@functools.cache
def _schema() -> DictConfig:
    return OmegaConf.structured(RunConfig)


def from_dict(plain: dict[str, Any]) -> RunConfig:
    """Return the run of a nested dict from `to_dict` that was checked before, as in `plan.json`."""
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
    """Return the run as nested dicts, lists and numbers: the contents of `config.yaml`."""
    plain: dict[str, Any] = _plain(run)
    return plain


def _plain(value: Any) -> Any:
    """Do what `dataclasses.asdict` does, five times as fast: it copies even numbers deeply."""
    if value is None or type(value) in _LEAVES:  # nearly all are
        return value
    if is_dataclass(value):
        return {key: _plain(part) for key, part in vars(value).items()}
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value
