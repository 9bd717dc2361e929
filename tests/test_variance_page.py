"""docs/variance.md and its experiment: numbers by loops, tables as recorded, commands as typed."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from test_search_page import SMALL, type_in

from actsweep.cli.main import main
from actsweep_tutorials import variance
from actsweep_tutorials.base import resolve_parameters
from actsweep_tutorials.catalogue import get

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "variance.md").read_text()
RECORD = json.loads((ROOT / "docs" / "variance.json").read_text())
COMMANDS = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.S | re.M)
    for line in block.splitlines()
]


def test_the_tables_are_those_of_the_recorded_runs() -> None:
    shown = re.search(r"<!-- variance -->\n\n(.*?)\n\n<!-- end -->", PAGE, re.S)
    assert shown is not None
    tables = [table.markdown() for table in variance.tables(RECORD["found"])]
    rows = [line for table in tables for line in table.splitlines() if line.startswith("|")]
    assert [line for line in shown[1].splitlines() if line.startswith("|")] == rows
    assert {*variance.draw(RECORD["found"])} == {"deviations"}
    *_, typed = COMMANDS
    words = typed.removeprefix("actsweep experiment variance ").split()
    params = resolve_parameters(get("variance"), words)
    assert {**RECORD["params"], "act": tuple(RECORD["params"]["act"])} == {
        **params,
        "overrides": list(params["overrides"]),
    }


def made(seeds: int = 3) -> dict[str, Any]:
    """A result whose scores say by their digits which seeds they are of; one run diverged."""
    runs = {
        (i, o, s): (1 + i + 10 * o + 100 * s**2) / 1000
        for i in range(seeds)
        for o in range(seeds)
        for s in range(seeds)
        if [i, o, s].count(0) >= 2 or i == o == s
    }
    acts = {
        act: [
            {
                **dict(zip(("init", "order", "split"), key, strict=True)),
                "state": "complete",
                "score": score * factor,
            }
            for key, score in runs.items()
        ]
        for act, factor in (("relu", 1.0), ("tanh", 2.0))
    }
    (lost,) = (run for run in acts["tanh"] if (run["init"], run["order"]) == (2, 0))
    lost |= {"state": "diverged", "score": None}
    return {"score": "accuracy", "seeds": seeds, "acts": acts}


def test_each_source_has_its_runs_and_shares_the_first() -> None:
    result = made()
    assert variance.scores_of(result, "relu", "init") == pytest.approx(
        {(0, 0, 0): 0.1, (1, 0, 0): 0.2, (2, 0, 0): 0.3}
    )
    assert variance.scores_of(result, "relu", "order") == pytest.approx(
        {(0, 0, 0): 0.1, (0, 1, 0): 1.1, (0, 2, 0): 2.1}
    )
    assert {*variance.scores_of(result, "relu", "split")} == {(0, 0, 0), (0, 0, 1), (0, 0, 2)}
    assert {*variance.scores_of(result, "relu", "all")} == {(0, 0, 0), (1, 1, 1), (2, 2, 2)}
    assert {*variance.scores_of(result, "tanh", "init")} == {(0, 0, 0), (1, 0, 0)}


def test_the_tables_by_loops() -> None:
    scatter, pairs = variance.tables(made())
    rows = {(row[0], row[1]): row for row in scatter.rows}
    init, whole = [0.1, 0.2, 0.3], [0.1, 11.2, 42.3]

    def var(values: list[float]) -> float:
        mean = sum(values) / len(values)
        return sum((v - mean) ** 2 for v in values) / (len(values) - 1)

    row = rows["relu", "init"]
    assert row[2:4] == ["3 of 3", pytest.approx(0.2)]
    assert row[4] == f"{math.sqrt(var(init)):.3g}"
    assert row[5] == f"{100 * var(init) / var(whole):.3g}"
    assert row[6] == pytest.approx(math.sqrt(var(init) / 3 + var(whole) - var(init)))
    assert rows["relu", "all"][5] is None
    assert rows["relu", "all"][6] == pytest.approx(math.sqrt(var(whole) / 3))
    assert rows["tanh", "init"][2] == "2 of 3"
    by_kind = {row[1]: row for row in pairs.rows}
    assert by_kind["init"][2] == 2  # seeds that both ended well with
    difference, correlation, left, paired, unpaired = by_kind["all"][3:]
    assert difference == pytest.approx(-sum(whole) / 3)
    assert correlation == pytest.approx(1.0)
    assert left == f"{var(whole) / (var(whole) + 4 * var(whole)):.3g}"
    assert 3 < paired < unpaired
    assert by_kind["init"][6:] == [None, None]


def test_nothing_ended_well() -> None:
    result = made()
    for runs in result["acts"].values():
        for run in runs:
            run |= {"state": "diverged", "score": None}
    scatter, pairs = variance.tables(result)
    assert all(row[3:] == [None] * 4 for row in scatter.rows)
    assert all(row[3:] == [None] * 5 for row in pairs.rows)
    assert {*variance.draw(result)} == {"deviations"}


def test_runs_that_are_all_alike_have_no_shares() -> None:
    result = made()
    for run in result["acts"]["relu"]:
        run["score"] = 0.9
    scatter, pairs = variance.tables(result)
    assert [row[4:6] for row in scatter.rows[:4]] == [["0", "–"]] * 3 + [["0", None]]
    assert pairs.rows[-1][4] is None


def test_one_seed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "variance", "seeds=1", "--outputs", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said == "error: seeds=1: must be at least 2; type for example seeds=10\n"
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_every_command_is_typed(tmp_path: Path) -> None:
    """In small: one after the other, so that the experiment finds runs that are there."""
    whole, apart, compare, experiment = COMMANDS
    small = f"{SMALL} trainer.epochs=1"
    out = type_in(f"{whole} {small}", tmp_path)
    assert re.search(r"^\w+ +3 ", out, re.M)  # groups of three seeds; no column of the split
    out = type_in(f"{apart} {small}", tmp_path)
    assert len(re.findall(r"^(?:relu|tanh) +(?:init|order|split) ", out, re.M)) == 6
    assert re.search(r"^relu +order ", type_in(compare, tmp_path), re.M)
    words = f"{experiment.partition(' depth=')[0]} seeds=3 {SMALL.partition(' callbacks')[0]}"
    out = type_in(f"{words} trainer.epochs=1", tmp_path)
    assert "Scatter of test accuracy, %, by what varies" in out
    assert len([*tmp_path.glob("outputs/runs/*")]) == 2 * (4 * 3 - 3)
    found = json.loads((tmp_path / "outputs/experiments/variance/result.json").read_text())
    assert {len(runs) for runs in found["found"]["acts"].values()} == {9}
