"""Tests of rare reports: designs with holes, numbers beyond bounds, folders elsewhere."""

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_compare import NOISE, entry, grid, printed

from actsweep.cli.main import main
from actsweep.launch.finish import _report
from actsweep.report.charts import sensitivity, styles_of
from actsweep.report.compare import compare
from actsweep.report.design import Entry
from actsweep.report.layer_charts import ridges
from actsweep.report.page import Reproduction, page
from actsweep.report.page_data import page_data
from actsweep.report.series import Log, Ridges, _curve, _ridges
from actsweep.report.write import ReportRequest, _make
from actsweep.runs.metrics_file import HistogramSeries


def beyond(*epochs: float) -> Ridges:
    return Ridges("id", np.array(epochs), np.linspace(-1, 1, 5), np.zeros((len(epochs), 4)), 1.0)


def test_a_layer_that_lies_beyond_all_edges_is_drawn() -> None:
    """Weights a million times too large: no bin holds anything."""
    styles = styles_of([("relu",)])
    made = ridges("hidden_1", {("relu",): [beyond(0, 1)]}, styles)
    assert made is not None
    assert "100.0 % lie beyond the edges" in made.caption


def test_histograms_beyond_a_run_s_rows_are_left_out() -> None:
    """A run that was resumed has cut its rows back, and its histograms not yet."""
    run = entry(0.9, "interrupted")
    held = HistogramSeries(np.ones((3, 6), int), np.linspace(-1, 1, 5), np.array([0, 10, 20]))
    drawn = _ridges(run, held, {0.0: 0.0, 10.0: 1.0})
    assert drawn.epochs.tolist() == [0, 1]
    assert len(drawn.densities) == 2
    assert not len(_ridges(run, held, {}).epochs)


def test_figures_have_groups_of_which_no_run_is_complete_yet() -> None:
    scored = grid(lambda act, seed: 0.8 + 0.01 * seed, act=("relu", "tanh"), seed=(0, 1))
    entries = [*scored, entry(None, "running", act="elu")]
    made = _make(entries, ReportRequest())
    assert {*made.styles} == {("relu",), ("tanh",), ("elu",)}


def test_groups_keep_their_colours_while_a_sweep_trains() -> None:
    """Groups are sorted once they have results: colours go by the plan."""
    scores = {8: 0.7, 2: 0.9, 16: 0.8, 4: 0.95}
    planned = [entry(None, "waiting", depth={"layers": d}, seed=s) for s in (0, 1) for d in scores]
    looks = []
    for done in (0, 1, 3, 8):
        ended = [
            replace(e, state="complete", summary={"test_accuracy": score, "test_loss": 0.1})
            for e, score in zip(planned[:done], [*scores.values()] * 2, strict=False)
        ]
        looks.append(_make([*ended, *planned[done:]], ReportRequest()).styles)
    assert all(dict(look) == dict(looks[0]) for look in looks)
    assert [*looks[-1]] != [*looks[0]]  # the order is another one
    assert len(looks[0]) == 4


def test_curves_along_a_rate_keep_their_colours_while_a_sweep_trains() -> None:
    def colours(scores: dict[int, float]) -> dict[str, str]:
        entries = grid(
            lambda depth, lr, seed: scores[depth] - lr / 100 + NOISE[0, seed],
            depth=(2, 4),
            lr=(0.05, 0.1, 0.2),
            seed=range(3),
        )
        along = sensitivity(compare(entries, ["depth", "lr"]), {})
        assert along is not None
        scale = along.spec["layer"][2]["encoding"]["color"]["scale"]
        return dict(zip(scale["domain"], scale["range"], strict=True))

    assert colours({2: 0.7, 4: 0.9}) == colours({2: 0.9, 4: 0.7})


def test_each_panel_of_a_layer_shows_its_own_epochs() -> None:
    ends = {("relu",): 12.0, ("tanh",): 30.0, ("elu",): 2.0}
    made = ridges(
        "hidden_1", {k: [beyond(0, last / 2, last)] for k, last in ends.items()}, styles_of([*ends])
    )
    assert made is not None
    shown = {k: {row["epoch"] for row in made.drawn if row["group"] == k[0]} for k in ends}
    assert shown == {k: {0, last / 2, last} for k, last in ends.items()}
    assert made.times == [0, 1, 2, 6, 12, 15, 30]


def test_a_run_in_training_ends_its_group_s_curve() -> None:
    """Its last value says nothing of later epochs; that of a run that has ended stands."""
    long = {"epoch": np.arange(5.0), "val/loss": np.array([4.0, 3, 2, 1, 0])}
    short = {"epoch": np.arange(3.0), "val/loss": np.array([8.0, 6, 4])}
    for ended, mean in ((True, [6, 4.5, 3, 2.5, 2]), (False, [6, 4.5, 3])):
        curve = _curve([Log(long, True), Log(short, ended)], "val/loss")
        assert curve is not None
        assert curve.mean.tolist() == mean
        assert curve.epochs.tolist() == list(range(len(mean)))


def test_several_data_sets_and_rates() -> None:
    """No curve along the rate averages over the data sets; the rest of the report is there."""

    def run(act: str, data: str, lr: float, seed: int) -> Entry:
        score = 0.9 - lr / 10 - 0.1 * (data == "kmnist") + NOISE[0, seed]
        return entry(score, act=act, data={"name": data}, optim={"lr": lr}, seed=seed)

    entries = [
        run(act, data, lr, seed)
        for act in ("relu", "tanh")
        for data in ("mnist", "kmnist")
        for lr in (0.01, 0.1, 0.3)
        for seed in range(3)
    ]
    for by in ((), ("act", "data"), ("data", "act")):
        made = _make(entries, ReportRequest(by))
        assert not isinstance(made.comparison, str)
        assert set(made.comparison.by) == {"act", "data"}
    assert [chart.name for chart in _make(entries, ReportRequest(("act", "data"))).charts] == [
        "scores"
    ]


def test_groups_without_a_full_seed_are_noted() -> None:
    def value(act: str, depth: int, seed: int) -> float:
        return 0.9 - 0.01 * depth + NOISE[0, seed]

    every = grid(value, act=("relu", "tanh"), depth=(2, 4), seed=range(4))
    key = lambda e: (e.config["act"]["name"], e.config["depth"]["layers"], e.config["seed"])  # noqa: E731
    split = lambda e: (key(e)[1] == 2) == (key(e)[2] < 2)  # noqa: E731  # a seed has one depth
    comparison = compare([e for e in every if key(e)[0] == "tanh" or split(e)])
    assert "relu: no run counts, as no seed has all of depth" in comparison.notes
    comparison = compare([e for e in every if split(e)])
    assert set(comparison.groups) == {("relu",), ("tanh",)}
    assert "no seed has all of depth: this may explain the difference" in comparison.notes


def test_a_rate_that_was_not_chosen_doesn_t_widen_what_diverged() -> None:
    runs = [entry(0.9 + NOISE[0, s], optim={"lr": 0.1}, seed=s) for s in range(3)]
    far = [entry(0.1, optim={"lr": 9.0}, seed=s) for s in range(3)]
    for run in far:
        run.summary["test_loss"] = 400.0  # type: ignore[index]
    diverged = entry(None, "diverged", optim={"lr": 0.1}, seed=3)
    comparison = compare([*runs, *far, diverged], ["act"], "test/loss")
    assert max(comparison.cells["relu",].values()) < 1


def test_a_huge_loss_changes_no_other_pair() -> None:
    """A rate at which losses explode says nothing of how finely the others are known."""

    def run(act: str, loss: float, seed: int) -> Entry:
        made = entry(0.5, act=act, seed=seed)
        made.summary["test_loss"] = loss  # type: ignore[index]
        return made

    two = [run("relu", 1 + s / 10, s) for s in range(3)]
    two += [run("tanh", 2 + s / 9 + s**2 / 99, s) for s in range(3)]
    alone = compare(two, metric="test/loss", margin=0.05)
    beside = compare(
        [*two, *(run("elu", 1e24 * (1 + s), s) for s in range(3))], ["act"], "test/loss", 0.05
    )
    pair = ("relu",), ("tanh",)
    assert beside.pairs[pair].low == pytest.approx(alone.pairs[pair].low)
    assert beside.pairs[pair].p == pytest.approx(alone.pairs[pair].p)


def test_the_pairs_that_are_shown_are_the_best_group_s() -> None:
    rates = tuple(10.0**k for k in range(-6, 2))

    def value(lr: float, seed: int) -> float:
        return 0.9 - 0.05 * abs(np.log10(lr) + 1) + NOISE[0, seed]

    text = printed(compare(grid(value, lr=rates, seed=range(3)), ["lr"]))
    rows = re.findall(r"^(\S+) +(\S+) +[+-]\d", text, re.MULTILINE)
    assert len(rows) == 7
    assert all("0.1" in pair for pair in rows)


def test_an_optimiser_s_rate_is_tuned() -> None:
    def run(name: str, lr: float, seed: int) -> Entry:
        return entry(0.9 - lr + NOISE[0, seed], optim={"name": name, "lr": lr}, seed=seed)

    runs = [run(n, lr, s) for n in ("sgd", "adam") for lr in (0.01, 0.1) for s in range(2)]
    comparison = compare(runs, ["optim"])
    assert set(comparison.groups) == {("sgd",), ("adam",)}
    assert comparison.chosen["sgd",] == {"lr": 0.01}


def test_a_sweep_without_an_answer_isn_t_told_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actsweep.report.write.gather", lambda _: [entry(None, "diverged")])
    message = _report(SimpleNamespace(folder=tmp_path))
    assert message == "report: none (nothing to compare: no run is complete (they are: diverged))"


@pytest.mark.parametrize(
    ("word", "value"),
    [("--every", "0"), ("--every", "-5"), ("--every", "inf"), ("--port", "70000")],
)
def test_numbers_that_watch_can_t_take(
    word: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweeps" / "s").mkdir(parents=True)
    (tmp_path / "sweeps" / "s" / "plan.json").write_text("{}")
    assert main(["watch", "s", "--outputs", str(tmp_path), word, value]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {word} {value}: must be ")
    assert "type for example" in said


class Elements(HTMLParser):
    """A page's elements and attributes, counted, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = Counter[str](), Counter[str](), ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(f"{tag} {name}" for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("complete", [True, False])
def test_no_text_becomes_markup(complete: bool) -> None:
    """The page's elements are the same whatever is in a config, a message or a command."""

    def written(hostile: str) -> Elements:
        runs = [
            entry(
                0.9 - lr + NOISE[0, s],
                "complete" if complete else hostile,
                optim={"lr": lr},
                seed=s,
            )
            for lr in (0.01, 0.1)
            for s in range(3)
        ]
        for run in runs:
            run.config["optim"]["name"] = f"{hostile}{run.config['optim']['lr']}"
            run.config["init"]["name"] = hostile
        runs[0] = replace(runs[0], state=hostile, cause=hostile)
        made = _make(runs, ReportRequest(("optim",)))
        for chart in made.charts:
            object.__setattr__(chart, "title", hostile)
            object.__setattr__(chart, "caption", hostile)
        again = [Reproduction(hostile, [hostile], [hostile])]
        data = page_data(made.design, {runs[0].run.run_id: [hostile]})
        return Elements(
            page(
                hostile,
                made.design,
                made.comparison,
                made.charts,
                made.styles,
                [hostile],
                again,
                data,
            )
        )

    plain = written("x")
    for hostile in (
        "<script>alert(1)</script>",
        "<b>",
        "'\"><img src=x onerror=alert(1)>",
        "{{ 1 }}",
    ):
        found = written(hostile)
        assert found.tags == plain.tags
        assert found.attributes == plain.attributes
        assert found.text.count(hostile) >= 8
    assert plain.tags["script"] == (11 if complete else 9)
