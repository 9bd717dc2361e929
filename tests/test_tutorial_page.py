"""docs/tutorial.md, typed line by line: what it prints is what the page shows."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.S | re.M)
MEASURED = (
    (r"\d{4}-\d\d-\d\d_[\d-]+", "<time>"),
    (r"\d+:\d\d", "<duration>"),
    (r"about \d+ further seeds?", "about <n> further seeds"),
)
LEFT_OUT = "…"
CLOSE = {"rel_tol": 0.15, "abs_tol": 1.5}
"""How far numbers may be from the page's: CPUs of other kinds add in another order."""


def words(line: str, seconds: bool) -> list[str]:
    """The words of a line, without times; of a table that ends with seconds, without those."""
    for pattern, word in MEASURED:
        line = re.sub(pattern, word, line)
    split = re.findall(r"[^\s\[\],;()]+", line)
    return split[:-1] if seconds and split[-1:] != ["seconds"] else split


def is_close(shown: str, printed: str) -> bool:
    try:
        return math.isclose(float(shown), float(printed), **CLOSE)
    except ValueError:
        return shown == printed


def fits(shown: str, printed: str, seconds: bool) -> bool:
    mine, its = words(shown, seconds), words(printed, seconds)
    return len(mine) == len(its) and all(map(is_close, mine, its))


def missing(block: str, out: str) -> Iterator[str]:
    """The lines of a block that weren't printed, in this order and, but for `…`, without others."""
    lines = [line for line in out.splitlines() if line.strip()]
    at, anywhere, seconds = 0, False, False
    for line in filter(str.strip, block.splitlines()):
        if line == LEFT_OUT:
            anywhere = True
            continue
        seconds = "seconds" in line if "±" not in line and "act" in line[:4] else seconds
        places = range(at, len(lines)) if anywhere else range(at, min(at + 1, len(lines)))
        found = next((i for i in places if fits(line, lines[i], seconds)), None)
        if found is None:
            yield line
            continue
        at, anywhere = found + 1, False


def test_lines_are_compared() -> None:
    block = "…\nact  seeds  seconds\nrelu  3  91.36 ± 1.28  0.7\n"
    out = "other\nact  seeds  seconds\nrelu  3  91.50 ± 1.30  60.1\n"
    assert not [*missing(block, out)]
    assert [*missing(block, out.replace("91.50", "61.50"))] == ["relu  3  91.36 ± 1.28  0.7"]
    assert [*missing(block, out.replace("relu", "tanh"))] == ["relu  3  91.36 ± 1.28  0.7"]
    assert [*missing(block.replace("…\n", ""), out)]
    assert [*missing("tanh  relu  better\n", "tanh  relu  cannot tell\n")]


def test_it_installs_as_the_readme_does() -> None:
    """Whose commands are typed on a new machine."""
    kind, install = BLOCKS[0]
    assert kind == "bash"
    assert install in (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_page(tmp_path: Path) -> None:
    folder = Path(sys.executable).parent
    known = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    env = {key: value for key, value in os.environ.items() if key != "ACTSWEEP_REPORT"}
    env |= {"PATH": f"{folder}{os.pathsep}{env['PATH']}", "PYTHONPATH": known, "COLUMNS": "100"}
    out, checked = "", 0
    for kind, block in BLOCKS[1:]:
        if kind == "text":
            assert not [*missing(block, out)], out
            checked += 1
            continue
        words = ["bash", "-ec", block] if kind == "bash" else [sys.executable, "-c", block]
        done = subprocess.run(
            words,
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
        )
        out = done.stdout
        assert done.returncode == 0, f"{block}\n{out}"
    assert checked == 9
    for page in re.findall(r"report: (\S+)", out):
        assert (tmp_path / page).is_file()
