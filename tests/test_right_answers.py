"""What must not pass for a result: NaN, stale data, foreign folders, wrong input, impure code."""

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_app import Train, logging_as_before, train  # noqa: F401 (fixtures)
from test_run import make, run_pack, seeds

from actsweep import activations
from actsweep.callbacks.units import mean_cosine
from actsweep.config import identity, resolve
from actsweep.data import load
from actsweep.data.dataset import chance
from actsweep.nn import optimizers
from actsweep.runs import checkpoint, run_dir
from actsweep.runs.load import load_run
from actsweep.runs.members import check_stored, make_member
from actsweep.runs.run_dir import RunDir
from actsweep.train import own_code
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

RELU = {"act": {"name": "relu"}}
OWN = """
import jax
import jax.numpy as jnp
import numpy as np

def root(z):
    return jnp.where(z > 0, jnp.sqrt(z), 0)

def noisy(z):
    return z + np.random.rand()

def nothing(z):
    pass

def short(z):
    return z[..., :1]

class Kind:
    def __init__(self, z):
        pass

@jax.custom_vjp
def straight_through(z):
    return jnp.sign(z)

straight_through.defvjp(
    lambda z: (jnp.sign(z), z), lambda z, ct: (jnp.where(jnp.abs(z) < 1, ct, 0),)
)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_acts.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_acts", None)


def act(name: str) -> dict[str, str]:
    return {"name": name, "_target_": f"own_acts.{name}"}


# Numerical failure


def test_a_layer_of_nan_is_a_divergence(tmp_path: Path) -> None:
    """At this rate ReLU's weights become NaN, which it used to turn into zeros."""
    config = make(
        tmp_path,
        optim={"lr": 20.0},
        depth={"widths": [64] * 4},
        trainer={"epochs": 3, "batch_size": 64, "patience": None},
    )
    for seed in range(4):
        (result,) = run_pack([resolve.resolve({**resolve.to_dict(config), "seed": seed})], _sweep())
        folder = RunDir(tmp_path, result["run_id"])
        (step,) = checkpoint.steps(folder.checkpoints)
        flat, _ = checkpoint.load(folder.checkpoints, step)
        parts = {part: _finite(flat, part) for part in ("params", "best")}
        assert parts["best"], (seed, result["state"])
        assert parts["params"] or result["state"] == "diverged", (seed, result["state"])


def _sweep() -> SweepContext:
    return SweepContext("sweep")


def _finite(flat: dict[str, np.ndarray], part: str) -> bool:
    return all(np.isfinite(v).all() for k, v in flat.items() if k.startswith(f"{part}/"))


@pytest.mark.usefixtures("own")
def test_weights_that_are_not_finite_behind_a_finite_loss(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """sqrt has a derivative of inf * 0 at 0: NaN gradients, while the outputs stay 0."""
    config = make(tmp_path, act=act("root"), init={"name": "normal", "sigma_w": 0.0})
    with caplog.at_level(logging.WARNING):
        (result,) = run_pack([config], _sweep())
    assert result["state"] == "diverged"
    status = run_dir.read_status(RunDir(tmp_path, result["run_id"])) or {}
    assert status["cause"].startswith("the weights are not finite: layers/hidden_1/")
    assert "its derivative isn't finite at z = -100" in caplog.text


def test_the_last_epoch_is_probed_also_where_training_stops(tmp_path: Path) -> None:
    trainer = {"epochs": 30, "batch_size": 64, "patience": 1, "probe_examples": 64}
    config = make(tmp_path, trainer=trainer, optim={"lr": 0.3}, callbacks={"units": {}})
    (result,) = run_pack([config], _sweep())
    assert result["epochs"] < 30
    metrics = load_run(tmp_path / "runs" / result["run_id"]).metrics()
    assert np.isfinite(metrics["dead_frac/all"][-1])


@pytest.mark.parametrize("per_channel", [False, True])
def test_learned_parameters_of_activations_are_recorded(tmp_path: Path, per_channel: bool) -> None:
    config = make(tmp_path, act={"name": "prelu", "slope": 0.25, "per_channel": per_channel})
    (result,) = run_pack([config], _sweep())
    run = load_run(tmp_path / "runs" / result["run_id"])
    name = "act_param/hidden_1/slope"
    column = run.metrics()[name]
    assert column[0] == 0.25
    last = jax.tree.leaves(run.parameters("last")[0]["acts"]["hidden_1"])[0]
    assert column[-1] == pytest.approx(float(np.mean(last)), rel=1e-6)
    best = jax.tree.leaves(run.parameters("best")[0]["acts"]["hidden_1"])[0]
    assert result[name] == run.summary[name] == pytest.approx(float(np.mean(best)), rel=1e-6)
    assert (f"{name}_min" in run.metrics()) is per_channel
    if per_channel:
        assert run.metrics()[f"{name}_max"][-1] == pytest.approx(float(np.max(last)), rel=1e-6)


def test_weight_decay_is_for_kernels() -> None:
    """One step of adamw without a gradient: what moves is what is decayed."""
    params = {
        "layers": {"hidden_1": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}},
        "acts": {"hidden_1": {"numbers": {"slope": jnp.float32(0.25)}}},
    }
    hparams = {"optim.lr": jnp.float32(1.0), "optim.weight_decay": jnp.float32(0.5)}
    hparams["optim.momentum"] = jnp.float32(0.0)
    grads = jax.tree.map(jnp.zeros_like, params)

    def moved(**optim: Any) -> list[bool]:
        config = resolve.resolve(RELU | {"optim": {"name": "adamw", **optim}}).optim
        rule = optimizers.transform(config, hparams, jnp.float32(1.0))
        with jax.numpy_dtype_promotion("standard"):
            updates, _ = rule.update(grads, rule.init(params), params)
        layer = updates["layers"]["hidden_1"]
        of_act = updates["acts"]["hidden_1"]["numbers"]["slope"]
        return [bool(np.any(leaf)) for leaf in (layer["kernel"], layer["bias"], of_act)]

    assert moved() == [True, False, False]
    assert moved(decay_bias=True) == [True, True, False]
    assert moved(decay_act=True) == [True, False, True]


def test_the_id_changes_where_what_is_decayed_does() -> None:
    plain = {"optim": {"name": "adamw", "weight_decay": 0.0}}
    now = resolve.resolve(RELU | plain)
    before = resolve.resolve(
        RELU | {"optim": {**plain["optim"], "decay_bias": True, "decay_act": True}}
    )
    assert identity.run_id(now) == identity.run_id(before)
    now.optim.weight_decay = before.optim.weight_decay = 0.1
    assert identity.run_id(now) != identity.run_id(before)
    saved = resolve.to_dict(before)
    del saved["optim"]["decay_bias"], saved["optim"]["decay_act"]  # as older versions wrote it
    assert identity.run_id(resolve.from_dict(saved)) == identity.run_id(before)


def test_cosines_of_nan_are_nan() -> None:
    a = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert np.isfinite(mean_cosine(jnp.asarray(a)))
    a[2, 1] = np.nan
    assert np.isnan(mean_cosine(jnp.asarray(a)))


def test_chance() -> None:
    digits = load(make(Path()).data)
    counts = np.bincount(digits.test_y)
    assert chance(digits) == counts.max() / counts.sum()
    table = load(
        resolve.resolve(RELU | {"data": {"name": "xor_table"}, "trainer": {"batch_size": 4}}).data
    )
    assert chance(table) == 0.5


def test_a_collapsed_network_is_at_chance(tmp_path: Path) -> None:
    sleeping = make(tmp_path, init={"name": "torch_uniform", "bias": -100.0})
    awake = make(tmp_path, seed=1)
    (collapsed,) = run_pack([sleeping], _sweep())
    (learned,) = run_pack([awake], _sweep())
    assert (collapsed["state"], collapsed["at_chance"]) == ("complete", True)
    assert (learned["state"], learned["at_chance"]) == ("complete", False)


def test_no_score_and_a_perfect_one_are_not_at_chance() -> None:
    from actsweep.train.cohort import _is_at_chance

    more, less = 1, -1
    assert _is_at_chance(0.1, more, 0.1)
    assert not _is_at_chance(0.11, more, 0.1)
    assert _is_at_chance(1.5, less, 1.5)
    assert not _is_at_chance(0.0, less, 1.5)
    assert not _is_at_chance(None, less, 1.5)


# Data and folders that aren't what they seem


def test_the_truth_table_of_xor(tmp_path: Path) -> None:
    data = load(
        resolve.resolve(
            RELU | {"data": {"name": "xor_table", "examples": 8}, "trainer": {"batch_size": 4}}
        ).data
    )
    assert data.train_x.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]] * 2
    assert data.train_y.tolist() == [0, 1, 1, 0] * 2
    config = make(
        tmp_path,
        act={"name": "tanh"},
        data={"name": "xor_table", "examples": 4, "val_size": 4},
        optim={"lr": 0.3},
        trainer={"epochs": 300, "batch_size": 4, "probe_examples": 4, "patience": None},
    )
    (result,) = run_pack([config], _sweep())
    assert result["test_accuracy"] == 1.0


def test_data_that_changed_is_another_run(tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    folder = tmp_path / "images"
    folder.mkdir()
    plain = {"data": {"name": "mine", "_target_": "no_such.load", "options": {}}}

    def run_id(**options: Any) -> str:
        plain["data"]["options"] = options  # type: ignore[index]
        return identity.run_id(resolve.resolve(RELU | plain))

    missing = run_id(path=str(file))
    file.write_text("1,2")
    first = run_id(path=str(file))
    file.write_text("1,3")
    second = run_id(path=str(file))
    assert len({missing, first, second}) == 3
    file.write_text("1,2")
    assert run_id(path=str(file)) == first
    before = run_id(folders=[str(folder)])
    (folder / "one.png").write_bytes(b"1")
    assert run_id(folders=[str(folder)]) != before


def test_words_are_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id mustn't depend on the working folder, and nobody lists all of a disk for it."""
    (tmp_path / "train").mkdir()
    monkeypatch.chdir(tmp_path)
    assert identity.paths_in({"split": "train", "delimiter": "/", "root": ".", "up": "../"}) == []
    assert identity.paths_in({"split": "./train"}) == ["./train"]


def test_a_copied_folder_is_not_the_run(tmp_path: Path) -> None:
    (first,) = run_pack(seeds(tmp_path, 0), _sweep())
    other = make_member(make(tmp_path, seed=1))
    shutil.copytree(tmp_path / "runs" / first["run_id"], other.dir.path)
    match = rf"holds the run {first['run_id']}, copied or renamed"
    with pytest.raises(UserError, match=match):
        run_pack([other.config], _sweep())
    with pytest.raises(UserError, match=match):
        load_run(other.dir.path)


def test_a_folder_with_another_config(tmp_path: Path) -> None:
    (result,) = run_pack(seeds(tmp_path, 0), _sweep())
    member = make_member(make(tmp_path, seed=0))
    check_stored(member)
    text = member.dir.config.read_text()
    assert "lr: 0.01\n" in text
    member.dir.config.write_text(text.replace("lr: 0.01\n", "lr: 0.1\n"))
    with pytest.raises(UserError, match=r"is another run's: optim\.lr=0\.1, not 0\.01; move"):
        check_stored(member)
    member.dir.config.write_text("{")
    with pytest.raises(UserError, match="can't be read"):
        check_stored(member)
    assert result["state"] == "complete"


def test_a_sweep_refuses_a_folder_with_another_config(
    train: Train,  # noqa: F811
    tmp_path: Path,
) -> None:
    assert train().code == 0
    (config,) = tmp_path.glob("outputs/runs/*/config.yaml")
    config.write_text(config.read_text().replace("momentum: 0.9", "momentum: 0.5"))
    answer = train()
    assert answer.code == 2
    assert "is another run's: optim.momentum=0.5, not 0.9" in answer.err


def test_examples_that_are_scaled_already(tmp_path: Path) -> None:
    (result,) = run_pack(seeds(tmp_path, 0), _sweep())
    run = load_run(tmp_path / "runs" / result["run_id"])
    x = run.dataset().test_x[:5]
    logits = run.logits(x)
    assert np.array_equal(logits, run.logits(x.astype(np.float32)))
    with pytest.raises(UserError, match=r"lies in \[0, .*\]: this network takes images as they"):
        run.logits(x / 255)
    with pytest.raises(UserError, match=r"without a batch axis; type logits\(x\[None\]\)"):
        run.logits(x[0])
    with pytest.raises(UserError, match=r"must be \[n, 8, 8, 1\]"):
        run.logits(x[:, :4])


def test_a_failed_run_without_a_summary_is_kept(tmp_path: Path) -> None:
    """With rerun=none it isn't trained again, whatever it has left."""
    member = make_member(make(tmp_path, rerun="none"))
    run_dir.prepare(member.dir, resolve.to_dict(member.config))
    run_dir.write_status(member.dir, "failed", step=1, epoch=1, cause="OSError: no room")
    (result,) = run_pack([member.config], _sweep())
    assert (result["state"], result["cause"]) == ("failed", "OSError: no room")
    assert result["act"] == "relu"


# A user's own code


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("noisy", "gives another result each time it is traced"),
        ("nothing", "must return an array, not NoneType"),
        ("short", r"must return an array of shape \(7, 2\) .*, not \(7, 1\)"),
        ("Kind", "must return an array, not Kind"),
    ],
)
def test_an_activation_that_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"act\._target_=own_acts\.{name}: {message}"):
        run_pack([make(tmp_path, act=act(name))], _sweep())
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("own")
def test_a_backward_rule_is_enough(tmp_path: Path) -> None:
    """As of a straight-through estimator: the diagnostics take its derivative from that rule."""
    config = make(tmp_path, act=act("straight_through"))
    (result,) = run_pack([config], _sweep())
    assert result["state"] == "complete"
    bound, _ = activations.bind(act("straight_through"))
    z = jnp.asarray([[-2.0, -0.5, 0.5, 2.0]])
    assert activations.abs_derivative(bound, z).tolist() == [[0.0, 1.0, 1.0, 0.0]]


def test_pure_activations_pass() -> None:
    for name, known in activations.ACTIVATIONS.items():
        if known.units != "vector":
            own_code.check_activation(known, dict(known.params), name)


# Failures that stay where they are


def test_a_folder_that_mustnt_be_read_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = seeds(tmp_path, 0, 1)
    folder = make_member(bad).dir
    folder.path.mkdir(parents=True)
    listdir = os.listdir

    def refuse(path: Any) -> list[str]:  # who runs as root may read everything
        if Path(path) == folder.path:
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    first, second = run_pack([bad, good], _sweep())
    assert (first["state"], second["state"]) == ("failed", "complete")
    assert "PermissionError" in first["cause"]


def test_what_ended_before_a_later_error_is_kept(
    train: Train,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second of two cohorts breaks in a way that ends the whole pack."""
    from actsweep.train import pack

    real = pack.cohorts.loggers_of
    calls = []

    def loggers_of(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of the blue")
        return real(*arguments)

    monkeypatch.setattr(pack.cohorts, "loggers_of", loggers_of)
    monkeypatch.setattr("actsweep.loggers.wandb_support.runs_that_fit", lambda *_: 1)
    answer = train("-m", "seed=0,1")
    assert answer.code == 1
    states = sorted(
        (run_dir.read_status(RunDir(tmp_path / "outputs", p.name)) or {}).get("state", "none")
        for p in (tmp_path / "outputs" / "runs").iterdir()
    )
    assert states == ["complete"]
    assert "1 of 2" in answer.out
