"""The command line: overrides as people type them, and as Hydra takes them."""

import difflib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from actsweep.config.schema import LOGGER_MODES
from actsweep.formulas.grammar import OPTION, is_formula, parse, split_list
from actsweep.utils.errors import UserError, bad_value

# Config groups, each with an option that exists.
GROUPS = {
    "act": "relu",
    "depth": "4",
    "init": "he_normal",
    "model": "mlp",
    "optim": "sgd",
    "data": "fashion_mnist",
    "callbacks": "default",
    "logger": "offline",
    "experiment": "tutorial3",
    "debug": "default",
}
OPTIONS = (
    *("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "--resolve", "-p", "--package"),
    *("-r", "--run", "-m", "--multirun", "-sc", "--shell-completion", "-cp", "--config-path"),
    *("-cn", "--config-name", "-cd", "--config-dir", "--experimental-rerun", "-i", "--info"),
)
"""Hydra's options."""
VALUED = (
    *("-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name"),
    *("-cd", "--config-dir"),
)
"""Those that the next word belongs to."""
INFOS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""What may follow --info."""
PARTS = {*GROUPS, "seed", "seeds", "vary", "trainer", "paths", "pack", "sweep", "slurm", "rerun"}
RENAMED = {"pack.lift": "pack.batching"}
"""Config paths of version 0.1 -> today's; the old ones are accepted, with a line that says so."""
BEFORE = {"optim": ("clip_norm", {"decay_bias": True, "decay_act": True})}
"""By group: a key that complete groups have always had, and newer keys as they were in effect."""
TRANSFORM = r"act\.(?:transform|transform_target)\b"
OPEN_GROUP = rf"(?:(?:slurm\.extra|act\.by_layer|logger\.writers)\b|{TRANSFORM})"
"""Keys that may be added, and groups that may be added to."""
FORMULA_KEY = rf"(?!{TRANSFORM})act\.(?!name\b|by_layer\b)\w+"  # of a formula's parameters
SPLIT_SEED = "seeds.split"
"""Another spelling of `data.split_seed`, beside `seeds.init` and `seeds.order`."""
TUNE = "tune."
"""Short for `hydra.sweeper.`, of hydra/sweeper=tune."""
_NOT_A_NAME = re.compile(r"null|true|false|[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[\[{].*", re.I)


def for_hydra(words: Iterable[str]) -> list[str]:
    """Return a command line as Hydra takes it: options first, and every override expanded.

    Args:
        words: the command line; options may stand anywhere.

    Raises:
        UserError: a list, a number or null was given for a group, which needs an option's name; or
            an option of Hydra's that would train something else than it says.
    """
    words = list(words)
    _check_options(words)
    options: list[str] = []
    overrides: list[str] = []
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        of_option = before in VALUED or (before in ("-i", "--info") and word in INFOS)
        (options if of_option or word.startswith("-") else overrides).append(word)
    if {"-m", "--multirun"} & {*options}:
        overrides = _of_some_acts(overrides)
    return options + expand_all(overrides)


def _of_some_acts(words: list[str]) -> list[str]:
    """Return a sweep's overrides, a single value of an activation's parameter as a list of one.

    Where activations are listed, such a parameter may be some activations' alone: as an element of
    a list it is left out of the others' runs; else Hydra looks for it in the first one's config.
    """
    listed = [word for word in words if word.startswith("act=") and "," in word]
    if not listed or any(map(_has_formula, listed)):
        return words
    single = re.compile(rf"({FORMULA_KEY})=([^,\[{{(]+)")
    return [
        f"{match[1]}=choice({match[2]})" if (match := single.fullmatch(word)) else word
        for word in words
    ]


def _check_options(words: Sequence[str]) -> None:
    """Refuse to take a run's folder for a folder of configs: Hydra would train the defaults."""
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        key = option.removeprefix("--")
        if option.startswith("--") and (key in GROUPS or key.partition(".")[0] in PARTS):
            raise UserError(
                f"{word}: is an override, not an option; type {word.removeprefix('--')}, and in a "
                "W&B sweep's command ${args_no_hyphens}"
            )
        if word.startswith("-") and option not in OPTIONS:
            near = difflib.get_close_matches(option, OPTIONS, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else "see --help and --hydra-help"
            raise UserError(f"{word}: no such option; {hint}")
        if option == "--experimental-rerun":
            raise UserError(f"{option}: not here; type actsweep rerun <run>")
        if option in ("--config-dir", "-cd", "--config-path", "-cp"):
            value = value if equals else "".join(words[place + 1 : place + 2])
            if (Path(value) / "config.yaml").is_file() and (Path(value) / "status.json").is_file():
                raise UserError(
                    f"{option} {value}: is a run's folder, whose config Hydra would not take; to "
                    f"train it again, type actsweep rerun {value}"
                )


def expand_all(words: Iterable[str]) -> list[str]:
    """Return the overrides of a command as Hydra takes them; see `expand`.

    Beside a formula (`act=x*sigmoid(beta*x)`) its parameters are keys to be added.

    Raises:
        UserError: as `expand`.
    """
    words = list(words)
    formula = any(map(_has_formula, words))
    added = [
        f"++{word}" if formula and re.match(rf"{FORMULA_KEY}=", word) else word for word in words
    ]
    return [part for word in added for part in expand(word)]


def _has_formula(word: str) -> bool:
    group, _, value = word.partition("=")
    return group == "act" and (value == OPTION or any(map(is_formula, split_list(value))))


def _of_formulas(value: str) -> list[str]:
    """Return `act=<value>`, where the value is a formula or lists some, as Hydra takes it.

    Raises:
        UserError: one can't be read.
    """
    texts = split_list(value)
    for text in filter(is_formula, texts):
        parse(text)
    if len(texts) == 1:
        return [f"act={OPTION}", f"act.name='{texts[0]}'"]
    return ["act=" + ",".join(f"'{text}'" if is_formula(text) else text for text in texts)]


def expand(override: str) -> list[str]:
    """Return one override as Hydra takes it, as one or more overrides.

    `act=x*tanh(x)` becomes the option `formula` with that name, and in a list a quoted element;
    `depth=7` becomes the option `uniform` with 7 layers; `slurm.extra.qos=long` adds its key, as
    `act.by_layer` does; `tune.seeds=5` is a setting of the sweeper, `seeds.split=1` the seed of the
    data; of `logger=[…]` W&B's mode goes last; a key of version 0.1 becomes today's, and a line on
    standard error says so.

    Raises:
        UserError: a list, a number or null was given for a group, which needs an option's name; or
            a formula can't be read.
    """
    group, _, value = override.partition("=")
    old = group.lstrip("+")
    if old in RENAMED:
        print(f"{old} is now {RENAMED[old]}", file=sys.stderr)
        return [f"{group.replace(old, RENAMED[old])}={value}"]
    if group == "act" and value != OPTION and _has_formula(override):
        return _of_formulas(value)
    if old == SPLIT_SEED:
        return [f"data.split_seed={value}"]
    if old.startswith(TUNE):
        return [f"hydra.sweeper.{override.partition(TUNE)[2]}"]
    if re.match(OPEN_GROUP, old):
        return [f"++{override.lstrip('+')}"]
    if group == "depth" and re.fullmatch(r"[+-]?\d+", value):
        return ["depth=uniform", f"depth.layers={int(value)}"]
    if group == "logger" and re.fullmatch(r"\[[\w, ]+\]", value):
        return [f"logger=[{','.join(_wandb_last(value.strip('[]').split(',')))}]"]
    several = group == "callbacks" and value.startswith("[")
    if group in GROUPS and _NOT_A_NAME.fullmatch(value) and not several:
        raise _not_one_name(group, value)
    return [override]


def _wandb_last(names: Iterable[str]) -> list[str]:
    """Return options of `logger` in an order in which W&B's mode isn't taken back by another."""
    return sorted((name.strip() for name in names), key=LOGGER_MODES.__contains__)


def as_typed(overrides: Iterable[str]) -> list[str]:
    """Return overrides as they were typed: the inverse of `expand`, for a run's record."""
    typed: list[str] = []
    for word in bare_all(overrides):
        name = re.fullmatch(r"act\.name='(.*)'", word)
        if name and typed and typed[-1] == f"act={OPTION}":
            typed[-1] = f"act={name[1]}"
            continue
        layers = re.fullmatch(r"depth\.layers=(-?\d+)", word)
        if layers and typed and typed[-1] == "depth=uniform":
            typed[-1] = f"depth={layers[1]}"
        else:
            typed.append(word)
    return typed


def bare_all(words: Iterable[str]) -> list[str]:
    """Return a sweep's overrides without the `++` that `expand_all` has added."""
    words = list(words)
    formula = any(map(_has_formula, words))
    added = rf"\+\+{FORMULA_KEY}="
    return [word[2:] if formula and re.match(added, word) else bare(word) for word in words]


def bare(word: str) -> str:
    """Return an override without the `++` that `expand` has added."""
    return word.removeprefix("++") if re.match(rf"\+\+{OPEN_GROUP}", word) else word


def current_keys(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config (nested plain values), perhaps of an older version, with today's keys.

    Keys that a whole group of an older version lacks get the values that it had in effect.
    """
    groups = {
        name: dict(group) if isinstance(group, Mapping) else group for name, group in plain.items()
    }
    for old, new in RENAMED.items():
        group, _, key = old.partition(".")
        if isinstance(groups.get(group), dict) and key in groups[group]:
            groups[group][new.partition(".")[2]] = groups[group].pop(key)
    for group, (known, in_effect) in BEFORE.items():
        if known in (groups.get(group) or ()):
            groups[group] = in_effect | groups[group]
    return groups


def _not_one_name(group: str, value: str) -> UserError:
    if group == "depth":
        if value.startswith("["):
            return bad_value(group, value, "a number of layers or a name", f"depth.widths={value}")
        return bad_value(group, value, "a whole number of layers, or a name", "depth=4")
    if group in ("experiment", "debug") and value.lower() == "null":
        return UserError(f"{group}=null: must be a name; leave it out for none")
    names = value.strip("[]").replace(" ", "")
    listed = value.startswith("[") and names
    fix = f"{group}={names if listed else GROUPS[group]}"
    return bad_value(group, value, "one name", f"-m {fix}" if "," in fix else fix)
