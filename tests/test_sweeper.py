"""Packs: which runs of a sweep share a program, each trained once, none lost."""

from typing import Any

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

from actsweep import config
from actsweep.config import RunConfig
from hydra_plugins.actsweep_pack.sweeper import PackSweeper, merge


def make(act: str = "relu", seed: int = 0, **groups: Any) -> RunConfig:
    return config.resolve({"act": {"name": act}, "seed": seed, **groups})


def seeds(packs: list[list[RunConfig]]) -> list[list[int]]:
    return [[one.seed for one in pack] for pack in packs]


def test_hydra_finds_the_sweeper() -> None:
    found = {plugin.__name__ for plugin in Plugins.instance().discover(Sweeper)}
    assert PackSweeper.__name__ in found


def test_seeds_share_a_pack_and_activations_do_not() -> None:
    runs = [make(act, seed) for act in ("relu", "elu") for seed in (0, 1, 2)]
    packs = list(merge(runs))
    assert seeds(packs) == [[0, 1, 2], [0, 1, 2]]
    assert [{one.act["name"] for one in pack} for pack in packs] == [{"relu"}, {"elu"}]


def test_the_order_of_the_overrides_does_not_matter() -> None:
    runs = [make(act, seed) for seed in (0, 1, 2) for act in ("relu", "elu")]
    assert seeds(list(merge(runs))) == [[0, 1, 2], [0, 1, 2]]


def test_learning_rates_share_a_pack_with_seeds() -> None:
    runs = [make(seed=s, optim={"lr": lr}) for s in (0, 1) for lr in (0.1, 0.2)]
    assert [len(pack) for pack in merge(runs)] == [4]


def test_the_same_run_twice_is_one() -> None:
    runs = [make(seed=0), make(seed=0), make(seed=0, depth={"layers": 4, "width": 256})]
    assert [len(pack) for pack in merge([*runs, make(seed=1)])] == [2]


@pytest.mark.parametrize(("size", "lengths"), [(1, [1] * 5), (2, [2, 2, 1]), ("auto", [5])])
def test_packs_have_the_size_that_is_asked_for(size: Any, lengths: list[int]) -> None:
    packs = list(merge([make(seed=s, pack={"size": size}) for s in range(5)]))
    assert [len(pack) for pack in packs] == lengths
    assert [one.seed for pack in packs for one in pack] == list(range(5))


def test_auto_leaves_the_size_to_the_job() -> None:
    """Only the machine that trains can tell how many fit."""
    assert [len(pack) for pack in merge([make(seed=s) for s in range(500)])] == [500]
