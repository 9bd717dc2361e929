"""The checks that no single field of the schema can make: bounds, names, contradictions. No jax."""

import math
import re
from collections.abc import Mapping
from typing import Any

from actsweep.config.bounds import at_least, check_float32, is_int, is_number
from actsweep.config.schema import (
    BATCHINGS,
    DATASETS,
    INITS,
    LEVELS,
    LOGGER_MODES,
    LOSSES,
    MAX_SEED,
    MODELS,
    OPTIMISERS,
    PRECISIONS,
    RERUNS,
    SCHEDULES,
    SLURM_REQUEUE_S,
    TABLES,
    TASKS,
    TEXTS,
    DataConfig,
    DepthConfig,
    LoggerConfig,
    RunConfig,
    TrainerConfig,
)
from actsweep.utils.errors import UserError, bad_value, unknown_name

# Beyond these nothing has been tried, and planning alone would take minutes or all memory.
MAX_LAYERS, MAX_WIDTH, MAX_EPOCHS, MAX_STEPS = 256, 65_536, 100_000, 10**9
# What has to be known of the data before it is there.
EXAMPLES = {"fashion_mnist": 60_000, "mnist": 60_000, "kmnist": 60_000, "digits": 1_500}
IMAGE_SIDE = {"fashion_mnist": 28, "mnist": 28, "kmnist": 28, "digits": 8}


def check(run: RunConfig) -> None:
    """Refuse a run that can't be trained as it stands; widen whole-number act parameters to floats.

    Raises:
        UserError: a value is out of bounds, a name is unknown, or two fields contradict.
    """
    _check_act(run)
    _check_init(run)
    _check_optim(run)
    _check_trainer(run)
    _check_data(run)
    _check_loss(run)
    _check_model(run)
    _check_rest(run)


def widths(depth: DepthConfig) -> list[int]:
    """Return the widths of the hidden dense layers, from input to output.

    Raises:
        UserError: no layer, an empty one, or two ways of saying it that contradict.
    """
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
        sizes = list(depth.widths)
        if not 1 <= len(sizes) <= MAX_LAYERS:
            shown = f"of {len(sizes)} layers" if sizes else "[]"
            raise bad_value("depth.widths", shown, f"from 1 to {MAX_LAYERS} widths", "depth=4")
    else:
        layers = 4 if depth.layers is None else depth.layers
        if not 1 <= layers <= MAX_LAYERS:
            raise bad_value("depth", layers, f"from 1 to {MAX_LAYERS} hidden layers", "depth=4")
        sizes = [256 if depth.width is None else depth.width] * layers
    for width in sizes:
        if not 1 <= width <= MAX_WIDTH:
            raise bad_value("depth.width", width, f"from 1 to {MAX_WIDTH} units", "depth.width=256")
    return sizes


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
        elif isinstance(known[key], int | float) and not is_number(value):
            raise bad_value(path, value, "a number", f"{path}={known[key]}")


def _check_name(path: str, name: object) -> None:
    """Refuse a name that can't be part of a folder's name."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        raise bad_value(path, name, "letters, digits, '_', '-' and '.'", f"{path}=my_name")


def _check_act(run: RunConfig) -> None:
    name = run.act.get("name")
    if not isinstance(name, str):
        raise bad_value("act", name, "one activation's name", "act=relu")
    _check_name("act.name", name)
    if "_target_" in run.act and not run.act["_target_"]:
        raise bad_value("act._target_", "''", "a dotted path", "act._target_=my_module.my_function")
    for key, value in run.act_params.items():
        path = f"act.{key}"
        if is_int(value) and key != "pieces" and "_target_" not in run.act:
            run.act[key] = value = float(value)  # alpha=1 and alpha=1.0 are the same run
        if isinstance(value, float):
            check_float32(path, value, f"{path}=1.0")
        if key == "pieces" and (not is_int(value) or value < 2):
            raise bad_value(path, value, "an integer of at least 2", f"{path}=2")
        if key == "alpha" and is_number(value) and value <= 0:
            raise bad_value(path, value, "above 0", f"{path}=1.0")


def _check_init(run: RunConfig) -> None:
    init = run.init
    if init.name not in INITS:
        raise unknown_name("init", init.name, INITS)
    if init.gain != "auto":
        if not is_number(init.gain):
            raise bad_value("init.gain", init.gain, "auto or a number above 0", "init.gain=auto")
        init.gain = float(init.gain)
        at_least("init.gain", init.gain, 0, "init.gain=1.0", strict=True)
    at_least("init.scale", init.scale, 0, "init.scale=1.0")
    at_least("init.sigma_w", init.sigma_w, 0, "init.sigma_w=1.0")
    at_least("init.sigma_b", init.sigma_b, 0, "init.sigma_b=0.0")
    check_float32("init.bias", init.bias, "init.bias=0.0")


def _check_optim(run: RunConfig) -> None:
    optim = run.optim
    if optim.name not in OPTIMISERS:
        raise unknown_name("optim", optim.name, OPTIMISERS)
    if optim.schedule not in SCHEDULES:
        raise unknown_name("optim.schedule", optim.schedule, SCHEDULES)
    at_least("optim.lr", optim.lr, 0, "optim.lr=0.01", strict=True)
    for key in ("momentum", "b1", "b2", "warmup"):
        value = getattr(optim, key)
        if not 0 <= value < 1:
            raise bad_value(f"optim.{key}", value, "in [0, 1)", f"optim.{key}=0.9")
    at_least("optim.eps", optim.eps, 0, "optim.eps=1e-8", strict=True)
    at_least("optim.weight_decay", optim.weight_decay, 0, "optim.weight_decay=0.0")
    if optim.clip_norm is not None:
        at_least("optim.clip_norm", optim.clip_norm, 0, "optim.clip_norm=1.0", strict=True)


def _check_trainer(run: RunConfig) -> None:
    trainer = run.trainer
    for key, example in (("epochs", 10), ("batch_size", 256), ("chunk_steps", 100)):
        at_least(f"trainer.{key}", getattr(trainer, key), 1, f"trainer.{key}={example}")
    if trainer.epochs > MAX_EPOCHS:
        allowed = f"at most {MAX_EPOCHS}"
        raise bad_value("trainer.epochs", trainer.epochs, allowed, "trainer.epochs=10")
    at_least("trainer.probe_examples", trainer.probe_examples, 2, "trainer.probe_examples=512")
    at_least("trainer.save_every_s", trainer.save_every_s, 0, "trainer.save_every_s=60")
    at_least("trainer.grace_s", trainer.grace_s, 0, "trainer.grace_s=30", strict=True)
    at_least("trainer.min_epochs", trainer.min_epochs, 0, "trainer.min_epochs=0")
    if trainer.patience is not None:
        at_least("trainer.patience", trainer.patience, 1, "trainer.patience=7 (or null for none)")
    if trainer.precision not in PRECISIONS:
        raise unknown_name("trainer.precision", trainer.precision, PRECISIONS)
    at_least("trainer.mesh.data", trainer.mesh.data, 1, "trainer.mesh.data=1")
    if trainer.batch_size % trainer.mesh.data:
        raise bad_value(
            "trainer.mesh.data",
            trainer.mesh.data,
            f"a divisor of trainer.batch_size={trainer.batch_size}",
            "trainer.mesh.data=1",
        )
    _check_distributed(trainer)


def _check_distributed(trainer: TrainerConfig) -> None:
    where, count, index = trainer.distributed, trainer.processes, trainer.process
    if where in (None, "slurm"):
        for key, value in (("processes", count), ("process", index)):
            if value is not None:
                allowed = "absent unless trainer.distributed=host:port"
                raise bad_value(f"trainer.{key}", value, allowed, "trainer.distributed=slurm")
        return
    example = "trainer.distributed=node1:8476 trainer.processes=2 trainer.process=0"
    if not re.fullmatch(r"[\w.-]+:\d{1,5}|\[[\da-fA-F:.]+\]:\d{1,5}", str(where)):
        allowed = "slurm, or host:port of process 0"
        raise bad_value("trainer.distributed", where, allowed, example)
    if count is None or count < 2:
        raise bad_value("trainer.processes", _typed(count), "an integer of at least 2", example)
    if index is None or not 0 <= index < count:
        allowed = f"an integer from 0 to {count - 1}"
        raise bad_value("trainer.process", _typed(index), allowed, example)


def _typed(value: object) -> object:
    return "null" if value is None else value


def _check_data(run: RunConfig) -> None:
    data, batch = run.data, run.trainer.batch_size
    if data._target_ is None and data.name not in DATASETS:
        raise unknown_name("data", data.name, DATASETS)
    _check_size("data.val_size", data.val_size, shares=data.name in (*TABLES, *TEXTS))
    _check_size("data.test_size", data.test_size, shares=True)
    if data.task not in TASKS:
        raise unknown_name("data.task", data.task, TASKS)
    at_least("data.split_seed", data.split_seed, 0, "data.split_seed=0")
    at_least("data.examples", data.examples, 1, "data.examples=1000")
    at_least("data.noise", data.noise, 0, "data.noise=0.0")
    _check_target(data)
    if data.level not in LEVELS:
        raise unknown_name("data.level", data.level, LEVELS)
    at_least("data.length", data.length, 1, "data.length=64")
    if data._target_ is not None or data.name in (*TABLES, *TEXTS):
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


def _check_target(data: DataConfig) -> None:
    """Refuse what names no columns; only several labels that hold together have several."""
    several = isinstance(data.target, list)
    if several and (data.task != "multilabel" or not data.target):
        allowed = "one column, unless data.task=multilabel"
        raise bad_value("data.target", data.target, allowed, "data.task=multilabel")
    if several:
        data.target = list(map(str, data.target))
    elif data.target is not None:
        data.target = str(data.target)


def _check_loss(run: RunConfig) -> None:
    loss = run.loss
    if loss.name not in LOSSES:
        raise unknown_name("loss.name", loss.name, LOSSES)
    if not 0 <= loss.label_smoothing < 1:
        fix = "loss.label_smoothing=0.1"
        raise bad_value("loss.label_smoothing", loss.label_smoothing, "in [0, 1)", fix)


def _check_size(path: str, size: object, *, shares: bool) -> None:
    """Refuse what is no number of examples, nor, where `shares` may be given, a share of all."""
    count = is_int(size) and int(size) >= 1  # type: ignore[call-overload]
    share = (
        shares and isinstance(size, float) and (0 < size < 1 or (size >= 1 and size == int(size)))
    )
    if not count and not share:
        allowed = "a number of examples" + (", or a share between 0 and 1" if shares else "")
        raise bad_value(path, size, allowed, f"{path}={0.2 if shares else 10000}")


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
    if model.name in ("mlp", "cnn") and data._target_ is None and data.name in TEXTS:
        others = [name for name in MODELS if name not in ("mlp", "cnn")]
        fix = f"model={others[0]}" if others else "model._target_=my_module.MyModel"
        raise UserError(
            f"model={model.name}: takes numbers, and data={data.name} has tokens; type for example "
            f"{fix}"
        )
    if (
        model.name != "cnn" or data._target_ is not None or data.name == "npz"
    ):  # known once it is read
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


def _check_callbacks(run: RunConfig) -> None:
    for name, options in run.callbacks.items():
        path = f"callbacks.{name}"
        if options is None:  # as `{}`
            continue
        if not isinstance(options, Mapping):
            allowed = "a group of options, perhaps an empty one"
            raise bad_value(path, options, allowed, f"'{path}={{}}', or ~{path} to leave it out")
        for key in ("every", "every_steps"):
            value = options.get(key)
            if value is not None and not (is_int(value) and 1 <= value <= MAX_STEPS):
                allowed = f"a whole number from 1 to {MAX_STEPS}"
                raise bad_value(f"{path}.{key}", value, allowed, f"{path}.{key}=1")


def _check_rest(run: RunConfig) -> None:
    if not run.paths.outputs.strip():
        raise bad_value("paths.outputs", "''", "a folder", "paths.outputs=outputs")
    _check_callbacks(run)
    if not 0 <= run.seed <= MAX_SEED:
        raise bad_value("seed", run.seed, f"an integer from 0 to {MAX_SEED}", "seed=0")
    if run.logger.mode not in LOGGER_MODES:
        raise unknown_name("logger.mode", run.logger.mode, LOGGER_MODES)
    _check_wandb(run.logger)
    if run.rerun not in RERUNS:
        raise unknown_name("rerun", run.rerun, RERUNS)
    if run.pack.batching not in BATCHINGS:
        raise unknown_name("pack.batching", run.pack.batching, BATCHINGS)
    if run.pack.size != "auto" and not (is_int(run.pack.size) and run.pack.size >= 1):
        raise bad_value(
            "pack.size", run.pack.size, "auto or an integer of at least 1", "pack.size=auto"
        )
    _check_slurm(run)


def _check_wandb(logger: LoggerConfig) -> None:
    """Refuse what W&B would only refuse after training."""
    project = logger.project
    if project is not None and not re.fullmatch(r"[^/\\#?%:]{1,128}", project):
        allowed = "1 to 128 characters without / \\ # ? % :"
        raise bad_value("logger.project", project or "''", allowed, "logger.project=actsweep")
    for tag in logger.tags:
        if not 1 <= len(tag) <= 64:
            shown = f"{tag[:20]}…" if tag else "''"
            raise bad_value("logger.tags", shown, "of 1 to 64 characters", "logger.tags=[mine]")


def _check_slurm(run: RunConfig) -> None:
    slurm = run.slurm
    # SLURM warns a job up to a minute too early; at least half its time is for training.
    least = 2 * (run.trainer.grace_s + SLURM_REQUEUE_S + 60) / 3600
    if not least <= slurm.hours < math.inf:
        allowed = f"at least {least:.2g}, with trainer.grace_s={run.trainer.grace_s:g}"
        raise bad_value("slurm.hours", slurm.hours, allowed, "slurm.hours=4")
    at_least("slurm.gpus", slurm.gpus, 0, "slurm.gpus=1")
    for key, example in (("nodes", 1), ("cpus", 4), ("max_parallel", 8)):
        value = getattr(slurm, key)
        if value is not None:
            at_least(f"slurm.{key}", value, 1, f"slurm.{key}={example}")
    if slurm.mem_gb is not None:
        at_least("slurm.mem_gb", slurm.mem_gb, 0, "slurm.mem_gb=16", strict=True)
    if "array" in slurm.extra:  # any other option may be set, or removed by null
        fix = "pack.size=4 slurm.max_parallel=8"
        raise bad_value("slurm.extra.array", slurm.extra["array"], "left out: jobs are packs", fix)
    if slurm.nodes > 1 and run.trainer.distributed != "slurm":
        allowed = "1 unless trainer.distributed=slurm, which trains a pack on several nodes"
        fix = f"slurm.nodes={slurm.nodes} trainer.distributed=slurm"
        raise bad_value("slurm.nodes", slurm.nodes, allowed, fix)
