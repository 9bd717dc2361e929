"""Packs from config to finished folders: what is on disk, what is reused, what fails alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import actsweep
from actsweep import callbacks
from actsweep.callbacks.base import Callback, EarlyStop, Hook, LogMessage
from actsweep.config import identity, resolve
from actsweep.config.schema import RunConfig
from actsweep.data import load
from actsweep.runs import checkpoint, metrics_file, run_dir
from actsweep.runs.members import make_member, make_pack
from actsweep.runs.metrics_file import read_metrics
from actsweep.runtime.process import Process
from actsweep.train import loop, memory, pack, types
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

LIGHT = {"gradients": {}, "units": {}}


def make(outputs: Path, **changes: Any) -> RunConfig:
    """A run of a second on the digits."""
    plain: dict[str, Any] = {
        "act": {"name": "relu"},
        "depth": {"widths": [16, 12]},
        "data": {"name": "digits", "val_size": 300},
        "trainer": {"epochs": 2, "batch_size": 64, "probe_examples": 128},
        "callbacks": LIGHT,
        "logger": {"mode": "disabled", "console": False},
        "paths": {"outputs": str(outputs)},
    }
    return resolve.resolve({**plain, **changes})


def seeds(outputs: Path, *numbers: int, **changes: Any) -> list[RunConfig]:
    return [make(outputs, seed=seed, **changes) for seed in numbers]


def run_pack(
    configs: Sequence[RunConfig], context: SweepContext, process: Process | None = None
) -> list[pack.Result]:
    """Train configs as a pack."""
    return pack.run_pack([make_member(config) for config in configs], context, process)


def folder_of(result: pack.Result, outputs: Path) -> run_dir.RunDir:
    return run_dir.RunDir(outputs, result["run_id"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[pack.Result]]:
    outputs = tmp_path_factory.mktemp("outputs")
    return outputs, run_pack(seeds(outputs, 0, 1), SweepContext("sweep"))


def test_what_a_run_leaves(finished: tuple[Path, list[pack.Result]]) -> None:
    outputs, results = finished
    for result in results:
        folder = folder_of(result, outputs)
        assert run_dir.read_status(folder)["state"] == "complete"  # type: ignore[index]
        assert {**json.loads(folder.summary.read_text()), "reused": False} == result
        steps = actsweep.load_run(folder.path).metrics()["step"]
        assert list(steps) == [0, 18, 36]  # every step once, from the untrained network on
        assert not list(folder.path.rglob("*.tmp"))


def test_load_run_restores_the_best_network(finished: tuple[Path, list[pack.Result]]) -> None:
    outputs, results = finished
    loaded = actsweep.load_run(folder_of(results[1], outputs).path)
    digits = load(loaded.config.data)
    right = np.argmax(loaded.logits(digits.test_x), axis=-1) == digits.test_y
    assert right.mean() == pytest.approx(results[1]["test_accuracy"], abs=1e-6)
    x = digits.test_x[:5].astype(np.float32) * digits.scale + digits.offset
    by_model = loaded.model()(jax.numpy.asarray(x))  # type: ignore[operator]
    np.testing.assert_allclose(by_model, loaded.logits(digits.test_x[:5]), rtol=1e-5, atol=1e-6)
    assert identity.run_id(loaded.config) == results[1]["run_id"]
    with pytest.raises(UserError, match="best or last"):
        loaded.model("first")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (result,) = run_pack(seeds(tmp_path, 0), SweepContext("sweep"))
    folder = folder_of(result, tmp_path)
    (step,) = checkpoint.steps(folder.checkpoints)
    flat, about = checkpoint.load(folder.checkpoints, step)
    del flat["best/layers/head/bias/value"]
    checkpoint.save(folder.checkpoints, step, flat, about)
    with pytest.raises(UserError, match="rerun=all"):
        actsweep.load_run(folder.path).model()


def test_complete_runs_are_not_trained_again(finished: tuple[Path, list[pack.Result]]) -> None:
    outputs, results = finished
    before = folder_of(results[0], outputs).metrics.stat().st_mtime_ns
    again = run_pack(seeds(outputs, 0, 1), SweepContext("sweep"))
    assert [r["reused"] for r in again] == [True, True]
    assert folder_of(results[0], outputs).metrics.stat().st_mtime_ns == before
    assert [{**r, "reused": False} for r in again] == results


def test_extended_and_repeated(tmp_path: Path) -> None:
    (first,) = run_pack(seeds(tmp_path, 0), SweepContext("sweep"))
    text = folder_of(first, tmp_path).metrics.read_bytes()
    more = run_pack(seeds(tmp_path, 0, 1), SweepContext("sweep"))
    assert [r["reused"] for r in more] == [True, False]
    repeated = run_pack(seeds(tmp_path, 0, rerun="all"), SweepContext("again"))
    assert not repeated[0]["reused"]
    assert folder_of(first, tmp_path).metrics.read_bytes() == text  # bitwise equal metrics


def by_two(monkeypatch: pytest.MonkeyPatch, runs: list[RunConfig]) -> None:
    """Let the memory take two of these runs at once, not three."""
    monkeypatch.setattr("actsweep.train.population.make_mesh", one_row)
    two = pack.set_up(make_pack([make_member(one) for one in runs[:2]]))
    monkeypatch.setattr(memory, "_room", lambda device, devices: two.memory.need)


def one_row(members: int, data: int, how: str, devices: Any) -> Any:
    """One device, so that each member more needs more memory."""
    return jax.sharding.Mesh(np.asarray(devices[:1]).reshape(1, 1), ("member", "data"))


def test_a_pack_that_does_not_fit_is_trained_in_cohorts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("actsweep.train.population.make_mesh", one_row)
    whole = run_pack(seeds(tmp_path / "whole", 0, 1, 2, 3, 4), SweepContext("sweep"))
    by_two(monkeypatch, seeds(tmp_path / "turns", 0, 1))
    with caplog.at_level("INFO", "actsweep"):
        turns = run_pack(seeds(tmp_path / "turns", 0, 1, 2, 3, 4), SweepContext("sweep"))
    (line,) = [text for text in caplog.messages if "cohorts" in text]
    assert line.startswith("relu: 5 runs are trained in 3 cohorts of at most 2, since ")
    assert "GiB" in line
    assert [r["seed"] for r in turns] == [0, 1, 2, 3, 4]
    for one, other in zip(whole, turns, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
        texts = [
            folder_of(r, tmp_path / place).metrics.read_bytes()
            for r, place in ((one, "whole"), (other, "turns"))
        ]
        assert texts[0] == texts[1]


def test_a_turn_that_breaks_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_two(monkeypatch, seeds(tmp_path, 0, 1))
    train, calls = loop.train, []

    def breaks_once(*arguments: Any) -> types.TrainResult:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("the device is gone")
        return train(*arguments)

    monkeypatch.setattr(loop, "train", breaks_once)
    results = run_pack(seeds(tmp_path, 0, 1, 2, 3, 4), SweepContext("sweep"))
    assert [r["state"] for r in results] == ["complete", "failed", "failed", "complete", "complete"]
    assert "the device is gone" in results[1]["cause"]
    status = run_dir.read_status(folder_of(results[1], tmp_path)) or {}
    assert (status["state"], status["cause"]) == ("failed", "RuntimeError: the device is gone")


def test_an_interrupted_run_is_trained_again(tmp_path: Path) -> None:
    only = make(tmp_path)
    folder = run_dir.RunDir(tmp_path, identity.run_id(only))
    run_dir.prepare(folder, resolve.to_dict(only))
    folder.metrics.write_text('{"step":0,"epoch":0.0,"val/loss":1.0}\n')
    (result,) = run_pack([only], SweepContext("sweep"))
    assert not result["reused"]
    assert list(actsweep.load_run(folder.path).metrics()["step"]) == [0, 18, 36]


def test_divergence_is_recorded_and_alone(tmp_path: Path) -> None:
    lrs = [make(tmp_path, optim={"lr": lr}) for lr in (0.01, 1e8)]
    good, bad = run_pack(lrs, SweepContext("sweep"))
    assert (good["state"], bad["state"]) == ("complete", "diverged")
    (alone,) = run_pack([make(tmp_path / "alone", optim={"lr": 0.01})], SweepContext("sweep"))
    same = ("test_loss", "test_accuracy", "train_loss", "best_epoch", "dead_frac")
    assert [good[key] for key in same] == [alone[key] for key in same]
    status = run_dir.read_status(folder_of(bad, tmp_path))
    assert status is not None
    assert status["cause"] == "the loss is not finite"


def stopping(at: int) -> Callback:
    """A user's hook: says something at every row, stops at a step, breaks for nobody."""

    def hook() -> Hook:
        def look(step: int, epoch: float, readings: Any) -> LogMessage | EarlyStop | None:
            return EarlyStop("enough") if step >= at else LogMessage(f"step {step}")

        return look

    return Callback(hook=hook)


def breaking() -> Callback:
    def hook() -> Hook:
        def look(step: int, epoch: float, readings: Any) -> None:
            if step:
                raise RuntimeError("my hook is broken")

        return look

    return Callback(hook=hook)


def test_a_hook_can_stop_its_member(tmp_path: Path) -> None:
    own = {"mine": {"_target_": f"{__name__}.stopping", "at": 18}}
    trainer = {"epochs": 6, "batch_size": 64}
    (result,) = run_pack([make(tmp_path, callbacks=own, trainer=trainer)], SweepContext("sweep"))
    assert result["state"] == "complete"
    assert result["epochs"] == 2.0  # the host sees epoch 1 while epoch 2 is on the device
    said = folder_of(result, tmp_path).messages.read_text()
    assert "step 0" in said
    assert "enough" in said


def logging(name: str) -> Callback:
    def hook() -> Hook:
        def look(step: int, epoch: float, readings: Any) -> dict[str, float]:
            return {name: 2 * readings["val/loss"]} if "val/loss" in readings else {}

        return look

    return Callback(hook=hook)


def test_a_hook_can_log_numbers(tmp_path: Path) -> None:
    own = {"mine": {"_target_": f"{__name__}.logging", "name": "mine/twice"}}
    (result,) = run_pack([make(tmp_path, callbacks=own)], SweepContext("sweep"))
    columns = read_metrics(folder_of(result, tmp_path).metrics)
    assert np.isfinite(columns["mine/twice"]).sum() >= 2
    np.testing.assert_allclose(columns["mine/twice"], 2 * columns["val/loss"], rtol=1e-6)


@pytest.mark.parametrize("name", ["val/loss", "epoch"])
def test_a_hook_can_not_log_under_a_name_that_is_taken(name: str, tmp_path: Path) -> None:
    own = {"mine": {"_target_": f"{__name__}.logging", "name": name}}
    (result,) = run_pack([make(tmp_path, callbacks=own)], SweepContext("sweep"))
    status = run_dir.read_status(folder_of(result, tmp_path))
    assert status is not None
    assert status["state"] == "failed"
    assert f"it returned a number called '{name}', a name that is taken" in status["cause"]


def test_a_broken_hook_fails_its_run(tmp_path: Path) -> None:
    own = {"mine": {"_target_": f"{__name__}.breaking"}}
    (result,) = run_pack([make(tmp_path, callbacks=own)], SweepContext("sweep"))
    status = run_dir.read_status(folder_of(result, tmp_path))
    assert status is not None
    assert status["state"] == "failed"
    assert "callbacks.mine: RuntimeError: my hook is broken" in status["cause"]


def test_a_full_disk_fails_one_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = metrics_file.MetricsFile.row

    def row(self: Any, member: int, what: Any) -> None:
        if member == 1 and what.step:
            raise metrics_file.MetricsError(member, "id", Path("metrics.jsonl"), "No space left")
        whole(self, member, what)

    monkeypatch.setattr(metrics_file.MetricsFile, "row", row)
    good, bad = run_pack(seeds(tmp_path, 0, 1), SweepContext("sweep"))
    assert (good["state"], bad["state"]) == ("complete", "failed")
    status = run_dir.read_status(folder_of(bad, tmp_path))
    assert status is not None
    assert "No space left" in status["cause"]


def test_batch_larger_than_the_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"trainer.batch_size=5000: must be at most 1200"):
        run_pack([make(tmp_path, trainer={"batch_size": 5000})], SweepContext("sweep"))
    assert not (tmp_path / "runs").exists()


def test_regression_has_no_accuracy(tmp_path: Path) -> None:
    toy = {"name": "quadratic", "val_size": 200, "noise": 0.25}
    (result,) = run_pack([make(tmp_path, data=toy)], SweepContext("sweep"))
    assert result["test_accuracy"] is None
    assert result["best_val_accuracy"] is None
    assert result["best_val_loss"] > 0
    assert "val/accuracy" not in actsweep.load_run(folder_of(result, tmp_path).path).metrics()


def test_every_callback_of_the_dictionary_builds() -> None:
    known = callbacks.CALLBACKS
    assert callbacks.build({name: {} for name in known}).keys() == known.keys()
    with pytest.raises(UserError, match="did you mean callbacks=health"):
        callbacks.build({"healht": {}})
    assert callbacks.build({"health": None}) == {}


def interrupting() -> Callback:
    def hook() -> Hook:
        def look(step: int, epoch: float, readings: Any) -> None:
            if step == 36:
                raise KeyboardInterrupt

        return look

    return Callback(hook=hook)


def test_an_interrupt_says_how_far_it_came(tmp_path: Path) -> None:
    own = {"mine": {"_target_": f"{__name__}.interrupting"}}
    only = make(tmp_path, callbacks=own, trainer={"epochs": 4, "batch_size": 64})
    with pytest.raises(KeyboardInterrupt):
        run_pack([only], SweepContext("sweep"))
    status = run_dir.read_status(run_dir.RunDir(tmp_path, identity.run_id(only)))
    assert status is not None
    assert (status["state"], status["step"], status["epoch"]) == ("preempted", 36, 2.0)


def test_a_refused_start_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    logger = {"mode": "online", "require_online": True, "console": False}
    with pytest.raises(UserError, match="require_online"):
        run_pack([make(tmp_path, logger=logger)], SweepContext("sweep"))
    assert not (tmp_path / "runs").exists()


def test_a_relative_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `outputs`, the default, is."""
    monkeypatch.chdir(tmp_path)
    (result,) = run_pack([make(Path("outputs"))], SweepContext("sweep"))
    assert result["state"] == "complete"
    loaded = actsweep.load_run(f"outputs/runs/{result['run_id']}")
    assert loaded.logits(np.zeros((2, 8, 8, 1), np.uint8)).shape == (2, 10)
