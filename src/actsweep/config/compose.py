"""Composes the runs of a sweep: those that differ in values alone share Hydra's work. No jax."""

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from actsweep.config import resolve, validate
from actsweep.config.schema import RunConfig


class Composer:
    """Hydra takes about 100 ms to compose a run from its files. A sweep over seeds and learning
    rates chooses the same files for every run: here that is done once, and setting a value takes a
    few milliseconds.

    Args:
        loader: Hydra's.
        master: the sweep's own config, which holds what was typed for `hydra`.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._parser = OverridesParser.create(config_loader=loader)
        self._is_group = functools.cache(lambda key: bool(loader.get_group_options(key)))
        self._bases: dict[tuple[str, ...], tuple[DictConfig, Mapping[str, Any]]] = {}
        self._act = functools.cache(functools.partial(act_params, loader))

    def run(self, words: Sequence[str]) -> RunConfig:
        """The checked run of these overrides.

        Raises:
            UserError: as `config.resolve`; or a parameter that the activation doesn't have.
            HydraException: an override that doesn't fit the config.
        """
        chosen, values = self._divide(self._parser.parse_overrides(list(words)))
        base, choices = self._base(chosen)
        own = copy.deepcopy(base)
        ConfigLoaderImpl._apply_overrides_to_config(values, own)
        return checked(own, words, choices, self._act)

    def _divide(self, overrides: Sequence[Override]) -> tuple[tuple[str, ...], list[Override]]:
        """What decides which files are composed, and what only sets a value in the result."""
        values = [o for o in overrides if self._is_value(o)]
        rest = [o for o in overrides if not self._is_value(o)]
        if any(o.is_add() or o.is_force_add() or o.is_delete() for o in rest):
            return tuple(o.input_line or "" for o in overrides), []  # their order may matter
        return tuple(o.input_line or "" for o in rest), values

    def _is_value(self, one: Override) -> bool:
        special = one.is_add() or one.is_force_add() or one.is_delete() or one.is_hydra_override()
        return not special and one.package is None and not self._is_group(one.key_or_group)

    def _base(self, chosen: tuple[str, ...]) -> tuple[DictConfig, Mapping[str, Any]]:
        if chosen not in self._bases:
            composed = self._loader.load_sweep_config(self._master, list(chosen))
            typed = resolve.typed(composed)
            OmegaConf.set_struct(typed, True)  # a misspelt key is refused
            self._bases[chosen] = typed, composed.hydra.runtime.choices
        return self._bases[chosen]


def checked(
    cfg: DictConfig, words: Sequence[str], choices: Mapping[str, Any], params_of: Any
) -> RunConfig:
    """The run that a config describes, with the activation's own parameters checked too.

    Args:
        cfg: `config.typed` of what was composed.
        words: the overrides that led to it.
        choices: the options that were chosen, by group.
        params_of: `act_params` of Hydra's loader.

    Raises:
        UserError: as `config.resolve`; or a parameter that the activation doesn't have.
    """
    one = resolve.finish(cfg)
    mentioned = any(text.lstrip("+").startswith("act.") for text in words)
    if mentioned and "act" in choices and not one.act.get("_target_"):
        validate.check_act_params(one, params_of(choices["act"]))
    return one


def act_params(loader: ConfigLoader, choice: str) -> dict[str, Any]:
    """The parameters of an activation with their defaults, as its file lists them."""
    plain = loader.load_configuration(f"act/{choice}", [], RunMode.RUN)
    return {str(key): value for key, value in plain.act.items() if key != "name"}
