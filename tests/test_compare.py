"""Tests of comparisons: which groups are compared, the verdicts, and the notes."""

import dataclasses
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actsweep.config import identity, resolve
from actsweep.report.compare import Comparison, compare
from actsweep.report.design import Entry, usual_factors, where
from actsweep.report.text import show, words
from actsweep.runs.run_dir import RunDir
from actsweep.stats import paired
from actsweep.stats.signs import count_signs
from actsweep.utils.errors import UserError

ROOT = Path("nowhere")
NOISE = np.random.default_rng(0).normal(0, 0.002, (20, 20))


def entry(accuracy: float | None, state: str = "complete", **groups: Any) -> Entry:
    """A run; `groups` are parts of its config: `act="relu", seed=0, optim={"lr": 0.1}`."""
    if isinstance(groups.get("act"), str):
        groups["act"] = {"name": groups["act"]}
    run = resolve.resolve({"act": {"name": "relu"}, **groups})
    summary = {
        "test_accuracy": accuracy,
        "test_loss": None if accuracy is None else 1 - accuracy,
        "best_val_accuracy": accuracy,
        "best_val_loss": None,
        "dead_frac": 0.1 * run.seed,
    }
    folder = RunDir(ROOT, identity.run_id(run))
    cause = None if state == "complete" else "as told"
    return Entry(folder, resolve.to_dict(run), state, summary, cause)


def grid(value: Callable[..., float], **axes: Any) -> list[Entry]:
    """Every combination of `act=(…), seed=(…), …`, with the accuracy that `value` gives."""
    cells: list[dict[str, Any]] = [{}]
    for name, values in axes.items():
        cells = [{**cell, name: choice} for cell in cells for choice in values]
    return [entry(value(**cell), **nested(cell)) for cell in cells]


def nested(cell: Mapping[str, Any]) -> dict[str, Any]:
    known = dict(cell)
    if "lr" in known:
        known["optim"] = {"lr": known.pop("lr")}
    if "depth" in known:
        known["depth"] = {"layers": known["depth"], "width": 8}
    return known


PAIRED = ["act", "data"]
ACTS = {"relu": 0.9, "tanh": 0.85, "sigmoid": 0.9}


def usual_score(act: str, seed: int) -> float:
    return ACTS[act] + NOISE[0, seed] + 0.1 * NOISE[1 + list(ACTS).index(act), seed]


def printed(comparison: Comparison, **options: Any) -> str:
    stream = io.StringIO()
    show(comparison, stream, **options)
    return stream.getvalue()


def test_groups_and_pairs_are_those_of_stats() -> None:
    entries = grid(usual_score, act=ACTS, seed=range(5))
    comparison = compare(entries)
    values = {act: {(s,): usual_score(act, s) for s in range(5)} for act in ACTS}
    expected = paired.compare({(k,): v for k, v in values.items()}, 0.005)
    for (a, b), pair in comparison.pairs.items():
        mirrored = expected.get((a, b)) or expected[b, a]
        sign = 1 if (a, b) in expected else -1
        assert pair.difference == pytest.approx(sign * mirrored.difference)
        assert pair.p_holm == pytest.approx(mirrored.p_holm)
    assert len(comparison.pairs) == 3
    assert comparison.groups["tanh",] == paired.summarise(
        [usual_score("tanh", s) for s in range(5)]
    )
    assert [*comparison.groups][-1] == ("tanh",)  # best first
    answer = words(comparison)
    assert "  better than tanh (+" in "\n".join(answer)
    assert "  equivalent, within 0.50 points, to" in "\n".join(answer)
    assert not comparison.notes


def test_one_look_or_any_number() -> None:
    """By default p and interval hold at any time; those for one look find more."""
    gains = {"relu": 0.0, "tanh": 0.006}

    def value(act: str, seed: int) -> float:
        return 0.8 + gains[act] + NOISE[list(gains).index(act), seed]

    entries = grid(value, act=gains, seed=range(4))
    ((key, anytime),) = compare(entries).pairs.items()
    once = compare(entries, one_look=True).pairs[key]
    assert (anytime.verdict, once.verdict) == ("cannot tell", "better")
    assert anytime.p_anytime == once.p_anytime > once.p_holm == anytime.p_holm
    assert anytime.low < once.low < once.difference < once.high < anytime.high
    text, text_once = printed(compare(entries)), printed(compare(entries, one_look=True))
    assert f" {anytime.p_anytime:.2g}  cannot tell" in text
    assert f" {once.p_holm:.2g}  better" in text_once
    said = "compared at once: 1 pair, in test/accuracy alone; verdicts hold "
    assert f"{said}after every seed, however often you look" in text
    assert f"{said}for one look, at a number of seeds that was set beforehand" in text_once
    assert "compared at once: 3 pairs" in printed(
        compare(grid(usual_score, act=ACTS, seed=range(3)))
    )
    assert "compared at once" not in printed(compare(entries[:4]))


def test_smaller_is_better_for_a_loss() -> None:
    comparison = compare(
        grid(usual_score, act=ACTS, seed=range(5)), metric="test/loss", margin=0.005
    )
    assert [*comparison.groups][-1] == ("tanh",)
    pair = comparison.pairs[next(iter(comparison.groups)), ("tanh",)]
    assert (pair.verdict, pair.improvement) == ("better", 1.0)
    assert pair.difference == pytest.approx(-0.05, abs=0.003)
    assert pair.low < pair.difference < pair.high < 0


def test_what_is_neither_good_nor_bad_is_higher_or_lower() -> None:
    def value(act: str, seed: int) -> float:
        return 0.5

    entries = grid(value, act=("relu", "elu"), seed=range(4))
    dead = [
        Entry(e.run, e.config, e.state, {**e.summary, "dead_frac": 0.5 * (i < 4) + 0.01 * i}, None)
        for i, e in enumerate(entries)
    ]
    text = printed(compare(dead, metric="exact_dead_frac/all"))
    assert "highest mean exact_dead_frac/all: relu" in text
    assert "higher than elu" in text


def test_one_seed_gives_no_verdict() -> None:
    comparison = compare(grid(usual_score, act=ACTS, seed=[0]))
    assert {pair.verdict for pair in comparison.pairs.values()} == {"cannot tell"}
    assert all(pair.p is None and pair.low is None for pair in comparison.pairs.values())
    assert "one seed says nothing about spread" in printed(comparison)


def test_a_diverged_run_has_no_value_and_is_counted() -> None:
    entries = grid(usual_score, act=ACTS, seed=range(4))
    gone = entries[1]  # relu, seed 1
    entries[1] = Entry(gone.run, gone.config, "diverged", {}, "the loss is not finite")
    for metric in ("test/accuracy", "test/loss"):
        comparison = compare(entries, metric=metric)
        assert (1,) not in comparison.cells["relu",]
        assert comparison.groups["relu",].n == 3
        assert comparison.lost == {("relu",): {1}}
        assert list(comparison.groups)[-1] == ("relu",)  # whatever its mean
        pair = comparison.pairs[("tanh",), ("relu",)]
        assert (pair.n, pair.lost, pair.p_ended) == (3, (0, 1), 1.0)
        note = f"{gone.run.run_id} diverged: without a value, see seeds"
        assert note in comparison.notes
        text = printed(comparison)
        assert "3 of 4" in text
        assert "p, ended" in text
    dead = compare(entries, metric="exact_dead_frac/all")
    assert (1,) not in dead.cells["relu",]
    assert not dead.lost
    assert f"not counted: {gone.run.run_id} diverged" in dead.notes


@pytest.mark.parametrize(("lost", "verdict"), [(0, "worse"), (3, "cannot tell"), (9, "better")])
def test_who_ends_well_less_often_is_never_better(lost: int, verdict: str) -> None:
    """ELU is five points ahead of ReLU in every seed with which both end well."""
    values = grid(
        lambda act, seed: 0.8 + 0.05 * (act == "elu") + 0.001 * (seed % 3),
        act=("relu", "elu"),
        seed=range(10),
    )
    entries = [
        Entry(e.run, e.config, "diverged", {}, "x")
        if e.config["act"]["name"] == "elu" and e.config["seed"] < lost
        else e
        for e in values
    ]
    (((a, _), pair),) = compare(entries).pairs.items()
    found = pair.verdict
    if a == ("elu",):
        found = {"better": "worse", "worse": "better"}.get(found, found)
    assert found == verdict


def test_chance_is_said() -> None:
    entries = grid(usual_score, act=ACTS, seed=range(3))
    low = entries[0]
    entries[0] = Entry(low.run, low.config, low.state, {**low.summary, "at_chance": True}, None)
    assert f"{low.run.run_id}: not better than chance" in compare(entries).notes
    low_too = [dataclasses.replace(e, summary={**e.summary, "at_chance": True}) for e in entries]
    told = [note for note in compare(low_too).notes if "not better than chance" in note]
    named = ", ".join(f"{act} (3 of 3)" for act in ACTS)
    assert told == [f"{named}: not better than chance (at_chance == true finds them)"]


def test_diverged_groups_are_equivalent_to_none() -> None:
    """Whatever they count as: two groups that all diverged aren't alike, nor nearly converged."""
    entries = grid(lambda act, seed: 0.1, act=("relu", "tanh", "elu"), seed=range(4))
    entries = [
        e if e.config["act"]["name"] == "elu" else Entry(e.run, e.config, "diverged", {}, "x")
        for e in entries
    ]
    for options in ({"metric": "test/loss", "margin": 100.0}, {"margin": 50.0}):
        comparison = compare(entries, **options)
        assert {pair.verdict for pair in comparison.pairs.values()} <= {"cannot tell", "better"}
    pair = compare(entries, metric="test/loss").pairs[("elu",), ("relu",)]
    assert (pair.n, pair.lost, pair.p_ended) == (0, (0, 4), 0.125)


def test_what_is_missing_is_noted() -> None:
    entries = grid(usual_score, act=ACTS, seed=range(4))
    gone = entries[5]  # tanh, seed 1
    entries[5] = Entry(gone.run, gone.config, "failed", {}, "ValueError: x")
    comparison = compare(entries)
    assert f"not counted: {gone.run.run_id} failed" in comparison.notes
    assert "tanh lacks seed 1: pairs compare what both have" in comparison.notes
    assert comparison.groups["tanh",].n == 3
    assert comparison.pairs[next(iter(comparison.groups)), ("tanh",)].n == 3


def test_a_group_without_anything_is_named() -> None:
    entries = grid(usual_score, act=("relu", "tanh"), seed=range(3))
    lost = [
        Entry(e.run, e.config, "preempted", {}, None) if e.config["act"]["name"] == "tanh" else e
        for e in entries
    ]
    assert "tanh: no run counts" in compare(lost).notes


def test_what_was_tuned_is_chosen_in_validation() -> None:
    """Test accuracy lies about lr=0.1; validation doesn't: it decides."""

    def value(act: str, lr: float, seed: int) -> float:
        return 0.8 + {0.01: 0.02, 0.1: 0.05, 1.0: 0.0}[lr] + NOISE[2, seed]

    entries = []
    for run in grid(value, act=("relu", "tanh"), lr=(0.01, 0.1, 1.0), seed=range(3)):
        lr = run.config["optim"]["lr"]
        flattered = {"test_accuracy": 0.99 if lr == 1.0 else run.summary["test_accuracy"]}
        entries.append(Entry(run.run, run.config, run.state, {**run.summary, **flattered}, None))
    comparison = compare(entries)
    assert comparison.chosen == {("relu",): {"lr": 0.1}, ("tanh",): {"lr": 0.1}}
    assert comparison.groups["relu",].mean == pytest.approx(0.85 + NOISE[2, :3].mean())
    assert "lr: each group's best in validation" in comparison.notes
    curve = compare(entries, ["lr"])
    assert [*curve.groups] == [("0.01",), ("0.1",), ("1.0",)]


def test_what_failed_or_is_rare_isn_t_chosen() -> None:
    """A failed run's summary, and the only seed of a rate, say nothing about that rate."""
    entries = grid(
        lambda act, lr, seed: 0.8 + lr + NOISE[0, seed],
        act=("relu", "tanh"),
        lr=(0.01, 0.03, 0.1),
        seed=range(4),
    )
    changed = []
    for run in entries:
        act, lr = run.config["act"]["name"], run.config["optim"]["lr"]
        state = "failed" if (act, lr) == ("relu", 0.1) else "complete"
        if (act, lr) != ("tanh", 0.1) or run.config["seed"] == 0:
            changed.append(Entry(run.run, run.config, state, run.summary, "x"))
    comparison = compare(changed)
    assert comparison.chosen == {("relu",): {"lr": 0.03}, ("tanh",): {"lr": 0.03}}
    assert "tanh: lr=0.1 has 1 of 4 runs: left out of the selection" in comparison.notes
    assert "groups with more values of lr have more chances: relu 2, tanh 3" in comparison.notes


def test_what_was_pruned_isn_t_chosen_by_its_other_seeds() -> None:
    """A search has pruned the bad seed of the best rate; of a rate alone, all that is left."""

    def value(act: str, lr: float, seed: int) -> float:
        return 0.8 + lr + NOISE[0, seed]

    pruned = [("relu", 0.1, 1), ("tanh", 0.03, 0), ("tanh", 0.1, 0), ("elu", 0.01, 0)]
    entries = []
    for run in grid(value, act=("relu", "tanh", "elu"), lr=(0.01, 0.03, 0.1), seed=(0, 1)):
        act, lr, seed = run.config["act"]["name"], run.config["optim"]["lr"], run.config["seed"]
        if (act, lr, seed) in pruned:
            entries.append(dataclasses.replace(run, state="pruned"))
        elif act == "relu" or (act == "tanh" and (lr, seed) != (0.01, 1)):
            entries.append(run)
    comparison = compare(entries)
    assert comparison.chosen == {("relu",): {"lr": 0.03}, ("tanh",): {"lr": 0.01}}
    assert "relu: lr=0.1 has a pruned run: left out of the selection" in comparison.notes
    assert "elu: no lr has ended without a pruned run: none is selected" in comparison.notes
    assert [*comparison.groups] == [("relu",), ("tanh",)]


def test_diverged_rates_that_were_not_chosen_are_named() -> None:
    entries = []
    for run in grid(score_at_lr, act=("relu", "tanh"), lr=(0.1, 10.0), seed=range(3)):
        diverged = run.config["optim"]["lr"] == 10.0 and run.config["act"]["name"] == "relu"
        entries.append(Entry(run.run, run.config, "diverged", {}, "x") if diverged else run)
    comparison = compare(entries)
    (note,) = (note for note in comparison.notes if "diverged" in note)
    assert note.count("relu-") == 3
    assert note.endswith(" diverged: not chosen in validation")
    assert comparison.chosen["relu",] == {"lr": 0.1}


def test_a_margin_is_of_what_is_compared() -> None:
    """Losses of rates that weren't chosen don't widen it."""
    entries = []
    for run in grid(score_at_lr, act=("relu", "tanh"), lr=(0.1, 10.0), seed=range(4)):
        wild = run.config["optim"]["lr"] == 10.0
        numbers = {"test_loss": 400.0, "best_val_accuracy": 0.1} if wild else {}
        entries.append(Entry(run.run, run.config, run.state, {**run.summary, **numbers}, None))
    comparison = compare(entries, metric="test/loss")
    assert comparison.measure.margin < 0.01
    assert comparison.pairs[("relu",), ("tanh",)].verdict == "better"


def test_confounded_factors_are_noted() -> None:
    """relu shallow, tanh deep: that isn't the activation's doing alone. Data sets are refused."""

    def runs(**tanh: Any) -> list[Entry]:
        return [
            entry(usual_score(act, seed), act=act, seed=seed, **(tanh if act == "tanh" else {}))
            for act in ("relu", "tanh")
            for seed in range(3)
        ]

    deep = compare(runs(depth={"layers": 10, "width": 8}))
    note = "groups differ in depth, too (relu 4, tanh 10): this may explain the difference"
    assert note in deep.notes
    assert any("groups differ in lr, too" in note for note in compare(runs(optim={"lr": 1})).notes)
    with pytest.raises(UserError, match="several data sets"):
        compare(runs(data={"name": "mnist"}))
    assert not compare(runs()).notes


def test_means_are_over_the_same_runs() -> None:
    """relu lacks the hard depth for all but one seed: the easy one alone doesn't make it best."""

    def value(act: str, depth: int, seed: int) -> float:
        return {"relu": 0.9, "tanh": 0.91}[act] - 0.03 * depth + 0.1 * NOISE[0, seed]

    at = lambda e: (e.config["act"]["name"], e.config["depth"]["layers"])  # noqa: E731
    every = grid(value, act=("relu", "tanh"), depth=(2, 4), seed=range(5))
    comparison = compare([e for e in every if at(e) != ("relu", 4) or e.config["seed"] == 0])
    assert (comparison.groups["relu",].n, comparison.groups["tanh",].n) == (1, 5)
    assert next(iter(comparison.groups)) == ("tanh",)
    assert "a seed counts where its group has all of depth" in comparison.notes
    comparison = compare([e for e in every if at(e) != ("relu", 4)])
    assert comparison.groups["relu",].n == comparison.groups["tanh",].n == 5
    assert "compared at depth 2 only, which every group has" in comparison.notes
    apart = [e for e in every if at(e)[0] == "relu"]
    apart += grid(value, act=("tanh",), depth=(10,), seed=range(5))
    assert "groups share no value of depth: this may explain the difference" in compare(apart).notes


def test_the_best_is_so_over_the_seeds_that_all_have() -> None:
    """relu lacks the hard seeds: it is behind wherever both have been run."""

    def value(act: str, seed: int) -> float:
        return {"relu": 0.9, "tanh": 0.91}[act] - 0.02 * seed

    entries = [
        e
        for e in grid(value, act=("relu", "tanh"), seed=range(5))
        if e.config["act"]["name"] == "tanh" or e.config["seed"] < 2
    ]
    text = printed(compare(entries))
    assert "best mean test/accuracy: tanh" in text
    assert re.search(r"tanh +relu +2 ", text) or re.search(r"relu +tanh +2 ", text)  # pairs' seeds


def test_what_can_t_be_tested_is_noted() -> None:
    entries = grid(score_at_lr, act=("relu", "tanh"), lr=(0.01, 0.1, 1.0), seed=range(2))
    comparison = compare(entries, ["act", "lr"])
    assert comparison.optima == {"lr": {}}
    assert any("the best lr stays unknown" in note for note in comparison.notes)
    comparison = compare(entries[1:], ["act", "lr"])
    assert any("can't be tested: not every combination" in note for note in comparison.notes)


def score_at_lr(act: str, lr: float, seed: int) -> float:
    return usual_score(act, seed) - 0.1 * abs(lr - 0.1)


def test_an_optimum_on_the_edge_is_noted() -> None:
    entries = grid(
        lambda act, lr, seed: 0.5 + lr + NOISE[0, seed],
        act=("relu", "tanh"),
        lr=(0.01, 0.1, 0.3),
        seed=range(3),
    )
    note = "relu: lr=0.3 is at the edge of the grid; the best value may lie beyond it"
    assert note in compare(entries).notes
    comparison = compare(entries, ["lr"])
    best = comparison.optima["lr"][()]
    assert (best.best, best.low, best.high, best.edge) == (0.3, 0.3, 0.3, True)
    assert "best lr 0.3, 95 % of resamples in 0.3 … 0.3; the edge of the grid" in printed(
        comparison
    )


def test_two_factors() -> None:
    def value(act: str, depth: int, seed: int) -> float:
        sinks = 0.05 * (depth - 2) if act == "relu" else 0.0
        return ACTS[act] - sinks + NOISE[0, seed] + NOISE[list(ACTS).index(act), depth + seed]

    comparison = compare(
        grid(value, act=("relu", "tanh"), depth=(2, 3, 10), seed=range(5)), ["act", "depth"]
    )
    assert comparison.by == ("act", "depth")
    assert {(a[1], b[1]) for a, b in comparison.pairs} == {("2", "2"), ("3", "3"), ("10", "10")}
    assert comparison.interaction < 1e-6
    assert [label[1] for label in comparison.groups] == ["2", "2", "3", "3", "10", "10"]
    text = printed(comparison)
    assert "best mean test/accuracy at depth 2: relu" in text
    assert "best mean test/accuracy at depth 10: tanh" in text
    assert "how far the groups of act lie apart depends on depth" in text


def test_other_factors_are_averaged_within_a_seed() -> None:
    def value(act: str, depth: int, seed: int) -> float:
        return ACTS[act] - 0.01 * depth + 0.01 * NOISE[depth, seed]

    comparison = compare(grid(value, act=("relu", "tanh"), depth=(2, 4), seed=range(3)))
    assert comparison.groups["relu",].n == 3  # seeds, not runs
    assert "each seed's value is its mean over depth (2, 4)" in comparison.notes


def test_parameters_of_an_activation_belong_to_its_name() -> None:
    entries = [
        entry(0.8 + 0.01 * seed, act={"name": "leaky_relu", "slope": slope}, seed=seed)
        for slope in (0.1, 0.2)
        for seed in range(3)
    ]
    assert set(compare(entries).groups) == {("leaky_relu slope=0.1",), ("leaky_relu slope=0.2",)}


def test_many_pairs_are_cut() -> None:
    acts = ("relu", "elu", "celu", "selu", "gelu", "mish", "swish", "tanh")
    entries = grid(
        lambda act, seed: 0.5 + 0.01 * len(act) + NOISE[0, seed], act=acts, seed=range(2)
    )
    text = printed(compare(entries))
    assert "and 21 more pairs (--all)" in text
    assert "more pairs" not in printed(compare(entries), every=True)


MIXED = [
    entry(0.9, data={"name": name}, seed=seed) for name in ("mnist", "kmnist") for seed in (0, 1)
]
RUNS = grid(usual_score, act=ACTS, seed=range(2))
RUNNING = [Entry(e.run, e.config, "running", {}, None) for e in RUNS]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: compare([]), "nothing to compare: no run is complete"),
        (lambda: compare(RUNNING), "no run is complete (they are: running)"),
        (lambda: compare(RUNS, ["akt"]), "--by akt: no such factor; did you mean act?"),
        (lambda: compare(RUNS, ["optim.lrr"]), "did you mean optim.lr?"),
        (lambda: compare(RUNS, ["seed"]), "--by seed: seeds are what is averaged over"),
        (lambda: compare(RUNS, ["act", "depth", "init"]), "must be one or two factors"),
        (lambda: compare(RUNS, margin=-1.0), "--margin -1: must be 0 or more"),
        (lambda: compare(RUNS, margin=float("nan")), "--margin nan: must be 0 or more"),
        (lambda: compare(MIXED), "several data sets (kmnist, mnist)"),
        (lambda: where(RUNS, ["act=mish"]), "--where act=mish: no run has it; there are: relu"),
        (lambda: where(RUNS, ["lrr=1"]), "no such factor; did you mean lr?"),
    ],
)
def test_bad_input_is_one_line(call: Callable[[], Any], line: str) -> None:
    with pytest.raises(UserError) as raised:
        call()
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_where() -> None:
    entries = grid(usual_score, act=ACTS, seed=range(2))
    assert {e.config["act"]["name"] for e in where(entries, ["act=relu,tanh"])} == {"relu", "tanh"}
    assert len(where(entries, ["act=relu", "seed=0"])) == 1
    assert compare(where(MIXED, ["data=mnist"]), ["data"]).groups.keys() == {("mnist",)}
    assert compare(MIXED, ["act", "data"]).interaction is None


# Sources of randomness seeded apart


def seeded(score: Callable[[str, int], float], **of: Any) -> list[Entry]:
    """Two activations with five seeds; `of` is `vary`, or `order`, the seed of each run's order."""
    order = of.pop("order", None)
    return [
        entry(
            score(act, s),
            act=act,
            seed=s,
            **of,
            **({"seeds": {"order": order(s)}} if order else {}),
        )
        for act in ("relu", "tanh")
        for s in range(5)
    ]


@pytest.mark.parametrize(
    "of", [{"vary": "init"}, {"vary": "all"}, {"vary": "split"}, {"order": lambda s: s + 7}]
)
def test_runs_are_paired_by_the_seeds_that_they_share(of: dict[str, Any]) -> None:
    plain, apart = (compare(seeded(usual_score, **which)) for which in ({}, of))
    assert apart.pairs == plain.pairs
    assert apart.groups == plain.groups
    assert len({cell[0] for cell in apart.cells["relu",]}) == 5
    assert not any("independent" in note for note in apart.notes)


def test_runs_that_share_no_seeds_are_no_pair() -> None:
    mine = [e for e in seeded(usual_score) if e.config["act"]["name"] == "relu"]
    others = [
        e for e in seeded(usual_score, order=lambda s: s + 9) if e.config["act"]["name"] == "tanh"
    ]
    found = compare([*mine, *others])
    (pair,) = found.pairs.values()
    assert pair.n == 0
    assert any("lacks seed init 0, order 9" in note for note in found.notes)


def test_what_varies_is_not_mixed_within_a_group() -> None:
    mixed = [*seeded(usual_score, vary="init"), *seeded(usual_score, vary="order")[1:]]
    line = (
        "these runs vary different seeds (vary=init, order), whose spreads don't mean the same; "
        "type --by act,vary, or --where vary=init"
    )
    with pytest.raises(UserError, match=re.escape(line)):
        compare(mixed, ["act"])
    assert usual_factors(mixed) == ["act", "vary"]
    groups = compare(mixed, ["act", "vary"]).groups
    assert {*groups} == {(act, kind) for act in ("relu", "tanh") for kind in ("init", "order")}
    found = compare(where(mixed, ["vary=order"]), ["act"])
    assert {label: summary.n for label, summary in found.groups.items()} == {
        ("relu",): 4,
        ("tanh",): 5,
    }
    usual = [*seeded(usual_score), *seeded(usual_score, vary="split")]
    with pytest.raises(UserError, match=r"\(vary=init\+order, split\)"):
        compare(usual, ["act"])


def test_a_grid_of_seeds_is_not_independent() -> None:
    grid_of_seeds = [
        entry(0.9 + NOISE[i, o], seeds={"init": i, "order": o}) for i in range(3) for o in range(2)
    ]
    notes = compare(grid_of_seeds).notes
    assert any(note.startswith("runs share seeds.init, and count as independent") for note in notes)


# Several data sets

SETS = ("wine", "digits", "breast_cancer", "circle", "xor")


def on_sets(leads: Mapping[str, float]) -> list[Entry]:
    """Two activations on data sets: how far relu is ahead of tanh on each."""

    def accuracy(act: str, seed: int, data: str) -> float:
        lead = leads[data] if act == "relu" else 0.0
        return 0.8 + lead + NOISE[seed, SETS.index(data) + 5 * (act == "relu")]

    cells = [(a, s, d) for a in ("relu", "tanh") for s in range(6) for d in leads]
    return [
        entry(accuracy(a, s, d), act=a, seed=s, data={"name": d, "val_size": 30})
        for a, s, d in cells
    ]


def test_data_sets_are_counted_whatever_the_lead() -> None:
    found = compare(on_sets(dict(zip(SETS, (0.1, 0.02, 0.1, 0.01, -0.15), strict=True))), PAIRED)
    assert [*found.across] == [("relu", "tanh")]
    signs = found.across["relu", "tanh"]
    assert (signs.ahead, signs.of) == (4, 5)
    assert signs.new == pytest.approx(4.5 / 6)
    assert signs.p == pytest.approx(2 * (1 + 5) / 2**5)  # 4 or 5 of 5 coins, or 0 or 1
    lines = words(found)
    assert "over 5 data sets (6 must agree before this can tell):" in lines
    assert any(line.startswith("  relu ahead of tanh in 4 of 5; on another") for line in lines)


def test_equivalent_on_a_data_set_is_a_tie() -> None:
    found = compare(on_sets({"wine": 0.1, "digits": 0.0}), PAIRED, margin=2.0)
    assert {label[1]: p.verdict for (label, _), p in found.pairs.items()} == {
        "wine": paired.BETTER,
        "digits": paired.EQUIVALENT,
    }
    (signs,) = found.across.values()
    assert (signs.ahead, signs.of, signs.p) == (1.5, 2, 1.0)


def test_who_never_ends_well_on_a_data_set_is_behind_there() -> None:
    runs = on_sets({"wine": 0.1, "digits": 0.1})
    lost = [
        entry(None, "diverged", act="relu", seed=s, data={"name": "circle", "val_size": 30})
        for s in range(20)
    ]
    fine = [
        entry(0.8 + NOISE[s, 0], act="tanh", seed=s, data={"name": "circle", "val_size": 30})
        for s in range(20)
    ]
    found = compare([*runs, *lost, *fine], PAIRED)
    ((names, signs),) = found.across.items()
    ahead = signs.ahead if names == ("relu", "tanh") else signs.of - signs.ahead
    assert (ahead, signs.of) == (2, 3)


def test_a_lower_loss_is_ahead() -> None:
    found = compare(on_sets({"wine": 0.1, "digits": 0.1}), PAIRED, "test/loss")
    assert [*found.across] == [("relu", "tanh")]
    assert found.across["relu", "tanh"].ahead == 2


def test_one_data_set_and_other_factors_count_nothing() -> None:
    assert compare(on_sets({"wine": 0.1}), PAIRED).across == {}
    assert compare(on_sets({"wine": 0.1, "digits": 0.1}), ["data", "act"]).across == {}


@pytest.mark.parametrize(("ahead", "of"), [(3, 3), (0, 2), (7, 9)])
def test_the_next_data_set_is_predicted_as_by_integration(ahead: int, of: int) -> None:
    """Against Bayes' rule with Jeffreys' prior on a grid."""
    found = count_signs([1] * ahead + [-1] * (of - ahead))
    share = (np.arange(200_000) + 0.5) / 200_000
    density = share ** (ahead - 0.5) * (1 - share) ** (of - ahead - 0.5)
    density /= density.sum()
    assert found.new == pytest.approx((density * share).sum(), abs=2e-3)
    inside = (share >= found.low) & (share <= found.high)
    assert density[inside].sum() == pytest.approx(0.95, abs=5e-3)


def test_intervals_end_at_what_can_be() -> None:
    found = compare([entry(v, act="relu", seed=i) for i, v in enumerate((0.7, 0.99))])
    (summary,) = found.groups.values()
    assert (summary.low, summary.high) == (0.0, 1.0)
    assert "84.50 [0.00, 100.00]" in str(found)
    runs = [entry(v, act="relu", seed=i) for i, v in enumerate((0.7, 0.99))]
    losses = compare(runs, metric="test/loss")
    (summary,) = losses.groups.values()
    assert summary.low == 0.0
    assert (summary.high or 0) > 1


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_the_order_of_means_is_told_beside_the_interaction(shift: float) -> None:
    def value(act: str, seed: int, depth: int) -> float:
        gap = (0.05 - shift) if depth == 8 else 0.01
        return 0.7 + (act == "relu") * gap + NOISE[seed, depth]

    found = compare(
        grid(value, act=("relu", "tanh"), seed=range(6), depth=(2, 8)), ["act", "depth"]
    )
    (line,) = [line for line in words(found) if "interaction" in line]
    assert line.endswith(f"means are in {'another' if shift else 'the same'} order at each depth")


def test_too_few_seeds_to_tell_say_so() -> None:
    told = "no difference is found before the 4th seed"
    for seeds, few in ((3, True), (4, False)):
        found = compare(
            grid(
                lambda act, seed: ACTS[act] + NOISE[seed, 0],
                act=("relu", "tanh"),
                seed=range(seeds),
            )
        )
        assert (told in words(found)[-1]) is few
    once = compare(
        grid(lambda act, seed: ACTS[act] + NOISE[seed, 0], act=("relu", "tanh"), seed=range(3)),
        one_look=True,
    )
    assert told not in words(once)[-1]
