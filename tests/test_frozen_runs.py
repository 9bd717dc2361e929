"""Run ids: runs on disk are looked up by them, so those of `frozen_runs/` must never change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from actsweep.config import identity, resolve
from actsweep.config.identity import Added
from actsweep.config.overrides import for_hydra
from actsweep.config.schema import RunConfig

HERE = Path(__file__).parent / "frozen_runs"
CONF = Path(__file__).parents[1] / "conf"
TYPED: Any = OmegaConf.to_container(OmegaConf.load(HERE / "typed.yaml"))
HELP = """
config keys that the runs on disk don't have, so every run would get another id:
  {keys}
If one value of it leaves earlier runs as they are, add it to config.identity.ADDED with that value.
If it can't change a result, leave it out in config.identity.what_counts. If it belongs to an option
that is new as a whole, or to one whose runs are to be trained again, add the line to
tests/frozen_runs/keys.txt."""


def flat(tree: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Return the dotted paths of all leaves; an empty group is a leaf."""
    paths: set[str] = set()
    for key, value in tree.items():
        deeper = isinstance(value, Mapping) and value
        paths |= flat(value, f"{prefix}{key}.") if deeper else {f"{prefix}{key}"}
    return paths


def schema_keys() -> set[str]:
    return flat(identity.without_neutral(identity.what_counts(resolve.to_dict(RunConfig()))))


def option_keys() -> set[str]:
    """Return the keys that options have beyond the schema, as `act=elu: act.alpha`."""
    known, keys = flat(resolve.to_dict(RunConfig())), set()
    for file in set(CONF.glob("*/*.yaml")) - set(CONF.glob("local/*")):
        plain = OmegaConf.to_container(OmegaConf.load(file))
        assert isinstance(plain, dict)
        plain = {key: value for key, value in plain.items() if key not in ("defaults", "hydra")}
        group = file.parent.name
        if group in identity.NOT_IN_ID:
            continue
        is_global = "# @package _global_" in file.read_text()
        counts = identity.without_neutral(plain if is_global else {group: plain})
        keys |= {f"{group}={file.stem}: {path}" for path in flat(counts) - known}
    return keys


@pytest.fixture(autouse=True)
def frozen_code_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    identity._source_digest.cache_clear()


@pytest.mark.parametrize("run_id", TYPED)
def test_a_config_on_disk_keeps_its_id(run_id: str) -> None:
    plain = OmegaConf.load(HERE / f"{run_id}.yaml")
    assert isinstance(plain, DictConfig)
    assert identity.run_id(resolve.resolve(plain)) == run_id


@pytest.mark.parametrize("run_id", TYPED)
def test_the_same_words_ask_for_the_same_run(run_id: str) -> None:
    """If a default of conf/ changes on purpose, change what was typed; never the config."""
    resolve.register()
    with initialize_config_dir(str(CONF), version_base=None):
        run = resolve.resolve(compose("config", overrides=for_hydra(TYPED[run_id].split())))
    assert identity.run_id(run) == run_id


def test_a_new_key_must_say_what_it_means_for_runs_on_disk() -> None:
    frozen = set((HERE / "keys.txt").read_text().splitlines())
    new = (schema_keys() | option_keys()) - frozen
    assert not new, HELP.format(keys="\n  ".join(sorted(new)))


def test_keys_with_neutral_values_are_not_new(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "optim.warmup" in schema_keys()
    assert {"act=swish: act.beta", "callbacks=light: callbacks.units.every"} <= option_keys()
    added = (Added("optim.warmup", 0.1), Added("act.beta", 1.0, {"act.name": "swish"}))
    monkeypatch.setattr(identity, "ADDED", added)
    assert "optim.warmup" not in schema_keys()
    assert "act=swish: act.beta" not in option_keys()
    assert "act=swish: act.learnable" in option_keys()
