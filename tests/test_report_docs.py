"""Every line of docs/report.md: commands are taken, expressions understood, names on the page."""

import re
import shlex
from importlib.resources import files
from pathlib import Path

import pytest
from test_compare import entry

from actsweep.cli.main import command_line
from actsweep.report.board import COLUMNS
from actsweep.report.expressions import OPERATORS, parse
from actsweep.report.page import STATIC_RUNS
from actsweep.report.run_columns import RunColumn, run_columns

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "report.md").read_text()
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^(actsweep .*?)(?: {2,}#.*)?$", DOCS, flags=re.MULTILINE)
OF_RUNS, OF_SWEEPS = [
    block.splitlines() for block in re.findall(r"```text\n(.*?)\n```", DOCS, flags=re.DOTALL)
]


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_taken(line: str) -> None:
    """Parsed with all its options, and not run."""
    words = shlex.split(line.partition(" #")[0])[1:]
    command, bound, _ = command_line().parse_args(words, exit_on_error=False, print_error=False)
    assert command.__name__ == words[0]
    assert bound.args or bound.kwargs


def test_the_page_has_its_commands() -> None:
    assert len(COMMANDS) == 6
    assert {line.split()[1] for line in COMMANDS} == {"report", "watch", "board"}


@pytest.mark.parametrize("text", OF_RUNS)
def test_each_expression_is_understood(text: str) -> None:
    columns = run_columns([entry(0.9, act=act, seed=s) for act in ("relu", "elu") for s in (0, 3)])
    test = parse(text, columns)
    assert isinstance(test(0), bool)


def test_the_expressions_of_the_board() -> None:
    columns = [RunColumn(name, title, ["relu"], digits, True) for name, title, digits in COLUMNS]
    assert [parse(text, columns)(0) for text in OF_SWEEPS] == [False] * 2


def test_every_operator_and_name_is_told() -> None:
    assert all(f"`{operator}`" in DOCS for operator in OPERATORS)
    package = files("actsweep.report")
    names = ("table.js", "runs.js", "board.js", "live.js", "page.html")
    source = "".join(package.joinpath(name).read_text() for name in names)
    source = source.replace("Save {{ name }} as CSV", "Save groups as CSV Save pairs as CSV")
    for name in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*", DOCS):
        assert name in source, name
    assert f"up to {STATIC_RUNS} runs" in DOCS
    assert "(docs/report.md)" in README
