"""Checkpoints: what is saved comes back bit by bit; what has been altered doesn't come back."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from actsweep.runs import checkpoint
from actsweep.runs.checkpoint import CheckpointError


def flat() -> checkpoint.Flat:
    numbers = np.random.default_rng(0)
    return {
        "params/kernel": numbers.normal(size=(300, 70)).astype(np.float32),
        "params/bias": np.asarray([np.nan, np.inf, -0.0], np.float32),
        "step": np.asarray(7, np.int32),
        "seed": np.asarray([2**32 - 1], np.uint32),
        "stopped": np.asarray(True),
        "nothing": np.zeros((0, 3), np.float32),
        "half": np.asarray([1.5, -0.0], jnp.bfloat16),
    }


def largest(folder: Path) -> Path:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return max(files, key=lambda file: file.stat().st_size)


def test_round_trip_is_bitwise(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 7, flat(), {"epoch": 3})
    found, about = checkpoint.load(tmp_path, 7)
    assert about == {"epoch": 3}
    assert found.keys() == flat().keys()
    for name, value in flat().items():
        assert found[name].dtype == value.dtype
        assert found[name].tobytes() == value.tobytes()


def test_a_checkpoint_of_an_older_version_loads(tmp_path: Path) -> None:
    """Then Orbax got a vector for each type, and positions in it counted elements."""
    vectors = {"float32": np.arange(5, dtype=np.float32), "int32": np.asarray([7], np.int32)}
    layout = {
        "hypers/slope": ["float32", 4, []],
        "w": ["float32", 0, [2, 2]],
        "n": ["int32", 0, []],
    }
    names = {"w": vectors["float32"][:4].reshape(2, 2), "n": vectors["int32"][0]}
    about = {"epoch": 3, "layout": layout}
    digest = checkpoint.digest({**names, "hypers/slope": vectors["float32"][4]}, about)
    ocp.save((tmp_path / "step-7").absolute(), vectors, custom_metadata={**about, "sha256": digest})
    found, metadata = checkpoint.load(tmp_path, 7)
    assert metadata == {"epoch": 3}
    assert found["act_hparams/slope"] == np.float32(4)
    assert found["w"].tolist() == [[0, 1], [2, 3]]
    assert (found["n"].shape, found["n"].dtype, int(found["n"])) == ((), np.int32, 7)


LIMITED = """
import errno, gc, logging, pathlib, resource, signal, sys
import numpy as np
from actsweep.runs import checkpoint

logging.getLogger("absl").disabled = True  # conf/ sends it to the log file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, ended = pathlib.Path(sys.argv[1]), []
kinds = (np.float32, np.int32, np.uint32, np.int8, np.bool_)
flat = {kind.__name__: np.ones(3000, kind) for kind in kinds}
checkpoint.save(folder, 0, flat, {})
for most in range(3000, 48001, 3000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    try:
        checkpoint.save(folder, most, flat, {})
        ended.append(True)
    except OSError as error:
        assert error.errno == errno.EFBIG, error
        assert [path.name for path in folder.iterdir()] == ["step-0"]
        ended.append(False)
    gc.collect()
assert ended == sorted(ended), ended
assert set(ended) == {True, False}, ended
"""


def test_a_save_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    """The largest file that a process may write grows from too little to enough. All is looked at
    that it prints, its threads' tracebacks included."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_newest_two_stay(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        checkpoint.save(tmp_path, step, flat(), {"epoch": step})
        assert checkpoint.metadata(tmp_path, step)["epoch"] == step
    assert checkpoint.steps(tmp_path) == [100, 10]
    checkpoint.save(tmp_path, 100, {"a": np.ones(2, np.float32)}, {}, keep=1)
    assert list(checkpoint.load(tmp_path, 100)[0]) == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["step-100"]


def test_one_flipped_bit_is_detected(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, flat(), {})
    file = largest(tmp_path)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"altered|can't be read"):
        checkpoint.load(tmp_path, 1)


def test_altered_metadata_are_detected(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, flat(), {"epoch": 3})
    (file,) = (f for f in tmp_path.rglob("*") if f.is_file() and b'"epoch"' in f.read_bytes())
    file.write_bytes(re.sub(rb'("epoch": *)3', rb"\g<1>4", file.read_bytes()))
    assert checkpoint.metadata(tmp_path, 1)["epoch"] == 4
    with pytest.raises(CheckpointError, match="altered"):
        checkpoint.load(tmp_path, 1)


def test_missing_and_truncated(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.load(tmp_path, 1)
    checkpoint.save(tmp_path, 1, flat(), {})
    file = largest(tmp_path)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="can't be read"):
        checkpoint.load(tmp_path, 1)


def test_what_is_cut_short_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, 1, flat(), {})

    def killed(*names: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, 2, flat(), {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    checkpoint.load(tmp_path, 1)


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
