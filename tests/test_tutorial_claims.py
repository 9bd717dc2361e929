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


def test_claims_are_complete() -> None:
    assert len(CLAIMS) >= 40
    assert len({claim.key for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.source for claim in CLAIMS} == set(claims.SOURCES)
    for claim in CLAIMS:
        experiment = catalogue.get(claim.experiment)
        assert claim.statement.endswith("."), claim.key
        assert not claim.needs_training or experiment.trains, claim.key
        assert claim.needs_training or experiment.quick is not None, claim.key
        if claim.figure:
            assert (DOCS / "experiments" / f"{claim.experiment}-{claim.figure}.png").is_file(), (
                claim.key
            )


@pytest.mark.slow
def test_the_committed_page_is_reproduced(tmp_path: Path) -> None:
    """`actsweep claims`, from nothing but the numbers of what trains: the same verdicts, the same
    figures by name, and to the letter what no network and no compiler had a part in."""
    (tmp_path / "experiments").mkdir()
    for file in DOCS.glob("experiments/*.json"):
        shutil.copy(file, tmp_path / "experiments")
    assert main(["claims", "--docs", str(tmp_path), "--outputs", str(tmp_path / "outputs")]) == 0
    pages = [path.read_text() for path in (PAGE, tmp_path / "claims.md")]
    committed, made = map(claims.parse_verdicts, pages)
    assert set(committed) == {claim.key for claim in CLAIMS}
    assert made == committed
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
    assert (
        "dead-neurons.json: no such record; type actsweep claims --all, which trains the networks"
        in err
    )
    assert not out
    assert not (tmp_path / "docs").exists()


def test_exceeds() -> None:
    low, high = {0: 1.0, 1: 1.1, 2: 1.2}, {0: 3.0, 1: 3.1, 2: 2.9}
    assert base.exceeds(high, low).verdict == base.HOLDS
    assert base.exceeds(low, high).verdict == base.REFUTED
    assert base.exceeds({0: 1.0, 1: 3.0, 2: 2.0}, {0: 2.0, 1: 2.0, 2: 2.1}).verdict == base.NOISE
    assert base.exceeds({0: 1.0}, {0: 0.0}).verdict == base.NOISE
    verdict = base.exceeds(
        {0: 2.0, 1: 4.0, 2: 6.0}, {2: 3.0, 1: 2.0, 0: 1.0}
    )  # differences 1, 2, 3
    assert verdict.text == "+2 ± 2.5, 3 seeds"
    assert base.exceeds(high, {0: 1.0, 2: 1.2, 7: 9.0}).text.endswith("2 seeds")


def test_plausible_single_run() -> None:
    """The interval for a further draw: t(2) * s * sqrt(1 + 1/3) = 4.303 * 1 * 1.155 = 4.97."""
    assert base.plausible_single_run(6.9, [1.0, 2.0, 3.0]).verdict == base.HOLDS
    assert base.plausible_single_run(7.0, [1.0, 2.0, 3.0]).verdict == base.REFUTED
    assert base.plausible_single_run(7.0, [1.0]).verdict == base.NOISE


def test_combine() -> None:
    good, bad, noise = (base.Verdict(v, "") for v in (base.HOLDS, base.REFUTED, base.NOISE))
    assert base.combine({"a": good, "b": good}, "").verdict == base.HOLDS
    assert str(base.combine({"a": good, "b": bad, "c": noise}, "")) == "holds only if a"
    most = {"a": good, "b": good, "c": noise}
    assert str(base.combine(most, "")) == "holds only if it isn't c"
    assert str(base.combine(most, "", name_all=True)) == "holds only if a, b"
    assert base.combine({"a": bad, "b": bad}, "").verdict == base.REFUTED
    assert base.combine({"a": bad, "b": noise}, "").verdict == base.NOISE


def test_a_changed_number_changes_the_verdict() -> None:
    """Verdicts are computed: each of the recorded ones falls when what it rests on is spoilt."""
    result = json.loads((DOCS / "experiments" / "tutorial3.json").read_text())["found"]
    by_key = {claim.key: claim for claim in CLAIMS}
    assert by_key["S2.sigmoid-last"].decide(result).verdict == base.HOLDS
    for seed in result["groups"]["sigmoid"]["seeds"]:
        seed["test_accuracy"], seed["at_chance"] = 0.95, 0
    assert by_key["S2.sigmoid-last"].decide(result).verdict == base.REFUTED
    assert by_key["S2.sigmoid-waits"].decide(result).verdict == base.REFUTED
    assert by_key["S2.accuracy-sigmoid"].decide(result).verdict == base.REFUTED
