"""More epochs: a run that takes over a shorter one ends with the bytes of one trained at once."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_resume import LOOKS, STEPS, folder, make, what_is_left
from test_run import run_pack

from actsweep.callbacks.base import Callback, EarlyStop
from actsweep.config.schema import RunConfig
from actsweep.runs import checkpoint, run_dir
from actsweep.runs.metrics_file import read_metrics, without_final
from actsweep.train import extend
from actsweep.train.types import SweepContext

FEW, MANY = 3, 6
CONTEXT = SweepContext("sweep")


def members(outputs: Path, epochs: int, *seeds: int, **changes: Any) -> list[RunConfig]:
    """Some members; of several the last diverges."""
    trainer = {**STEPS, "chunk_steps": 18, "epochs": epochs, **changes.get("trainer", {})}
    runs = [
        make(outputs, seed=seed, **{"callbacks": LOOKS, **changes, "trainer": trainer})
        for seed in seeds
    ]
    if len(runs) > 2:
        runs[-1].optim.lr = 1e30
    return runs


def all_files(runs: Sequence[RunConfig]) -> dict[str, str]:
    """The digest of every file of these runs."""
    paths = [path for run in runs for path in folder(run).path.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def train_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *seeds: int, **changes: Any
) -> tuple[list[RunConfig], list[str]]:
    """Train for few epochs, then for many; return the latter, and what was said of them."""
    few = members(tmp_path / "two", FEW, *seeds, **changes)
    run_pack(few, CONTEXT)
    before = all_files(few)
    many = members(tmp_path / "two", MANY, *seeds, **changes)
    caplog.clear()
    with caplog.at_level("INFO", "actsweep"):
        run_pack(many, CONTEXT)
    assert all_files(few) == before
    return many, caplog.messages


def at_the_end() -> Callback:
    """A hook that stops its run by the last row of the shorter training, a chunk later."""
    return Callback(hook=lambda: lambda step, epoch, row: EarlyStop("end") if step == 54 else None)


AT_THE_END = {"callbacks": {**LOOKS, "last": {"_target_": f"{__name__}.at_the_end"}}}
PATIENT = {"trainer": {"patience": 1}}
MIXED = {"model": {"name": "mixed", "_target_": "mixed.Mixed"}}


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize(
    ("seeds", "changes"),
    [
        ((0, 1, 2, 3), {}),
        ((0, 1, 2, 3), PATIENT),
        ((5,), AT_THE_END),
        ((0, 1, 2, 3), {"pack": {"batching": "vmap"}}),
        ((0, 1), MIXED),
    ],
    ids=["map", "patience", "alone", "vmap", "mixed"],
)
def test_more_epochs_are_as_if_trained_at_once(
    seeds: tuple[int, ...],
    changes: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Members that patience, a hook or divergence ended before have ended there, too."""
    once = members(tmp_path / "once", MANY, *seeds, **changes)
    states = [result["state"] for result in run_pack(once, CONTEXT)]
    many, said = train_twice(tmp_path, caplog, *seeds, **changes)
    runs = "1 run takes" if len(seeds) == 1 else f"{len(seeds)} runs take"
    assert any(f"{runs} over what trainer.epochs={FEW} has trained: relu-" in text for text in said)
    assert any("from step 54 of 108 (epoch 3)" in text for text in said)
    for one, other in zip(many, once, strict=True):
        assert what_is_left(one) == what_is_left(other)
        assert (run_dir.read_status(folder(one)) or {})["resumed"] == [54]
    summaries = [run_dir.read_summary(folder(one)) or {} for one in many]
    assert [summary["state"] for summary in summaries] == states
    if changes == AT_THE_END:
        assert summaries[0]["epochs"] == FEW + 1
    if len(seeds) > 2:
        assert states[-1] == "diverged"
        ends = {summary["epochs"] for summary in summaries}
        assert len(ends) > 2 if changes == PATIENT else ends == {1.0, MANY}


def killed(monkeypatch: pytest.MonkeyPatch, name: str, at: int) -> Callable[[], None]:
    """Let the process die in the at-th call of a function of `extend`; return what undoes it."""
    where: Any = {"save": checkpoint, "write_status": run_dir, "clear": run_dir}.get(name, extend)
    whole, calls = getattr(where, name), iter(range(99))

    def die(*arguments: Any, **named: Any) -> Any:
        if next(calls) == at:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    monkeypatch.setattr(where, name, die)
    return lambda: monkeypatch.setattr(where, name, whole)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_a_kill_in_the_middle_of_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is made again, whatever is there."""
    once = members(tmp_path / "once", MANY, 0, 1)
    run_pack(once, CONTEXT)
    expected = [what_is_left(one) for one in once]
    few = members(tmp_path / "two", FEW, 0, 1)
    run_pack(few, CONTEXT)
    before = all_files(few)
    many = members(tmp_path / "two", MANY, 0, 1)
    for name, at in (("clear", 1), ("write_atomic", 1), ("save", 0), ("write_status", 0)):
        undo = killed(monkeypatch, name, at)
        with pytest.raises(KeyboardInterrupt):
            run_pack(many, CONTEXT)
        undo()
        assert all_files(few) == before
    caplog.clear()
    with caplog.at_level("INFO", "actsweep"):
        run_pack(many, CONTEXT)
    assert [what_is_left(one) for one in many] == expected
    # The first was whole when the process died while it copied the second.
    assert any("1 run takes over" in text for text in caplog.messages)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_where_the_schedule_follows_from_the_epochs_it_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"optim": {"schedule": "cosine"}}
    once = members(tmp_path / "once", MANY, 0, **changes)
    run_pack(once, CONTEXT)
    many, said = train_twice(tmp_path, caplog, 0, **changes)
    line = (
        "relu: 1 run begins again from the first epoch: optim.schedule=cosine follows from "
        "trainer.epochs"
    )
    assert said.count(line) == 1
    assert what_is_left(many[0]) == what_is_left(once[0])
    assert "resumed" not in (run_dir.read_status(folder(many[0])) or {})


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_what_cannot_be_taken_over_is_trained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged checkpoint or row; rerun=all asks for a training from the start; fewer epochs."""
    few = members(tmp_path, FEW, 0, 1)
    run_pack(few, CONTEXT)
    text = folder(few[0]).metrics.read_bytes()
    folder(few[0]).metrics.write_bytes(text.replace(b"1", b"2", 1))
    many = members(tmp_path, MANY, 0, 1)
    many[1].rerun = "all"
    caplog.clear()
    with caplog.at_level("INFO", "actsweep"):
        for each in (*many, *members(tmp_path, 2, 0)):
            run_pack([each], CONTEXT)
    (line,) = [text for text in caplog.messages if "can't take over" in text]
    assert "metrics.jsonl has been altered; begins anew" in line
    assert not any("takes over" in text or "take over what" in text for text in caplog.messages)
    assert {read_metrics(folder(one).metrics)["epoch"][-1] for one in many} == {MANY}


def test_the_final_numbers_are_taken_back(tmp_path: Path) -> None:
    """Only those of the last row: the untrained network was counted over the training set, too."""
    lines = [
        b'{"step":0,"epoch":0.0,"exact_dead/a":1.0}\n',
        b'{"step":5,"epoch":1.0,"val/loss":0.5,"mine":null',
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(lines) + b',"exact_dead/a":1.0,"test/loss":null}\n')
    assert without_final(path) == b"".join(lines) + b"}\n"
    path.write_bytes(b"".join(lines) + b"}\n")
    assert without_final(path) == path.read_bytes()


def test_own_code_that_counts_begins_anew() -> None:
    """Its names may be any, so what it adds to the last row can't be told from the row."""

    class Prepared:
        class pack:
            static = make(Path(), callbacks={"mine": {"_target_": "a.b"}, "units": {}})

        callbacks = {"mine": Callback(count=lambda view: {}), "units": Callback()}

    why = extend._why_not(Prepared())  # type: ignore[arg-type]
    assert why == "callbacks.mine, your own code, counts over the training set"
