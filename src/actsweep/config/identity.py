"""The identity of runs, and which of them may share one compiled program. No jax."""

import contextlib
import copy
import functools
import hashlib
import importlib.machinery
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from actsweep.config import by_layer, data_folders, resolve
from actsweep.config.schema import (
    CRITICAL_INITS,
    MIXABLE,
    MODELS,
    USUAL_VARY,
    RunConfig,
    varied_sources,
)
from actsweep.formulas.rescaling import found_by_transform, transform_of
from actsweep.utils import pydocs
from actsweep.utils.errors import UserError

ID_VERSION = 2
NOT_IN_ID = ("logger", "paths", "pack", "sweep", "rerun", "slurm")
SHORT_INIT = {"torch_uniform": "torch"}
SEEDS = ("seed", "seeds.init", "seeds.order", "vary")
"""What a run's seeds follow from, beside `data.split_seed`."""
VARYING = (
    *SEEDS,
    "optim.lr",
    "optim.momentum",
    "optim.weight_decay",
    "init.scale",
    "init.sigma_w",
    "init.sigma_b",
    "init.bias",
)


@dataclass(frozen=True)
class Added:
    """A config key that was added when there were runs without it.

    Attributes:
        path: the config path of a key, or of a whole group of new keys.
        neutral: the value with which a run is what it was before.
        when: further conditions, config path -> value, such as `{"act.name": "swish"}`.
    """

    path: str
    neutral: Any
    when: Mapping[str, Any] = field(default_factory=dict)


# Runs keep their ids when a key is added: `neutral` is the value that earlier runs had in effect.
NO_DECAY = {"optim.weight_decay": 0.0}
MODEL_OPTIONS = {key for keys in MODELS.values() for key in keys} - {"channels"}
ADDED: tuple[Added, ...] = (
    Added("init.bias", 0.0),
    Added("act.beta", 1.0, {"act.name": "softplus"}),
    Added("init.q", None),
    *(Added(f"model.{key}", None) for key in MODEL_OPTIONS),
    # Everything was decayed. Without weight decay neither key has an effect.
    Added("optim.decay_bias", True),
    Added("optim.decay_act", True),
    Added("optim.decay_bias", False, NO_DECAY),
    Added("optim.decay_act", False, NO_DECAY),
    Added("data.augment", "none"),
    Added("data.source", None),
    Added("data.config", None),
    Added("data.size", []),
    *(
        Added(f"data.{key}", neutral)
        for key, neutral in (
            *(("path", None), ("target", None), ("columns", []), ("task", "auto")),
            *(("test_size", 0.2), ("stratify", False), ("standardize", True)),
            *(("level", "char"), ("length", 64)),
        )
    ),
    Added("trainer.accumulate", 1),
    Added("loss.name", "auto"),
    Added("loss.label_smoothing", 0.0),
    Added("loss", {}),  # once nothing is left in it
)


def run_id(run: RunConfig) -> str:
    """Return a run's id: a readable part, and 8 hex digits of the hash of its `identity`.

    Where the result is written, and how it is logged, packed and placed on devices, doesn't count.
    """
    init = SHORT_INIT.get(run.init.name, run.init.name)
    own, order = run.init_seed, run.order_seed
    seed = f"s{own}" if own == order else f"s{own}o{order}"
    head = f"{by_layer.short_label(run.act)}-{run.model.name}{len(run.widths)}-{init}-{seed}"
    return f"{head}-{_digest(identity(run))[:8]}"


def identity(run: RunConfig) -> dict[str, Any]:
    """Return everything that can change the result, as nested plain values.

    Code of the user's own counts by the file that a `_target_` points into, files that
    `data.options` names by their content, the texts that come with Python likewise, and prepared
    or local folders of images by `data_folders.digest`.
    """
    plain = resolve.to_dict(run)
    settings = without_spelling(without_neutral(what_counts(plain))) | {"id_version": ID_VERSION}
    code = code_digests(what_counts(plain))
    files = {path: _content_digest(path) for path in data_paths(plain["data"])}
    if run.data.kind == "pydocs" and not run.data._target_:
        files["pydocs"] = pydocs.digest()
    with contextlib.suppress(UserError):  # of an old run the set may be gone
        if folder := data_folders.folder_of(run.data):
            files["images"] = data_folders.digest(folder)
    return settings | ({"code": code} if code else {}) | ({"files": files} if files else {})


def code_digests(plain: Any) -> dict[str, str | None]:
    """Return, for each `_target_` in a config, the hash of the file that it points into."""
    return {target: _source_digest(target) for target in targets(plain)}


def what_counts(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a resolved config (nested plain values) that can change the result."""
    placement = ("mesh", "distributed", "processes", "process")
    left_out = {"data": ("dir", "stream"), "trainer": (*placement, "grace_s", "save_every_s")}
    kept = {key: value for key, value in plain.items() if key not in NOT_IN_ID}
    for group, keys in left_out.items():
        kept[group] = {key: value for key, value in plain[group].items() if key not in keys}
    if kept.get("init", {}).get("name") in CRITICAL_INITS:  # solved for, to more digits than count
        found = {key: kept["init"][key] for key in ("sigma_w", "sigma_b")}
        rounded = {k: float(f"{v:.6g}") for k, v in found.items() if v is not None}
        kept["init"] = {**kept["init"], **rounded}
    act = kept.get("act") or {}
    solved = [key for key in found_by_transform(act) if isinstance(act.get(key), float)]
    if solved:
        kept["act"] = {**act, **{key: float(f"{act[key]:.6g}") for key in solved}}
    return _with_seeds_in_effect(kept)


def _with_seeds_in_effect(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a config (nested plain values) with the seeds that are used, however they were typed.

    `seed` is that of the initial weights, `seeds.order` only where it is another.
    """
    kept = {key: value for key, value in plain.items() if key not in ("seeds", "vary")}
    if "seed" not in plain:
        return kept
    varied = varied_sources(plain.get("vary"))
    own = plain.get("seeds") or {}

    def of(source: str) -> Any:
        seed = own.get(source)
        return seed if seed is not None else plain["seed"] if source in varied else 0

    kept["seed"] = of("init")
    if of("order") != kept["seed"]:
        kept["seeds"] = {"order": of("order")}
    if "split" in varied:
        kept["data"] = {**plain["data"], "split_seed": plain["seed"]}
    return kept


def with_split_seed(run: RunConfig) -> RunConfig:
    """Return a run with `data.split_seed` as `vary` says: the same seed, where it follows it."""
    if "split" not in varied_sources(run.vary) or run.data.split_seed == run.seed:
        return run
    return replace(run, data=replace(run.data, split_seed=run.seed))


def without_seeds(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return what counts of a config (nested plain values) but for the draws; `vary` says which.

    What is left is equal for runs that differ in their seeds alone.
    """
    kept = what_counts(plain)
    kept.pop("seeds", None)
    kept.pop("seed", None)
    vary = plain.get("vary")
    if "split" in varied_sources(vary):
        kept["data"] = {key: v for key, v in kept["data"].items() if key != "split_seed"}
    return kept | {"vary": vary or USUAL_VARY}


def seeds_in_effect(plain: Mapping[str, Any]) -> dict[str, int]:
    """Return the seed of each source of randomness, the split's only where it follows `seed`.

    Args:
        plain: a resolved config as nested plain values.
    """
    kept = what_counts(plain)
    seeds = {"init": kept["seed"], "order": kept.get("seeds", {}).get("order", kept["seed"])}
    if "split" in varied_sources(plain.get("vary")):
        seeds["split"] = kept["data"]["split_seed"]
    return seeds


def pair_key(plain: Mapping[str, Any]) -> int | str:
    """Return what a run shares with those of other groups that it is compared with: its seeds.

    Args:
        plain: a resolved config as nested plain values.

    Returns:
        The seed; where sources of randomness are seeded apart, the seed of each, as text.
    """
    seeds = seeds_in_effect(plain)
    if plain.get("vary") is None and seeds["init"] == seeds["order"]:
        return seeds["init"]
    return ", ".join(f"{source} {seed}" for source, seed in seeds.items())


def without_spelling(plain: Any) -> Any:
    """Return a config without how formulas were typed: their normal form counts."""
    if not isinstance(plain, Mapping):
        return plain
    left_out = {"name"} if "formula" in plain else set()
    return {key: without_spelling(value) for key, value in plain.items() if key not in left_out}


def without_neutral(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config (nested plain values) without the keys of `ADDED` that have no effect."""
    kept = {key: dict(node) if isinstance(node, Mapping) else node for key, node in plain.items()}
    for added in ADDED:
        group, _, key = added.path.rpartition(".")
        node = _at(kept, group) if group else kept
        is_neutral = isinstance(node, dict) and _at(kept, added.path) == added.neutral
        if is_neutral and all(_at(plain, path) == value for path, value in added.when.items()):
            node.pop(key, None)
    if entries := by_layer.entries(kept.get("act") or {}):
        shown = {pattern: _entry_without_neutral(entry) for pattern, entry in entries.items()}
        kept["act"]["by_layer"] = shown
    return kept


def _entry_without_neutral(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an activation of `act.by_layer` without the keys of `ADDED` that have no effect."""
    neutral = {
        added.path.removeprefix("act."): added.neutral
        for added in ADDED
        if added.when == {"act.name": entry.get("name")}
    }
    return {k: v for k, v in entry.items() if k not in neutral or v != neutral[k]}


def _at(plain: Mapping[str, Any], path: str) -> Any:
    """Return the value at a config path; None where there is none."""
    node: Any = plain
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted path -> leaf.

    An empty group is a leaf, so that `callbacks.units: {}` differs from no such callback.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def static_part(run: RunConfig) -> RunConfig:
    """Return the config with None in every field that may differ within a pack.

    Code that compiles a program reads only this, so that no member's value becomes part of it.
    """
    shared = copy.deepcopy(run)
    shared.pack.members = None
    for path in varying_paths(run):
        set_config_value(shared, path, None)
    return shared


def shared_part(runs: Sequence[RunConfig]) -> RunConfig:
    """Return the `static_part` of runs that one program trains.

    Where their activations differ, `act.mix` lists them, and `act.name` is all their names.
    """
    static = static_part(runs[0])
    acts: list[dict[str, Any]] = []
    for act in (static_part(run).act for run in runs):
        acts += [act] if act not in acts else []
    if len(acts) > 1:
        names = dict.fromkeys(act["name"] for act in acts)
        static.act = {"name": ", ".join(names), "mix": acts}
    return static


def lent_numbers(run: RunConfig, static: RunConfig) -> dict[str, float]:
    """Return the numbers of a pack's mixed activation that a member alone doesn't have, by name.

    `choice` is the place of the member's activation in `act.mix`; parameters of the others are 0.
    Empty where all members have the same activation.

    Args:
        run: the member's config.
        static: the `shared_part` of its pack.
    """
    acts = static.act.get("mix")
    if acts is None:
        return {}
    others = {key for act in acts for key, value in act.items() if value is None}
    choice = float(acts.index(static_part(run).act))
    return dict.fromkeys(sorted(others - run.act_params.keys()), 0.0) | {"choice": choice}


def varying_paths(run: RunConfig) -> tuple[str, ...]:
    """Return the config paths whose values may differ within a pack, the activation's included."""
    acts = (f"act.{key}" for key, value in run.act_params.items() if isinstance(value, float))
    edge = () if run.init.q is None else ("init.q",)
    return (*VARYING, *edge, *acts)


def why_apart(run: RunConfig) -> str | None:
    """Return why a run can't share its program with runs of other activations; None if it can.

    A member's numbers are to be those that it has alone. XLA may round otherwise where it fuses an
    activation with what surrounds it, as it can't where the activation is chosen. So what is mixed
    is what has been compared: elementwise activations of plain MLPs in float32, under
    `map`.
    """
    act, trainer = run.act, run.trainer
    if act.get("_target_"):
        return f"act._target_={act['_target_']} is an activation of your own"
    if transform_of(act):
        return f"act.transform={act['transform']} rescales the activation"
    if by_layer.entries(act):
        return "act.by_layer has several activations in one network"
    if act["name"] not in MIXABLE:
        return f"act={act['name']} isn't one of {', '.join(MIXABLE)}"
    if act.get("learnable"):
        return "act.learnable=true trains a parameter that the others don't have"
    if run.init.gain == "auto":
        return "init.gain=auto is computed from the activation, and XLA rounds it otherwise"
    if run.init.name in CRITICAL_INITS:
        return f"init={run.init.name} is computed from the activation"
    if run.model._target_ or run.model.name != "mlp":
        return f"model={run.model._target_ or run.model.name} isn't mlp"
    if run.model.norm not in (None, "none") or run.model.dropout:
        return "XLA fuses model.norm, and model.dropout, with the activation"
    if 1 in run.widths or trainer.batch_size == trainer.accumulate:
        return "XLA fuses products of one unit, or of one example, with the activation"
    if trainer.precision != "float32":
        return f"trainer.precision={trainer.precision} isn't float32"
    if trainer.distributed is not None or trainer.mesh.data > 1:
        return "several processes or devices share a run"
    if run.pack.batching == "vmap":
        return "pack.batching=vmap would compute every activation for each run"
    return None


def pack_key(run: RunConfig) -> str:
    """Return a digest that is equal for members that one compiled program can train.

    With `pack.mix` they may be of different activations; see `why_apart`.
    """
    if not run.pack.mix or why_apart(run) is not None:
        return program_key(run)
    return _digest_without(resolve.to_dict(run) | {"act": {}}, VARYING)


def program_key(run: RunConfig) -> str:
    """Return a digest that is equal for members of one activation that one program can train."""
    return _digest_without(resolve.to_dict(run), varying_paths(run))


def computation_key(run: RunConfig) -> str:
    """Return a digest that is equal for runs whose programs compute the same.

    Unlike for `program_key`, they may write elsewhere, and be logged, saved and placed otherwise,
    and have their data split otherwise: programs take examples as arguments.
    """
    plain = what_counts(resolve.to_dict(run)) | {"pack": {"mix": run.pack.mix}, "seeds": {}}
    return _digest_without(plain, (*varying_paths(run), "data.split_seed"))


def _digest_without(plain: dict[str, Any], paths: Sequence[str]) -> str:
    """Return the digest of a config (nested plain values) without the values at some paths."""
    plain["pack"]["members"] = None
    for path in paths:
        *parents, leaf = path.split(".")
        group = functools.reduce(operator.getitem, parents, plain)
        group[leaf] = None
    return _digest(plain)


def config_value(run: RunConfig, path: str) -> Any:
    """Return the value that stands at a path such as `optim.lr`."""
    node: Any = run
    for key in path.split("."):
        node = node[key] if isinstance(node, dict) else getattr(node, key)
    return node


def set_config_value(run: RunConfig, path: str, value: Any) -> None:
    """Set the value that stands at a path such as `optim.lr`."""
    *parents, leaf = path.split(".")
    node = config_value(run, ".".join(parents)) if parents else run
    if isinstance(node, dict):
        node[leaf] = value
    else:
        setattr(node, leaf, value)


def targets(plain: Any) -> list[str]:
    """Return every `_target_` in a config: user code, which counts like a setting."""
    if not isinstance(plain, Mapping):
        return []
    target = plain.get("_target_")
    nested = [name for value in plain.values() for name in targets(value)]
    return [str(target)] * bool(target) + nested


def data_paths(data: Mapping[str, Any]) -> list[str]:
    """Return the files that the `data` of a config (nested plain values) names or reads."""
    path: Any = data.get("path")
    if data.get("name") == "idx" and path:
        path = sorted(str(file) for file in Path(path).glob("*-ubyte*"))
    return paths_in([path, data.get("options") or {}])


def paths_in(options: Any) -> list[str]:
    """Return the files that a data set's options name, and the folders: those with a / in them.

    A word such as `train` or a separator such as `/` names no folder, whatever lies around.
    """
    if isinstance(options, Mapping):
        return [path for value in options.values() for path in paths_in(value)]
    if isinstance(options, list | tuple):
        return [path for value in options for path in paths_in(value)]
    if not isinstance(options, str) or not options.strip("./"):
        return []
    path = Path(options)
    return [options] if path.is_file() or ("/" in options and path.is_dir()) else []


def _content_digest(path: str) -> str:
    """Return the hash of a file's content; of a folder, that of its files' names and sizes."""
    status = Path(path).stat()
    return _digest_once(path, status.st_size, status.st_mtime_ns)


@functools.cache
def _digest_once(path: str, size: int, time: int) -> str:
    del size, time  # they are keys of the cache only: what changes is read again
    if Path(path).is_dir():
        files = sorted(file for file in Path(path).rglob("*") if file.is_file())
        listing = [(str(file.relative_to(path)), file.stat().st_size) for file in files]
        return hashlib.sha256(json.dumps(listing).encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _source_digest(target: str) -> str | None:
    """Return the hash of the file that a dotted path points into; None if it can't be found.

    Nothing is imported: whoever looks at somebody else's sweep mustn't run its code.
    """
    path, spec = None, None
    try:
        for part in _prefixes(target.rpartition(".")[0]):
            spec = importlib.machinery.PathFinder.find_spec(part, path)
            path = spec.submodule_search_locations if spec else None
            if spec is None:
                return None
        source = Path(str(spec and spec.origin)).read_bytes()
    except (ImportError, ValueError, OSError):
        return None
    return hashlib.sha256(source).hexdigest()


def _prefixes(module: str) -> list[str]:
    """Return `a`, `a.b`, `a.b.c` for `a.b.c`."""
    parts = module.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _digest(plain: dict[str, Any]) -> str:
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
