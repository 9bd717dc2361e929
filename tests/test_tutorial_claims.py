"""Every claim's verdict is computed; the committed page is what comes out."""

import json
import re
import shutil
from pathlib import Path

import pytest

from actsweep.cli.main import main
from actsweep_tutorials import catalogue, claims
from actsweep_tutorials.claims import CLAIMS, base

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "claims.md"


def test_each_claim_says_all() -> None:
    assert len(CLAIMS) >= 40
    assert len({one.key for one in CLAIMS}) == len(CLAIMS)
    assert {one.source for one in CLAIMS} == set(claims.SOURCES)
    for one in CLAIMS:
        experiment = catalogue.get(one.experiment)
        assert one.words.endswith("."), one.key
        assert not one.trained or experiment.trains, one.key
        assert one.trained or experiment.quick is not None, one.key
        if one.figure:
            assert (DOCS / "experiments" / f"{one.experiment}-{one.figure}.png").is_file(), one.key


@pytest.mark.slow
def test_the_committed_page_comes_out_again(tmp_path: Path) -> None:
    """`actsweep claims`, from nothing but the numbers of what trains: the same verdicts, the same
    figures by name, and to the letter what no network and no compiler had a part in."""
    (tmp_path / "experiments").mkdir()
    for file in DOCS.glob("experiments/*.json"):
        shutil.copy(file, tmp_path / "experiments")
    assert main(["claims", "--docs", str(tmp_path), "--outputs", str(tmp_path / "outputs")]) == 0
    pages = [path.read_text() for path in (PAGE, tmp_path / "claims.md")]
    said, now = map(claims.verdicts_of, pages)
    assert set(said) == {one.key for one in CLAIMS}
    assert now == said
    scratch = re.compile(r"\| \[?(signal|dead-units|gradient-scan|tutorial3)")
    rows = [{line for line in page.splitlines() if scratch.search(line)} for page in pages]
    assert rows[0] == rows[1]
    assert len(rows[0]) > 10
    drawn = {path.name for path in tmp_path.glob("experiments/*.png")}
    assert drawn == {path.name for path in DOCS.glob("experiments/*.png")}
    assert not (tmp_path / "outputs" / "runs").exists()


def test_nothing_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "--docs", str(tmp_path / "docs")]) == 2
    out, err = capsys.readouterr()
    assert "dead-neurons.json: isn't there; type actsweep claims --all, which trains" in err
    assert not out
    assert not (tmp_path / "docs").exists()


def test_above() -> None:
    low, high = {0: 1.0, 1: 1.1, 2: 1.2}, {0: 3.0, 1: 3.1, 2: 2.9}
    assert base.above(high, low).verdict == base.HOLDS
    assert base.above(low, high).verdict == base.REFUTED
    assert base.above({0: 1.0, 1: 3.0, 2: 2.0}, {0: 2.0, 1: 2.0, 2: 2.1}).verdict == base.NOISE
    assert base.above({0: 1.0}, {0: 0.0}).verdict == base.NOISE
    one = base.above({0: 2.0, 1: 4.0, 2: 6.0}, {2: 3.0, 1: 2.0, 0: 1.0})  # differences 1, 2, 3
    assert one.text == "+2 ± 2.5, 3 seeds"
    assert base.above(high, {0: 1.0, 2: 1.2, 7: 9.0}).text.endswith("2 seeds")


def test_one_run() -> None:
    """The interval for a further draw: t(2) * s * sqrt(1 + 1/3) = 4.303 * 1 * 1.155 = 4.97."""
    assert base.one_run(6.9, [1.0, 2.0, 3.0]).verdict == base.HOLDS
    assert base.one_run(7.0, [1.0, 2.0, 3.0]).verdict == base.REFUTED
    assert base.one_run(7.0, [1.0]).verdict == base.NOISE


def test_where() -> None:
    good, bad, noise = (base.Verdict(v, "") for v in (base.HOLDS, base.REFUTED, base.NOISE))
    assert base.where({"a": good, "b": good}, "").verdict == base.HOLDS
    assert str(base.where({"a": good, "b": bad, "c": noise}, "")) == "holds only if a"
    most = {"a": good, "b": good, "c": noise}
    assert str(base.where(most, "")) == "holds only if it isn't c"
    assert str(base.where(most, "", name_all=True)) == "holds only if a, b"
    assert base.where({"a": bad, "b": bad}, "").verdict == base.REFUTED
    assert base.where({"a": bad, "b": noise}, "").verdict == base.NOISE


def test_a_changed_number_changes_the_verdict() -> None:
    """Verdicts are computed: each of the recorded ones falls when what it rests on is spoilt."""
    found = json.loads((DOCS / "experiments" / "tutorial3.json").read_text())["found"]
    by_key = {one.key: one for one in CLAIMS}
    assert by_key["S2.sigmoid-last"].decide(found).verdict == base.HOLDS
    for seed in found["groups"]["sigmoid"]["seeds"]:
        seed["test_accuracy"], seed["at_chance"] = 0.95, 0
    assert by_key["S2.sigmoid-last"].decide(found).verdict == base.REFUTED
    assert by_key["S2.sigmoid-waits"].decide(found).verdict == base.REFUTED
    assert by_key["S2.accuracy-sigmoid"].decide(found).verdict == base.REFUTED
