"""A long loop says how far it is, a short one nothing."""

import contextlib
import re
import sys
import time

import pytest

from actsweep.utils import progress


class Terminal:
    def isatty(self) -> bool:
        return True

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def slow(item: int) -> int:
    time.sleep(0.01)
    return item


def test_a_short_loop_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.counted(range(1000), "checked {} runs")) == list(range(1000))
    assert capsys.readouterr().err == ""


def test_a_long_loop_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.02)
    assert [slow(i) for i in progress.counted(range(9), "checked {} runs")] == list(range(9))
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 5
    assert all(line.startswith("checked ") and line.endswith(" of 9 runs") for line in lines)


def test_in_a_terminal_its_line_is_wiped_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "EVERY_S", 0.02)
    assert [slow(i) for i in progress.counted(range(9), "checked {} runs")] == list(range(9))
    assert "\n" not in terminal.text
    assert "of 9 runs" in terminal.text
    assert terminal.text.endswith("\r\x1b[2K")


def test_what_is_slow_is_said_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SLOW_S", 0.02)
    said: list[str] = []
    with contextlib.suppress(ValueError), progress.slow("compiling", said.append):
        while len(said) < 3:
            time.sleep(0.002)
        raise ValueError
    assert all(re.fullmatch(r"compiling, since \d\d:\d\d:\d\d \(0 s\)", line) for line in said)
    count = len(said)
    time.sleep(0.2)  # the fourth would come by then
    assert len(said) == count


def test_what_is_quick_is_not_said() -> None:
    with progress.slow("compiling", lambda line: pytest.fail(line)):
        pass
