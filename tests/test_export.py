"""Tables and figures for a paper: what is bold, what the caption says, how wide a figure is."""

import io
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from test_compare import NOISE, entry, grid, usual_score

from actsweep.report import export, figures, plot
from actsweep.report.compare import Comparison, compare
from actsweep.utils.errors import UserError


def three(better: float, seeds: int = 8, **options: bool) -> Comparison:
    """ReLU ahead of tanh by 5 points, and elu ahead of ReLU by so much."""
    means = {"relu": 0.8, "tanh": 0.75, "elu": 0.8 + better}

    def score(act: str, seed: int) -> float:
        return means[act] + 0.1 * NOISE[[*means].index(act), seed]

    return compare(grid(score, act=means, seed=range(seeds)), **options)


@pytest.mark.parametrize("one_look", [False, True])
def test_bold_is_what_is_better_than_every_other(one_look: bool) -> None:
    ahead, tied = three(0.05, one_look=one_look), three(0.0, one_look=one_look)
    assert {pair.verdict for pair in ahead.pairs.values()} == {"better"}
    assert export.winners(ahead) == {("elu",)}
    assert export.winners(tied) == set()  # ReLU and elu are both better than tanh
    assert {pair.verdict for pair in tied.pairs.values()} >= {"better"}
    assert re.findall(r"^ *(\w+) & \\textbf{([\d.]+)}", export.text(ahead, "latex"), re.M) == [
        ("elu", f"{100 * ahead.groups['elu',].mean:.2f}")
    ]
    assert r"\textbf" not in export.text(tied, "latex")


def test_two_factors_have_a_winner_for_each_value_of_the_second() -> None:
    def score(act: str, seed: int, depth: int) -> float:
        up = 0.05 if (act, depth) in (("relu", 2), ("tanh", 8)) else 0.0
        return 0.8 + up + 0.1 * NOISE[0 if act == "relu" else 1, seed]

    entries = grid(score, act=("relu", "tanh"), seed=range(8), depth=(2, 8))
    assert export.winners(compare(entries, ["act", "depth"])) == {("relu", "2"), ("tanh", "8")}


def test_the_latex_table() -> None:
    comparison = three(0.05)
    latex = export.text(comparison, "latex")
    for word in ("toprule", "midrule", "bottomrule"):
        assert latex.count(rf"\{word}") == 1
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert [row.count(" & ") for row in rows] == [2] * 4
    assert re.search(r"begin{tabular}{(\w+)}", latex)[1] == "lrr"  # type: ignore[index]
    best = comparison.groups["elu",]
    interval = f"[{100 * (best.low or 0):.2f}, {100 * (best.high or 0):.2f}]"
    assert interval in rows[1]
    assert rows[1].endswith(r" & 8 \\")
    assert r"test/accuracy, \%" in rows[0]


def test_the_caption_names_test_and_correction() -> None:
    assert "e-values" in export.caption(three(0.05))
    assert "3 pairs (closed testing" in export.caption(three(0.05))
    once = export.caption(three(0.05, one_look=True))
    assert "paired t tests" in once
    assert "(Holm 1979)" in once
    assert "Bold: better than every other group." in once
    assert "No group is better than every other one." in export.caption(three(0.0))


def test_text_is_escaped() -> None:
    assert export.escape("a_b & 5 % of #1 {x} \\ ~ ^ $") == (
        r"a\_b \& 5 \% of \#1 \{x\} \textbackslash{} \textasciitilde{} \textasciicircum{} \$"
    )
    entries = grid(lambda act, seed: -1.5 - seed, act=("leaky_relu", "elu"), seed=range(3))
    latex = export.text(compare(entries), "latex")
    assert r"leaky\_relu" in latex
    assert "-2" not in latex.replace("$-$", "")  # minus signs, not hyphens


def test_files_hold_the_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = three(0.05)
    frame = pd.read_csv(io.StringIO(export.text(comparison, "csv")))
    assert frame["act"].tolist() == [label[0] for label in comparison.groups]
    assert frame["mean"].tolist() == pytest.approx([g.mean for g in comparison.groups.values()])
    plain = json.loads(export.text(comparison, "json"))
    assert [row["verdict"] for row in plain["pairs"]] == ["better"] * 3
    to = export.write(comparison, "csv", tmp_path / "new" / "groups.csv")
    assert to.read_text() == export.text(comparison, "csv") + "\n"
    if export_parquet():
        again = pd.read_parquet(export.write(comparison, "parquet", tmp_path / "groups.parquet"))
        pd.testing.assert_frame_equal(again, frame, check_dtype=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="--parquet: pyarrow isn't installed; type pip install"):
        export.write(comparison, "parquet", tmp_path / "groups.parquet")
    with pytest.raises(UserError, match="--parquet: isn't text; type --to"):
        export.text(comparison, "parquet")
    with pytest.raises(UserError, match="kind=excel: no such name"):
        export.text(comparison, "excel")


def export_parquet() -> bool:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return False
    return True


def test_nothing_complete_is_one_line() -> None:
    with pytest.raises(UserError, match="nothing to compare: no run is complete"):
        compare([entry(None, "failed", seed=0)])


@pytest.mark.parametrize(
    ("typed", "points"), [("3.25in", 234), ("8.25cm", 233.858), ("100 mm", 283.465)]
)
def test_a_figure_has_the_width_that_is_typed(typed: str, points: float) -> None:
    size = figures.Size.of(typed, 8)
    assert size.width == pytest.approx(points, abs=0.001)
    drawn = figures._drawn(plot.scores(three(0.05, seeds=3)), size)
    box = re.search(rb"MediaBox \[\s*0 0 ([\d.]+)", drawn["pdf"])
    assert box is not None
    assert float(box[1]) == pytest.approx(points, abs=0.5)
    svg = drawn["svg"].decode()
    assert float(re.search(r'width="([\d.]+)pt"', svg)[1]) == pytest.approx(points, abs=0.01)  # type: ignore[index]
    assert {float(found) for found in re.findall(r'font-size="([\d.]+)px"', svg)} == {8.0}
    assert "relu" in svg


@pytest.mark.parametrize("typed", ["3.25", "in", "-1in", "0.1in", "30in", "3.25 inches"])
def test_a_width_that_makes_no_sense(typed: str) -> None:
    with pytest.raises(UserError, match=f"--width {typed}: must be from 0.5in to 20in"):
        figures.Size.of(typed, 8)


def test_a_font_size_that_makes_no_sense() -> None:
    with pytest.raises(UserError, match="--font-size 2: must be from 4 to 24 points"):
        figures.Size.of("3in", 2)


def test_the_scores_that_are_drawn() -> None:
    entries = grid(usual_score, act=("relu", "tanh"), seed=range(3))
    spec = plot.scores(compare(entries)).to_dict()
    dots, bars, means = (spec["datasets"][layer["data"]["name"]] for layer in spec["layer"])
    drawn = {(row["group"], row["seed"]): row["value"] for row in dots}
    assert drawn == pytest.approx(
        {(a, str(s)): 100 * usual_score(a, s) for a in ("relu", "tanh") for s in range(3)}
    )
    assert [row["group"] for row in means] == ["relu", "tanh"]
    assert bars == means


def test_groups_of_one_activation_are_told_apart_in_a_plot() -> None:
    from actsweep.report.plot import _lines

    names = ["relu 4", "relu 10", "swish 4"]
    rows = [
        {"group": n, "epoch": e, "mean": 1.0, "low": None, "high": None, "metric": "m", "runs": 1}
        for n in names
        for e in (0, 1)
    ]
    line = _lines(rows, "val/loss").to_dict()["layer"][1]["encoding"]
    looks = zip(
        line["color"]["scale"]["range"],
        map(tuple, line["strokeDash"]["scale"]["range"]),
        strict=True,
    )
    assert len({*looks}) == 3
