"""The README's demonstration is what happens, word for word; only measured numbers may differ."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from actsweep.runs.metrics_file import read_metrics

ROOT = Path(__file__).parents[1]
MEASURED = (
    (r"\d{4}-\d\d-\d\d_[\d-]+", "<time>"),
    (r"step \d+", "step <n>"),
    (r"epoch [\d.]+", "epoch <n>"),
    (r"\d+\.\d+|\d+:\d\d", "<number>"),
    (r"\s+", " "),
)


def demonstration() -> list[tuple[str, list[str]]]:
    """Commands and what they print."""
    text = (ROOT / "README.md").read_text().partition("<!-- interrupted -->")[2]
    block = re.search(r"```text\n(.*?)```", text, flags=re.DOTALL)
    assert block is not None
    found: list[tuple[str, list[str]]] = []
    for line in block[1].splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line.removeprefix("^C"))
    return found


def words(lines: list[str]) -> list[str]:
    """Lines without measured numbers, and without the progress in between."""
    kept = [x for x in lines if not x.startswith("[") or re.search("complete|interrupted", x)]
    kept = [x for x in kept if not re.search(r", since [\d:]+ \(\d+ s\)$", x)]  # what took long
    for pattern, word in MEASURED:
        kept = [re.sub(pattern, word, line).strip() for line in kept]
    return [line for line in kept if line]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As a newcomer's: the program and its options."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "train.py", tmp_path)
    return tmp_path


def epochs(folder: Path) -> list[float]:
    files = folder.glob("outputs/runs/*/metrics.jsonl")
    return [max(read_metrics(file).get("epoch", [0.0])) for file in files]


def in_the_middle(folder: Path) -> bool:
    """Two runs have trained an epoch, and W&B has begun with both."""
    logged = list(folder.glob("outputs/runs/*/wandb/offline-*/*.wandb"))
    trained = epochs(folder)
    return min(len(logged), len(trained)) >= 2 and min(trained) >= 1


def wait(ready: Callable[[], bool], seconds: float = 300) -> None:
    """Much longer than it takes, so that what is printed after it tells why it wasn't ready."""
    end = time.monotonic() + seconds
    while not ready() and time.monotonic() < end:
        time.sleep(0.1)


@pytest.mark.slow
def test_interrupted_and_extended(folder: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key != "ACTSWEEP_REPORT"}
    env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    for command, printed in demonstration():
        with subprocess.Popen(
            shlex.split(command),
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            if any("interrupted" in line for line in printed):
                wait(lambda: process.poll() is not None or in_the_middle(folder))
                process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=180)
        assert words(out.splitlines()) == words(printed), out
