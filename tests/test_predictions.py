"""Predictions for the row of step 0: against networks drawn in NumPy, and through training."""

import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from altair.utils.schemapi import debug_mode
from PIL import Image

from actsweep import callbacks
from actsweep.callbacks import Callback
from actsweep.cli.main import main
from actsweep.config import resolve
from actsweep.report.chart import Chart
from actsweep.report.charts import styles_of
from actsweep.report.prediction_chart import predictions
from actsweep.report.series import Log, _untrained
from actsweep.runs.members import make_member
from actsweep.theory.closed_forms import CLOSED_FORMS
from actsweep.theory.predictions import (
    LayerComparison,
    compare_untrained,
    predict_untrained,
    predictions_in,
)
from actsweep.train.pack import run_pack
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

NORMAL = {"name": "normal", "sigma_w": 1.3, "sigma_b": 0.3}


def run_of(act: Any = "tanh", **groups: Any):
    act = act if isinstance(act, dict) else {"name": act}
    groups = {"depth": {"layers": 4, "width": 80}, "init": NORMAL} | groups
    return resolve.resolve({"act": act} | groups)


def measured(run, x, rng):
    """The metrics of one drawn network by their definitions in docs/metrics.md, in plain NumPy."""
    f = CLOSED_FORMS[run.act["name"]].evaluate
    init, a, row, slopes, kernels = run.init, x, {}, [], []
    for i, width in enumerate(run.widths, 1):
        gain = 1.0 if i == 1 else init.gain
        w = rng.standard_normal((a.shape[-1], width)) * init.sigma_w * gain / a.shape[-1] ** 0.5
        z = a @ w + init.sigma_b * rng.standard_normal(width) + init.bias
        a, slope = f(z)
        sizes = np.linalg.norm(a, axis=1)
        cosines = a @ a.T / np.outer(sizes, sizes)
        row[f"preact_std/hidden_{i}"] = z.std()
        row[f"cos_sim/hidden_{i}"] = cosines[~np.eye(len(a), dtype=bool)].mean()
        slopes.append(slope)
        kernels.append(w)
    grad = rng.standard_normal((len(x), run.widths[-1]))
    for i in reversed(range(len(kernels))):
        grad = grad * slopes[i]
        row[f"preact_grad_rms/hidden_{i + 1}"] = np.sqrt((grad**2).mean())
        grad = grad @ kernels[i].T
    return row


def batch(n, features, cosine, rng):
    """Examples of one size whose cosines are all about the same."""
    x = math.sqrt(cosine) * rng.standard_normal(features) + math.sqrt(1 - cosine) * (
        rng.standard_normal((n, features))
    )
    return x * math.sqrt(features) / np.linalg.norm(x, axis=1, keepdims=True)


CASES = [
    ("tanh", {}),
    ("relu", {"init": NORMAL | {"gain": 1.1}}),
    ("elu", {"depth": {"widths": [60, 120, 80]}}),
    ("gelu", {"init": NORMAL | {"bias": 0.4}}),
]


@pytest.mark.parametrize(("act", "groups"), CASES, ids=[act for act, _ in CASES])
def test_predictions_are_the_mean_and_the_spread_of_drawn_networks(act, groups):
    networks, rng = 400, np.random.default_rng(1)
    run, x = run_of(act, **groups), batch(12, 70, 0.5, rng)
    predicted = predict_untrained(run, x)
    rows = [measured(run, x, rng) for _ in range(networks)]
    compared = compare_untrained(rows, predicted)
    assert [*compared] == ["preact_std", "cos_sim", "preact_grad_ratio"]
    for quantity, layers in compared.items():
        assert [layer.layer for layer in layers] == [
            f"hidden_{i}" for i in range(1, len(run.widths) + 1)
        ]
        for layer in layers:  # what is left is of the order of depth / width
            assert layer.measured == pytest.approx(layer.predicted, rel=0.025), quantity
    spreads = {name: value for name, value in predicted.items() if "_sd/" in name}
    assert len(spreads) == (0 if run.init.bias else len(run.widths))
    for name, spread in spreads.items():
        values = [row[name.partition("/")[2]] for row in rows]
        assert np.std(values) == pytest.approx(spread, rel=0.15)


def test_examples_that_are_alike_fluctuate_together():
    """Of twelve examples at right angles the mean square varies less than of twelve equal ones."""
    rng = np.random.default_rng(0)
    apart, alike = (
        predict_untrained(run_of(), batch(12, 3000, cosine, rng))[
            "predicted_sd/preact_std/hidden_1"
        ]
        for cosine in (0.0, 1.0)
    )
    # sigma_b's part is shared by all examples: c = 0.09 / (1.69 + 0.09)
    c = 0.09 / 1.78
    expected = math.sqrt(1 / 12 + 11 / 12 * c**2)
    assert apart / alike == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("run", "examples", "line"),
    [
        (run_of(model={"name": "mlp", "norm": "layer"}), 5, "model.norm=none"),
        (run_of(model={"name": "mlp", "residual": True}), 5, "model.residual=false"),
        (run_of("softmax"), 5, "act=softmax"),
        (run_of(), 1, "trainer.probe_examples: .*at least two"),
    ],
)
def test_what_has_no_theory_is_refused_and_the_callback_only_warns(run, examples, line, caplog):
    x = np.ones((examples, 7)) + np.eye(examples, 7)
    with pytest.raises(UserError, match=line):
        predict_untrained(run, x)
    before = callbacks.build({"theory": {}})["theory"].before
    assert before is not None
    assert [before(run, x), before(run, x)] == [{}, {}]
    assert len(caplog.records) == 1


def test_prediction_beside_measurement_by_hand():
    predicted = {
        "predicted/preact_std/hidden_10": 2.0,
        "predicted_sd/preact_std/hidden_10": 0.1,
        "predicted/preact_std/hidden_2": 1.0,
        "predicted/preact_grad_ratio/hidden_2": 0.5,
        "predicted/preact_grad_ratio/hidden_10": 1.0,
        "predicted/cos_sim/hidden_2": 0.5,
    }
    rows = [
        {"preact_std/hidden_10": value, "preact_std/hidden_2": math.nan}
        | {"preact_grad_rms/hidden_2": 3.0, "preact_grad_rms/hidden_10": 4.0}
        for value in (2.1, 2.3, 2.3, 2.5)
    ]
    compared = compare_untrained(rows, predicted)
    ratios = [
        LayerComparison("hidden_2", 0.5, 0.75, None),
        LayerComparison("hidden_10", 1, 1, None),
    ]
    (std,) = compared["preact_std"]
    assert (std.layer, std.predicted, std.measured) == ("hidden_10", 2.0, pytest.approx(2.3))
    assert std.z == pytest.approx(0.3 / (0.1 / 2))
    assert std.parted
    assert compared["preact_grad_ratio"] == ratios
    assert "cos_sim" not in compared
    assert compare_untrained(rows, {}) == {}
    assert predictions_in({"step": 0.0, **predicted, **rows[0]}) == predicted


# --- the figure


def chart_of(z: float | None) -> Chart:
    layers = [LayerComparison(f"hidden_{i}", 1.0, 1.1, z) for i in (1, 2)]
    with debug_mode(True):
        made = predictions({("tanh",): {"preact_std": layers}}, styles_of([("tanh",)]))
    assert made is not None
    return made


def test_the_figure_names_the_layers_where_they_part():
    assert "Nowhere" in chart_of(2.9).caption
    assert "Nowhere" in chart_of(None).caption
    assert "tanh hidden_1 (z = -3.1), tanh hidden_2 (z = -3.1): crosses" in chart_of(-3.1).caption
    assert [row["parted"] for row in chart_of(3.1).drawn] == [True, True]
    assert predictions({}, {}) is None


def test_runs_with_other_predictions_are_left_out_of_a_group():
    def log(predicted, std, step=0.0):
        table = {"step": step, "epoch": 0.0, "preact_std/hidden_1": std}
        table["predicted/preact_std/hidden_1"] = predicted
        return Log({name: np.array([value]) for name, value in table.items()}, ended=True)

    logs = [log(math.nan, 9.0), log(1.0, 2.0), log(1.0, 4.0), log(1.5, 9.0), log(1.0, 9.0, 3.0)]
    (layer,) = _untrained(logs)["preact_std"]
    assert (layer.predicted, layer.measured) == (1.0, 3.0)
    assert _untrained(logs[:1]) == {}


# --- through training


def member(tmp_path, seed, **given):
    looks = {"moments": {}, "similarity": {}, "gradients": {}, **given}
    groups: dict[str, Any] = {
        "act": {"name": "elu", "alpha": 0.5 + 0.5 * seed},
        "depth": {"layers": 2, "width": 16},
        "init": {"name": "critical"},
        "data": {"name": "circle", "examples": 300, "val_size": 100},
        "trainer": {"epochs": 1, "batch_size": 50},
        "logger": {"mode": "disabled", "console": False},
        "paths": {"outputs": str(tmp_path)},
        "callbacks": looks,
        "seed": seed,
    }
    return make_member(resolve.resolve(groups))


def first_row(found):
    return json.loads(found.dir.metrics.read_text().partition("\n")[0])


@pytest.mark.slow
def test_rows_have_the_predictions_and_nothing_else_changes(tmp_path, capsys):
    folders = [tmp_path / name for name in ("pack", "alone", "without")]
    packed = [member(folders[0], seed, theory={}) for seed in (0, 1)]
    alone, without = member(folders[1], 1, theory={}), member(folders[2], 1)
    for runs in (packed, [alone], [without]):
        assert all(one["state"] == "complete" for one in run_pack(runs, SweepContext("sweep")))
    assert alone.dir.metrics.read_bytes() == packed[1].dir.metrics.read_bytes()
    row, bare = first_row(alone), first_row(without)
    predicted = predictions_in(row)
    assert {k: v for k, v in row.items() if k not in predicted} == bare
    assert len(predicted) == 4 * 2
    other = predictions_in(first_row(packed[0]))  # of another alpha, on another edge of chaos
    assert other.keys() == predicted.keys()
    assert not set(other.values()) & set(predicted.values()) - {1.0}
    rest, rest_bare = (m.dir.metrics.read_text().split("\n")[1:] for m in (alone, without))
    assert rest == rest_bare
    for layers in compare_untrained([row], predicted).values():
        for layer in layers:
            assert layer.measured == pytest.approx(layer.predicted, abs=0.3)
    capsys.readouterr()
    tables = []
    for folder, found in ((folders[1], alone), (folders[2], without)):  # from the row, or anew
        assert main(["theory", "--run", str(found.dir.path), "--outputs", str(folder)]) == 0
        tables.append(capsys.readouterr().out.partition("\n")[2])
    assert tables[0] == tables[1]
    assert "hidden_2" in tables[0]
    assert main(["theory", "act=tanh", "--run", str(alone.dir.path)]) == 2


@pytest.mark.slow
def test_a_callback_of_one_s_own_that_raises_before_training_is_named(tmp_path, monkeypatch):
    def broken(config, x):
        raise ValueError(f"{x.shape}")

    monkeypatch.setitem(callbacks.CALLBACKS, "mine", lambda: Callback(before=broken))
    (result,) = run_pack([member(tmp_path, 0, mine={})], SweepContext("sweep"))
    assert result["state"] == "failed"
    assert (
        "callbacks.mine: ValueError: (300, 2)"
        in (tmp_path / "runs").joinpath(result["run_id"], "status.json").read_text()
    )


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_fast")
def test_the_page_s_line_makes_its_figure(tmp_path):
    """At toy size: what was typed comes last, and wins."""
    root = Path(__file__).parents[1]
    page = (root / "docs" / "theory.md").read_text()
    (line,) = re.findall(r"^python train.py (-m .* callbacks=theory .*)$", page, re.MULTILINE)
    words = [word for word in shlex.split(line) if not word.startswith(("act=", "seed=", "depth="))]
    small = ["act=tanh,relu", "seed=0", "depth=3", "depth.width=12", "logger=disabled"]
    small.append("logger.report=true")
    command = [sys.executable, "-m", "actsweep", "train", *words, *small]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300, capture_output=True)
    (drawn,) = tmp_path.glob("outputs/sweeps/*/report/predictions.png")
    with Image.open(drawn) as picture:
        assert picture.size[0] > 1000
    (rows,) = tmp_path.glob("outputs/sweeps/*/report/predictions.csv")
    assert len(rows.read_text().splitlines()) == 1 + 2 * 3 * 3
