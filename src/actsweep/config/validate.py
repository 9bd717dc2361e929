"""The checks that no single field of the schema can make: bounds, names, contradictions. No jax."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from actsweep.config import by_layer, transform, validate_data, validate_init, validate_model
from actsweep.config.numbers import at_least, check_float32, is_int, is_number
from actsweep.config.schema import (
    BATCHINGS,
    DEPTHS,
    LOGGER_MODES,
    LOGGERS,
    LOSSES,
    MAX_SEED,
    OPTIMISERS,
    PRECISIONS,
    RANDOM_SOURCES,
    RERUNS,
    SCHEDULES,
    SLURM_REQUEUE_S,
    DataConfig,
    DepthConfig,
    LoggerConfig,
    RunConfig,
    SweepConfig,
    TrainerConfig,
    varied_sources,
)
from actsweep.formulas import grammar
from actsweep.formulas.rescaling import SCALES, TARGET, transform_of
from actsweep.utils.errors import UserError, bad_value, unknown_name

# Beyond these nothing has been tried, and planning alone would take minutes or all memory.
MAX_LAYERS, MAX_WIDTH, MAX_EPOCHS, MAX_STEPS = 256, 65_536, 100_000, 10**9


def check(run: RunConfig) -> None:
    """Refuse a run that can't be trained as it stands; widen whole-number act parameters to floats.

    Raises:
        UserError: a value is out of bounds, a name is unknown, or two fields contradict.
    """
    _check_act(run)
    validate_init.check(run)
    _check_optim(run)
    _check_trainer(run)
    validate_data.check(run)
    if run.model._target_ is not None:
        _check_name("model.name", run.model.name)
    validate_model.check(run)
    _check_loss(run)
    _check_by_layer(run)
    validate_model.check_random(run)
    transform.check(run)
    _check_rest(run)


def widths(depth: DepthConfig, model: str) -> list[int]:
    """Return the widths of a model's layers, from input to output.

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
        usual, width = DEPTHS.get(model, (4, 256))
        layers = usual if depth.layers is None else depth.layers
        if not 1 <= layers <= MAX_LAYERS:
            raise bad_value("depth", layers, f"from 1 to {MAX_LAYERS} hidden layers", "depth=4")
        sizes = [width if depth.width is None else depth.width] * layers
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
    more = dict.fromkeys((TARGET, *SCALES), 1.0)
    known = {**known, **more} if transform_of(run.act) else known
    check_params("act", run.act["name"], run.act_params, known)


def check_params(
    act_path: str, name: str, params: Mapping[str, Any], known: Mapping[str, Any]
) -> None:
    """Refuse parameters as `check_act_params` does, of the activation at a config path."""
    for key, value in params.items():
        path = f"{act_path}.{key}"
        if key not in known:
            raise UserError(
                f"{path}={value}: act={name} has no such parameter; leave it out. "
                f"Known here: {', '.join(f'{act_path}.{k}' for k in known) or 'none'}"
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
    transform.normalise(run.act)
    if _is_formula(run.act):
        _check_formula("act", run.act)
        return
    if name == grammar.OPTION and "_target_" not in run.act:
        raise bad_value("act", name, "the formula itself", "act='x*tanh(softplus(x))'")
    _check_name("act.name", name)
    if "_target_" in run.act and not run.act["_target_"]:
        raise bad_value("act._target_", "''", "a dotted path", "act._target_=my_module.my_function")
    _check_act_numbers("act", run.act, run.act_params)


def _is_formula(act: Mapping[str, Any]) -> bool:
    return "_target_" not in act and grammar.is_formula(act["name"])


def _check_formula(act_path: str, act: dict[str, Any]) -> None:
    """Refuse a formula that can't be read or isn't finite near 0; write down its normal form."""
    grammar.complete(act, act_path)
    numbers = {key: act[key] for key in grammar.parameters(grammar.parse(act["formula"]))}
    for key, value in numbers.items():
        check_float32(f"{act_path}.{key}", value, f"{act_path}.{key}=1.0")
    from actsweep.formulas.values import check_finite  # needs NumPy

    check_finite(act["name"], tuple(numbers.items()), tuple(act["learnable"] or ()), act_path)


def _check_act_numbers(act_path: str, act: dict[str, Any], params: Mapping[str, Any]) -> None:
    for key, value in params.items():
        path = f"{act_path}.{key}"
        if is_int(value) and key != "pieces" and "_target_" not in act:
            act[key] = value = float(value)  # alpha=1 and alpha=1.0 are the same run
        if isinstance(value, float):
            check_float32(path, value, f"{path}=1.0")
        if key == "pieces" and (not is_int(value) or value < 2):
            raise bad_value(path, value, "an integer of at least 2", f"{path}=2")
        if key == "alpha" and is_number(value) and value <= 0:
            raise bad_value(path, value, "above 0", f"{path}=1.0")


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
    at_least("trainer.accumulate", trainer.accumulate, 1, "trainer.accumulate=1")
    if trainer.batch_size % trainer.mesh.data:
        raise bad_value(
            "trainer.mesh.data",
            trainer.mesh.data,
            f"a divisor of trainer.batch_size={trainer.batch_size}",
            "trainer.mesh.data=1",
        )
    if trainer.batch_size // trainer.mesh.data % trainer.accumulate:
        share = f", each device's of {trainer.mesh.data}" if trainer.mesh.data > 1 else ""
        raise bad_value(
            "trainer.accumulate",
            trainer.accumulate,
            f"a divisor of trainer.batch_size={trainer.batch_size}{share}",
            "trainer.accumulate=1",
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


def _check_loss(run: RunConfig) -> None:
    loss = run.loss
    if loss.name not in LOSSES:
        raise unknown_name("loss.name", loss.name, LOSSES)
    if not 0 <= loss.label_smoothing < 1:
        fix = "loss.label_smoothing=0.1"
        raise bad_value("loss.label_smoothing", loss.label_smoothing, "in [0, 1)", fix)


def _check_by_layer(run: RunConfig) -> None:
    """Refuse activations of `act.by_layer` that can't act; write the mapping in one way."""
    by_layer.normalise(run.act)
    for pattern, entry in by_layer.entries(run.act).items():
        if _is_formula(entry):
            _check_formula(by_layer.path_of(pattern), entry)
            continue
        _check_name(by_layer.path_of(pattern), entry["name"])
        _check_act_numbers(by_layer.path_of(pattern), entry, by_layer.params_of(entry))
    names = by_layer.model_activations(run)
    if names is not None:
        by_layer.check_patterns(run.act, names)


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
    _check_seeds(run)
    if run.logger.mode not in LOGGER_MODES:
        raise unknown_name("logger.mode", run.logger.mode, LOGGER_MODES)
    _check_wandb(run.logger)
    _check_writers(run.logger)
    _check_sweep(run.sweep)
    if run.rerun not in RERUNS:
        raise unknown_name("rerun", run.rerun, RERUNS)
    if run.pack.batching not in BATCHINGS:
        raise unknown_name("pack.batching", run.pack.batching, BATCHINGS)
    if run.pack.size != "auto" and not (is_int(run.pack.size) and run.pack.size >= 1):
        raise bad_value(
            "pack.size", run.pack.size, "auto or an integer of at least 1", "pack.size=auto"
        )
    _check_slurm(run)


def _check_seeds(run: RunConfig) -> None:
    """Refuse seeds out of bounds, and two ways of saying them; write `vary` in one way."""
    own = {f"seeds.{key}": seed for key, seed in vars(run.seeds).items() if seed is not None}
    for path, seed in {"seed": run.seed, **own}.items():
        if not 0 <= seed <= MAX_SEED:
            raise bad_value(path, seed, f"an integer from 0 to {MAX_SEED}", f"{path}=0")
    run.vary = _one_spelling(run.vary)
    if run.vary is None:
        return
    for path, seed in own.items():
        raise UserError(
            f"{path}={seed}: vary={run.vary} says which seeds follow seed={run.seed}; leave one of "
            "the two out"
        )
    if "split" not in varied_sources(run.vary):
        return
    if run.data.split_seed not in (DataConfig().split_seed, run.seed):
        raise two_split_seeds(run)
    validate_data.check_split_is_drawn(run.data, run.vary)


def two_split_seeds(run: RunConfig) -> UserError:
    """Return the error for `data.split_seed` beside a `vary` that says it."""
    return UserError(
        f"data.split_seed={run.data.split_seed}: vary={run.vary} takes it from seed={run.seed}; "
        "leave one of the two out"
    )


def _one_spelling(vary: Any) -> str | None:
    """Return which sources follow the seed: `init+split`, `all`; None for `init+order`.

    Args:
        vary: as typed: a name, several joined by +, or a list of names.

    Raises:
        UserError: a name is unknown, or there is none.
    """
    if vary is None:
        return None
    names = str(vary).split("+") if not isinstance(vary, list) else [str(name) for name in vary]
    for name in names:
        if name not in (*RANDOM_SOURCES, "all"):
            raise unknown_name("vary", name or "''", (*RANDOM_SOURCES, "all"))
    if not names:
        raise bad_value("vary", "[]", f"one or more of {', '.join(RANDOM_SOURCES)}", "vary=init")
    chosen = [name for name in RANDOM_SOURCES if name in names or "all" in names]
    if chosen == ["init", "order"]:
        return None
    return "all" if len(chosen) == len(RANDOM_SOURCES) else "+".join(chosen)


def _check_wandb(logger: LoggerConfig) -> None:
    """Refuse what W&B would only refuse after training."""
    project = logger.project
    if project is not None and not re.fullmatch(r"[^/\\#?%:]{1,128}", project):
        allowed = "1 to 128 characters without / \\ # ? % :"
        raise bad_value("logger.project", project or "''", allowed, "logger.project=actsweep")
    _check_tags("logger.tags", logger.tags)


def _check_sweep(sweep: SweepConfig) -> None:
    name = sweep.name
    if name is not None and (
        not re.fullmatch(r"\w[\w.-]{0,63}", name, re.ASCII) or name in ("last", "latest")
    ):
        allowed = "1 to 64 letters a to z, digits, _ . -, not last or latest"
        raise bad_value("sweep.name", name or "''", allowed, "sweep.name=depth-study")
    _check_tags("sweep.tags", sweep.tags)


def _check_tags(path: str, tags: Sequence[str]) -> None:
    """Refuse tags that W&B would only refuse after training."""
    for tag in tags:
        if not 1 <= len(tag) <= 64:
            shown = f"{tag[:20]}…" if tag else "''"
            raise bad_value(path, shown, "of 1 to 64 characters", f"{path}=[mine]")


def _check_writers(logger: LoggerConfig) -> None:
    for name, options in logger.writers.items():
        path = f"logger.writers.{name}"
        if options is not None and not isinstance(options, dict):
            allowed = "a group of options, perhaps an empty one"
            raise bad_value(path, options, allowed, f"'{path}={{}}', or ~{path} to leave it out")
        if name not in LOGGERS and options is not None and "_target_" not in options:
            raise unknown_name("logger.writers", name, LOGGERS, f"{path}._target_=my_module.Mine")


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
