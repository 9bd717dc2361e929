"""The table of faults in docs/reliability.md: these tests write it, or compare with it.

python -m pytest tests/faults --write-table
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packs import Trained, compile_once
from sweeping import RUNS, Outcome, complete, left, runs

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
START, END = "<!-- table -->\n", "<!-- end of table -->\n"
WRITTEN: list[tuple[str, str]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write docs/reliability.md's table")


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """Says at the end of a test which fault it made and what came of it: a row of the table."""

    def say(fault: str, came_of_it: str) -> None:
        if request.config.getoption("--write-table", default=False):
            request.node.user_properties.append(("fault", (fault, came_of_it)))
        else:
            assert rows().get(fault) == came_of_it, "docs/reliability.md says something else"

    return say


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All that the runs of the sweep leave if nothing happens to it."""
    folder = tmp_path_factory.mktemp("whole")
    assert complete(folder) == 0, (folder / "log.txt").read_text()
    found = [left(run) for run in runs(folder)]
    assert len(found) == RUNS
    return found


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    with pytest.MonkeyPatch.context() as patch:
        compile_once(patch)
        return Trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def trained(trained_once: Trained, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Members that were trained in this process, and the programs that did it, to be used again."""
    compile_once(monkeypatch)
    return trained_once


def rows() -> dict[str, str]:
    """The table as it stands in the page."""
    table = PAGE.read_text().partition(START)[2].partition(END)[0]
    cells = re.findall(r"^\| (.*?) \| (.*?) \|$", table, flags=re.MULTILINE)
    return dict(cells[1:])  # past the head


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        WRITTEN.extend(pair for name, pair in report.user_properties if name == "fault")


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    yield
    worker = hasattr(session.config, "workerinput")
    if worker or not session.config.getoption("--write-table", default=False) or exitstatus:
        return
    head, _, rest = PAGE.read_text().partition(START)
    lines = [f"| {fault} | {came} |\n" for fault, came in dict(sorted(WRITTEN)).items()]
    table = "| fault | what comes of it |\n|---|---|\n" + "".join(lines)
    PAGE.write_text(head + START + table + END + rest.partition(END)[2])
