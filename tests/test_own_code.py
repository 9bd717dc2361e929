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

from actsweep.nn.models.layers import apply


class Base(nnx.Module):
    def __init__(self, make, input_shape, outputs):
        self.layers = nnx.Dict(
            hidden_1=make.dense("hidden_1", math.prod(input_shape), 8),
            head=make.dense("head", 8, outputs),
        )
        self.act = make.act(8)
        self.between = self.make_between()

    def __call__(self, x, capture=apply):
        z = self.layers["hidden_1"](x.reshape(len(x), -1))
        return self.layers["head"](capture("hidden_1", self.between(z), self.act))


class BatchNorm(Base):
    def make_between(self):
        return nnx.BatchNorm(8, rngs=nnx.Rngs(0))


class Dropout(Base):
    def make_between(self):
        return nnx.Dropout(0.5, rngs=nnx.Rngs(0))


class LayerNorm(Base):
    def make_between(self):
        return nnx.LayerNorm(8, rngs=nnx.Rngs(0))


class WithoutLayers(nnx.Module):
    def __init__(self, make, input_shape, outputs):
        self.dense = make.dense("hidden_1", 4, outputs)
"""


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("BatchNorm", "holds between.mean (BatchStat, and 1 more), which isn't trained: batch"),
        ("Dropout", "holds between.rngs.count (RngCount, and 1 more), which isn't trained: batch"),
        ("WithoutLayers", "must have `layers`, an nnx.Dict of its weighted layers by name, each"),
        ("LayerNorm", ""),
    ],
)
def test_a_model_that_cant_be_trained_is_refused(
    model: str,
    line: str,
    train: Train,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "own_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("own_models", None)
    target = f"model._target_=own_models.{model}"
    answer = train("debug=default", "logger=disabled", target, "model.name=mine")
    assert answer.code == (2 if line else 0), answer.err
    if line:
        assert answer.err.splitlines()[-1].startswith(f"error: {target}: {line}")
        assert not list((tmp_path / "outputs").glob("runs/*"))
