"""Overrides of a sweep: as Hydra parses them, and as each run gets them. No jax."""

from collections.abc import Collection, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from actsweep.config.compose import act_params
from actsweep.config.overrides import bare_all, expand_all
from actsweep.formulas.grammar import parameter_words
from hydra_plugins.actsweep_pack.combinations import Words, where_known


def parsed(words: Sequence[str], loader: ConfigLoader) -> list[Override]:
    """Return what was typed as Hydra parses it."""
    parser = OverridesParser.create(config_loader=loader)
    found: list[Override] = parser.parse_overrides(bare_all(words))
    return found


def expanded(
    jobs: Sequence[Words], loader: ConfigLoader, config: DictConfig, acts: Sequence[str] = ()
) -> list[Words]:
    """Return each run's overrides as Hydra takes them, without what its activation doesn't have.

    Args:
        jobs: each run's overrides, as typed.
        loader: Hydra's config loader.
        config: the sweep's, with Hydra's choices.
        acts: activations of the sweep that these jobs may lack.
    """

    def params_of(act: str) -> Collection[str] | None:
        if (of_formula := parameter_words(act)) is not None:
            return of_formula
        try:
            return act_params(loader, act)
        except Exception:  # it is told when the run is composed
            return None

    default: Any = config.hydra.runtime.choices.get("act")
    known = where_known(jobs, str(default), params_of, acts)
    return [expand_all(job) for job in known]
