"""init=lsuv against the loop of the paper, in NumPy; in packs and alone; what it can't scale."""

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

from actsweep.config.schema import RunConfig
from actsweep.nn.models.layers import LayerFactory
from actsweep.nn.models.recording import Intermediates
from actsweep.nn.models.unit_variance import scaling
from actsweep.nn.network import Network, Task, split
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

TASK = Task((8, 8, 1), 10, 10, 1 / 16, 0.0, 100)
LSUV = {"name": "lsuv"}


def drawn(run: RunConfig) -> tuple[Network, Any, Any, Any]:
    """A network, its parameters and what it holds, and its hparams."""
    pack = make_pack([make_member(run)])
    hparams = {key: jnp.asarray(values[0]) for key, values in stack_hparams(pack).items()}
    network = Network(pack.static, TASK, hparams)
    return network, *split(network.draw(hparams)), hparams


def images(n: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 17, (n, 8, 8, 1)).astype(np.uint8)


def by_the_paper(kernels: list[np.ndarray], x: np.ndarray, std: float, bias: float) -> list:
    """Algorithm 1 of Mishkin & Matas 2016: layer by layer, until the variance is within 1e-9."""
    found = []
    for w in kernels:
        for _ in range(10):
            variance = np.var(x @ w) / std**2
            if abs(variance - 1) < 1e-9:
                break
            w = w / np.sqrt(variance)
        else:
            raise AssertionError("never within the tolerance")
        found.append(w)
        x = np.maximum(x @ w + bias, 0)
    return found


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (0.7, 0.3)])
def test_kernels_are_those_of_the_paper(tmp_path: Path, scale: float, bias: float) -> None:
    init = {**LSUV, "scale": scale, "bias": bias}
    network, params, held, hparams = drawn(make(tmp_path, init=init, depth={"widths": [16] * 4}))
    before = [np.asarray(w, float) for w in network.kernels(params).values()]
    np.testing.assert_allclose(before[1].T @ before[1], scale**2 * np.eye(16), atol=1e-5)
    scaled = network.unit_variance(params, held, jnp.asarray(images()), hparams["init.scale"])
    x = images().reshape(64, -1) / 16
    for w, expected in zip(
        network.kernels(scaled).values(), by_the_paper(before, x, scale, bias), strict=True
    ):
        np.testing.assert_allclose(w, expected, rtol=2e-5, atol=1e-6)
    biases = [np.asarray(layer["bias"][...]) for layer in scaled["layers"].values()]
    assert all(np.all(b == np.float32(bias)) for b in biases)


@pytest.mark.parametrize(
    ("act", "model"),
    [
        ("swiglu", {"name": "mlp", "norm": "batch", "residual": True, "dropout": 0.2}),
        ("relu", {"name": "cnn", "pool": "max"}),
        ("tanh", {"name": "resnet", "norm": "none"}),
        ("gelu", {"name": "transformer", "patch": 4, "heads": 2}),
    ],
)
def test_each_layer_of_each_model_is_scaled_once(
    tmp_path: Path, act: str, model: dict[str, Any]
) -> None:
    """Kernels drawn three times as large end as the same; all else stays as it was drawn."""
    width = {"depth": {"widths": [8] * (8 if model["name"] == "resnet" else 2)}}
    run = make(tmp_path, act={"name": act}, init=LSUV, model=model, **width)
    network, params, held, hparams = drawn(run)
    larger = nnx.from_flat_state(
        (path, leaf.replace(leaf[...] * (3 if path[-1] == "kernel" else 1)))
        for path, leaf in nnx.to_flat_state(params)
    )
    scale = jax.jit(network.unit_variance)
    x, one = jnp.asarray(images(32)), hparams["init.scale"]
    scaled, from_larger = scale(params, held, x, one), scale(larger, held, x, one)
    for name, kernel in network.kernels(scaled).items():
        other = network.kernels(from_larger)[name]
        np.testing.assert_allclose(other, kernel, rtol=1e-3, atol=1e-5, err_msg=name)
    rest = lambda tree: [  # noqa: E731
        (path, leaf) for path, leaf in nnx.to_flat_state(tree) if path[-1] != "kernel"
    ]
    for (path, before), (_, after) in zip(rest(params), rest(scaled), strict=True):
        np.testing.assert_array_equal(before[...], after[...], err_msg=str(path))


def test_pre_activations_have_the_variance_of_one(tmp_path: Path) -> None:
    network, params, held, _ = drawn(
        make(tmp_path, init=LSUV, act={"name": "tanh"}, depth={"widths": [24] * 12})
    )
    x, kept = jnp.asarray(images()), {}
    for scale in (1.0, 0.5):
        scaled = network.unit_variance(params, held, x, jnp.float32(scale))
        record = Intermediates()
        network.probe_forward(scaled, held, x, record)
        kept[scale] = [float(jnp.std(z)) for z in record.preact.values()]
    assert kept[1.0] == pytest.approx([1.0] * 12, rel=1e-5)
    assert kept[0.5] == pytest.approx([0.5] * 12, rel=1e-5)


def test_layers_that_read_nothing_stay_as_they_are(tmp_path: Path) -> None:
    network, params, held, hparams = drawn(make(tmp_path, init=LSUV))
    blank = jnp.zeros((8, 8, 8, 1), jnp.uint8)
    scaled = network.unit_variance(params, held, blank, hparams["init.scale"])
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(scaled), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.slow
def test_alone_and_in_a_pack_a_member_is_the_same(tmp_path: Path) -> None:
    """Streamed or not, and whatever the scale of the others is."""
    options = {"callbacks": {**LIGHT, "histograms": {}}, "model": {"name": "mlp", "norm": "batch"}}
    digits = {"name": "digits", "val_size": 300}

    def runs(folder: str, **changes: Any) -> list[RunConfig]:
        return [
            make(tmp_path / folder, seed=seed, init={**LSUV, "scale": scale}, **options, **changes)
            for seed, scale in ((0, 1.0), (1, 0.5), (2, 1.0))
        ]

    alone, packed = runs("alone"), runs("packed")
    streamed = runs("streamed", data={**digits, "stream": True})
    for run in alone:
        run_pack([run], SweepContext("sweep"))
    for pack in (packed, streamed):
        run_pack(pack, SweepContext("sweep"))
    for one, other, third in zip(alone, packed, streamed, strict=True):
        assert what_is_left(one) == what_is_left(other) == what_is_left(third)


class Twice(nnx.Module):
    """A model that calls a layer twice, or in a loop, or one of flax's own."""

    def __init__(self, make: LayerFactory, input_shape: Any, outputs: int, how: str) -> None:
        self.how, self.act = how, make.act(64)
        own = nnx.Linear(64, 64, rngs=make.rngs("own"))
        self.inner = own if how == "own" else make.dense("inner", 64, 64)
        self.head = make.dense("head", 64, outputs)

    def __call__(self, x: Any) -> Any:
        x = x.reshape(len(x), -1)
        if self.how == "scan":
            x, _ = jax.lax.scan(lambda x, _: (self.inner(x), None), x, length=2)
        elif self.how == "twice":
            x = self.inner(x)
        return self.head(self.act(x if self.how == "scan" else self.inner(x)))


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("twice", "init=lsuv: a layer of this model is called twice in one forward pass"),
        ("scan", r"init=lsuv: this model calls a layer inside a loop \(scan\)"),
        ("own", "init=lsuv: scales layers of make.dense and make.conv .*, and inner isn't one"),
    ],
)
def test_layers_that_cannot_be_scaled_are_refused(tmp_path: Path, how: str, line: str) -> None:
    model = {"name": "twice", "_target_": f"{__name__}.Twice", "options": {"how": how}}
    network, params, held, hparams = drawn(make(tmp_path, init=LSUV, model=model))
    with pytest.raises(UserError, match=line + ".*; type init=orthogonal"):
        jax.jit(network.unit_variance)(params, held, jnp.asarray(images()), hparams["init.scale"])


def test_a_layer_of_flax_s_own_ends_the_sweep_before_anything_is_written(tmp_path: Path) -> None:
    model = {"name": "mixed", "_target_": f"{Mixed.__module__}.Mixed"}
    with pytest.raises(UserError, match="stem isn't one"):
        run_pack([make(tmp_path / "out", init=LSUV, model=model)], SweepContext("sweep"))
    assert not (tmp_path / "out" / "runs").exists()


@pytest.mark.parametrize(
    ("groups", "line"),
    [
        ({"init": {**LSUV, "gain": "auto"}}, "init.gain=auto: init=lsuv scales the weights by"),
        ({"model": {"name": "rnn"}}, "those of model=rnn act at every step of time; type init="),
    ],
)
def test_what_contradicts_it_is_refused(tmp_path: Path, groups: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        make(tmp_path, **{"init": LSUV, **groups})


def test_a_forward_pass_that_fails_leaves_nothing_scaled() -> None:
    with pytest.raises(ZeroDivisionError), scaling(1.0):
        raise ZeroDivisionError
    kernel = nnx.Param(jnp.ones((2, 2)))
    from actsweep.nn.models.unit_variance import scaled

    np.testing.assert_array_equal(scaled(kernel, jnp.ones((3, 2))), np.ones((3, 2)))
