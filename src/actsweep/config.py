"""What a run is: the typed schema of `conf/`, and the checks that no single field can make.

`resolve()` turns a composed Hydra config into a checked `RunConfig`. Nothing here imports jax, so
that `--help` and a config error answer at once and login nodes can plan sweeps.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from actsweep.errors import UserError, bad_value, unknown_name
from actsweep.explain import explain_value

INITS = (
    "torch_uniform",
    "lecun_normal",
    "he_normal",
    "he_uniform",
    "glorot_normal",
    "glorot_uniform",
    "orthogonal",
    "normal",
)
OPTIMISERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "warmup_cosine")
PRECISIONS = ("float32", "bfloat16")
LIFTS = ("auto", "map", "vmap")
LOGGER_MODES = ("offline", "online", "disabled")
RERUNS = ("none", "failed", "diverged", "all")
MODELS = ("mlp", "cnn")
DATASETS = ("fashion_mnist", "mnist", "kmnist", "digits", "circle", "xor", "quadratic")
MAX_SEED = 2**32 - 1

# What the checks need to know of the data before it is there.
EXAMPLES = {"fashion_mnist": 60_000, "mnist": 60_000, "kmnist": 60_000, "digits": 1_500}
IMAGE_SIDE = {"fashion_mnist": 28, "mnist": 28, "kmnist": 28, "digits": 8}


@dataclass
class DepthConfig:
    """Hidden dense layers: `layers` of equal `width`, or the list `widths`."""

    layers: int | None = None
    width: int | None = None
    widths: list[int] | None = None


@dataclass
class InitConfig:
    """How weights and biases are drawn; `gain` is a number or `auto`."""

    name: str = "torch_uniform"
    scale: float = 1.0
    gain: Any = 1.0
    sigma_w: float = 1.0
    sigma_b: float = 0.0


@dataclass
class ModelConfig:
    """The network around the activation; `channels` are the CNN's convolutions."""

    name: str = "mlp"
    channels: list[int] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    _target_: str | None = None


@dataclass
class DataConfig:
    """The examples. `dir` holds prepared TFDS folders; `stream` keeps the training set on the host."""

    name: str = "fashion_mnist"
    dir: str | None = None
    val_size: int = 10_000
    split_seed: int = 0
    examples: int = 1_000
    noise: float = 0.0
    stream: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    _target_: str | None = None


@dataclass
class OptimConfig:
    """The optimiser, its schedule and its clipping."""

    name: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.1
    clip_norm: float | None = None


@dataclass
class MeshConfig:
    """How many devices share one member's batch."""

    data: int = 1


@dataclass
class TrainerConfig:
    """Length, batches, stopping and arithmetic of the training."""

    epochs: int = 20
    batch_size: int = 256
    patience: int | None = 7
    precision: str = "float32"
    chunk_steps: int = 100
    probe_examples: int = 2_048
    mesh: MeshConfig = field(default_factory=MeshConfig)


@dataclass
class LoggerConfig:
    """Weights & Biases: offline by default."""

    mode: str = "offline"
    project: str = "actsweep"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)
    require_online: bool = False
    console: bool = True


@dataclass
class PathsConfig:
    """Where everything is written."""

    outputs: str = "outputs"


@dataclass
class PackConfig:
    """How the members of a sweep share compiled programs. `members` is filled in by the sweeper."""

    size: Any = "auto"
    lift: str = "auto"
    plan: bool = False
    members: list[str] | None = None


@dataclass
class RunConfig:
    """One fully resolved run. Fields are named as one types them on the command line."""

    act: dict[str, Any] = field(default_factory=dict)
    depth: DepthConfig = field(default_factory=DepthConfig)
    init: InitConfig = field(default_factory=InitConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    callbacks: dict[str, Any] = field(default_factory=dict)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    pack: PackConfig = field(default_factory=PackConfig)
    seed: int = 0
    rerun: str = "none"

    @property
    def act_params(self) -> dict[str, Any]:
        """The activation's own parameters, without its name and target."""
        return {k: v for k, v in self.act.items() if k not in ("name", "_target_")}

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden dense layers, from input to output."""
        assert self.depth.widths is not None
        return tuple(self.depth.widths)


def register() -> None:
    """Give Hydra the schema, so that a misspelt key or a wrong type is refused when it composes."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=RunConfig, provider="actsweep")


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
    run.depth.widths = _widths(run.depth)
    run.depth.layers, run.depth.width = len(run.depth.widths), None
    for check in (
        _check_act,
        _check_init,
        _check_optim,
        _check_trainer,
        _check_data,
        _check_model,
        _check_rest,
    ):
        check(run)
    return run


def to_dict(run: RunConfig) -> dict[str, Any]:
    """The run as nested plain dicts, lists and numbers: what `config.yaml` holds."""
    return asdict(run)


def check_act_params(run: RunConfig, known: Mapping[str, Any]) -> None:
    """Refuse parameters that the activation doesn't have, or of another kind than its defaults.

    Args:
        run: a resolved run.
        known: the activation's parameters with their defaults.

    Raises:
        UserError: names the parameter.
    """
    for key, value in run.act_params.items():
        path = f"act.{key}"
        if key not in known:
            raise UserError(
                f"{path}={value}: act={run.act['name']} has no such parameter; leave it out. "
                f"Known here: {', '.join(f'act.{k}' for k in known) or 'none'}"
            )
        if isinstance(known[key], bool):
            if not isinstance(value, bool):
                raise bad_value(path, value, "true or false", f"{path}={str(known[key]).lower()}")
        elif isinstance(known[key], int | float) and not _is_number(value):
            raise bad_value(path, value, "a number", f"{path}={known[key]}")


def _widths(depth: DepthConfig) -> list[int]:
    if depth.widths is not None:
        if depth.layers not in (None, len(depth.widths)):
            raise bad_value(
                "depth.layers",
                depth.layers,
                f"{len(depth.widths)}, the length of depth.widths={depth.widths}",
                f"depth={depth.layers} for layers of equal width",
            )
        if depth.width is not None:
            raise bad_value(
                "depth.width",
                depth.width,
                f"absent beside depth.widths={depth.widths}",
                f"depth={len(depth.widths)} depth.width={depth.width}",
            )
        widths = list(depth.widths)
        if not widths:
            raise bad_value("depth.widths", "[]", "at least one width", "depth=4")
    else:
        layers = 4 if depth.layers is None else depth.layers
        if layers < 1:
            raise bad_value("depth", layers, "at least 1 hidden layer", "depth=4")
        widths = [256 if depth.width is None else depth.width] * layers
    for width in widths:
        if width < 1:
            raise bad_value("depth.width", width, "at least 1 unit", "depth.width=256")
    return widths


def _check_name(path: str, name: object) -> None:
    """A name that becomes part of a run's folder."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        raise bad_value(path, name, "letters, digits, '_', '-' and '.'", f"{path}=my_own")


def _check_act(run: RunConfig) -> None:
    name = run.act.get("name")
    if not isinstance(name, str):
        raise bad_value("act", name, "one activation's name", "act=relu")
    _check_name("act.name", name)
    for key, value in run.act_params.items():
        path = f"act.{key}"
        if _is_int(value) and key != "pieces" and "_target_" not in run.act:
            run.act[key] = value = float(value)  # alpha=1 and alpha=1.0 are the same run
        if isinstance(value, float) and not math.isfinite(value):
            raise bad_value(path, value, "a finite number", f"{path}=1.0")
        if key == "pieces" and (not _is_int(value) or value < 2):
            raise bad_value(path, value, "an integer of at least 2", f"{path}=2")
        if key == "alpha" and _is_number(value) and value <= 0:
            raise bad_value(path, value, "above 0", f"{path}=1.0")


def _check_init(run: RunConfig) -> None:
    init = run.init
    if init.name not in INITS:
        raise unknown_name("init", init.name, INITS)
    if init.gain != "auto":
        if not _is_number(init.gain):
            raise bad_value("init.gain", init.gain, "auto or a number above 0", "init.gain=auto")
        init.gain = float(init.gain)
        _at_least("init.gain", init.gain, 0, "init.gain=1.0", strict=True)
    _at_least("init.scale", init.scale, 0, "init.scale=1.0")
    _at_least("init.sigma_w", init.sigma_w, 0, "init.sigma_w=1.0")
    _at_least("init.sigma_b", init.sigma_b, 0, "init.sigma_b=0.0")


def _check_optim(run: RunConfig) -> None:
    optim = run.optim
    if optim.name not in OPTIMISERS:
        raise unknown_name("optim", optim.name, OPTIMISERS)
    if optim.schedule not in SCHEDULES:
        raise unknown_name("optim.schedule", optim.schedule, SCHEDULES)
    _at_least("optim.lr", optim.lr, 0, "optim.lr=0.01", strict=True)
    for key in ("momentum", "b1", "b2", "warmup"):
        value = getattr(optim, key)
        if not 0 <= value < 1:
            raise bad_value(f"optim.{key}", value, "in [0, 1)", f"optim.{key}=0.9")
    _at_least("optim.eps", optim.eps, 0, "optim.eps=1e-8", strict=True)
    _at_least("optim.weight_decay", optim.weight_decay, 0, "optim.weight_decay=0.0")
    if optim.clip_norm is not None:
        _at_least("optim.clip_norm", optim.clip_norm, 0, "optim.clip_norm=1.0", strict=True)


def _check_trainer(run: RunConfig) -> None:
    trainer = run.trainer
    for key, example in (("epochs", 20), ("batch_size", 256), ("chunk_steps", 100)):
        _at_least(f"trainer.{key}", getattr(trainer, key), 1, f"trainer.{key}={example}")
    _at_least("trainer.probe_examples", trainer.probe_examples, 2, "trainer.probe_examples=2048")
    if trainer.patience is not None:
        _at_least("trainer.patience", trainer.patience, 1, "trainer.patience=7 (or null for none)")
    if trainer.precision not in PRECISIONS:
        raise unknown_name("trainer.precision", trainer.precision, PRECISIONS)
    _at_least("trainer.mesh.data", trainer.mesh.data, 1, "trainer.mesh.data=1")
    if trainer.batch_size % trainer.mesh.data:
        raise bad_value(
            "trainer.mesh.data",
            trainer.mesh.data,
            f"a divisor of trainer.batch_size={trainer.batch_size}",
            "trainer.mesh.data=1",
        )


def _check_data(run: RunConfig) -> None:
    data, batch = run.data, run.trainer.batch_size
    if data._target_ is None and data.name not in DATASETS:
        raise unknown_name("data", data.name, DATASETS)
    _at_least("data.val_size", data.val_size, 1, "data.val_size=10000")
    _at_least("data.split_seed", data.split_seed, 0, "data.split_seed=0")
    _at_least("data.examples", data.examples, 1, "data.examples=1000")
    _at_least("data.noise", data.noise, 0, "data.noise=0.0")
    if data._target_ is not None:
        return
    whole = EXAMPLES.get(data.name)
    if whole is not None and data.val_size >= whole:
        fix = f"data.val_size={whole // 6}"
        raise bad_value("data.val_size", data.val_size, f"below {whole} for data={data.name}", fix)
    train = data.examples if whole is None else whole - data.val_size
    if batch > train:
        allowed = f"at most {train}, the number of training examples of data={data.name}"
        fix = f"trainer.batch_size={min(256, max(1, train // 10))}"
        raise bad_value("trainer.batch_size", batch, allowed, fix)


def _check_model(run: RunConfig) -> None:
    model, data = run.model, run.data
    if model._target_ is not None:
        _check_name("model.name", model.name)
        return
    if model.name not in MODELS:
        raise unknown_name("model", model.name, MODELS)
    for units in model.channels:
        if units < 1:
            raise bad_value("model.channels", model.channels, "at least 1 each", "model=cnn")
    if model.name != "cnn" or data._target_ is not None:
        return
    side, pools = IMAGE_SIDE.get(data.name), len(model.channels or [32, 64])
    if side is None:
        fitting = ", ".join(sorted(IMAGE_SIDE))
        raise UserError(
            f"model=cnn: needs images, and data={data.name} has none; type for example "
            f"data=fashion_mnist, or model=mlp. Images: {fitting}"
        )
    if side < 2**pools:
        most = int(math.log2(side))
        raise UserError(
            f"model.channels={model.channels}: {pools} poolings need images of at least "
            f"{2**pools}x{2**pools}, and those of data={data.name} are {side}x{side}: at most "
            f"{most}; type for example 'model.channels=[32]'"
        )


def _check_rest(run: RunConfig) -> None:
    if not 0 <= run.seed <= MAX_SEED:
        raise bad_value("seed", run.seed, f"an integer from 0 to {MAX_SEED}", "seed=0")
    if run.logger.mode not in LOGGER_MODES:
        raise unknown_name("logger.mode", run.logger.mode, LOGGER_MODES)
    if run.rerun not in RERUNS:
        raise unknown_name("rerun", run.rerun, RERUNS)
    if run.pack.lift not in LIFTS:
        raise unknown_name("pack.lift", run.pack.lift, LIFTS)
    if run.pack.size != "auto" and not (_is_int(run.pack.size) and run.pack.size >= 1):
        raise bad_value(
            "pack.size", run.pack.size, "auto or an integer of at least 1", "pack.size=auto"
        )


def _at_least(path: str, value: float, low: float, fix: str, strict: bool = False) -> None:
    if not math.isfinite(value) or value < low or (strict and value == low):
        raise bad_value(path, value, f"a number {'above' if strict else 'of at least'} {low}", fix)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
