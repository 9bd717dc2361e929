"""A user's own code counts towards the run id: what has been edited is another run."""

import sys
from pathlib import Path

import pytest
from test_app import Train, logging_as_before, train  # noqa: F401

from actsweep.config import identity, resolve


def test_edited_code_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    act = {"name": "bent", "_target_": "my_own_acts.bent"}
    ids = []
    for text in ("def bent(z): return z", "def bent(z): return 2 * z", "def bent(z): return z"):
        (tmp_path / "my_own_acts.py").write_text(text)
        sys.modules.pop("my_own_acts", None)
        identity._source_digest.cache_clear()
        ids.append(identity.run_id(resolve.resolve({"act": act})))
    assert ids[0] == ids[2] != ids[1]


def test_code_that_is_not_there_yet_still_has_an_id() -> None:
    act = {"name": "bent", "_target_": "no_such_module.bent"}
    assert identity.run_id(resolve.resolve({"act": act})).startswith("bent-")


MODELS = """
import math

from flax import nnx


class Base(nnx.Module):
    def __init__(self, make, input_shape, outputs):
        self.dense = make.dense("dense", math.prod(input_shape), 8)
        self.act = make.act(8)
        self.head = make.dense("head", 8, outputs)

    def __call__(self, x):
        return self.head(self.act(self.dense(x.reshape(len(x), -1))))


class Twice(Base):
    def __call__(self, x):
        return self.head(self.act(self.act(self.dense(x.reshape(len(x), -1)))))


class OneSeed(Base):
    def __init__(self, make, input_shape, outputs):
        super().__init__(make, input_shape, outputs)
        self.dense = nnx.Linear(math.prod(input_shape), 8, rngs=nnx.Rngs(0))


class Named(Base):
    def __init__(self, make, input_shape, outputs):
        super().__init__(make, input_shape, outputs)
        self.dense = nnx.Linear(math.prod(input_shape), 8, rngs=make.rngs("dense"))


class WithoutLayers(nnx.Module):
    def __init__(self, make, input_shape, outputs):
        self.act = make.act(8)


class OneName(Base):
    def __init__(self, make, input_shape, outputs):
        super().__init__(make, input_shape, outputs)
        self.layers = nnx.Dict(dense=make.dense("other", 8, 8))


class Before(nnx.Module):  # as models of version 0.1 are written
    def __init__(self, make, input_shape, outputs):
        self.layers, self.acts, width = make.hidden(math.prod(input_shape), raw=True)
        self.layers["head"] = make.dense("head", width, outputs)
        self.order = tuple(self.acts)

    def __call__(self, x, capture):
        x = x.reshape(len(x), -1)
        for name in self.order:
            x = capture(name, self.layers[name](x), self.acts[name])
        return self.layers["head"](x)
"""


def write_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "own_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("own_models", None)
    identity._source_digest.cache_clear()


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("Twice", "model: the activation act acts twice in one forward pass, so that its metrics"),
        ("OneSeed", "{target}: the layer dense starts the same with every seed; draw it with "),
        ("WithoutLayers", "{target}: has no layer with a kernel; make one with make.dense or make"),
        ("OneName", "{target}: two layers are named dense; give one another attribute"),
        ("Named", ""),
    ],
)
def test_a_model_that_cant_be_trained_is_refused(
    model: str,
    line: str,
    train: Train,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_models(tmp_path, monkeypatch)
    target = f"model._target_=own_models.{model}"
    answer = train("debug=default", "logger=disabled", target, "model.name=mine")
    assert answer.code == (2 if line else 0), answer.err
    if line:
        assert answer.err.splitlines()[-1].startswith(f"error: {line.format(target=target)}")
        assert not list((tmp_path / "outputs").glob("runs/*"))


def test_a_model_of_version_0_1_trains_as_the_mlp(
    train: Train,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_models(tmp_path, monkeypatch)
    words = ("debug=default", "logger=disabled", "depth=2")
    assert train(*words).code == 0
    answer = train(*words, "model._target_=own_models.Before", "model.name=before")
    assert answer.code == 0, answer.err
    old, new = sorted((tmp_path / "outputs" / "runs").iterdir())
    assert old.name.startswith("relu-before2-")
    assert (old / "metrics.jsonl").read_bytes() == (new / "metrics.jsonl").read_bytes()
