"""Names of version 0.1: old overrides, run configs, checkpoints and callbacks still work."""

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from test_run import make

from actsweep import callbacks, load_run
from actsweep.callbacks.base import CountView, EarlyStop, LogMessage, ProbeView
from actsweep.config import identity, overrides, resolve
from actsweep.nn.models import layers
from actsweep.nn.network import Network, Task, split
from actsweep.runs import checkpoint
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.stats.histogram import Histogram

OLD_CALLBACK = """
import jax.numpy as jnp
from actsweep.callbacks import Binned, Callback, Say, Stop

def shares(view):
    dead = {f"small/{k}": jnp.mean(v < 0.5, dtype=jnp.float32) for k, v in view.slope.items()}
    above = {f"above/{k}": jnp.mean(v > 0, dtype=jnp.float32) for k, v in view.drive.items()}
    counts = Binned(jnp.zeros(3, jnp.int32), (0.0, 1.0))
    return {**dead, **above, "hist/counts/a": counts}

def hook():
    return lambda step, epoch, readings: Stop("enough") if step else Say("begins")

def old():
    return Callback(probe=shares, count=shares, hook=hook)
"""


def with_old_keys(plain: dict[str, Any], batching: str) -> dict[str, Any]:
    """Return a config as version 0.1 wrote it."""
    pack = {key: value for key, value in plain["pack"].items() if key != "batching"}
    return {**plain, "pack": {**pack, "lift": batching}}


def test_an_old_override_is_expanded_and_one_line_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert overrides.expand("pack.lift=vmap") == ["pack.batching=vmap"]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "pack.lift is now pack.batching\n")
    assert overrides.for_hydra(["pack.lift=map,vmap", "-m"]) == ["-m", "pack.batching=map,vmap"]
    assert capsys.readouterr().err.count("\n") == 1
    assert overrides.expand("pack.batching=vmap") == ["pack.batching=vmap"]
    assert capsys.readouterr().err == ""


def test_an_old_config_is_the_same_run(tmp_path: Path) -> None:
    run = make(tmp_path, pack={"batching": "vmap"})
    old = with_old_keys(resolve.to_dict(run), "vmap")
    for loaded in (resolve.resolve(old), resolve.from_dict(old)):
        assert loaded == run
        assert identity.run_id(loaded) == identity.run_id(run)
    assert old["pack"]["lift"] == "vmap"  # the argument is unchanged


def test_an_old_checkpoint_loads_under_the_new_names(tmp_path: Path) -> None:
    run = make(tmp_path, act={"name": "leaky_relu", "slope": 0.3})
    member = make_member(run)
    pack = make_pack([member])
    hparams = {path: jnp.asarray(values[0]) for path, values in stack_hparams(pack).items()}
    task = Task((8, 8, 1), classes=10, outputs=10, scale=0.125, offset=-1.0, total_steps=36)
    network = Network(pack.static, task, hparams)
    params, (act_hparams, _) = split(network.draw(hparams))
    flat = checkpoint.flatten({"params": params, "best": params, "hypers": act_hparams})
    old_names = {name for name in flat if name.startswith("hypers/")}
    assert old_names

    folder = member.dir
    checkpoint.save(folder.checkpoints, 36, flat, {"task": dataclasses.asdict(task)})
    config = with_old_keys(resolve.to_dict(run), "map")
    (folder.path / "config.yaml").write_text(yaml.safe_dump(config))

    arrays, _ = checkpoint.load(folder.checkpoints, 36)
    renamed = {"act_hparams/" + name.removeprefix("hypers/") for name in old_names}
    assert arrays.keys() == (flat.keys() - old_names) | renamed
    loaded = load_run(folder.path)
    assert loaded.config.pack.batching == "map"
    for expected, value in zip(
        jax.tree.leaves((params, act_hparams)), jax.tree.leaves(loaded.parameters()), strict=True
    ):
        np.testing.assert_array_equal(value, expected)


@pytest.fixture
def old_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "old_callbacks.py").write_text(OLD_CALLBACK)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("old_callbacks", None)


@pytest.mark.usefixtures("old_module")
def test_an_old_callback_works_with_warnings() -> None:
    with pytest.warns(DeprecationWarning, match="is now") as imported:
        built = callbacks.build({"old": {"_target_": "old_callbacks.old"}})
    assert {str(warning.message) for warning in imported} == {
        "Binned is now Histogram",
        "Say is now LogMessage",
        "Stop is now EarlyStop",
    }
    callback = built["old"]
    forward = [
        {"a": jnp.asarray(values, jnp.float32)}
        for values in ([[-1.0, 2.0]], [[0.0, 2.0]], [[0.0, 1.0]], [[-1.0, 2.0]])
    ]
    views: list[Any] = [ProbeView(*forward, *[None] * 5), CountView(*forward)]  # type: ignore
    for view, measure in zip(views, (callback.probe, callback.count), strict=True):
        assert measure is not None
        with pytest.warns(DeprecationWarning, match="is now") as read:
            readings = dict(measure(view))
        assert [str(warning.message) for warning in read] == [
            "slope is now abs_derivative",
            "drive is now gate_input",
        ]
        assert isinstance(readings.pop("hist/counts/a"), Histogram)
        assert readings == {"small/a": 0.5, "above/a": 0.5}
    assert callback.hook is not None
    hook = callback.hook()
    assert hook(0, 0.0, {}) == LogMessage("begins")
    assert hook(1, 0.5, {}) == EarlyStop("enough")


def test_a_name_that_never_was_is_refused() -> None:
    with pytest.raises(AttributeError, match="Shout"):
        _ = callbacks.Shout


def test_old_addresses_of_models_are_those_of_today() -> None:
    for name in ("actsweep.models.layers", "actsweep.models"):
        sys.modules.pop(name, None)
    with pytest.warns(DeprecationWarning, match=r"actsweep\.models is now actsweep\.nn\.models"):
        old = importlib.import_module("actsweep.models.layers")
    assert (old.Make, old.Tap) == (layers.LayerFactory, old.Capture)
    assert old.apply("hidden_1", 2.0, lambda z: z + 1) == 3.0
