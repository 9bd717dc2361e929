"""A long loop says how far it is, a short one nothing."""

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
