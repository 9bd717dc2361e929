"""Calls on the devices end within some seconds, by measurement; saving costs a small share."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from actsweep.config.schema import TrainerConfig
from actsweep.runtime.signals import StopRequest
from actsweep.train import checkpointing, schedule
from actsweep.train.checkpointing import Checkpointer
from actsweep.train.schedule import Pace
from actsweep.train.types import ACTIVE, State


class Device:
    """Calls of so many steps, each of which takes some seconds of a clock that is moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, a_step: float) -> None:
        self.now, self.a_step, self.waited = 100.0, a_step, 0
        monkeypatch.setattr(schedule.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(schedule.jax, "block_until_ready", self._wait)

    def _wait(self, readings: Any) -> None:
        self.waited += 1

    def chunk(self, pace: Pace, steps: int) -> list[int]:
        """The calls that make a chunk."""
        calls: list[int] = []
        while (left := steps - sum(calls)) > 0:
            n = pace.steps(left)
            self.now += n * self.a_step
            calls.append(n)
            pace.called(n, None, whole=n == steps)
        return calls


def test_a_long_chunk_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    device, pace = Device(monkeypatch, a_step=0.5), Pace(3.75)
    first = device.chunk(pace, 98)
    assert max(first) * 0.5 <= 3.75
    later = device.chunk(pace, 98)
    assert sum(later) == 98
    assert max(later) == 7
    assert device.waited == len(first) + len(later)


def test_a_short_chunk_is_one_call_that_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    device, pace = Device(monkeypatch, a_step=0.002), Pace(3.75)
    assert len(device.chunk(pace, 98)) == 3  # two short ones to learn from, then the rest
    device.waited = 0
    assert device.chunk(pace, 98) == [98]
    assert device.waited == 0


def test_a_machine_that_becomes_slow_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    device, pace = Device(monkeypatch, a_step=0.002), Pace(3.75)
    device.chunk(pace, 98)
    device.a_step = 0.5
    device.chunk(pace, 98)
    assert max(device.chunk(pace, 98)) == 7


def test_a_step_that_takes_too_long_is_taken_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    device, pace = Device(monkeypatch, a_step=60.0), Pace(3.75)
    device.chunk(pace, 5)
    assert device.chunk(pace, 3) == [1, 1, 1]


@pytest.mark.parametrize(("cost", "wait"), [(0.1, 60.0), (4.0, 200.0)])
def test_saving_takes_two_percent_at_most(
    cost: float, wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now[0])
    checkpointer = Checkpointer(
        [SimpleNamespace()], None, {}, [0.0], TrainerConfig(), StopRequest()
    )  # type: ignore
    monkeypatch.setattr(
        checkpointer, "_save_one", lambda *_, **__: now.__setitem__(0, now[0] + cost)
    )
    now[0] = 60.0
    assert checkpointer.due(midway=False)
    states = State(*[np.full(1, ACTIVE)] * len(State._fields))
    checkpointer.save(10, 1.0, states, SimpleNamespace(failures={}, pruned={}))  # type: ignore[arg-type]
    now[0] += wait - 0.01
    assert not checkpointer.due(midway=True)
    now[0] += 0.02
    assert checkpointer.due(midway=True)
