"""The models that come with actsweep: counted, compared with NumPy, trained alone and in packs."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.signal import correlate
from scipy.special import erf, expit
from test_resume import what_is_left
from test_run import LIGHT, make, run_pack

from actsweep import load_run
from actsweep.config import schema, validate
from actsweep.config.schema import RunConfig
from actsweep.nn import models
from actsweep.nn.models import norms
from actsweep.nn.models.layers import LayerFactory
from actsweep.nn.models.recording import Intermediates
from actsweep.nn.models.resnet import shortcut
from actsweep.nn.models.transformer import cut
from actsweep.nn.network import Network, Task, split
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

DIGITS = Task((8, 8, 1), 10, 10, 1 / 16, 0.0, 100)
CIFAR = Task((32, 32, 3), 10, 10, 1.0, 0.0, 100)


def config(outputs: Path, model: dict[str, Any], layers: int, width: int, **changes: Any) -> Any:
    widths = [width] * layers
    plain: dict[str, Any] = {"act": {"name": "tanh"}, "model": model, "depth": {"widths": widths}}
    return make(outputs, **{"seed": 0, **plain, **changes})


def hparams_of(run: RunConfig) -> tuple[RunConfig, dict[str, Any]]:
    pack = make_pack([make_member(run)])
    return pack.static, {k: jnp.asarray(values[0]) for k, values in stack_hparams(pack).items()}


def describe(run: RunConfig, task: Task) -> Network:
    """The network, nothing drawn."""
    return Network(hparams_of(run)[0], task, hparams_of(run)[1])


def draw(run: RunConfig, task: Task) -> tuple[Network, Any, Any]:
    network = describe(run, task)
    return network, *split(network.draw(hparams_of(run)[1]))


def decoder(run: RunConfig, vocabulary: int, length: int, *, abstract: bool = False) -> Any:
    """A model of tokens."""
    static, hparams = hparams_of(run)

    def build(hparams: Any) -> Any:
        factory = LayerFactory(static, hparams, vocabulary)
        return models.build(factory, (length,), vocabulary)

    return nnx.eval_shape(build, hparams) if abstract else build(hparams)


def count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def images(n: int = 6) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).integers(0, 17, (n, 8, 8, 1)), jnp.uint8)


# Parameters, against the papers and against PyTorch's formulas


@pytest.mark.parametrize(("layers", "parameters"), [(20, 269_722), (56, 853_018), (110, 1_727_962)])
def test_residual_networks_are_as_large_as_he_et_als(layers, parameters, tmp_path):
    """0.27, 0.85 and 1.7 million (table 6); to the digit those of PyTorch's with option A."""
    network = describe(config(tmp_path, {"name": "resnet"}, layers, 16), CIFAR)
    assert count(network.params) == parameters
    assert len(network.layers) == layers


def test_gpt_small_is_as_large_as_gpt2(tmp_path):
    """124 million, as the weights that were published."""
    run = config(tmp_path, {"name": "transformer", "heads": 12}, 12, 768)
    model = decoder(run, 50_257, 1_024, abstract=True)
    assert count(nnx.state(model, nnx.Param)) == 124_439_808


def test_a_vision_transformer_is_counted(tmp_path):
    network = describe(config(tmp_path, {"name": "transformer", "patch": 2}, 3, 64), DIGITS)
    attention, mlp, norm = 4 * (64 * 64 + 64), 2 * 64 * 256 + 256 + 64, 2 * 64
    ends = (4 * 64 + 64) + 16 * 64 + norm + (64 * 10 + 10)
    assert count(network.params) == 3 * (attention + mlp + 2 * norm) + ends
    assert network.acts == ("blocks.0.mlp", "blocks.1.mlp", "blocks.2.mlp")


def test_like_vgg_it_is_counted(tmp_path):
    model = {"name": "cnn", "channels": [8, 16], "convs": 2, "pool": "max", "norm": "batch"}
    network = describe(config(tmp_path, model, 1, 32), CIFAR)
    channels = (3, 8, 8, 16, 16)
    convs = sum(9 * a * b + 3 * b for a, b in itertools.pairwise(channels))
    assert count(network.params) == convs + (8 * 8 * 16 * 32 + 32) + 330
    assert network.layers == ("conv_1", "conv_2", "conv_3", "conv_4", "hidden_1", "head")


@pytest.mark.parametrize(("cell", "gates"), [("simple", 1), ("lstm", 4), ("gru", 3)])
def test_recurrent_networks_are_as_large_as_pytorchs(cell, gates, tmp_path):
    model = {"name": "rnn", "cell": cell, "bidirectional": True}
    network = describe(config(tmp_path, model, 2, 16), DIGITS)
    one = lambda inputs: gates * (inputs * 16 + 16 * 16 + 2 * 16)  # noqa: E731
    assert count(network.params) == 2 * one(8) + 2 * one(32) + 32 * 10 + 10


# Forward passes, against NumPy


def affine(x: np.ndarray, layer: Any) -> np.ndarray:
    return x @ np.asarray(layer.kernel[...], np.float64) + np.asarray(layer.bias[...], np.float64)


def steps_of(
    cell: Any, kind: str, x: np.ndarray, shift: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """h of every step, and what the activation read, to which a simple cell's shift is added."""
    units = cell.units
    shift = np.zeros((*x.shape[:2], units)) if shift is None else shift
    h, c = np.zeros((len(x), units)), np.zeros((len(x), units))
    states, read = [], []
    for t in range(x.shape[1]):
        a, b = affine(x[:, t], cell.input), affine(h, cell.recurrent)
        parts = [(a + b)[:, i * units : (i + 1) * units] for i in range(a.shape[1] // units)]
        if kind == "simple":
            z = parts[0] + shift[:, t]
            h = np.tanh(z)
        elif kind == "lstm":
            i, q, z, o = parts
            c = expit(q) * c + expit(i) * np.tanh(z)
            h = expit(o) * np.tanh(c)
        else:
            r, u = expit(parts[0]), expit(parts[1])
            z = a[:, 2 * units :] + r * b[:, 2 * units :]
            h = (1 - u) * np.tanh(z) + u * h
        states.append(h)
        read.append(z)
    return np.stack(states, 1), np.stack(read, 1)


@pytest.mark.parametrize(
    ("model", "convolves"), [("mlp", False), ("rnn", False), ("cnn", True), ("resnet", True)]
)
def test_a_network_knows_whether_it_convolves(model, convolves, tmp_path):
    layers = 8 if model == "resnet" else 1
    with jax.numpy_dtype_promotion("standard"):  # Flax's average pooling
        network = describe(config(tmp_path, {"name": model}, layers, 4), DIGITS)
    assert network.convolves == convolves


@pytest.mark.parametrize("cell", ["simple", "lstm", "gru"])
def test_a_recurrent_network_is_the_loop_of_its_paper(cell, tmp_path):
    run = config(tmp_path, {"name": "rnn", "cell": cell, "bidirectional": True}, 1, 5)
    network, params, held = draw(run, DIGITS)
    model = network.merge(params, held)
    x = np.asarray(images(), np.float64)[..., 0] / 16
    ahead, read = steps_of(model.cells[0], cell, x)
    behind, _ = steps_of(model.backwards[0], cell, x[:, ::-1])
    expected = affine(np.concatenate([ahead[:, -1], behind[:, -1]], 1), model.head)
    kept = Intermediates()
    found = network.forward(params, held, images(), kept)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kept.preact["cells.0"], read, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kept.act["cells.0"], np.tanh(read), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(network.forward(params, held, images()), found, rtol=1e-6)


def test_gradients_reach_the_pre_activations_of_every_step(tmp_path):
    """They are those of a NumPy loop by finite differences, z shifted at one step."""
    network, params, held = draw(config(tmp_path, {"name": "rnn"}, 1, 4), DIGITS)
    model = network.merge(params, held)
    x = np.asarray(images(3), np.float64)[..., 0] / 16

    def total(shift: jax.Array) -> jax.Array:
        logits = network.forward(params, held, images(3), Intermediates({"cells.0": shift}))
        return jnp.sum(jnp.sin(logits))

    def expected(place: tuple[int, ...], by: float) -> float:
        shift = np.zeros((3, 8, 4))
        shift[place] = by
        states, _ = steps_of(model.cells[0], "simple", x, shift)
        return float(np.sin(affine(states[:, -1], model.head)).sum())

    grads = jax.grad(total)(jnp.zeros((3, 8, 4)))
    for place in ((0, 6, 1), (1, 5, 3), (2, 7, 0)):
        slope = (expected(place, 1e-4) - expected(place, -1e-4)) / 2e-4
        assert abs(slope) > 1e-3
        assert float(grads[place]) == pytest.approx(slope, rel=1e-3)


def test_a_transformer_is_the_loop_of_its_paper(tmp_path):
    run = config(tmp_path, {"name": "transformer", "heads": 2, "patch": 4}, 1, 6)
    network, params, held = draw(run, DIGITS)
    model, x = network.merge(params, held), np.asarray(images(), np.float64) / 16
    patches = [x[:, i : i + 4, j : j + 4].reshape(len(x), -1) for i in (0, 4) for j in (0, 4)]
    h = affine(np.stack(patches, 1), model.patches) + np.asarray(model.places.embedding[...])
    block = model.blocks[0]

    def normal(x: np.ndarray) -> np.ndarray:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    z, heads = normal(h), []
    q, k, v = (affine(z, getattr(block.attention, part)) for part in ("query", "key", "value"))
    for part in (slice(0, 3), slice(3, 6)):
        weights = np.exp(q[..., part] @ k[..., part].transpose(0, 2, 1) / np.sqrt(3))
        heads.append(weights / weights.sum(-1, keepdims=True) @ v[..., part])
    h = h + affine(np.concatenate(heads, -1), block.attention.out)
    h = h + affine(np.tanh(affine(normal(h), block.mlp.up)), block.mlp.down)
    expected = affine(normal(h).mean(1), model.head)
    found = network.forward(params, held, images())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_decoder_doesnt_see_what_it_predicts(tmp_path):
    for model in ({"name": "transformer", "heads": 2}, {"name": "rnn", "cell": "gru"}):
        built = decoder(config(tmp_path, model, 2, 8), 11, 9)
        tokens = jnp.asarray(np.random.default_rng(1).integers(0, 11, (2, 9)))
        before, after = built(tokens), built(tokens.at[:, 5:].set(3))
        assert before.shape == (2, 9, 11)
        np.testing.assert_array_equal(before[:, :5], after[:, :5])
        assert not np.allclose(before[:, 5:], after[:, 5:])


def test_patches_are_cut_row_by_row():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    expected = [x[:, i : i + 2, j : j + 2].reshape(2, -1) for i in (0, 2) for j in (0, 2, 4)]
    np.testing.assert_array_equal(cut(jnp.asarray(x), 2), np.stack(expected, 1))


@pytest.mark.parametrize("preact", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_a_residual_block_is_its_convolutions(preact, skip, tmp_path):
    """The second stage's first block: half the image, twice the channels, zeros beside."""
    model = {"name": "resnet", "norm": "none", "skip": skip, "preact": preact}
    network, params, held = draw(config(tmp_path, model, 8, 3), DIGITS)
    block = network.merge(params, held).blocks[1]
    x = np.random.default_rng(2).normal(size=(2, 8, 8, 3))

    def conv(layer: Any, x: np.ndarray) -> np.ndarray:
        kernel = np.asarray(layer.kernel[...], np.float64)
        side, stride = x.shape[1], layer.stride
        lost = max((-(-side // stride) - 1) * stride + 3 - side, 0)
        padded = np.pad(
            x, ((0, 0), (lost // 2, lost - lost // 2), (lost // 2, lost - lost // 2), (0, 0))
        )
        planes = [
            sum(correlate(image[..., i], kernel[..., i, o], "valid") for i in range(x.shape[-1]))
            for image in padded
            for o in range(kernel.shape[-1])
        ]
        whole = np.stack(planes).reshape(len(x), -1, *planes[0].shape).transpose(0, 2, 3, 1)
        return whole[:, ::stride, ::stride] + np.asarray(layer.bias[...], np.float64)

    if preact:
        f = conv(block.conv_2, np.tanh(conv(block.conv_1, np.tanh(x))))
    else:
        f = conv(block.conv_2, np.tanh(conv(block.conv_1, x)))
    beside = np.concatenate([x[:, ::2, ::2], np.zeros((2, 4, 4, 3))], -1)
    y = f + beside if skip else f
    expected = y if preact else np.tanh(y)
    np.testing.assert_allclose(block(jnp.asarray(x, jnp.float32)), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(shortcut(jnp.asarray(x), 2, 6), np.float32(beside))


def test_skipinit_starts_as_the_identity(tmp_path):
    model = {"name": "resnet", "norm": "skipinit", "preact": True}
    network, params, held = draw(config(tmp_path, model, 8, 3), DIGITS)
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 8, 8, 3)), jnp.float32)
    np.testing.assert_array_equal(network.merge(params, held).blocks[0](x), x)


# Normalisations


def test_local_response_is_krizhevsky_et_als():
    x = np.random.default_rng(3).normal(size=(2, 3, 7)) * 20
    expected = np.empty_like(x)
    for i in range(7):
        window = x[..., max(0, i - 2) : i + 3]
        expected[..., i] = x[..., i] / (2 + 1e-4 * (window**2).sum(-1)) ** 0.75
    found = norms.build("local_response", 7, nnx.Rngs(0))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "f"), [("dyt", np.tanh), ("derf", erf)])
def test_bounded_functions_in_place_of_a_normalisation(name, f):
    norm = norms.build(name, 4, nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = jnp.arange(4.0), jnp.full(4, 0.5)
    if norm.shift is not None:
        norm.shift[...] = jnp.float32(0.25)
    x = np.random.default_rng(4).normal(size=(3, 4))
    shifted = 0.5 * x + (0.25 if name == "derf" else 0)
    expected = f(shifted) * np.arange(4) + 0.5
    np.testing.assert_allclose(norm(jnp.asarray(x, jnp.float32)), expected, rtol=1e-5, atol=1e-6)


# Trained

TRAINED: dict[str, tuple[dict[str, Any], int, int]] = {
    "mlp": ({"name": "mlp", "norm": "batch", "residual": True, "dropout": 0.2}, 3, 16),
    "cnn": ({"name": "cnn", "convs": 2, "pool": "max", "norm": "group", "dropout": 0.2}, 1, 16),
    "resnet": ({"name": "resnet"}, 8, 4),
    "plain": ({"name": "resnet", "skip": False, "norm": "none"}, 8, 4),
    "transformer": ({"name": "transformer", "patch": 4, "dropout": 0.1}, 2, 8),
    "rnn": ({"name": "rnn", "cell": "lstm"}, 1, 8),
}


@pytest.mark.parametrize("name", TRAINED)
def test_each_computes_in_bfloat16(name, tmp_path):
    model, layers, width = TRAINED[name]
    precision = {"epochs": 2, "batch_size": 64, "precision": "bfloat16"}
    with jax.numpy_dtype_promotion("standard"):
        run = config(tmp_path, model, layers, width, trainer=precision)
        network, params, held = draw(run, DIGITS)
    kept = Intermediates()
    with jax.numpy_dtype_promotion("standard"):  # flax's own modules
        found = network.forward(params, held, images(), kept)
        logits, after = network.train_forward(params, held, images(), jax.random.key(0))
    assert found.dtype == jnp.float32
    assert {z.dtype for z in kept.preact.values()} == {jnp.dtype("bfloat16")}
    assert np.isfinite(logits).all()
    assert {leaf.dtype for leaf in jax.tree.leaves(after[1])} <= {jnp.dtype("float32")}


def test_eight_transformers_under_vmap_are_eight_alone(tmp_path):
    """After a hundred steps, to rounding."""
    model, layers, width = TRAINED["transformer"]
    settings = {"epochs": 6, "batch_size": 64, "patience": None}
    packed, alone = (
        [
            config(
                *(tmp_path / how, model, layers, width),
                seed=seed,
                pack={"batching": how},
                trainer=settings,
                callbacks={},
            )
            for seed in seeds
        ]
        for how, seeds in (("vmap", range(8)), ("map", (0, 5, 7)))
    )
    run_pack(packed, SweepContext("sweep"))
    for run in alone:
        run_pack([run], SweepContext("sweep"))
        ours, theirs = (load_run(make_member(one).dir.path) for one in (packed[run.seed], run))
        assert ours.summary["epochs"] == theirs.summary["epochs"] == 6
        assert ours.metrics()["step"][-1] > 100
        for one, other in zip(
            *(jax.tree.leaves(one.parameters("last")[0]) for one in (ours, theirs)), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize(
    ("name", "batching"),
    [
        *((name, "map") for name in ("mlp", "resnet", "transformer", "rnn")),
        *((name, "vmap") for name in ("resnet", "rnn")),
    ],
)
def test_alone_and_in_a_pack_each_is_the_same(name, batching, tmp_path):
    """To the bit under map, running averages and dropout too; with every diagnostic finite.

    Of a residual network, the longest to compile, diagnostics are measured under map alone.
    """
    model, layers, width = TRAINED[name]
    diagnostics = {**LIGHT, "moments": {}, "histograms": {}}
    observed = (name, batching) != ("resnet", "vmap")
    trainer = {"epochs": 2, "batch_size": 64, "probe_examples": 64}
    how = {"alone": ("map", diagnostics), "packed": (batching, diagnostics if observed else {})}
    runs = {
        where: [
            config(
                *(tmp_path / where, model, layers, width),
                seed=seed,
                pack={"batching": own},
                trainer=trainer,
                callbacks=callbacks,
            )
            for seed in (0, 1)
        ]
        for where, (own, callbacks) in how.items()
    }
    for run in runs["alone"]:
        run_pack([run], SweepContext("sweep"))
    run_pack(runs["packed"], SweepContext("sweep"))
    for one, other in zip(*runs.values(), strict=True):
        if batching == "map":
            assert what_is_left(one) == what_is_left(other)
        loaded, twin = (load_run(make_member(run).dir.path) for run in (one, other))
        ours, theirs = loaded.metrics(), twin.metrics()
        assert np.isfinite(ours["train/loss"][1:]).all()
        np.testing.assert_allclose(ours["train/loss"], theirs["train/loss"], rtol=1e-5)
        network, params, held = draw(one, DIGITS)
        kept = Intermediates()
        network.forward(params, held, images(), kept)
        assert tuple(kept.act) == network.acts
        for rows in (ours, theirs) if observed else (ours,):
            for layer in network.layers:
                assert np.isfinite(rows[f"grad_norm/{layer}"][1:]).all()
            for act in network.acts:
                assert np.isfinite(rows[f"dead_frac/{act}"]).all()


@pytest.mark.parametrize(
    ("model", "layers", "width", "message"),
    [
        ({"name": "transformer", "heads": 5}, 2, 8, "model.heads=5: must be a divisor of depth.w"),
        (
            {"name": "transformer", "patch": 3},
            2,
            8,
            "model.patch=3: must be a divisor of this data",
        ),
        ({"name": "resnet"}, 9, 4, "depth.layers=9: model=resnet has 6n + 2 layers; type for exam"),
    ],
)
def test_what_doesnt_fit_is_said_before_training(model, layers, width, message, tmp_path):
    with pytest.raises(UserError, match=message.replace("+", r"\+")):
        draw(config(tmp_path, model, layers, width), DIGITS)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"heads": 2},
            "model.heads=2: model=mlp has no such option; it has norm, residual, dropou",
        ),
        ({"norm": "bach"}, "model.norm=bach: .*batch"),
        ({"dropout": 1.0}, "model.dropout=1.0: must be from 0 to below 1"),
        ({"name": "rnn", "cell": "lsmt"}, "model.cell=lsmt: .*lstm"),
        ({"name": "resnet", "channels": [3]}, "model.channels=.*model=resnet has no such option"),
        ({"name": "mine", "_target_": "a.b", "norm": "rms"}, r"\+model.options.norm=rms"),
    ],
)
def test_options_are_checked(model, message, tmp_path):
    run = config(tmp_path, {"name": "mlp"}, 2, 8)
    run = dataclasses.replace(run, model=schema.ModelConfig(**{"name": "mlp", **model}))
    with pytest.raises(UserError, match=message):
        validate.check(run)


def test_gates_and_unequal_widths_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"act=swiglu: takes 2 inputs a unit, and stem_act"):
        draw(config(tmp_path, {"name": "resnet"}, 8, 4, act={"name": "swiglu"}), DIGITS)
    run = config(tmp_path, {"name": "rnn"}, 2, 4)
    with pytest.raises(UserError, match=r"depth.widths=\[8, 4\]: the layers of model=rnn"):
        draw(dataclasses.replace(run, depth=schema.DepthConfig(widths=[8, 4])), DIGITS)
    with pytest.raises(UserError, match=r"model.bidirectional=True: would see the token"):
        decoder(config(tmp_path, {"name": "rnn", "bidirectional": True}, 1, 4), 5, 7)
