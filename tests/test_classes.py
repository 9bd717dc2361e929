"""Accuracy class by class: the confusion matrix of a run, and its table."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score
from test_run import make, run_pack

from actsweep import load_run
from actsweep.cli.classes import print_classes
from actsweep.cli.main import main
from actsweep.runs.load import Run
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("classes")
    (result,) = run_pack([make(folder, callbacks={})], SweepContext("sweep"))
    return load_run(folder / "runs" / result["run_id"])


def test_the_confusion_matrix_counts_what_is_taken_for_what(run: Run) -> None:
    examples, expected = run.dataset(), np.zeros((10, 10), int)
    said = np.asarray(run.logits(examples.test_x)).argmax(1)
    for true, taken_for in zip(examples.test_y, said, strict=True):
        expected[true, taken_for] += 1
    np.testing.assert_array_equal(run.confusion(), expected)
    assert run.summary["test_accuracy"] == pytest.approx(np.trace(expected) / expected.sum())
    by_class = np.diag(expected) / expected.sum(1)
    assert run.summary["test_balanced_accuracy"] == pytest.approx(by_class.mean(), abs=1e-6)
    f1 = 2 * np.diag(expected) / (expected.sum(0) + expected.sum(1))  # as docs/metrics.md has it
    np.testing.assert_allclose(f1, f1_score(examples.test_y, said, average=None, zero_division=0))
    assert run.confusion("val").sum() == len(examples.val_y)


def test_it_is_shown(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = run.folder.path.parent.parent
    main(["show", run.folder.path.name, "--classes", "--outputs", str(outputs)])
    table = capsys.readouterr().out.split("(times)")[1].strip().splitlines()
    confusion = run.confusion()
    assert len(table) == 10
    for digit, line in enumerate(table):
        name, examples, accuracy, *_ = line.split()
        assert (int(name), int(examples)) == (digit, confusion[digit].sum())
        assert float(accuracy) == pytest.approx(
            100 * confusion[digit, digit] / confusion[digit].sum(), abs=0.006
        )


def test_what_cant_be_confused_says_so(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="split=tset: must be one of train, val, test"):
        run.confusion("tset")
    data = {"name": "quadratic", "val_size": 100}
    made = make(tmp_path, data=data, callbacks={}, trainer={"epochs": 1, "batch_size": 64})
    (result,) = run_pack([made], SweepContext("sweep"))
    regression = load_run(tmp_path / "runs" / result["run_id"])
    with pytest.raises(UserError, match="has learned no classes, but a task of regression"):
        print_classes(regression)
