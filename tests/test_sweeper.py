"""Packs: which runs of a sweep share a program, each trained once, none lost."""

import functools
import os
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest
import submitit
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper

from actsweep.config import resolve
from actsweep.config.schema import RunConfig
from actsweep.launch.hydra import launch
from actsweep.runs.members import Member, make_member
from hydra_plugins.actsweep_pack.sweeper import PackSweeper, merge


def make(act: str = "relu", seed: int = 0, **groups: Any) -> RunConfig:
    return resolve.resolve({"act": {"name": act}, "seed": seed, **groups})


def seeds(packs: list[list[Member]]) -> list[list[int]]:
    return [[member.config.seed for member in pack] for pack in packs]


def members(runs: list[RunConfig]) -> list[Member]:
    return [make_member(run) for run in runs]


def test_hydra_finds_the_sweeper() -> None:
    found = {plugin.__name__ for plugin in Plugins.instance().discover(Sweeper)}
    assert PackSweeper.__name__ in found


def test_seeds_share_a_pack_and_activations_do_not() -> None:
    runs = [make(act, seed) for act in ("relu", "elu") for seed in (0, 1, 2)]
    packs = list(merge(members(runs)))
    assert seeds(packs) == [[0, 1, 2], [0, 1, 2]]
    assert [{member.config.act["name"] for member in pack} for pack in packs] == [{"relu"}, {"elu"}]


def test_the_order_of_the_overrides_does_not_matter() -> None:
    runs = [make(act, seed) for seed in (0, 1, 2) for act in ("relu", "elu")]
    assert seeds(list(merge(members(runs)))) == [[0, 1, 2], [0, 1, 2]]


def test_learning_rates_share_a_pack_with_seeds() -> None:
    runs = [make(seed=s, optim={"lr": lr}) for s in (0, 1) for lr in (0.1, 0.2)]
    assert [len(pack) for pack in merge(members(runs))] == [4]


def test_the_same_run_twice_is_one() -> None:
    runs = [make(seed=0), make(seed=0), make(seed=0, depth={"layers": 4, "width": 256})]
    assert [len(pack) for pack in merge(members([*runs, make(seed=1)]))] == [2]


@pytest.mark.parametrize(("size", "lengths"), [(1, [1] * 5), (2, [2, 2, 1]), ("auto", [5])])
def test_packs_have_the_size_that_is_asked_for(size: Any, lengths: list[int]) -> None:
    packs = list(merge(members([make(seed=s, pack={"size": size}) for s in range(5)])))
    assert [len(pack) for pack in packs] == lengths
    assert [member.config.seed for pack in packs for member in pack] == list(range(5))


def test_auto_leaves_the_size_to_the_job() -> None:
    """Only the machine that trains can tell how many fit."""
    assert [len(pack) for pack in merge(members([make(seed=s) for s in range(500)]))] == [500]


class Fake(Launcher):
    def setup(self, **given: Any) -> None:
        raise NotImplementedError


def test_a_pool_that_broke_is_the_end_of_every_job() -> None:
    class Broken(Fake):
        def launch(self, job_overrides: Any, initial_job_idx: int) -> Any:
            raise BrokenExecutor("one process has died")

    ends = launch(Broken(), [["seed=0"], ["seed=1"]])
    assert [str(end) for end in ends] == ["one process has died"] * 2


def test_the_others_are_waited_for_when_one_job_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit's launcher waits as the one here does, and would end at the first job."""
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 0)  # for a slow disk to show the result
    done = functools.partial(JobReturn, status=JobStatus.COMPLETED, _return_value=["trained"])

    class Submitit(Fake):
        __module__ = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"

        def launch(self, job_overrides: Any, initial_job_idx: int) -> Any:
            executor = submitit.LocalExecutor(tmp_path)
            jobs = [executor.submit(os._exit, 3), executor.submit(done)]
            return [job.results()[0] for job in jobs]

    original = submitit.Job.results
    died, trained = launch(Submitit(), [["seed=0"], ["seed=1"]])
    assert "has not produced any output" in str(died)
    assert trained == ["trained"]
    assert submitit.Job.results is original
