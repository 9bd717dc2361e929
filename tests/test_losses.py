"""Losses and scores against loops of NumPy and against scikit-learn; several labels at once."""

import math
import warnings
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk
from test_run import LIGHT, make, run_pack
from test_tables import table, write

from actsweep import load_run
from actsweep.config.schema import DataConfig, LossConfig, RunConfig
from actsweep.data import Dataset, load
from actsweep.data.dataset import chance
from actsweep.nn.losses import LOSSES, loss_of
from actsweep.report.values import default_metric, make_measure, values_of
from actsweep.runs.members import make_member
from actsweep.stats.scores import SCORES, TASKS
from actsweep.train.scoring import MEASUREMENTS, average_precision
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

RNG = np.random.default_rng(0)


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z.astype(np.float64)
    return z - z.max() - np.log(np.sum(np.exp(z - z.max())))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_cross_entropy_of_smoothed_labels_is_the_papers(smoothing: float) -> None:
    logits, y = RNG.normal(size=(6, 5)).astype(np.float32), np.arange(6, dtype=np.int32) % 5
    expected = []
    for z, label in zip(logits, y, strict=True):
        q = [(1 - smoothing) * (k == label) + smoothing / 5 for k in range(5)]
        expected.append(-sum(q[k] * log_softmax(z)[k] for k in range(5)))
    each = LOSSES["cross_entropy"].each(jnp.asarray(logits), jnp.asarray(y), smoothing)
    np.testing.assert_allclose(each, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_next_tokens_is_the_mean_over_tokens(smoothing: float) -> None:
    logits = RNG.normal(size=(3, 4, 7)).astype(np.float32)
    y = RNG.integers(0, 7, (3, 4)).astype(np.uint8)
    expected = []
    for example, labels in zip(logits, y, strict=True):
        total = 0.0
        for z, label in zip(example, labels, strict=True):
            logs = log_softmax(z)
            total -= (1 - smoothing) * logs[label] + smoothing * logs.mean()
        expected.append(total / 4)
    loss = LOSSES["next_token"]
    np.testing.assert_allclose(
        loss.each(jnp.asarray(logits), jnp.asarray(y), smoothing), expected, rtol=1e-5
    )
    np.testing.assert_array_equal(
        loss.right(jnp.asarray(logits), jnp.asarray(y)), logits.argmax(-1) == y
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary_cross_entropy_counts_each_label(smoothing: float) -> None:
    logits = RNG.normal(size=(5, 3)).astype(np.float32) * 4
    y = RNG.integers(0, 2, (5, 3)).astype(np.uint8)
    expected = []
    for z, labels in zip(logits.astype(float), y, strict=True):
        total = 0.0
        for logit, label in zip(z, labels, strict=True):
            p, q = 1 / (1 + math.exp(-logit)), (1 - smoothing) * label + smoothing / 2
            total -= q * math.log(p) + (1 - q) * math.log(1 - p)
        expected.append(total / 3)
    loss = LOSSES["binary_cross_entropy"]
    each = loss.each(jnp.asarray(logits), jnp.asarray(y), smoothing)
    np.testing.assert_allclose(each, expected, rtol=1e-4)
    right = [all((z > 0) == (label == 1)) for z, label in zip(logits, y, strict=True)]
    np.testing.assert_array_equal(loss.right(jnp.asarray(logits), jnp.asarray(y)), right)


def test_a_loss_must_fit_what_is_learned() -> None:
    assert loss_of(LossConfig(), "multilabel") is LOSSES["binary_cross_entropy"]
    assert {loss.task for loss in LOSSES.values()} == set(TASKS) == set(MEASUREMENTS)
    for name, smoothing, task, line in [
        ("next_token", 0.0, "regression", "loss.name=next_token: must be squared_error"),
        ("auto", 0.1, "regression", "loss.label_smoothing=0.1: squared_error has no labels"),
    ]:
        with pytest.raises(UserError, match=line):
            loss_of(LossConfig(name, smoothing), task)


def measured(task: str, logits: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Scores of two slices, whose sums are added."""
    parts = [slice(0, 13), slice(13, None)]
    each = [MEASUREMENTS[task].sums(jnp.asarray(logits[p]), jnp.asarray(y[p])) for p in parts]
    sums = {key: each[0][key] + each[1][key] for key in each[0]}
    scores = MEASUREMENTS[task].scores(sums, jnp.asarray(logits), jnp.asarray(y))
    return {name: float(value) for name, value in scores.items()}


@pytest.mark.parametrize("classes", [2, 4, 9])
def test_balanced_accuracy_is_scikit_learns(classes: int) -> None:
    logits = RNG.normal(size=(40, classes)).astype(np.float32)
    y = (RNG.integers(0, classes, 40) ** 2 // classes).astype(np.int32)  # some classes are rare
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that occur only in the predictions
        expected = sk.balanced_accuracy_score(y, logits.argmax(1))
    assert measured("classification", logits, y)["balanced_accuracy"] == pytest.approx(expected)


def test_r2_is_scikit_learns() -> None:
    y = RNG.normal(size=(40, 3)).astype(np.float32) * [1, 5, 0.1]
    y = y.astype(np.float32)
    outputs = (y + RNG.normal(size=y.shape) * 0.3).astype(np.float32)
    expected = sk.r2_score(y, outputs)
    assert measured("regression", outputs, y)["r2"] == pytest.approx(expected, rel=1e-4)
    y[:, 0] = 2.0  # the same everywhere
    for first in (2.0, 3.0):
        outputs[:, 0] = first
        expected = sk.r2_score(y, outputs)
        assert measured("regression", outputs, y)["r2"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_average_precision_is_scikit_learns_also_with_ties(levels: int) -> None:
    for _ in range(5):
        scores = RNG.integers(0, levels, 60).astype(np.float32)
        holds = RNG.integers(0, 2, 60).astype(np.float32)
        expected = sk.average_precision_score(holds, scores)
        found = average_precision(jnp.asarray(scores), jnp.asarray(holds))
        assert float(found) == pytest.approx(expected, rel=1e-5)


def test_labels_that_never_hold_do_not_count() -> None:
    logits = RNG.normal(size=(40, 3)).astype(np.float32)
    y = RNG.integers(0, 2, (40, 3)).astype(np.uint8)
    y[:, 1] = 0
    expected = np.mean([sk.average_precision_score(y[:, k], logits[:, k]) for k in (0, 2)])
    found = measured("multilabel", logits, y)["mean_average_precision"]
    assert found == pytest.approx(expected, rel=1e-5)


def smoothed(outputs: Path, smoothing: float, **changes: Any) -> RunConfig:
    return make(outputs, loss={"label_smoothing": smoothing}, **changes)


def test_smoothing_changes_the_training_loss_alone(tmp_path: Path) -> None:
    """Of the untrained network validation is the same; of a trained one as its logits say."""
    runs = [smoothed(tmp_path, s) for s in (0.0, 0.2)]
    assert make_member(runs[0]).run_id == make_member(make(tmp_path)).run_id
    for run in runs:
        run_pack([run], SweepContext("sweep"))
    plain, smooth = (load_run(make_member(run).dir.path) for run in runs)
    assert plain.metrics()["val/loss"][0] == smooth.metrics()["val/loss"][0]
    assert smooth.metrics()["train/loss"][-1] > plain.metrics()["train/loss"][-1]
    data: Dataset = smooth.dataset()
    logits = np.asarray(smooth.logits(data.test_x), np.float64)
    loss = sk.log_loss(data.test_y, np.exp([log_softmax(z) for z in logits]), labels=range(10))
    assert smooth.summary["test_loss"] == pytest.approx(loss, rel=1e-4)
    expected = sk.balanced_accuracy_score(data.test_y, logits.argmax(1))
    assert smooth.summary["test_balanced_accuracy"] == pytest.approx(expected, rel=1e-5)


def test_a_regression_has_r2(tmp_path: Path) -> None:
    data = {"name": "diabetes", "val_size": 0.2, "test_size": 0.2}
    run = make(tmp_path, data=data, trainer={"epochs": 4, "batch_size": 16})
    run_pack([run], SweepContext("sweep"))
    trained = load_run(make_member(run).dir.path)
    examples = trained.dataset()
    expected = sk.r2_score(examples.test_y, np.asarray(trained.logits(examples.test_x)))
    assert trained.summary["test_r2"] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert np.isfinite(trained.metrics()["val/r2"][0])


COLUMNS = "a,b,left,right"
TARGETS = {"target": ["left", "right"], "task": "multilabel"}


def several(folder: Path, n: int = 200) -> str:
    """Points of the plane: is the first number positive, is the second?"""
    points = np.random.default_rng(3).normal(size=(n, 2))
    rows = [f"{a:.3f},{b:.3f},{int(a > 0)},{int(b > 0.5)}" for a, b in points]
    return write(folder, COLUMNS, *rows)


def test_several_labels_are_read_and_learned(tmp_path: Path) -> None:
    path = several(tmp_path)
    data = load(table(path, **TARGETS))
    assert (data.task, data.classes, data.labels) == ("multilabel", None, ("left", "right"))
    assert (data.train_y.shape, data.train_y.dtype) == ((120, 2), np.uint8)
    assert chance(data) == pytest.approx(data.test_y.mean(0).mean())
    source = {"name": "csv", "path": path, "val_size": 0.2, "test_size": 0.2, **TARGETS}
    steps = {"epochs": 30, "batch_size": 16}
    runs = [make(tmp_path, seed=s, data=source, trainer=steps, optim={"lr": 0.1}) for s in (0, 1)]
    results = run_pack(runs, SweepContext("sweep"))
    for run, result in zip(runs, results, strict=True):
        trained = load_run(make_member(run).dir.path)
        logits = np.asarray(trained.logits(data.test_x))
        expected = np.mean(
            [sk.average_precision_score(data.test_y[:, k], logits[:, k]) for k in (0, 1)]
        )
        assert result["test_mean_average_precision"] == pytest.approx(expected, rel=1e-5)
        exact = sk.accuracy_score(data.test_y, logits > 0)
        assert result["test_exact_match"] == pytest.approx(exact, abs=1e-6)
        assert result["test_mean_average_precision"] > 0.9
        assert not result["at_chance"]
        best = trained.metrics()["val/mean_average_precision"]
        assert result["best_val_mean_average_precision"] == pytest.approx(np.nanmax(best[1:]))


def test_npz_labels_have_numbers_as_names(tmp_path: Path) -> None:
    x, y = RNG.normal(size=(30, 4)), np.eye(3)[np.arange(30) % 3]
    np.savez(tmp_path / "my.npz", x=x, y=y)
    source = DataConfig(
        name="npz", path=str(tmp_path / "my.npz"), val_size=6, test_size=6, task="multilabel"
    )
    assert load(source).labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("rows", "changes", "line"),
    [
        (["1,2,0,2"], {}, "the label right is 2.0 somewhere; it must be 0 or 1"),
        ([], {"target": ["left", "top"]}, "data.target=top: no such name"),
        ([], {"columns": ["left"]}, "data.columns=left: no such name"),
        ([], {"stratify": True}, "data.stratify=True: must be false for several labels"),
        (["1,2,0,x"], {}, "the label right is 'x' somewhere"),
    ],
)
def test_what_are_no_labels_is_refused(
    rows: list[str], changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    several(tmp_path)
    path = tmp_path / "my.csv"
    path.write_text(path.read_text() + "\n".join(rows))
    with pytest.raises(UserError) as raised:
        load(table(str(path), **{**TARGETS, **changes}))
    assert line in str(raised.value)


def test_a_label_that_is_the_same_everywhere_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, COLUMNS, *[f"{i},1,{i % 2},1" for i in range(20)])
    with pytest.raises(UserError, match="the label right is 1 everywhere"):
        load(table(path, **TARGETS))


def test_several_columns_are_for_several_labels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be one column, unless data\.task=multilabel"):
        make(tmp_path, data={"name": "csv", "path": "a.csv", "target": ["a", "b"]})


def test_scores_know_how_they_are_compared() -> None:
    for name in ("perplexity", "loss"):
        assert make_measure(f"test/{name}", [1.0, 2.0], None).sign == SCORES[name].sign == -1
    measure = make_measure("test/mean_average_precision", [0.5], None)
    assert (measure.sign, measure.unit, measure.text(0.125)) == (1, "points", "12.50")


def test_reports_compare_each_task_by_its_own_score(tmp_path: Path) -> None:
    from actsweep.report.design import Entry

    def entries(summary: dict[str, Any]) -> list[Entry]:
        run = make_member(make(tmp_path, callbacks=LIGHT))
        return [Entry(run.dir, {}, "complete", summary, None)]

    tokens = {"task": "next_token", "test_loss": 1.5, "test_perplexity": 4.5, "test_accuracy": 0.4}
    for summary, expected in [
        ({"test_accuracy": 0.5, "test_loss": 1.0}, "test/accuracy"),  # of a run before tasks
        ({"test_accuracy": None, "test_loss": 1.0}, "test/loss"),
        (tokens, "test/loss"),
        ({"task": "multilabel", "test_loss": 1.0}, "test/mean_average_precision"),
    ]:
        assert default_metric(entries(summary)) == expected
    values, _ = values_of(entries(tokens), "test/perplexity")
    assert [*values.values()] == [4.5]
