"""Tests of the report's charts: colours for every reader, honest axes, valid specifications."""

import itertools
import json
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import altair as alt
import numpy as np
import pytest
from test_compare import NOISE, entry, grid

from actsweep.report.chart import Chart, cells, scales, thinned
from actsweep.report.charts import charts, sensitivity, styles_of
from actsweep.report.colours import BLACK, FAMILIES, PLACES, colour, group_styles
from actsweep.report.compare import compare
from actsweep.report.curve_charts import RUN_POINTS, curves
from actsweep.report.design import lay_out
from actsweep.report.layer_charts import (
    CELLS,
    OTHER_POINTS,
    RIDGES,
    TIMES,
    heat,
    heat_scale,
    ridges,
)
from actsweep.report.series import (
    Curve,
    Layers,
    Ridges,
    RunCurve,
    RunLayers,
    Series,
    in_order,
)

# Machado, Oliveira and Fernandes 2009, table of severity 1, by dichromacy.
MACHADO = {
    "protanopia": "0.152286 1.052583 -0.204868 "
    "0.114503 0.786281 0.099216 -0.003882 -0.048116 1.051998",
    "deuteranopia": "0.367322 0.860646 -0.227968 "
    "0.280085 0.672501 0.047413 -0.011820 0.042940 0.968881",
    "tritanopia": "1.255528 -0.076749 -0.178779 "
    "-0.078411 0.930809 0.147602 0.004733 0.691367 0.303900",
    "all colours": "1 0 0 0 1 0 0 0 1",
}

CSS = files("actsweep.report").joinpath("page.css").read_text()
DARK_BLACK = re.findall(r"--black: (#[0-9a-f]{6})", CSS)[1]
"""What a page that is dark draws in the place of black."""


def delta_e(a: str, b: str, matrix: str) -> float:
    """CIE76 of two colours as a dichromat sees them, in plain Python."""
    rows = [[float(x) for x in matrix.split()[3 * i : 3 * i + 3]] for i in range(3)]
    return sum((x - y) ** 2 for x, y in zip(lab(a, rows), lab(b, rows), strict=True)) ** 0.5


def lab(shade: str, rows: list[list[float]]) -> tuple[float, float, float]:
    parts = [int(shade[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    r, g, b = (min(max(sum(m * x for m, x in zip(row, linear, strict=True)), 0), 1) for row in rows)
    x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089
    f = [t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in (x, y, z)]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


@pytest.mark.parametrize(
    "names",
    [
        ["swish beta=0.5", "swish beta=1", "swish beta=2", "elu", "celu", "selu"],
        [*PLACES][:24],
        [*PLACES][4:],
        [act for acts in FAMILIES.values() for act in acts[:3]],
        [f"swish beta={beta}" for beta in range(24)],
        [str(10.0**k) for k in range(-12, 12)],
        [f"{act} {depth}" for act in ("relu", "tanh", "gelu", "mine") for depth in range(6)],
    ],
)
def test_every_reader_can_tell_groups_apart(names: list[str]) -> None:
    """Whoever has the same dashes differs in colour, for each kind of colour blindness."""
    styles = group_styles(names)
    assert len(set(styles.values())) == len(names)
    for (a, first), (b, second) in itertools.combinations(styles.items(), 2):
        if first.dash == second.dash:
            for kind, matrix in MACHADO.items():
                assert delta_e(first.colour, second.colour, matrix) >= 10, (a, b, kind)


MOST_USED = ("relu", "tanh", "sigmoid", "swish", "gelu", "elu", "leaky_relu", "selu")


@pytest.mark.parametrize("black", [BLACK, DARK_BLACK], ids=["light", "dark"])
def test_the_most_used_activations_differ_at_a_glance(black: str) -> None:
    """In colour alone; tanh and swish, which were both blue, in hue."""
    shades = {act: colour(act).replace(BLACK, black) for act in MOST_USED}
    for (a, first), (b, second) in itertools.combinations(shades.items(), 2):
        least = 60 if {a, b} == {"tanh", "swish"} else 20
        for kind, matrix in MACHADO.items():
            enough = least if kind == "all colours" else 10
            assert delta_e(first, second, matrix) >= enough, (a, b, kind)


def test_an_activation_keeps_its_colour() -> None:
    for act in PLACES:
        for others in (["relu", "swish beta=2"], ["0.1", "silu"], []):
            assert group_styles([*others, act])[act].colour == colour(act)
    assert len({colour(act) for acts in FAMILIES.values() for act in acts[:4]}) == sum(
        min(len(acts), 4) for acts in FAMILIES.values()
    )
    betas = group_styles([f"swish beta={beta}" for beta in (0.5, 1, 2)])
    assert len({style.colour for style in betas.values()}) == 3
    assert len({style.dash for style in betas.values()}) == 3


@pytest.mark.parametrize(
    ("values", "possible", "close", "zero"),
    [
        ([97.0, 99.0], (0.0, 100.0), [96.84, 99.16], [0, 99.16]),
        ([90.0, 99.9], (0.0, 100.0), [89.208, 100.0], [0, 100.0]),
        ([0.1, 1.1], (0.0, None), [0.02, 1.18], [0, 1.18]),
        ([0.01, 1.0], (0.0, None), [0.0, 1.0792], [0, 1.0792]),
        ([-3.0, 0.5], (None, 1.0), [-3.28, 0.78], [-3.28, 0.78]),
        ([100.0, 100.0, None, float("nan")], (0.0, 100.0), [92.0, 100.0], [0, 100.0]),
    ],
)
def test_an_axis_shows_the_difference_and_nothing_impossible(
    values: list[float | None],
    possible: tuple[float | None, float | None],
    close: list[float],
    zero: list[float],
) -> None:
    means = [value for value in values if value is not None]
    kinds = scales(means, [None], possible, log=False)
    assert scales(means[:1], values, possible, log=False)["close"] == kinds["close"]
    assert kinds["close"]["domain"] == pytest.approx(close)
    assert kinds["zero"]["domain"] == pytest.approx(zero)
    assert kinds["auto"] == kinds["close"]
    assert ("log" in kinds) == (min(means) > 0)


def scores_of(value: Callable[..., float], seeds: int) -> Chart:
    comparison = compare(grid(value, act=("relu", "tanh"), seed=range(seeds)))
    (chart,) = charts(comparison.design, styles_of([*comparison.groups]), comparison, Series())
    return chart


def test_an_interval_is_cut_at_what_is_possible_and_never_of_two() -> None:
    """Of 100 % and 94 %, Student's interval ends beyond 100 %."""

    def value(act: str, seed: int) -> float:
        return (0.94, 1.0, 1.0)[seed] if act == "relu" else 0.9 + NOISE[0, seed]

    three = {row["group"]: row for row in scores_of(value, 3).drawn if row["run_id"] is None}
    assert three["relu"]["high"] == 100.0
    assert three["relu"]["low"] == pytest.approx(
        98 - 4.302653 * np.std([94, 100, 100], ddof=1) / 3**0.5
    )
    assert three["tanh"]["high"] < 100
    two = scores_of(value, 2).drawn
    assert [row["low"] for row in two if row["run_id"] is None] == [None, None]
    assert sum(row["run_id"] is not None for row in two) == 4


def test_a_dot_says_whose_it_is() -> None:
    chart = scores_of(lambda act, seed: 0.9 + NOISE[0, seed] - 0.1 * (act == "tanh"), 3)
    dots = [row for row in chart.drawn if row["run_id"]]
    for row in dots:
        run = entry(0.5, act=row["group"], seed=row["seed"])
        assert row["run_id"] == run.run.run_id
        shown = 100 * (0.9 + NOISE[0, row["seed"]] - 0.1 * (row["group"] == "tanh"))
        assert row["value"] == pytest.approx(shown)


def curve(runs: int, points: int = 5, seed: int = 0) -> Curve:
    epochs = np.arange(float(points))
    rows = np.random.default_rng(seed).uniform(0.9, 1.0, (runs, points))
    members = [RunCurve(f"run-{i}", i, epochs, row) for i, row in enumerate(rows)]
    mean = rows.mean(0)
    return Curve(epochs, mean, mean - 0.2, mean + 0.2, runs, members)


def drawn_curves(runs: int, points: int = 5) -> Chart:
    design = lay_out([entry(0.5)], ["act"])
    by_metric = {m: {("relu",): curve(runs, points)} for m in ("val/accuracy", "val/loss")}
    chart = curves(by_metric, design, styles_of([("relu",)]))
    assert chart is not None
    return chart


def test_curves_have_validation_loss_and_every_run() -> None:
    chart = drawn_curves(3)
    assert {row["metric"] for row in chart.drawn} == {"val/accuracy", "val/loss"}
    means = [r for r in chart.drawn if r["run_id"] is None and r["metric"] == "val/accuracy"]
    assert [row["value"] for row in means] == pytest.approx([*100 * curve(3).mean])
    assert {row["high"] for row in means} == {100.0}
    assert all(row["low"] == pytest.approx(row["value"] - 20) for row in means)
    single = [r for r in chart.drawn if r["run_id"] == "run-2" and r["metric"] == "val/loss"]
    assert [row["value"] for row in single] == pytest.approx([*curve(3).members[2].values])
    assert all(row["low"] is None for row in drawn_curves(2).drawn)


def test_a_thousand_runs_are_thinned_and_the_caption_says_so() -> None:
    chart = drawn_curves(1000, 200)
    single = [r for r in chart.drawn if r["run_id"] == "run-7" and r["metric"] == "val/loss"]
    assert len(single) == max(8, RUN_POINTS // 1000) < 200
    assert (single[0]["epoch"], single[-1]["epoch"]) == (0, 199)
    assert "at most 8 points" in chart.of_runs
    assert "at most" not in drawn_curves(3).of_runs
    assert thinned(5, 8).tolist() == [0, 1, 2, 3, 4]
    assert thinned(100, 3).tolist() == [0, 50, 99]


def test_each_cell_lies_at_its_own_epoch() -> None:
    since, until = cells(np.array([0.0, 1.0, 5.0]))
    assert since.tolist() == [-0.5, 0.5, 3.0]
    assert until.tolist() == [0.5, 3.0, 7.0]
    assert [end.tolist() for end in cells(np.array([4.0]))] == [[3.5], [4.5]]
    values = np.array([[0.0, 0.02, 0.06], [0.1, np.nan, 1.0]])
    members = [RunLayers("a", 0, values / 2), RunLayers("b", 1, values * 1.5)]
    layers = Layers(["hidden_1", "hidden_2"], np.array([0.0, 1.0, 5.0]), values, members)
    chart = heat("dead_frac", {("relu",): layers})
    assert chart is not None
    of_means = [row for row in chart.drawn if row["run_id"] is None]
    assert [row["value"] for row in of_means] == pytest.approx([0, 2, 6, 10, 100])
    assert all(row["since"] < row["epoch"] < row["until"] for row in of_means)
    single = [row["value"] for row in chart.drawn if row["run_id"] == "b"]
    assert single == pytest.approx([0, 3, 9, 15, 150])
    many = Layers(layers.names, layers.epochs, values, members * CELLS)
    chart = heat("dead_frac", {("relu",): many})
    assert chart is not None
    assert "Too many runs" in chart.caption
    assert all(row["run_id"] is None for row in chart.drawn)


def test_six_percent_can_be_seen() -> None:
    """Beside a layer that is all dead, 6 % is a quarter up the colours."""
    shown = heat_scale("dead_frac", [0.0, 6.0, 100.0])
    assert (shown["type"], shown["domain"]) == ("sqrt", [0.0, 100.0])
    assert heat_scale("dead_frac", [0.0, 6.0])["domain"] == [0.0, 6.0]
    assert heat_scale("dead_frac", [0.0, 0.0])["domain"] == [0.0, 1.0]
    assert heat_scale("cos_sim", [-0.3, 0.5])["domain"] == [-0.3, 1.0]
    assert heat_scale("grad_norm", [1e-9, 1.0])["type"] == "log"


def relu_ridges() -> Ridges:
    edges = np.linspace(-2, 2, 17)
    densities = np.zeros((3, 16))
    densities[:, 8:12] = [1.0, 0.5, 0.2, 0.1]
    return Ridges("relu-run", np.array([0.0, 10.0, 20.0]), edges, densities, 0.0, 4)


def test_relu_s_density_stays_above_zero() -> None:
    """Steps from each bin's own lower edge: nothing slopes from the bin before 0."""
    chart = ridges("hidden_1", {("relu",): [relu_ridges()]}, styles_of([("relu",)]))
    assert chart is not None
    assert chart.times == [0, 10, 20]
    first = [row for row in chart.drawn if row["epoch"] == 20]
    inside = [row["activation"] for row in first if row["top"] > row["base"]]
    assert inside == [0, 0.25, 0.5, 0.75]
    assert min(row["activation"] for row in chart.drawn) == 0
    assert {row["activation"] for row in first if row["top"] == row["base"]} == {1.0}
    marks = [layer["mark"] for layer in chart.spec["spec"]["layer"]]
    assert {mark["interpolate"] for mark in marks} == {"step-after"}
    assert {(row["run_id"], row["seed"]) for row in chart.drawn} == {("relu-run", 4)}


def test_distributions_are_there_for_other_seeds_too() -> None:
    """All in a file of about the same size: the first run has the most epochs."""
    epochs = np.arange(100.0)
    densities = np.random.default_rng(0).uniform(0.1, 1, (100, 16))

    def run(seed: int) -> Ridges:
        edges = np.linspace(-2, 2, 17)
        return Ridges(f"run-{seed}", epochs, edges, densities / (1 + seed), 0.0, seed)

    for count in (2, 60):
        runs = [run(seed) for seed in range(count)]
        chart = ridges("hidden_1", {("relu",): runs}, styles_of([("relu",)]))
        assert chart is not None
        assert {row["seed"] for row in chart.drawn} == {*range(count)}
        assert {row["run_id"] for row in chart.first_drawn()} == {"run-0"}
        kept = {s: {r["epoch"] for r in chart.drawn if r["seed"] == s} for s in (0, 1)}
        assert len(kept[0]) >= TIMES
        assert len(kept[1]) == min(RIDGES, OTHER_POINTS // (17 * (count - 1)))
        assert {0.0, 99.0} <= kept[1]
        of_others = [row for row in chart.drawn if row["seed"] > 0]
        assert len(of_others) <= OTHER_POINTS
        last = [r["top"] - r["base"] for r in of_others if r["seed"] == 1 and r["epoch"] == 99]
        np.testing.assert_allclose(last[:-1], 1.6 * np.sqrt(densities[99] / 2), atol=2e-4)


def every_chart() -> Sequence[Chart]:
    def value(act: str, lr: float, seed: int) -> float:
        return 0.9 - 0.05 * abs(np.log10(lr) + 1) - 0.1 * (act == "tanh") + NOISE[0, seed]

    entries = grid(value, act=("relu", "tanh"), lr=(0.01, 0.1, 1.0), seed=range(3))
    comparison = compare(entries, ["lr", "act"])
    layers = Layers(["hidden_1"], np.arange(2.0), np.ones((1, 2)))
    series = Series(
        {m: {("0.1", "relu"): curve(3)} for m in ("val/accuracy", "val/loss", "train/loss")},
        {q: {("0.1", "relu"): layers} for q in ("grad_norm", "dead_frac", "cos_sim")},
        {"hidden_1": {("0.1", "relu"): [relu_ridges()]}},
    )
    styles = styles_of([*comparison.groups])
    along = sensitivity(comparison, styles)
    assert along is not None
    simple = scores_of(lambda act, seed: 0.9 + NOISE[0, seed], 3)
    return [*charts(comparison.design, styles, comparison, series), along, simple]


def test_every_specification_is_valid_and_reads_what_is_drawn() -> None:
    known = every_chart()
    assert len(known) == 8
    for chart in known:
        alt.Chart.from_dict({**chart.spec}, validate=True)
        names = {key for row in chart.drawn for key in row} | {"layers", "unsmoothed"}
        assert fields(chart.spec) <= names, chart.name
        for axis in chart.axes:
            at: Any = chart.spec
            for key in axis["path"]:
                at = at[key]
            assert at == axis["scales"]["auto"]


def fields(node: Any) -> set[str]:
    """All fields that a specification reads."""
    if isinstance(node, list):
        return set().union(*map(fields, node))
    if not isinstance(node, dict):
        return set()
    own = {node["field"]} if isinstance(node.get("field"), str) else set()
    return own.union(*map(fields, node.values()))


def test_a_cell_keeps_its_colour_whichever_groups_are_selected() -> None:
    """The scale is that of all groups, and not of the rows that a reader has left."""

    def value(act: str, depth: int, seed: int) -> float:
        return 0.9 - 0.05 * depth - 0.1 * (act == "tanh") + NOISE[0, seed]

    entries = grid(value, act=("relu", "tanh"), depth=(2, 4), seed=range(3))
    comparison = compare(entries, ["act", "depth"])
    (chart,) = charts(comparison.design, styles_of([*comparison.groups]), comparison, Series())
    values = [row["value"] for row in chart.drawn]
    assert len(values) == 4
    scale = chart.spec["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"] == pytest.approx([min(values), max(values)])


def test_layers_of_several_depths_are_in_order() -> None:
    """The head is last, also where a shallow network comes first."""
    shallow, deep = ["hidden_1", "hidden_2", "head"], [f"hidden_{n}" for n in range(1, 13)]
    assert in_order([*shallow, *deep, "head"]) == [*deep, "head"]
    blocks = ["embed", "blocks.0.up", "head", "embed", "blocks.0.up", "blocks.1.up", "head"]
    assert in_order(blocks) == ["embed", "blocks.0.up", "blocks.1.up", "head"]


def test_a_heat_map_of_several_depths_has_the_head_on_top() -> None:
    epochs = np.array([0.0, 1.0])
    layers = {
        (str(depth),): Layers(names, epochs, np.ones((len(names), 2)))
        for depth, names in (
            (1, ["hidden_1", "head"]),
            (3, ["hidden_1", "hidden_2", "hidden_3", "head"]),
        )
    }
    chart = heat("cos_sim", layers)
    assert chart is not None
    found = json.dumps(chart.spec)
    assert '"sort": ["head", "hidden_3", "hidden_2", "hidden_1"]' in found


def test_panels_with_axes_of_their_own_leave_room_for_them() -> None:
    epochs = np.array([0.0, 1.0])
    alike = {(act,): Layers(["hidden_1", "head"], epochs, np.ones((2, 2))) for act in "ab"}
    depths = {
        ("1",): alike["a",],
        ("2",): Layers(["hidden_1", "a.long.path"], epochs, np.ones((2, 2))),
    }
    same, other = heat("cos_sim", alike), heat("cos_sim", depths)
    assert same is not None
    assert other is not None
    assert other.panel[1] >= same.panel[1] + 6 * len("a.long.path")
