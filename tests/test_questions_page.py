"""docs/questions.md: its overrides can be trained, its commands are taken, its Python is Python."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from actsweep.cli.main import command_line
from actsweep.cli.theory import runs_of

PAGE = (Path(__file__).parents[1] / "docs" / "questions.md").read_text()
LINES = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.S | re.M)
    for line in block.splitlines()
]
TRAIN = [line for line in LINES if line.startswith("actsweep train ")]
OTHERS = [line for line in LINES if line not in TRAIN]
SHOWS = ("--help", "--cfg")
"""Options of Hydra that train nothing."""


def test_every_line_is_of_one_kind() -> None:
    assert all(line.startswith("actsweep ") for line in OTHERS)
    assert len(TRAIN) > 15
    assert len(OTHERS) > 10


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in TRAIN if not {*shlex.split(line)} & {*SHOWS}])
def test_overrides_are_taken(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Composed and checked, but for the seeds; nothing is trained."""
    monkeypatch.chdir(tmp_path)
    Path("my.csv").write_text("size,kind\n" + "1,a\n2,b\n" * 50)
    words = [word for word in shlex.split(line)[2:] if word != "-m" and word[:5] != "seed="]
    assert len(runs_of(words)) >= (2 if " -m " in line else 1)


@pytest.mark.parametrize("line", OTHERS)
def test_commands_are_taken(line: str) -> None:
    """Parsed with all their options, and not run."""
    words = shlex.split(line)[1:]
    command, bound, _ = command_line().parse_args(words, exit_on_error=False, print_error=False)
    assert command.__name__.strip("_") == words[0]
    assert bound.arguments or len(words) == 1


def test_python_is_python() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.S | re.M)
    assert len(blocks) == 2
    for block in blocks:
        ast.parse(block)
