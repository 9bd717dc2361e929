"""Exact resume: cut short anywhere, a pack ends with the bytes of one that never was."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_run import LIGHT, make, run_pack

from actsweep.callbacks.base import Callback, EarlyStop, Hook, LogMessage
from actsweep.config import identity
from actsweep.config.schema import RunConfig
from actsweep.runs import checkpoint, run_dir
from actsweep.runs.metrics_file import read_histograms
from actsweep.runs.run_dir import RunDir
from actsweep.train import checkpointing, schedule
from actsweep.train import pack as pack_module
from actsweep.train.pack import Result
from actsweep.train.types import SweepContext

LOOKS: dict[str, Any] = {
    **LIGHT,
    "histograms": {},
    "mine": {"_target_": f"{__name__}.counting"},
}
STEPS = {"epochs": 4, "batch_size": 64, "probe_examples": 128, "chunk_steps": 6, "save_every_s": 0}


def counting() -> Callback:
    """A hook with a memory: it speaks, or logs a sum, at every second row; seed 2's stops."""

    def hook() -> Hook:
        seen: list[float] = []

        def look(
            step: int, epoch: float, readings: Any
        ) -> LogMessage | EarlyStop | dict[str, float] | None:
            seen.append(readings.get("train/loss", 0.0))
            if len(seen) == 8 and sum(seen) > 15.0:
                return EarlyStop(f"enough after {len(seen)} rows, in all {sum(seen)!r}")
            return (
                LogMessage(f"{len(seen)} rows, in all {sum(seen)!r}")
                if len(seen) % 4 == 0
                else {"mine/sum": sum(seen)}
                if len(seen) % 2 == 0
                else None
            )

        return look

    return Callback(hook=hook)


def pack(outputs: Path, *numbers: int, **changes: Any) -> list[RunConfig]:
    """Some members; the last of several diverges at once."""
    plain = {"callbacks": LOOKS, "trainer": STEPS, **changes}
    runs = [make(outputs, seed=seed, **plain) for seed in numbers]
    if len(runs) > 2:
        runs[-1].optim.lr = 1e30
    return runs


class Cut:
    """Lets `limit` chunks pass, then ends the training as a signal would, or as a kill."""

    def __init__(self, limit: int, saves: bool) -> None:
        self.limit, self.saves = limit, saves

    def apply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        left, whole = [self.limit], checkpointing.Checkpointer.save

        def save(self_: Any, *arguments: Any) -> None:
            left[0] -= 1
            if left[0] == 0 and not self.saves:
                raise KeyboardInterrupt
            whole(self_, *arguments)
            if left[0] == 0:
                raise KeyboardInterrupt

        monkeypatch.setattr(checkpointing.Checkpointer, "save", save)


def end_up(runs: Sequence[RunConfig], tries: Callable[[], int | None]) -> list[Result]:
    """Train, cut short again and again, to the end."""
    while (limit := tries()) is not None:
        with pytest.MonkeyPatch.context() as patch:
            Cut(limit, saves=limit % 2 == 0).apply(patch)
            try:
                return run_pack(runs, SweepContext("sweep"))
            except KeyboardInterrupt:
                states = {(run_dir.read_status(folder(one)) or {})["state"] for one in runs}
                assert states == {"preempted"}
    return run_pack(runs, SweepContext("sweep"))


def folder(one: RunConfig) -> RunDir:
    return RunDir(Path(one.paths.outputs), identity.run_id(one))


def what_is_left(one: RunConfig) -> dict[str, Any]:
    """All that must be the same whatever happened on the way."""
    place = folder(one)
    (step,) = checkpoint.steps(place.checkpoints)
    flat, about = checkpoint.load(place.checkpoints, step)
    summary = run_dir.read_summary(place) or {}
    series = read_histograms(place.histograms)
    return {
        "step": step,
        "state": {name: value.tobytes() for name, value in flat.items()},
        "about": {key: value for key, value in about.items() if key != "seconds"},
        "summary": {key: value for key, value in summary.items() if key != "seconds"},
        "metrics": place.metrics.read_bytes(),
        "messages": place.messages.read_text() if place.messages.exists() else "",
        "histograms": {name: (s.counts.tobytes(), s.steps.tobytes()) for name, s in series.items()},
    }


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize(
    ("changes", "limits"),
    [
        ({}, (7, 8)),
        ({"pack": {"batching": "vmap"}}, (7, 10)),
        ({"model": {"name": "mixed", "_target_": "mixed.Mixed"}}, (7, 10)),
        ({"data": {"name": "digits", "val_size": 300, "stream": True}}, (9,)),
        ({"trainer": {**STEPS, "chunk_steps": 18, "save_every_s": 1e-9}}, (3, 10)),
    ],
    ids=["map", "vmap", "mixed", "stream", "between calls"],
)
def test_cut_short(
    changes: dict[str, Any],
    limits: tuple[int, ...],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """At an odd limit nothing has been saved since the chunk before."""
    whole = pack(tmp_path / "whole", 0, 1, 2, 3, **changes)
    run_pack(whole, SweepContext("sweep"))
    expected = [what_is_left(one) for one in whole]
    assert len({one["metrics"].count(b"\n") for one in expected}) > 1  # some end early
    if not {"trainer", "model"} & changes.keys():
        assert any("enough" in one["messages"] for one in expected)
    if "between" in request.node.name:  # of five steps, in chunks of 18
        monkeypatch.setattr(schedule.Pace, "steps", lambda self, left: min(left, 5))
        monkeypatch.setattr(checkpointing, "SHARE", 0.0)
    for limit in limits:
        cut = pack(tmp_path / str(limit), 0, 1, 2, 3, **changes)
        left = iter([limit])
        end_up(cut, lambda left=left: next(left, None))  # type: ignore[misc]
        for one, other in zip(cut, expected, strict=True):
            assert what_is_left(one) == other, limit


@pytest.mark.usefixtures("compiled_once")
def test_new_members_join_one_that_was_cut_short(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = pack(tmp_path / "whole", 0, 1, 2)
    run_pack(whole, SweepContext("sweep"))
    cut = pack(tmp_path / "cut", 0, 1, 2)
    for limit, some in ((6, cut[:1]), (4, cut[1:2])):  # each on its own, to another step
        with pytest.MonkeyPatch.context() as patch:
            Cut(limit, saves=True).apply(patch)
            with pytest.raises(KeyboardInterrupt):
                run_pack(some, SweepContext("before"))
    with caplog.at_level("INFO", "actsweep"):
        results = run_pack(cut, SweepContext("sweep"))
    known = re.compile(r"relu: 1 run goes on from step (\d+) of 72 \(epoch [\d.]+\)")
    steps = [int(found[1]) for text in caplog.messages if (found := known.fullmatch(text))]
    assert len(set(steps)) == 2
    assert [r["state"] for r in results] == ["complete", "complete", "diverged"]
    for one, other in zip(cut, whole, strict=True):
        assert what_is_left(one) == what_is_left(other)
    status = run_dir.read_status(folder(cut[0])) or {}
    assert (status["sweep"], status["resumed"]) == ("sweep", [max(steps)])


@pytest.mark.parametrize(
    ("rerun", "sweep", "trained"), [("all", "sweep", False), ("all", "another", True)]
)
def test_a_sweep_does_not_repeat_itself(
    rerun: str, sweep: str, trained: bool, tmp_path: Path
) -> None:
    """As when a job with rerun=all is queued again after it was preempted."""
    only = pack(tmp_path, 0, rerun=rerun)
    run_pack(only, SweepContext("sweep"))
    (result,) = run_pack(only, SweepContext(sweep))
    assert result["reused"] is not trained


@pytest.mark.parametrize("changes", [{}, {"rerun": "all"}])
def test_a_pack_that_cannot_be_set_up_loses_nothing(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither checkpoints to go on from, nor complete results that were to be made anew."""
    only = pack(tmp_path, 0)
    if not changes:
        with pytest.MonkeyPatch.context() as patch:
            Cut(4, saves=True).apply(patch)
            with pytest.raises(KeyboardInterrupt):
                run_pack(only, SweepContext("sweep"))
        run_dir.write_status(folder(only[0]), "failed", step=24, epoch=1.3, cause="a full disk")
    else:
        run_pack(only, SweepContext("sweep"))
    before = checkpoint.steps(folder(only[0]).checkpoints)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(pack_module, "set_up", broken)
    with pytest.raises(RuntimeError, match="the device is gone"):
        run_pack(pack(tmp_path, 0, **changes), SweepContext("again"))
    assert checkpoint.steps(folder(only[0]).checkpoints) == before != []
    status = run_dir.read_status(folder(only[0])) or {}
    assert status["state"] == ("complete" if changes else "failed")
    assert changes or status["cause"] == "RuntimeError: the device is gone"
