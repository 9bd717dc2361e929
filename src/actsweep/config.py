"""From what Hydra composed, or a run's `config.yaml`, to a checked `RunConfig`.

Nothing here imports jax, so that `--help` and a config error answer at once and login nodes can
plan sweeps.
"""

from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from actsweep import checks
from actsweep.errors import UserError
from actsweep.explain import explain_value
from actsweep.schema import (
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
    TrainerConfig,
)

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
    "TrainerConfig",
    "register",
    "resolve",
    "to_dict",
]


def register() -> None:
    """Give Hydra the schema, so that a misspelt key or a wrong type is refused when it composes."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=RunConfig, provider="actsweep")
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
    try:
        if isinstance(cfg, DictConfig):  # as plain values, so that the schema meets every key again
            own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
            plain = OmegaConf.to_container(own, resolve=True)
        else:
            plain = cfg
        run = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), plain))
    except OmegaConfBaseException as error:
        raise UserError(explain_value(error)) from error
    assert isinstance(run, RunConfig)
    run.depth.widths = checks.widths(run.depth)
    run.depth.layers, run.depth.width = len(run.depth.widths), None
    checks.check(run)
    return run


def to_dict(run: RunConfig) -> dict[str, Any]:
    """The run as nested plain dicts, lists and numbers: what `config.yaml` holds."""
    return asdict(run)
