"""The pages on comparing: their numbers are what the code says, or what was measured."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from test_compare import entry

from actsweep.report.compare import compare
from actsweep.report.text import show
from benchmarks import verdicts

DOCS = Path(__file__).parents[1] / "docs"
VERDICTS = DOCS.parent / "benchmarks" / "results" / "verdicts.json"
FOUND = json.loads(VERDICTS.read_text())["verdicts"]


def test_the_simulation_s_table() -> None:
    page = (DOCS / "statistics.md").read_text()
    shown = re.search(r"<!-- verdicts -->\n\n(.*?)\n\n<!-- end -->", page, re.S)
    assert shown is not None
    assert shown[1] == verdicts.table(FOUND)


def test_the_simulation_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come out as they stand; another machine's last digits may move a trial or two."""
    monkeypatch.setattr(
        verdicts.paired, "further_seeds", lambda *_: None
    )  # slow, and no part of these
    nulls = {(n["noise"], n["groups"], n["seeds"]): n["wrong"] for n in FOUND["null"]}
    for row in (("normal", 6, 5), ("accuracies of 300 examples", 6, 3)):
        assert verdicts.null(*row).wrong == pytest.approx(nulls[row], abs=0.002)
    known = {(n["effect"], n["seeds"]): n["found"] for n in FOUND["found"]}
    assert verdicts.found(3.0, 5).found == pytest.approx(known[3.0, 5], abs=0.002)
    (alike, *_) = FOUND["equivalence"]
    assert verdicts.equivalence(alike["seeds"]).wrong == pytest.approx(alike["wrong"], abs=0.002)


def test_the_verdict_on_six_activations() -> None:
    with (DOCS / "results-scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    runs = [entry(float(r["test/accuracy"]), act=r["act"], seed=int(r["seed"])) for r in rows]
    stream = io.StringIO()
    show(compare(runs), stream)
    block = (DOCS / "results.md").read_text().partition("<!-- verdict -->\n```text\n")[2]
    printed = [line.rstrip() for line in stream.getvalue().rstrip().splitlines()]
    assert block.partition("\n```")[0].splitlines() == printed
