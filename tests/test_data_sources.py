"""Sources that need no files, the user's own, and the checks on what they return."""

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from actsweep.config.resolve import resolve
from actsweep.config.schema import DATASETS, TEXTS, DataConfig
from actsweep.data import Dataset, load
from actsweep.data.dataset import validate
from actsweep.utils.errors import UserError


def conf(name, **overrides):
    """`conf/data/<name>.yaml` merged into the schema, as Hydra does it."""
    path = Path(__file__).parents[1] / "conf" / "data" / f"{name}.yaml"
    plain = OmegaConf.load(path)
    plain = plain.get("data", plain)  # of a file that also sets the batch
    merged = OmegaConf.merge(OmegaConf.structured(DataConfig), plain, overrides)
    return OmegaConf.to_object(merged)


def tiny(**changes):
    x, y = np.zeros((4, 3), np.float32), np.array([0, 1, 1, 0], np.int32)
    return replace(Dataset("tiny", x, y, x, y, x, y, classes=2), **changes)


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_has_a_config_that_passes_the_schema(name):
    cfg = conf(name)
    assert cfg.kind == name
    cfg.name = cfg.name or "mine"
    data = OmegaConf.to_container(OmegaConf.structured(cfg))
    of_tokens = {"name": "mine", "_target_": "mine.Model"}
    models = {"model": of_tokens} if name in TEXTS else {}
    resolve({"act": {"name": "relu"}, "data": data, **models})


def test_digits_are_scikit_learns_each_once():
    from sklearn.datasets import load_digits

    data = load(conf("digits"))
    assert [len(data.train_x), len(data.val_x), len(data.test_x)] == [1200, 300, 297]
    x = np.concatenate([data.train_x, data.val_x, data.test_x])
    y = np.concatenate([data.train_y, data.val_y, data.test_y])
    bunch = load_digits()
    ours = sorted((int(label), image.tobytes()) for image, label in zip(x, y, strict=True))
    images = bunch.images.astype(np.uint8)
    theirs = sorted((int(t), i.tobytes()) for i, t in zip(images, bunch.target, strict=True))
    assert x.shape == (1797, 8, 8, 1)
    assert ours == theirs
    scaled = x * data.scale + data.offset
    assert (scaled.min(), scaled.max()) == (-1.0, 1.0)


def test_digits_are_read_without_importing_scikit_learn():
    code = """
import sys
from actsweep.config.schema import DataConfig
from actsweep.data import load
load(DataConfig(name="digits", val_size=300))
print(*{"pandas", "scipy", "sklearn"} & {*sys.modules})
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "\n"


def test_digits_where_scikit_learn_keeps_them_elsewhere(monkeypatch: pytest.MonkeyPatch):
    as_a_rule = load(conf("digits"))
    monkeypatch.setattr("actsweep.data.sources.find_spec", lambda name: None)
    elsewhere = load(conf("digits"))
    for part in ("train_x", "train_y", "val_x", "val_y", "test_x", "test_y"):
        np.testing.assert_array_equal(getattr(as_a_rule, part), getattr(elsewhere, part))
        assert getattr(as_a_rule, part).dtype == getattr(elsewhere, part).dtype


def test_split_seed_moves_validation_but_never_the_test_set():
    a, b, again = (load(conf("digits", split_seed=s)) for s in (0, 1, 0))
    np.testing.assert_array_equal(a.test_x, b.test_x)
    np.testing.assert_array_equal(a.val_x, again.val_x)
    assert not np.array_equal(a.val_y, b.val_y)


@pytest.mark.parametrize("val_size", [1500, 100_000])
def test_a_validation_set_that_leaves_nothing_is_refused(val_size):
    with pytest.raises(UserError, match=r"data\.val_size=.*from 1 to 1499.*data\.val_size=250"):
        load(conf("digits", val_size=val_size))


def test_circle_is_the_tutorials_points_labelled_by_a_loop():
    data = load(conf("circle", examples=200, split_seed=42))
    random.seed(42)
    for x, y in zip(data.train_x, data.train_y, strict=True):
        point = [random.uniform(-2, 2), random.uniform(-2, 2)]
        assert x.tolist() == np.float32(point).tolist()
        assert y == (1 if point[0] ** 2 + point[1] ** 2 < 1.5 else 0)
    for x, y in zip(data.val_x.tolist(), data.val_y, strict=True):
        assert y == (x[0] * x[0] + x[1] * x[1] < 1.5)
    assert abs(load(conf("circle", examples=20_000)).train_y.mean() - np.pi * 1.5 / 16) < 0.01


def test_xor_labels_by_a_loop():
    data = load(conf("xor"))
    for x, y in zip(data.test_x.tolist(), data.test_y, strict=True):
        assert y == ((x[0] > 0) != (x[1] > 0))
    assert np.abs(data.train_x).max() < 1


@pytest.mark.parametrize("name", ["circle", "xor", "quadratic"])
def test_toys_repeat_themselves_and_their_splits_differ(name):
    a, b, other = load(conf(name)), load(conf(name)), load(conf(name, split_seed=1))
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(a, f"{split}_x"), getattr(b, f"{split}_x"))
        assert len(getattr(a, f"{split}_x")) == 1000
    assert not np.array_equal(a.val_x, a.test_x)
    assert not np.array_equal(a.val_x, other.val_x)
    shorter = load(conf(name, val_size=7))
    np.testing.assert_array_equal(shorter.train_x, a.train_x)


def test_quadratic_is_the_tutorials_set():
    data = load(conf("quadratic", examples=200))
    rng = np.random.RandomState(0)
    x = np.linspace(-2, 2, 200)
    np.testing.assert_array_equal(data.train_x[:, 0], x.astype(np.float32))
    target = (x**2 + 0.25 * rng.randn(200)).astype(np.float32)
    np.testing.assert_array_equal(data.train_y[:, 0], target)
    assert data.classes is None
    assert data.train_y.dtype == np.float32
    noise = load(conf("quadratic", val_size=50_000))
    residual = noise.val_y - noise.val_x**2
    assert abs(residual.std() - 0.25) < 0.005


def test_noise_moves_the_points_of_a_plane_but_not_their_labels():
    plain, noisy = load(conf("circle")), load(conf("circle", noise=0.1))
    np.testing.assert_array_equal(plain.train_y, noisy.train_y)
    assert abs((noisy.train_x - plain.train_x).std() - 0.1) < 0.01
    with pytest.raises(UserError, match=r"data\.noise"):
        load(conf("digits", noise=0.1))


def test_unknown_names_and_stray_options_are_refused():
    with pytest.raises(UserError, match="did you mean data=digits"):
        load(DataConfig(name="digit"))
    with pytest.raises(UserError, match=r"data\.options"):
        load(DataConfig(name="digits", options={"a": 1}))


OWN = """
import numpy as np
from actsweep.data import Dataset
def make(n=4):
    x, y = np.zeros((n, 3), np.float32), np.arange(n, dtype=np.int32) % 2
    return Dataset("mine", x, y, x, y, x, y, classes=2)
def wrong(): return 3
def bad():
    x, y = np.full((4, 3), np.nan, np.float32), np.zeros(4, np.int32)
    return Dataset("mine", x, y, x, y, x, y, classes=2)
value = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_data_module.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_data_module"
    sys.modules.pop("own_data_module", None)


def test_a_users_own_function(own):
    data = load(DataConfig(name="mine", _target_=f"{own}.make", options={"n": 6}))
    assert len(data.train_x) == 6


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("nowhere.at.all", {}, "can't be imported"),
        ("own_data_module.missing", {}, "can't be imported"),
        (".make", {}, "can't be imported"),
        ("own_data_module.value", {}, "not a function"),
        ("own_data_module.wrong", {}, "returned int"),
        ("own_data_module.make", {"size": 6}, r"data\.options"),
        ("own_data_module.bad", {}, "NaN"),
    ],
)
def test_a_users_own_function_that_does_not_work(own, target, options, said):
    with pytest.raises(UserError, match=rf"data\._target_.*{said}"):
        load(DataConfig(name="mine", _target_=target, options=options))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_x": np.zeros((4, 3))}, "train_x of float64"),
        ({"train_x": np.zeros(4, np.float32)}, "train_x of shape"),
        ({"train_x": [[1.0]]}, "train_x of list"),
        ({"val_x": np.zeros((4, 2), np.float32)}, "val_x of shape"),
        ({"val_x": np.zeros((0, 3), np.float32), "val_y": np.zeros(0, np.int32)}, "val_x of shape"),
        ({"val_x": np.zeros((4, 3), np.uint8)}, "val_x of uint8"),
        ({"test_x": np.full((4, 3), np.inf, np.float32)}, "test_x with NaN"),
        ({"test_y": np.zeros(4)}, "test_y of float64"),
        ({"test_y": np.zeros(3, np.int32)}, "test_y of 3 rows"),
        ({"train_y": np.array([0, 1, 2, 0], np.int32)}, "train_y from 0 to 2"),
        ({"train_y": np.array([0, 1, -1, 0], np.int32)}, "train_y from -1 to 1"),
        ({"classes": 1}, "classes=1"),
        ({"classes": None}, "train_y of int32"),
        ({"labels": ("a",)}, "1 labels"),
        ({"scale": float("nan")}, "scale=nan"),
    ],
)
def test_validate_names_what_is_wrong(changes, said):
    assert validate(tiny()).name == "tiny"
    with pytest.raises(UserError, match=f"^data: .*{said}.*must be"):
        validate(tiny(**changes))
