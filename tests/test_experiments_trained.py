"""Tests of the experiments that train, end to end: no run is trained twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actsweep import load_run
from actsweep.cli.main import main
from actsweep_tutorials import base, linear_collapse, networks
from actsweep_tutorials.claims import CLAIMS, parse_verdicts
from actsweep_tutorials.training import TrainingStopped, run_sweep, seed_override

pytestmark = pytest.mark.slow
SMALL = ("data=digits", "data.val_size=300", "depth=2", "depth.width=16", "trainer.batch_size=100")


def run_experiment(tmp_path: Path, *words: str) -> tuple[int, Path]:
    outputs = tmp_path / "outputs"
    return main(["experiment", *words, "--outputs", str(outputs)]), outputs


def last_updates(outputs: Path) -> dict[str, str]:
    """Return when each run was last written to."""
    runs = outputs.glob("runs/*/status.json")
    return {file.parent.name: json.loads(file.read_text())["updated"] for file in runs}


def test_tutorial3_trains_nothing_twice(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("tutorial3", "act=leaky_relu", "seeds=2", *SMALL, "trainer.epochs=2")
    code, outputs = run_experiment(tmp_path, *words, "logger=disabled")
    assert code == 0, capfd.readouterr().err
    first = last_updates(outputs)
    assert len(first) == 2
    folder = outputs / "experiments" / "tutorial3"
    page = (folder / "README.md").read_text()
    assert "actsweep experiment tutorial3 act=leaky_relu seeds=2 data=digits" in page
    groups = json.loads((folder / "result.json").read_text())["found"]["groups"]
    for act, group in groups.items():
        for seed, seed_result in enumerate(group["seeds"]):
            (run,) = outputs.glob(f"runs/{act}-*-s{seed}-*")
            assert seed_result["test_accuracy"] == load_run(run).summary["test_accuracy"]
            config = load_run(run).config
            assert config.act["slope"] == 0.1
    assert (folder / "accuracy.png").stat().st_size > 10_000
    code, _ = run_experiment(tmp_path, *words[:2], "seeds=3", *words[3:], "logger=disabled")
    assert code == 0
    again = last_updates(outputs)
    assert len(again) == 3
    assert {run: again[run] for run in first} == first
    assert "complete already" in capfd.readouterr().out


def test_what_train_py_refuses(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, outputs = run_experiment(tmp_path, "depth", "optim.lr=-1", *SMALL[:1])
    assert code == 2
    assert "optim.lr=-1" in capfd.readouterr().err
    assert not (outputs / "experiments").exists()


def test_a_signal_ends_the_training_behind_the_command(tmp_path: Path) -> None:
    """A signal to the command alone ends the training behind it, which saves; then it goes on."""
    words = ("depth", "depth=2", "init=he_normal", "act=relu", "seeds=2", "width=16", *SMALL[:2])
    words = (
        *words,
        "trainer.batch_size=100",
        "trainer.save_every_s=1000",
        "--outputs",
        str(tmp_path),
    )
    command = [sys.executable, "-m", "actsweep", "experiment", *words]
    saved = 100  # on the signal, not before
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 75)):
        before = rows_in(tmp_path)
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen([*command, "epochs=3000"], stdout=log, stderr=log)
            wait(lambda before=before: rows_in(tmp_path) > before + 40)  # type: ignore[misc]
            process.send_signal(number)
            assert process.wait(60) == code, (tmp_path / "log").read_text()
        statuses = [json.loads(f.read_text()) for f in tmp_path.glob("runs/*/status.json")]
        assert {status["state"] for status in statuses} == {"preempted"}
        assert all(status["step"] > saved for status in statuses)
        saved = min(status["step"] for status in statuses)
        assert not (tmp_path / "experiments").exists()


def rows_in(outputs: Path) -> int:
    return sum(f.read_bytes().count(b"\n") for f in outputs.glob("runs/*/metrics.jsonl"))


def wait(ready: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_killed_training_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed:
        pid = os.getpid()

        def __init__(self, *words: Any, **options: Any) -> None: ...

        def wait(self) -> int:
            return -9

    monkeypatch.setattr("subprocess.Popen", Killed)
    with pytest.raises(TrainingStopped) as stopped:
        run_sweep([seed_override(2)], {"outputs": tmp_path, "overrides": ()})
    assert stopped.value.code == 137
    assert run_experiment(tmp_path, "depth")[0] == 137


def test_dying_relu_and_depth(tmp_path: Path) -> None:
    """With a bias of -3 on small inputs ReLUs start dead; the counts are those of the rows."""
    words = ("act=relu", "seeds=2", *SMALL[:2], "trainer.batch_size=100", "epochs=2")
    bias = ("lr=0.01,1e30", "bias=0.0,-3.0", "depth=2", "depth.width=16")
    code, outputs = run_experiment(tmp_path, "dying-relu", *bias, *words)
    assert code == 0
    result = json.loads((outputs / "experiments" / "dying-relu" / "result.json").read_text())[
        "found"
    ]
    cells = result["acts"]["relu"]
    assert cells["-3.0"]["0.01"][0]["before"] > 0.5 > cells["0.0"]["0.01"][0]["before"]
    assert {seed["state"] for seed in cells["0.0"]["1e+30"]} == {"diverged"}
    fates = cells["-3.0"]["0.01"][0]["fates"]
    assert fates["hidden_1"]["silent"] > 0
    assert fates["hidden_1"]["recovered"] == 0  # no gradient, ever
    gradients = cells["0.0"]["0.01"][0]["mean_gradient"]
    assert list(gradients) == ["hidden_1", "hidden_2", "head"]
    assert min(gradients.values()) > 0
    depth_words = ("act=relu", "depth=2,3", "init=he_normal", "width=16")
    code, _ = run_experiment(tmp_path, "depth", *depth_words, *words[1:])
    assert code == 0
    result = json.loads((outputs / "experiments" / "depth" / "result.json").read_text())["found"]
    assert set(result["inits"]["he_normal"]) == {"2", "3"}
    assert len(result["inits"]["he_normal"]["3"]["relu"][0]["validation"]) == 2


def test_inspected_networks_are_what_training_starts_from(tmp_path: Path) -> None:
    """Bitwise: a rate so small that no step changes a number leaves the network as it was drawn."""
    words = ("act=relu", "init=torch_uniform,he_normal", "init.bias=0.25", seed_override(2), *SMALL)
    words = (*words, "optim.lr=1e-30", "trainer.epochs=1", "logger=disabled")
    runs = run_sweep(words, {"outputs": tmp_path, "overrides": ()})
    assert len(runs) == 4
    inspector = networks.NetworkInspector()
    for run in runs:
        drawn, last = (
            network.params["layers"]
            for network in (inspector.initialised(run.config), inspector.trained(run, "last"))
        )
        for layer in drawn:
            for part in ("kernel", "bias"):
                np.testing.assert_array_equal(drawn[layer][part][...], last[layer][part][...])


def test_after_training(tmp_path: Path) -> None:
    """Distributions and silent units: what the networks themselves say."""
    words = (*SMALL, "trainer.epochs=2", "logger=disabled")
    code, outputs = run_experiment(
        tmp_path, "activation-distributions", "act=relu", "seeds=1", *words
    )
    assert code == 0
    folder = outputs / "experiments" / "activation-distributions"
    layer = json.loads((folder / "result.json").read_text())["found"]["layers"]["relu"]["hidden_1"]
    (run,) = outputs.glob("runs/relu-*")
    inspector = networks.NetworkInspector()
    a = inspector.probe_first_batch(inspector.trained(load_run(run)))["act"]["hidden_1"]
    assert layer["shape"][0]["zero"] == (a == 0).mean()
    widths = np.diff(layer["act"]["edges"])
    assert np.sum(widths * layer["act"]["density"]) == pytest.approx(1)
    code, _ = run_experiment(
        tmp_path,
        "dead-neurons",
        "seeds=1",
        "trained_seeds=1",
        "init=he_normal",
        "data=digits",
        *words[1:],
    )
    assert code == 0
    result = json.loads((outputs / "experiments" / "dead-neurons" / "result.json").read_text())[
        "found"
    ]
    last = load_run(run).metrics()["exact_silent_frac/hidden_2"]
    assert result["trained"]["after"]["silent"]["hidden_2"] == [round(16 * last[-1])]


def test_linear_collapse(tmp_path: Path) -> None:
    """Trained as for docs/claims.md: the committed verdicts come out again.

    Those networks are trained that they are about; of the others an error is told beside them.
    """
    params = base.resolve_parameters(linear_collapse.EXPERIMENT, ("act=identity,sigmoid",))
    result = base.measure(linear_collapse.EXPERIMENT, params | {"outputs": tmp_path / "outputs"})
    docs = Path(__file__).parents[1] / "docs"
    verdicts = parse_verdicts((docs / "claims.md").read_text())
    committed = json.loads((docs / "experiments" / "linear-collapse.json").read_text())["found"]
    known = result | {"runs": committed["runs"] | result["runs"]}
    claims = [claim for claim in CLAIMS if claim.experiment == "linear-collapse"]
    assert len(claims) == 4
    assert {claim.key: str(claim.decide(known)) for claim in claims} == {
        claim.key: verdicts[claim.key] for claim in claims
    }
    assert len(result["runs"]) == 4
    assert {len(run["error"]) for run in result["runs"].values()} == {params["seeds"]}
    x, y = np.array(result["x"]), np.array(result["y"])
    rng = np.random.RandomState(0)
    np.testing.assert_allclose(y, np.linspace(-2, 2, 200) ** 2 + 0.25 * rng.randn(200), rtol=1e-6)
    design = np.stack([x, np.ones_like(x)], axis=1)
    (slope, offset), *_ = np.linalg.lstsq(design, y, rcond=None)
    assert result["ols"]["w"] == pytest.approx(slope)
    assert result["ols"]["b"] == pytest.approx(offset)
    for name, network in result["runs"].items():
        guesses = np.array(network["guess"])
        assert network["error"] == pytest.approx(np.mean((guesses - y) ** 2, axis=1))
        if not name.startswith("identity"):
            continue
        assert max(network["gap"]) < 1e-5
        w, b = (np.array(network[key])[:, None] for key in ("w", "b"))
        np.testing.assert_allclose(w * x + b, guesses, atol=1e-5)
