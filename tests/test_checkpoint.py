"""Checkpoints: what is saved comes back bit by bit; what has been altered doesn't come back."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actsweep import checkpoint
from actsweep.checkpoint import CheckpointError


def flat() -> checkpoint.Flat:
    numbers = np.random.default_rng(0)
    return {
        "params/kernel": numbers.normal(size=(300, 70)).astype(np.float32),
        "params/bias": np.asarray([np.nan, np.inf, -0.0], np.float32),
        "step": np.asarray(7, np.int32),
        "seed": np.asarray([2**32 - 1], np.uint32),
    }


def test_round_trip_is_bitwise(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "best", flat(), {"epoch": 3})
    found, about = checkpoint.load(tmp_path / "best")
    assert about == {"epoch": 3}
    assert found.keys() == flat().keys()
    for name, value in flat().items():
        assert found[name].dtype == value.dtype
        assert found[name].tobytes() == value.tobytes()


def test_a_newer_one_replaces_the_older(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "last", flat(), {"epoch": 1})
    checkpoint.save(tmp_path / "last", {"a": np.ones(2, np.float32)}, {"epoch": 2})
    found, about = checkpoint.load(tmp_path / "last")
    assert list(found) == ["a"]
    assert about == {"epoch": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_one_flipped_bit_is_detected(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    checkpoint.save(folder, flat(), {})
    largest = max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    raw = bytearray(largest.read_bytes())
    raw[len(raw) // 2] ^= 1
    largest.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"altered|can't be read"):
        checkpoint.load(folder)


def test_missing_and_truncated(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.load(tmp_path / "best")
    folder = tmp_path / "best"
    checkpoint.save(folder, flat(), {})
    largest = max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="can't be read"):
        checkpoint.load(folder)


def test_trees_by_name() -> None:
    tree = {"layers": {"head": {"kernel": jnp.ones((2, 3))}}, "trace": (jnp.zeros(()),)}
    named = checkpoint.flatten(tree)
    assert list(named) == ["layers/head/kernel", "trace/0"]
    like = jax.eval_shape(lambda: tree)
    back = checkpoint.unflatten(like, named)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), back, tree))


@pytest.mark.parametrize("wrong", [{}, {"a": np.ones(3, np.float32)}, {"a": np.ones(2, np.int32)}])
def test_a_tree_that_does_not_fit(wrong: checkpoint.Flat) -> None:
    with pytest.raises(CheckpointError, match="expected float32"):
        checkpoint.unflatten({"a": jax.ShapeDtypeStruct((2,), np.float32)}, wrong)
