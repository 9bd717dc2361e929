"""The pages on comparing: their numbers are what the code says, or what was measured."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_compare import entry

from actsweep.report.compare import compare
from actsweep.report.text import show
from actsweep.stats import paired, sequential
from benchmarks import looks, verdicts

DOCS = Path(__file__).parents[1] / "docs"
VERDICTS = DOCS.parent / "benchmarks" / "results" / "verdicts.json"
FOUND = json.loads(VERDICTS.read_text())["verdicts"]


LOOKS = json.loads(VERDICTS.read_text())["looks"]
STATISTICS = (DOCS / "statistics.md").read_text()


@pytest.mark.parametrize("section", [looks, verdicts])
def test_the_simulations_tables(section: Any) -> None:
    name = section.__name__.rpartition(".")[2]
    shown = re.search(rf"<!-- {name} -->\n\n(.*?)\n\n<!-- end -->", STATISTICS, re.S)
    assert shown is not None
    assert shown[1] == section.table(json.loads(VERDICTS.read_text())[name])


def test_the_simulation_again() -> None:
    """Rows come out as they stand; another machine's last digits may move a trial or two."""
    nulls = {(n["noise"], n["groups"], n["seeds"]): n["wrong"] for n in FOUND["null"]}
    for row in (("normal", 6, 5), ("accuracies of 300 examples", 6, 3)):
        assert verdicts.null(*row).wrong == pytest.approx(nulls[row], abs=0.002)
    known = {(n["effect"], n["seeds"]): n["found"] for n in FOUND["found"]}
    assert verdicts.found(3.0, 5).found == pytest.approx(known[3.0, 5], abs=0.002)
    (alike, *_) = FOUND["equivalence"]
    found = verdicts.equivalence(alike["groups"], alike["seeds"])
    assert found.wrong == pytest.approx(alike["wrong"], abs=0.002)


def test_looks_again() -> None:
    """The same for looks after every seed: the first sweeps of a row, and a whole one."""
    nulls = {(n["noise"], n["groups"]): n for n in LOOKS["null"]}
    known = nulls["normal", 2]
    found = looks.null("normal", 2)
    assert found.wrong == pytest.approx(known["wrong"], abs=0.002)
    assert found.wrong_one_look == pytest.approx(known["wrong_one_look"], abs=0.002)
    (alike, *_) = LOOKS["equivalence"]
    found = looks.equivalence(alike["noise"], alike["groups"])
    assert found.wrong == pytest.approx(alike["wrong"], abs=0.002)
    known = {(n["groups"], n["effect"]): n for n in LOOKS["power"]}[2, 3.0]
    found = looks.power(2, 3.0)
    assert found.seeds == pytest.approx(known["seeds"], abs=0.05)
    assert found.seeds_one_look == known["seeds_one_look"]


@pytest.mark.parametrize("noise", ["normal", "accuracies of 1,000 images", looks.SKEWED])
def test_looks_are_those_of_compare(noise: str) -> None:
    """The verdicts that the simulation counts are the product's, pair by pair."""
    scores = looks.draw(noise, 4, 6) + np.array([0, 0, 3, 1.5])[:, None]
    for look in looks.looks(scores):
        if look.n not in (2, 4, 9):
            continue
        found, once, alike = looks.found(look), looks.found_once(look), looks.equivalent(look, 2.0)
        for sweep, (of_groups, *of_pairs) in enumerate(
            zip(scores, found, once, alike, strict=True)
        ):
            groups = {g: {(s,): v for s, v in enumerate(of_groups[g, : look.n])} for g in range(4)}
            pairs = paired.compare(groups, 2.0).values()
            assert [pair.p_anytime <= 0.05 for pair in pairs] == of_pairs[0].tolist(), sweep
            assert [pair.p_holm <= 0.05 for pair in pairs] == of_pairs[1].tolist(), sweep
            assert [pair.p_equivalent_anytime <= 0.05 for pair in pairs] == of_pairs[2].tolist()


def test_what_the_page_says_of_the_tables() -> None:
    """At most 5 % false verdicts, but where only some groups are skewed; and at what price."""
    even = [one for one in LOOKS["null"] if one["noise"] != looks.SKEWED]
    assert {one["noise"] for one in even} >= {*looks.NOISE} - {looks.SKEWED}
    assert max(one["wrong"] for one in [*even, *LOOKS["equivalence"]]) <= 0.05
    skewed = [one["wrong"] for one in LOOKS["null"] if one["noise"] == looks.SKEWED]
    assert 0.05 < max(skewed) <= 1 / 8
    assert 0.38 < max(one["wrong_one_look"] for one in even if one["wrong_one_look"]) < 0.39
    more = {(n["groups"], n["effect"]): n["seeds"] / n["seeds_one_look"] for n in LOOKS["power"]}
    assert np.mean([*more.values()]) == pytest.approx(1.2, abs=0.03)  # "a fifth"
    assert max(more, key=more.get) == (2, 1.0)
    assert all(ratio <= 1.35 for case, ratio in more.items() if case != (2, 1.0))
    held = {(one["interval"], one["noise"]): one["held"].values() for one in LOOKS["coverage"]}
    uneven = {"lognormal", "one run in ten collapses"}
    for (interval, noise), shares in held.items():
        if interval == "mean" and noise in uneven:
            assert max(shares) < 0.9
        else:
            assert min(shares) >= 0.94, (interval, noise)
    # Two one-sided t tests of one pair have a level of exactly 5 %: two standard errors.
    assert max(one["wrong"] for one in FOUND["equivalence"]) <= 0.05 + 0.014
    assert all(one["wrong"] <= 0.05 < one["wrong_one_look"] for one in FOUND["again"])


@pytest.mark.parametrize(("lead", "seeds"), [("one point", 302), ("one of ten points", 32)])
def test_betting_takes_too_many_seeds(lead: str, seeds: int) -> None:
    """Who stakes all on a lead of the same size in every seed gains that share each time."""
    wealth, n = 1.0, 0
    while wealth < 20:
        wealth, n = wealth * (1.1 if "ten" in lead else 1.01), n + 1
    assert n == seeds
    text = " ".join(STATISTICS.split())
    assert "a lead of one point in every seed would take 302 seeds, one of ten points 32" in text


def test_the_least_seeds_that_decide() -> None:
    assert "No difference is found before the fourth seed." in STATISTICS
    certain = {n: float(sequential.e_value(1.0, 0.0, n)) for n in range(2, 5)}
    assert certain[3] < 20 < certain[4]


def test_the_page_s_formula() -> None:
    assert sequential.PRIOR_VARIANCE == 6
    assert "normal one of variance 6 for the effect" in STATISTICS
    n, m, s = 7, 0.8, 0.5
    t2, r = n * m**2 / s**2, 1 + 6 * n
    e = r ** (-1 / 2) * ((1 + t2 / (n - 1)) / (1 + t2 / ((n - 1) * r))) ** (n / 2)
    assert float(sequential.e_value(m, s, n)) == pytest.approx(e)


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
    # What the text below it says of the t tests.
    once = compare(runs, one_look=True).pairs
    anytime = compare(runs).pairs
    assert {key: pair.verdict for key, pair in once.items()} == {
        key: pair.verdict for key, pair in anytime.items()
    }
    leads = [(("relu",), ("swish",)), (("relu",), ("tanh",))]
    assert sorted(anytime[key].more for key in leads) == [11, 13]
    assert sorted(once[key].more for key in leads) == [5, 6]
