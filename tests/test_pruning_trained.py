"""Pruned members of a pack: they cost nothing further, and what they leave goes on anywhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_resume import Cut, folder, pack, what_is_left
from test_run import make, run_pack

from actsweep.config import identity
from actsweep.config.schema import RunConfig
from actsweep.runs import checkpoint, run_dir
from actsweep.runs.metrics_file import read_metrics
from actsweep.train.types import Judge, SweepContext

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]
EPOCH_STEPS = 18
STATES = ["complete", "pruned", "complete", "pruned", "diverged"]


def members(outputs: Path, **changes: Any) -> list[RunConfig]:
    """Five seeds; the last diverges at once, and the third is stopped by its own hook."""
    return pack(outputs, 0, 1, 2, 3, 4, **changes)


def context(sweep: str, epochs: Mapping[int, int]) -> SweepContext:
    """A search that prunes some seeds after so many epochs."""

    def judges(run_id: str, sign: int) -> Judge | None:
        assert sign == 1
        seed = int(run_id.rpartition("-s")[2].partition("-")[0])
        return (lambda epoch, value: epoch >= epochs[seed]) if seed in epochs else None

    return SweepContext(sweep, judges=judges, search=sweep)


AT = {1: 1, 3: 2, 4: 2}
LATE = {1: 2, 3: 2}


def states(runs: Sequence[RunConfig]) -> list[str]:
    return [(run_dir.read_status(folder(one)) or {})["state"] for one in runs]


@pytest.mark.parametrize("batching", ["map", "vmap"])
def test_a_pruned_run_is_what_an_interruption_leaves(batching: str, tmp_path: Path) -> None:
    """Others end as they would have; trained on without pruning, it does, too, to the byte."""
    how = {"pack": {"batching": batching}}
    whole, pruned = members(tmp_path / "whole", **how), members(tmp_path / "pruned", **how)
    run_pack(whole, SweepContext("sweep"))
    expected = [what_is_left(one) for one in whole]
    results = run_pack(pruned, context("search", AT))
    assert [result["state"] for result in results] == states(pruned) == STATES
    for place, epoch in ((1, 1), (3, 2)):
        run, status = folder(pruned[place]), run_dir.read_status(folder(pruned[place])) or {}
        assert (status["step"], status["epoch"]) == (EPOCH_STEPS * epoch, epoch)
        assert status["cause"] == f"at epoch {epoch} of 4"
        assert results[place]["pruned_epoch"] == results[place]["epochs"] == epoch
        assert results[place]["test_accuracy"] is None
        assert results[place]["best_val_accuracy"] is not None
        assert checkpoint.steps(run.checkpoints) == [EPOCH_STEPS * epoch]
        assert not checkpoint.metadata(run.checkpoints, EPOCH_STEPS * epoch)["ended"]
        assert expected[place]["metrics"].startswith(run.metrics.read_bytes())
        assert read_metrics(run.metrics)["epoch"][-1] == epoch
    if batching == "map":
        for place in (0, 2, 4):
            assert what_is_left(pruned[place]) == expected[place]
    again = run_pack(pruned, context("search", AT))  # the same search has nothing left to do
    assert [result["reused"] for result in again] == [True] * 5
    other = run_pack(pruned, SweepContext("another"))
    assert [result["reused"] for result in other] == [True, False, True, False, True]
    assert [result["state"] for result in other] == ["complete"] * 4 + ["diverged"]
    assert "pruned_epoch" not in other[1]
    if batching == "map":
        assert [what_is_left(one) for one in pruned] == expected


@pytest.mark.parametrize("batching", ["map", "vmap"])
def test_a_search_that_is_cut_short_prunes_the_same(batching: str, tmp_path: Path) -> None:
    """At an odd limit nothing has been saved since the chunk before; 3 is where one is pruned."""
    how = {"pack": {"batching": batching}}
    whole = members(tmp_path / "whole", **how)
    run_pack(whole, context("search", AT))
    expected = [what_is_left(one) for one in whole]
    for limit in (3, 4, 8, 9):
        cut = members(tmp_path / str(limit), **how)
        with pytest.MonkeyPatch.context() as patch:
            Cut(limit, saves=limit % 2 == 0).apply(patch)
            with pytest.raises(KeyboardInterrupt):
                run_pack(cut, context("search", AT))
        assert {*states(cut)} == {"preempted"}
        run_pack(cut, context("search", AT))
        assert states(cut) == STATES
        for one, other in zip(cut, expected, strict=True):
            assert what_is_left(one) == other, limit


def test_what_was_cut_short_after_pruning_is_not_taken_for_ended(tmp_path: Path) -> None:
    """The search dies after it has pruned and saved; somebody else trains the run to its end."""
    whole, cut = members(tmp_path / "whole"), members(tmp_path / "cut")
    run_pack(whole, SweepContext("sweep"))
    with pytest.MonkeyPatch.context() as patch:
        Cut(8, saves=True).apply(patch)
        with pytest.raises(KeyboardInterrupt):
            run_pack(cut, context("search", AT))
    results = run_pack(cut, SweepContext("another"))
    assert [result["state"] for result in results] == ["complete"] * 4 + ["diverged"]
    for one, other in zip(cut, whole, strict=True):
        assert what_is_left(one) == what_is_left(other)


def test_another_search_judges_for_itself(tmp_path: Path) -> None:
    """It goes on where its pruner would, and ends at once what its pruner had ended sooner."""
    whole, runs = members(tmp_path / "whole"), members(tmp_path / "runs")
    run_pack(whole, context("late", LATE))
    run_pack(runs, context("early", AT))
    results = run_pack(runs, context("late", LATE))
    assert [result["state"] for result in results] == STATES
    assert [results[place]["pruned_epoch"] for place in (1, 3)] == [2, 2]
    for one, other in zip(runs, whole, strict=True):
        assert what_is_left(one) == what_is_left(other)
    kept = [what_is_left(runs[place])["metrics"] for place in (1, 3)]
    results = run_pack(runs, context("early", AT))
    assert [results[place]["pruned_epoch"] for place in (1, 3)] == [1, 2]
    assert [what_is_left(runs[place])["metrics"] for place in (1, 3)] == kept
    run_pack(runs, SweepContext("whole"))
    again = members(tmp_path / "again")
    run_pack(again, SweepContext("whole"))
    for one, other in zip(runs, again, strict=True):
        assert what_is_left(one) == what_is_left(other)


def test_alone_as_in_a_pack(tmp_path: Path) -> None:
    """Under map; and a run that ends with the epoch in which it would be pruned is complete."""
    together, alone = members(tmp_path / "together"), members(tmp_path / "alone")
    run_pack(together, context("search", AT))
    for one in alone:
        run_pack([one], context("search", AT))
    for one, other in zip(alone, together, strict=True):
        assert what_is_left(one) == what_is_left(other)
    patient = {"epochs": 60, "batch_size": 64, "probe_examples": 128, "patience": 1}
    (stopped,) = run_pack([make(tmp_path, seed=1, trainer=patient)], SweepContext("sweep"))
    late = make(tmp_path / "late", seed=1, trainer=patient)
    (result,) = run_pack([late], context("search", {1: round(stopped["epochs"])}))
    assert 1 < stopped["epochs"] < 60
    assert result["state"] == "complete"
    assert identity.run_id(late) == stopped["run_id"]
