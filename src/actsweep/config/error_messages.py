"""Error messages of one line, from Hydra's and OmegaConf's exceptions."""

import difflib
import re

import yaml
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from actsweep.config.overrides import bare
from actsweep.formulas.grammar import OPTION, is_formula
from actsweep.utils.errors import UserError, bad_value, unknown_name
from actsweep.utils.invocation import train_command

KINDS = {
    "Integer": ("an integer", "1"),
    "Float": ("a number", "0.1"),
    "Boolean": ("true or false", "true"),
}


CALLED_HERE = {
    "slurm.timeout_min": "slurm.hours",
    "slurm.time": "slurm.hours",
    "slurm.cpus_per_task": "slurm.cpus",
    "slurm.gpus_per_node": "slurm.gpus",
    "trainer.log_every": "trainer.chunk_steps",
    "trainer.log_every_n_steps": "trainer.chunk_steps",
}
"""Keys as other launchers and trainers call them."""


SUBMITIT = ("submitit_slurm", "submitit_local")
"""Launchers of an extra."""


def explain(error: BaseException) -> str:
    """Return one line for any exception: what is wrong, where, what is allowed, what to type."""
    from hydra.errors import HydraException

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OmegaConfBaseException):
        return explain_value(error)
    if isinstance(error, HydraException):
        return _explain_hydra(error)
    if isinstance(error, yaml.YAMLError):
        return _explain_yaml(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; type for example paths.outputs=/some/folder"
    if isinstance(error, ValueError) and str(error).startswith("Only one of --run"):
        return "-m, --cfg and --info: can't be combined; type only one of them"
    text = " ".join(str(error).split())
    if isinstance(error, UnicodeDecodeError):
        return f"a config file isn't text in UTF-8 ({text}); save it as UTF-8"
    return f"{type(error).__name__}: {text} (HYDRA_FULL_ERROR=1 shows where)"


def explain_value(error: OmegaConfBaseException) -> str:
    """Return one line for a value or a key that the schema refuses."""
    path = error.full_key
    text = str(error.msg or error).splitlines()[0]
    if not path:
        return f"config: {text}"
    if match := re.match(r"Key '(.*)' (?:is not in struct|not in)", text):
        return _explain_key(path, match[1], error)
    if match := re.match(r"Value '(.*)' of type '.*' could not be converted to (\w+)", text):
        allowed, example = KINDS.get(match[2], (f"a {match[2]}", "…"))
        return str(bad_value(path, match[1], allowed, f"{path}={example}"))
    if match := re.match(r"Value '(.*)' is not a valid bool", text):
        return str(bad_value(path, match[1], "true or false", f"{path}=true"))
    if match := re.match(r"Interpolation key '(.*)' not found", text):
        return f"{path}=${{{match[1]}}}: '{match[1]}' is no key of the config; type a value"
    if "is not Optional" in text or "Incompatible value 'None'" in text:
        return f"{path}=null: must have a value; type {path}=<value>, or leave it out"
    if "is not a ListConfig" in text:
        return f"{path}: must be a list; type for example '{path}=[1,2]'"
    if "is not a DictConfig" in text or "is not a subclass" in text:
        return f"{path}: must be a group of keys; type for example {path}.<key>=<value>"
    return f"{path}: {text}"


def _explain_key(path: str, key: str, error: OmegaConfBaseException) -> str:
    parent = error.parent_node
    hidden = {"hydra"} | ({"name"} if path.startswith("act.") else set())
    known = [str(k) for k in parent if k not in hidden] if isinstance(parent, DictConfig) else []
    prefix = path.rpartition(".")[0]
    full = {k: f"{prefix}.{k}" if prefix else k for k in known}
    near = [full[k] for k in difflib.get_close_matches(key, known, n=1, cutoff=0.5)]
    near = [CALLED_HERE[path]] if path in CALLED_HERE else near
    if not prefix and isinstance(parent, DictConfig):  # lr is optim.lr
        near = [f"{group}.{key}" for group in known if _has(parent, group, key)] or near
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{path}: no such key; {hint}Known here: {', '.join(full.values()) or 'none'}"


def _has(parent: DictConfig, group: str, key: str) -> bool:
    node = parent._get_node(group)
    return isinstance(node, DictConfig) and not node._is_none() and key in node


def _explain_hydra(error: Exception) -> str:
    from hydra.errors import MissingConfigException, OverrideParseException

    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher" and name in SUBMITIT:
            return (
                f"hydra/launcher={name}: needs the package hydra-submitit-launcher; type pip "
                'install "actsweep[submitit]", or hydra/launcher=slurm'
            )
        # `formula` is an option that nobody types: the formula itself stands in its place.
        options = [option for option in error.options if (group, option) != ("act", OPTION)]
        return str(unknown_name(group, name, options))
    if isinstance(error, OverrideParseException):
        word = bare(str(error.override))
        key, _, value = word.partition("=")
        if key.startswith("act.by_layer.") and is_formula(value):
            return f"{word}: can't be read; type a formula in quotes: \"{key}='{value}'\""
        return (
            f"{word}: can't be read; type key=value, in quotes where it has brackets or "
            "spaces, for example 'model.channels=[32,64]'"
        )
    text = str(error)
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OmegaConfBaseException):
        return _explain_file(text, cause)
    if match := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", text):
        word = bare(match[1])
        return f"{word}: several values make a sweep; type {train_command()} -m {word}"
    if match := re.match(r"Could not append to config. An item is already at '(.*)'", text):
        return f"+{match[1]}: this key exists already; type {match[1]}=<value>, without the +"
    if match := re.match(r"In '(.*)': Could not (?:load|find) '(.*?)'", text):
        return f"{match[1]}.yaml: names '{match[2]}', which isn't there; mend its defaults list"
    return " ".join(re.split(r"(?:Config s|S)earch path:", text)[0].split())


def _explain_file(text: str, cause: OmegaConfBaseException) -> str:
    """Return one line for what the schema refuses, with the config file in which it stands."""
    line, match = explain_value(cause), re.match(r"In '(.*?)':", text)
    file = match[1] if match else "config"
    if file == "config":  # it was typed
        return line
    group = file.partition("/")[0]
    if cause.full_key == group:
        line = f"sets the key {group}, which isn't there; let it begin with: # @package _global_"
    return f"{file}.yaml: {line}"


def _explain_yaml(error: yaml.YAMLError) -> str:
    """Return one line for a config file that isn't YAML."""
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
        why = error.problem or "is no YAML"
        return f"{mark.name}, line {mark.line + 1}: {why}; mend the file"
    return f"a config file is no YAML: {' '.join(str(error).split())}; mend the file"
