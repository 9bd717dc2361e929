"""Tests of the final table: intervals beside SciPy's, groups never pooled, nothing dropped."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats as reference

from actsweep.config import identity, resolve
from actsweep.stats import paired
from actsweep.sweeps import table

Result = dict[str, Any]


def make_run(state: str = "complete", acc: float | None = 0.9, **groups: Any) -> tuple[Result, Any]:
    plain = {"act": {"name": "relu"}, **groups}
    run = resolve.resolve(plain)
    done = state == "complete"
    result = {
        "run_id": identity.run_id(run),
        "state": state,
        "test_accuracy": acc if done else None,
        "test_loss": 0.5 if done else None,
        "best_epoch": 3,
        "dead_frac": 0.25,
        "seconds": 2.0,
    }
    return result, resolve.to_dict(run)


def lines(pairs: Sequence[tuple[Result, Any]], width: int | None = None) -> list[str]:
    results = [result for result, _ in pairs]
    configs: Mapping[str, Any] = {r["run_id"]: c for r, c in pairs}
    stream = io.StringIO()
    table.show(results, configs, stream, width)
    shown = [line.rstrip() for line in stream.getvalue().splitlines()]
    return [" ".join(f"{shown[0]} {shown[1]}".split()), *shown[2:]]  # the header takes two lines


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_intervals_are_students(n: int, confidence: float) -> None:
    values = np.random.default_rng(n).normal(size=n)
    mean, half = paired.mean_interval(values.tolist(), confidence)
    low, high = reference.t.interval(confidence, n - 1, values.mean(), reference.sem(values))
    np.testing.assert_allclose([mean - half, mean + half], [low, high], rtol=1e-12)


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    assert paired.mean_interval([0.3]) == (0.3, None)
    assert paired.mean_interval([0.3, 0.3]) == (0.3, 0.0)
    with pytest.raises(ValueError, match="no values"):
        paired.mean_interval([])


def test_groups_are_sorted_best_first_with_intervals() -> None:
    acts = {"relu": (0.8, 0.82), "elu": (0.9, 0.9)}
    pairs = [
        make_run(acc=acc, act={"name": name}, seed=seed)
        for name, accs in acts.items()
        for seed, acc in enumerate(accs)
    ]
    head, first, second, *rest = lines(pairs)
    assert head == "test best dead act seeds accuracy, % epoch units, % seconds"
    assert first.split()[:5] == ["elu", "2", "90.00", "±", "0.00"]
    assert second.split()[:5] == ["relu", "2", "81.00", "±", f"{12.7062047 * 1:.2f}"]
    assert not rest


def test_one_seed_shows_no_interval() -> None:
    assert "±" not in "".join(lines([make_run()]))


def test_diverged_and_failed_are_shown_and_never_averaged() -> None:
    pairs = [
        make_run(seed=0),
        make_run("diverged", seed=1),
        make_run("diverged", act={"name": "elu"}),
    ]
    pairs[1][0]["cause"] = "the loss is not finite"
    shown = lines(pairs)
    assert shown[1].split()[:5] == ["relu", "1", "of", "2", "90.00"]
    assert shown[2].split() == ["elu", "0", "of", "1", "–", "–", "–", "–"]
    assert shown[3] == f"{pairs[1][0]['run_id']} diverged: the loss is not finite"
    assert shown[4] == f"{pairs[2][0]['run_id']} diverged"


def test_groups_that_end_well_come_first() -> None:
    """As in `actsweep compare`: one lucky run of two doesn't lead the table."""
    pairs = [
        make_run(acc=0.7),
        make_run(acc=0.7, seed=1),
        make_run(act={"name": "elu"}),
        make_run("diverged", act={"name": "elu"}, seed=1),
    ]
    shown = lines(pairs)
    assert [line.split()[0] for line in shown[1:3]] == ["relu", "elu"]


def test_chance_is_said() -> None:
    pairs = [make_run(), make_run(seed=1)]
    pairs[0][0]["at_chance"] = True
    assert f"{pairs[0][0]['run_id']}: not better than chance" in lines(pairs)


def test_regression_is_ranked_by_loss() -> None:
    toy = {"data": {"name": "quadratic"}}
    pairs = [make_run(acc=None, act={"name": name}, **toy) for name in ("relu", "elu")]
    pairs[1][0]["test_loss"] = 0.25
    head, first, second = lines(pairs)
    assert "loss" in head
    assert "accuracy" not in head
    assert (first.split()[0], second.split()[0]) == ("elu", "relu")
    assert "0.25000" in first


def test_classes_and_regression_in_one_sweep_show_both_scores() -> None:
    pairs = [make_run(), make_run(acc=None, data={"name": "quadratic"})]
    head, first, second = lines(pairs)
    assert "accuracy, % loss" in head
    assert "fashion_mnist" in first
    assert second.split()[:4] == ["relu", "quadratic", "1", "–"]


@pytest.mark.parametrize(
    ("changes", "titles"),
    [
        ([{"seed": 0}, {"seed": 1}], ["act"]),
        ([{"optim": {"lr": 0.1}}, {"optim": {"lr": 0.2}}], ["act", "lr"]),
        ([{"depth": {"layers": 2}}, {"depth": {"layers": 3}}], ["act", "depth"]),
        ([{"depth": {"widths": [4, 8]}}, {"depth": {"widths": [8, 4]}}], ["act", "depth.widths"]),
        (
            [{"act": {"name": "leaky_relu", "slope": s}} for s in (0.1, 0.2)],
            ["act", "act.slope"],
        ),
        ([{}, {"act": {"name": "leaky_relu", "slope": 0.1}}], ["act"]),
        (
            [{"optim": {"name": "sgd", "lr": 0.1}}, {"optim": {"name": "adam", "lr": 0.001}}],
            ["act", "optim"],
        ),
        ([{"trainer": {"batch_size": 64}}, {}], ["act", "trainer.batch_size"]),
        ([{"callbacks": {"units": {}}}, {}], ["act", "callbacks"]),
        ([{"logger": {"mode": "online"}, "paths": {"outputs": "x"}}, {}], ["act"]),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_never_pooled(
    changes: list[dict[str, Any]], titles: list[str]
) -> None:
    pairs = [make_run(**change) for change in changes]
    assert list(table.columns([c for _, c in pairs]).values()) == titles
    apart = len({identity.run_id(resolve.resolve({**c, "seed": 0})) for _, c in pairs})
    assert len(lines(pairs)) == 1 + apart


def wide() -> list[tuple[Result, Any]]:
    return [
        make_run(
            act={"name": name},
            depth={"layers": depth},
            init={"name": "glorot_uniform" if depth == 4 else "he_normal"},
            optim={"lr": lr},
            seed=seed,
            acc=0.5 + seed / 10,
        )
        for name in ("hard_sigmoid", "log_softmax")
        for depth in (4, 50)
        for lr in (0.01, 0.001)
        for seed in (0, 1)
    ]


def test_eighty_columns_are_enough() -> None:
    shown = lines(wide(), width=80)
    assert max(map(len, shown)) <= 80
    assert sum("hard_sigmoid" in line for line in shown) == 4
    assert sum("55.00 ± 63.53" in line for line in shown) == 8
    assert "…" not in "".join(shown)


def test_a_pipe_gets_plain_whole_lines() -> None:
    pairs = wide()
    pairs[0][0].update(state="failed", cause="x" * 300 + " [red] :smile:")
    text = "\n".join(lines(pairs))
    assert "\x1b" not in text
    assert "x" * 300 + " [red] :smile:" in text


def test_runs_that_were_there_are_counted() -> None:
    result, plain = make_run()
    result["reused"] = True
    shown = lines([(result, plain)])
    assert shown[-1] == "1 of 1 runs were complete already (rerun=all repeats)"
