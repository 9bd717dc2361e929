"""A device that runs out of memory in training: the pack is trained in halves.

What the device says is injected. With a limit on the memory of the process (RLIMIT_AS), XLA's CPU
backend does raise RESOURCE_EXHAUSTED, but as often something else fails first: a thread that can't
be started, or LLVM, which then aborts the process.
"""

import weakref
from pathlib import Path
from typing import Any

import jax
import pytest
from packs import Trained, resumed, train
from sweeping import Outcome
from test_resume import folder, what_is_left

from actsweep.runs import run_dir
from actsweep.runs.members import Pack
from actsweep.train import pack as pack_module
from actsweep.train.active_set import ActiveSet
from actsweep.train.setup import PreparedPack

TEXT = "RESOURCE_EXHAUSTED: Out of memory allocating 34171460 bytes."


def short(monkeypatch: pytest.MonkeyPatch, most: int) -> list[weakref.ref[ActiveSet]]:
    """Let the device have no memory, from the third chunk on, for more runs at once than this;
    what was trained in vain."""
    advance, calls, vain = ActiveSet.advance, [0], []

    def compact(self: ActiveSet, *arguments: Any) -> Any:
        calls[0] += 1
        if self.whole.size > most and calls[0] > 2:
            calls[0] = 0
            vain.append(weakref.ref(self))
            raise jax.errors.JaxRuntimeError(TEXT)
        return advance(self, *arguments)

    monkeypatch.setattr(ActiveSet, "advance", compact)
    return vain


@pytest.mark.parametrize("most", [3, 2, 1])
def test_out_of_memory(
    most: int,
    trained_once: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    outcome: Outcome,
) -> None:
    runs, set_up, left = trained_once.cut(tmp_path), pack_module.set_up, []
    vain = short(monkeypatch, most)

    def after_cleaning(pack: Pack, most: int | None = None, **kwargs: Any) -> PreparedPack:
        left.extend(ref for ref in vain if ref() is not None)  # would still fill the device
        return set_up(pack, most, **kwargs)

    monkeypatch.setattr(pack_module, "set_up", after_cleaning)
    train(runs)
    trained_once.assert_whole(runs)
    assert not left
    said = [text for text in caplog.messages if "ran out of memory" in text]
    sizes = [2, 1] if most == 1 else [2]
    assert said == [
        f"a device ran out of memory: going on with at most {size} runs at once" for size in sizes
    ]
    assert resumed(runs[0]) == [36] * (1 + len(sizes))
    outcome(
        "a device runs out of memory in training (RESOURCE_EXHAUSTED, injected)",
        "a line says so; half as many runs at once go on from their checkpoints, and end with the "
        "bytes of an undisturbed sweep",
    )


def test_too_large_alone(
    trained_once: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    outcome: Outcome,
) -> None:
    runs = trained_once.cut(tmp_path)[:2]
    with monkeypatch.context() as patch:
        short(patch, 0)
        assert [result["state"] for result in train(runs)] == ["failed"] * 2
    for one in runs:
        status = run_dir.read_status(folder(one)) or {}
        assert (status["state"], status["cause"]) == ("failed", f"JaxRuntimeError: {TEXT}")
        assert caplog.messages.count(f"{folder(one).run_id}: JaxRuntimeError: {TEXT}") == 1
    train(runs)
    assert [what_is_left(one) for one in runs] == trained_once.expected[:2]
    outcome(
        "a device has no memory for one run alone (RESOURCE_EXHAUSTED, injected)",
        "the run has failed, with the cause in its status; started again once there is, it goes on "
        "and ends with the bytes of an undisturbed one",
    )
