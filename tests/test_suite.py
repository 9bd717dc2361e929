"""The suite itself: the list of slow tests names tests that there are."""

import re
from pathlib import Path

import pytest

SLOW = Path(__file__).with_name("slow_tests.txt")
NAMES = [line for line in SLOW.read_text().splitlines() if not line.startswith("#")]


def test_the_list_is_sorted_and_names_each_once() -> None:
    assert sorted({*NAMES}) == NAMES


@pytest.mark.parametrize("file", sorted({name.partition("::")[0] for name in NAMES}))
def test_every_slow_test_exists(file: str, pytestconfig: pytest.Config) -> None:
    text = (Path(pytestconfig.rootpath) / file).read_text()
    for name in NAMES:
        if name.startswith(f"{file}::"):
            function = re.split(r"::|\[", name)[1]
            assert f"def {function}(" in text, name
