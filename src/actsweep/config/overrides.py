"""The command line: what people type, and what Hydra takes for it."""

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from actsweep.utils.errors import UserError, bad_value

# The groups, each with an option that exists.
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
RENAMED = {"pack.lift": "pack.batching"}
"""Keys of version 0.1: still taken, with a line that says the new one."""
OPEN = r"slurm\.extra\b"  # a group to which keys may be added
_MULTIRUN = ("-m", "--multirun")
_NOT_A_NAME = re.compile(r"null|true|false|[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[\[{].*", re.I)


def for_hydra(words: Iterable[str]) -> list[str]:
    """A command line as Hydra takes it: `-m` may stand anywhere, `depth=7` is spelt out.

    Raises:
        UserError: a list, a number or null where a group's option is wanted.
    """
    words = list(words)
    flags = [word for word in words if word in _MULTIRUN]
    return flags + [part for word in words if word not in _MULTIRUN for part in expand(word)]


def expand(override: str) -> list[str]:
    """One override as Hydra takes it: `depth=7` picks the option `uniform` with so many layers;
    `slurm.extra.qos=long` adds a key where any may stand.

    Raises:
        UserError: a list, a number or null where a group's option is wanted.
    """
    group, _, value = override.partition("=")
    if group in RENAMED:
        print(f"{group} is now {RENAMED[group]}", file=sys.stderr)
        return [f"{RENAMED[group]}={value}"]
    if re.match(OPEN, group):
        return [f"++{override}"]
    if group == "depth" and re.fullmatch(r"[+-]?\d+", value):
        return ["depth=uniform", f"depth.layers={int(value)}"]
    several = group == "callbacks" and value.startswith("[")
    if group in GROUPS and _NOT_A_NAME.fullmatch(value) and not several:
        raise _not_one_name(group, value)
    return [override]


def as_typed(overrides: Iterable[str]) -> list[str]:
    """The inverse of `expand`, for what is recorded about a run."""
    typed: list[str] = []
    for word in overrides:
        layers = re.fullmatch(r"depth\.layers=(-?\d+)", word)
        if layers and typed and typed[-1] == "depth=uniform":
            typed[-1] = f"depth={layers[1]}"
        elif re.match(rf"\+\+{OPEN}", word):
            typed.append(word[2:])
        else:
            typed.append(word)
    return typed


def current_keys(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A config that an older version may have written, as nested plain values, in today's keys."""
    groups = {k: dict(v) if isinstance(v, Mapping) else v for k, v in plain.items()}
    for old, new in RENAMED.items():
        group, _, key = old.partition(".")
        if isinstance(groups.get(group), dict) and key in groups[group]:
            groups[group][new.partition(".")[2]] = groups[group].pop(key)
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
