"""A composer for the runs of a sweep: those that differ only in values share work. No jax."""

import copy
import functools
import pickle
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from actsweep.config import by_layer, data_folders, resolve, validate
from actsweep.config.identity import config_value, set_config_value
from actsweep.config.overrides import FORMULA_KEY, OPEN_GROUP, expand_all
from actsweep.config.schema import CRITICAL_INITS, RunConfig, SweepConfig, varied_sources
from actsweep.formulas.rescaling import found_by_transform, transform_of
from actsweep.utils.errors import UserError, unknown_name


class Composer:
    """A cache of composed configs, one for each choice of config files.

    Hydra takes about 100 ms to compose a run from its files. A sweep over seeds and learning rates
    chooses the same files for every run: they are composed once. OmegaConf then takes 10 ms to copy
    the config and turn it into a `RunConfig`, which is done once for all runs that set the same
    keys to plain values.

    Args:
        loader: Hydra's config loader.
        master: the config of the sweep, with what was typed for `hydra`.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        parser = OverridesParser.create(config_loader=loader)
        self._parse = functools.cache(functools.partial(_parse, parser))
        self._is_group = functools.cache(lambda key: bool(loader.get_group_options(key)))
        self._bases: dict[tuple[str, ...], tuple[DictConfig, Mapping[str, Any]]] = {}
        self._act = functools.cache(functools.partial(act_option, loader))
        self._composed: dict[tuple[str, ...], tuple[DictConfig, bytes]] = {}

    def run(self, words: Sequence[str]) -> RunConfig:
        """Compose and check the run that these overrides describe.

        Args:
            words: overrides as Hydra takes them; see `overrides.expand`.

        Raises:
            UserError: as `resolve.resolve`; a parameter that the activation doesn't have; or a
                folder of images that isn't there.
            HydraException: an override that doesn't fit the config.
        """
        chosen, values = self._divide([self._parse(word) for word in words])
        base, choices = self._base(chosen)
        paths = [override.key_or_group for override in values]
        alike = (*chosen, *paths)  # of such runs one is composed
        plain = all(map(_is_plain, values))
        if plain and alike in self._composed:
            config, first = self._composed[alike]
            run: RunConfig = pickle.loads(first)
            for path, override in zip(paths, values, strict=True):
                value = override.value()
                if type(value) is not type(
                    config_value(run, path)
                ):  # OmegaConf converts, or refuses
                    ConfigLoaderImpl._apply_overrides_to_config([override], config)
                    value = OmegaConf.select(config, path)
                set_config_value(run, path, value)
            validate.check(run)
        else:
            config = copy.deepcopy(base)
            ConfigLoaderImpl._apply_overrides_to_config(values, config)
            run = resolve.finish(config)
            if plain and _is_independent(base):
                self._composed[alike] = config, pickle.dumps(run)
        check_params(run, words, choices, self._act)
        data_folders.folder_of(run.data)
        return run

    def sweep(self, words: Sequence[str]) -> SweepConfig:
        """Compose a run as far as the sweep's own settings go, and return these.

        Raises:
            UserError, HydraException: as `run`.
        """
        parsed = [self._parse(part) for part in expand_all(words)]
        chosen, values = self._divide([o for o in parsed if self._concerns_sweep(o.key_or_group)])
        config = copy.deepcopy(self._base(chosen)[0])
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return resolve.part(config.sweep, SweepConfig)

    def _concerns_sweep(self, key: str) -> bool:
        return key.startswith("sweep.") or self._is_group(key)

    def _divide(self, overrides: Sequence[Override]) -> tuple[tuple[str, ...], list[Override]]:
        """Divide overrides into those that choose files, and those that only set a value."""
        values = [o for o in overrides if self._is_value(o)]
        choices = [o for o in overrides if not self._is_value(o)]
        if any(o.is_add() or o.is_force_add() or o.is_delete() for o in choices):
            return tuple(o.input_line or "" for o in overrides), []  # their order may matter
        return tuple(o.input_line or "" for o in choices), values

    def _is_value(self, override: Override) -> bool:
        if override.key_or_group == "act.name":  # of a formula, and part of what is composed once
            return False
        if _is_entry(override):  # its key is added, but nothing else follows from it
            return not override.is_delete()
        if override.is_add() or override.is_force_add() or override.is_delete():
            return False
        if override.is_hydra_override() or override.package is not None:
            return False
        return not self._is_group(override.key_or_group)

    def _base(self, chosen: tuple[str, ...]) -> tuple[DictConfig, Mapping[str, Any]]:
        if chosen not in self._bases:
            composed = self._loader.load_sweep_config(self._master, list(chosen))
            typed = resolve.typed(composed)
            OmegaConf.set_struct(typed, True)  # so that a misspelt key is refused
            self._bases[chosen] = typed, composed.hydra.runtime.choices
        return self._bases[chosen]


def _parse(parser: OverridesParser, word: str) -> Override:
    """Parse an override; whole numbers, of which a sweep over seeds has thousands, at once."""
    if match := re.fullmatch(r"([a-z_][a-z_\d.]*)=(0|-?[1-9]\d*)", word):
        kind, value = OverrideType.CHANGE, int(match[2])
        found = Override(kind, match[1], ValueType.ELEMENT, value, input_line=word)
        found.config_loader = parser.config_loader
        return found
    return parser.parse_override(word)


def with_overrides(run: RunConfig, words: Sequence[str]) -> RunConfig:
    """Return a resolved run with some values changed, checked again.

    Args:
        run: as from `resolve.resolve`.
        words: overrides that set values.

    Raises:
        UserError, HydraException: as `Composer.run`.
    """
    parser = OverridesParser.create()
    given = parser.parse_overrides(expand_all(words))
    config = resolve.typed(resolve.to_dict(run))
    OmegaConf.set_struct(config, True)
    ConfigLoaderImpl._apply_overrides_to_config(given, config)
    changed = resolve.part(config, RunConfig)
    validate.check(changed)
    return changed


def checked(
    cfg: DictConfig, words: Sequence[str], choices: Mapping[str, Any], option_of: Any
) -> RunConfig:
    """Return the run that a config describes, after checking the activations' parameters too.

    Args:
        cfg: a composed config, from `resolve.typed`.
        words: the overrides that led to it.
        choices: the options that were chosen, by group.
        option_of: a function from an option of `act` to its config; see `act_option`.

    Raises:
        UserError: as `resolve.resolve`; a parameter that the activation doesn't have; or a folder
            of images that isn't there.
    """
    run = resolve.finish(cfg)
    check_params(run, words, choices, option_of)
    data_folders.folder_of(run.data)
    return run


def check_params(
    run: RunConfig, words: Sequence[str], choices: Mapping[str, Any], option_of: Any
) -> None:
    """Refuse parameters that the run's activations don't have; fill in those of `act.by_layer`.

    The arguments are those of `checked`.
    """
    _check_found(run, words)
    _check_split_seed(run, words)
    by_layer.complete(run.act, option_of)
    for pattern, entry in by_layer.entries(run.act).items():
        if "_target_" not in entry and "formula" not in entry:
            path, name = by_layer.path_of(pattern), entry["name"]
            known = _params(option_of(name, path))
            validate.check_params(path, name, by_layer.params_of(entry), known)
    mentioned = any(text.lstrip("+").startswith("act.") for text in words)
    own = run.act.get("_target_") or "formula" in run.act  # checked by themselves
    if mentioned and "act" in choices and not own:
        validate.check_act_params(run, _params(option_of(choices["act"])))


def _check_found(run: RunConfig, words: Sequence[str]) -> None:
    """Refuse usual values typed beside what finds them: they would be replaced.

    Others are compared with what is found.
    """
    usual: dict[str, tuple[float, str, str]] = {}
    if run.init.name in CRITICAL_INITS:
        for key, value in (("init.sigma_w", 1.0), ("init.sigma_b", 0.0)):
            usual[key] = (value, f"init={run.init.name}", f"init=normal {key}=")
    if "slope" in found_by_transform(run.act):
        usual["act.slope"] = (0.01, f"act.transform={transform_of(run.act)}", "act.slope=")
    for word in words:
        key, _, text = word.lstrip("+").partition("=")
        if key in usual and config_value(run, key) == usual[key][0]:
            _, finds, instead = usual[key]
            without = "" if key.startswith("init.") else " without the transform"
            raise UserError(
                f"{key}={text}: {finds} finds it itself; leave it out, or type "
                f"{instead}{text}{without}"
            )


def _check_split_seed(run: RunConfig, words: Sequence[str]) -> None:
    """Refuse a split's usual seed typed where it follows `seed`; others are compared with it."""
    typed = any(word.lstrip("+").startswith("data.split_seed=") for word in words)
    if typed and "split" in varied_sources(run.vary) and run.data.split_seed != run.seed:
        raise validate.two_split_seeds(run)


def _is_independent(base: DictConfig) -> bool:
    """Return whether no value of a config follows from another one."""
    return not re.search(r"\$\{(?!oc\.(env|decode):)", str(OmegaConf.to_container(base)))


def _is_plain(override: Override) -> bool:
    """Return whether an override sets a single value from which nothing else follows."""
    value = override.value()
    if override.key_or_group.startswith("depth.") or _is_added(override):
        return False  # the widths follow from it; what a name leaves out
    return isinstance(value, int | float | bool) or value is None


def _is_entry(override: Override) -> bool:
    of_formula = override.is_force_add() and re.fullmatch(FORMULA_KEY, override.key_or_group)
    return bool(of_formula or _is_added(override))


def _is_added(override: Override) -> bool:
    key = override.key_or_group
    return bool(re.match(OPEN_GROUP, key)) and not key.startswith("slurm.")


def act_params(loader: ConfigLoader, choice: str) -> dict[str, Any]:
    """Return the parameters of an activation with their defaults, as its config file lists them.

    Args, Raises: as `act_option`.
    """
    return _params(act_option(loader, choice))


def _params(option: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in option.items() if key != "name"}


def act_option(loader: ConfigLoader, choice: str, path: str = "act") -> dict[str, Any]:
    """Return what the config file of an activation says: its name, its parameters' defaults.

    Args:
        loader: Hydra's config loader.
        choice: the name of an option of `act`.
        path: the config path that names it, for the message.

    Raises:
        UserError: there is no such option.
    """
    options = loader.get_group_options("act")
    if choice not in options:
        raise unknown_name(path, choice, options)
    config = loader.load_configuration(f"act/{choice}", [], RunMode.RUN)
    return {str(key): value for key, value in config.act.items()}
