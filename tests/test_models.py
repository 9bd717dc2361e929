"""A model is any tree of modules: its names, its state, its random numbers, in packs and alone."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from mixed import Mixed
from test_resume import what_is_left
from test_run import LIGHT, make, run_pack

from actsweep import load_run
from actsweep.config.schema import RunConfig
from actsweep.nn.models.recording import Intermediates
from actsweep.nn.network import Network, Task, split
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.train.types import SweepContext

MIXED = {"name": "mixed", "_target_": "mixed.Mixed"}
STEPS = {"epochs": 3, "batch_size": 64, "probe_examples": 128}
LAYERS = ("stem", "blocks.0.up", "blocks.1.up", "head")
TASK = Task((8, 8, 1), 10, 10, 1 / 16, 0.0, 100)


def mixed(outputs: Path, seed: int, **changes: Any) -> RunConfig:
    plain: dict[str, Any] = {
        "model": MIXED,
        "trainer": STEPS,
        "callbacks": {**LIGHT, "moments": {}, "histograms": {}},
    }
    return make(outputs, seed=seed, **{**plain, **changes})


def drawn(outputs: Path, seed: int = 0, **changes: Any) -> tuple[Network, Any, Any]:
    pack = make_pack([make_member(mixed(outputs, seed, **changes))])
    hparams = {key: jnp.asarray(values[0]) for key, values in stack_hparams(pack).items()}
    network = Network(pack.static, TASK, hparams)
    return network, *split(network.draw(hparams))


def images(n: int = 32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).integers(0, 17, (n, 8, 8, 1)), jnp.uint8)


def test_layers_and_activations_are_named_by_path_in_the_order_of_calls(tmp_path: Path) -> None:
    network, params, held = drawn(tmp_path)
    assert network.layers == LAYERS
    assert network.acts == ("blocks.0", "blocks.1")
    shapes = {name: kernel.shape for name, kernel in network.kernels(params).items()}
    assert shapes == {
        "stem": (64, 12),
        "blocks.0.up": (12, 12),
        "blocks.1.up": (12, 12),
        "head": (12, 10),
    }
    kept = Intermediates()
    network.forward(params, held, images(), kept)
    assert list(kept.act) == ["blocks.0", "blocks.1"]


def test_the_forward_pass_is_that_of_the_model(tmp_path: Path) -> None:
    """In evaluation by NumPy, from the averages; in training normalised by the batch."""
    network, params, held = drawn(tmp_path)
    key = jax.random.key(3)
    _, after = network.train_forward(params, held, images(), key)
    model = network.merge(params, after)
    x = affine(np.asarray(images(), np.float32).reshape(32, -1) / 16, model.stem)
    for block in model.blocks:
        z, norm = (
            affine(x, block.up),
            {k: np.asarray(v[...]) for k, v in vars_of(block.norm).items()},
        )
        if block is model.blocks[0]:  # what it reads has no randomness in front
            np.testing.assert_allclose(norm["mean"], 0.1 * z.mean(0), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(norm["var"], 0.9 + 0.1 * z.var(0), rtol=1e-4)
        z = (z - norm["mean"]) / np.sqrt(norm["var"] + 1e-5)
        x = x + np.maximum(z * norm["scale"] + norm["bias"], 0)
    last = {k: np.asarray(v[...]) for k, v in vars_of(model.a_last_norm).items()}
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)
    logits = affine(x * last["scale"] + last["bias"], model.head)
    found = network.forward(params, after, images())
    np.testing.assert_allclose(found, logits, rtol=1e-3, atol=1e-4)


def affine(x: np.ndarray, layer: Any) -> np.ndarray:
    return x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])


def vars_of(module: nnx.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if isinstance(value, nnx.Variable)}


def test_random_numbers_depend_on_the_key_alone(tmp_path: Path) -> None:
    network, params, held = drawn(tmp_path)
    run = lambda key: np.asarray(network.train_forward(params, held, images(), key)[0])  # noqa: E731
    first = run(jax.random.key(1))
    np.testing.assert_array_equal(first, run(jax.random.key(1)))
    assert np.abs(first - run(jax.random.key(2))).max() > 0.01
    still = network.forward(params, held, images())
    np.testing.assert_array_equal(still, network.forward(params, held, images()))


def test_places_that_share_a_stream_drop_other_units(tmp_path: Path) -> None:
    network, params, held = drawn(tmp_path)
    masks = []

    class Ones(nnx.Dropout):
        def __call__(self, x: Any, **options: Any) -> Any:
            masks.append(super().__call__(jnp.ones_like(x), **options))
            return x

    network, params, held = drawn(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mixed.nnx.Dropout", Ones)
        network, params, held = drawn(tmp_path)
        masks.clear()
        network.train_forward(params, held, images(), jax.random.key(1))
    assert len(masks) == 2
    first, second = (np.asarray(mask) > 0 for mask in masks)
    assert not np.array_equal(first, second)
    assert all(0.6 < mask.mean() < 0.8 for mask in (first, second))


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize("batching", ["map", "vmap"])
def test_alone_and_in_a_pack_a_member_is_the_same(batching: str, tmp_path: Path) -> None:
    """To the bit under map; under vmap to rounding, which other programs do otherwise."""
    pack = {"batching": batching}
    alone = [mixed(tmp_path / "alone", seed, pack=pack) for seed in (0, 1, 2)]
    for run in alone:
        run_pack([run], SweepContext("sweep"))
    packed = [mixed(tmp_path / "packed", seed, pack=pack) for seed in (0, 1, 2)]
    run_pack(packed, SweepContext("sweep"))
    for one, other in zip(alone, packed, strict=True):
        if batching == "map":
            assert what_is_left(one) == what_is_left(other)
        ours, theirs = (load_run(make_member(run).dir.path).metrics() for run in (one, other))
        for name in ("train/loss", "val/loss", "dead_frac/blocks.0", "grad_norm/blocks.1.up"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-4, atol=1e-5)


def test_a_trained_run_is_read_back(tmp_path: Path) -> None:
    (result,) = run_pack([mixed(tmp_path, 0)], SweepContext("sweep"))
    run = load_run(tmp_path / "runs" / result["run_id"])
    data = run.dataset()
    right = np.mean(np.argmax(run.logits(data.test_x), axis=1) == data.test_y)
    assert run.summary["test_accuracy"] == pytest.approx(float(right), abs=1e-6)
    assert right > 0.5
    averages = [block.norm.mean[...] for block in run.model().blocks]
    assert all(np.abs(average).max() > 0.01 for average in averages)
    for name in LAYERS:
        assert np.isfinite(run.metrics()[f"grad_norm/{name}"][1:]).all()
    for name in ("blocks.0", "blocks.1"):
        assert np.isfinite(run.metrics()[f"dead_frac/{name}"]).all()
    assert isinstance(run.model(), Mixed)
