"""Predictions for every layer against networks drawn in NumPy, whose widths are finite."""

import math

import numpy as np
import pytest

from actsweep.config import resolve
from actsweep.theory.closed_forms import CLOSED_FORMS
from actsweep.theory.jacobian import jacobian_spectrum
from actsweep.theory.mean_field import Layer, edge_point
from actsweep.theory.networks import network_of, predict
from actsweep.theory.units import unit_of
from actsweep.utils.errors import UserError


def evaluate(name, z, params):
    return CLOSED_FORMS[name].evaluate(z, **params)


def run_of(act="tanh", depth=5, width=400, widths=None, **groups):
    sizes = {"widths": widths} if widths else {"layers": depth, "width": width}
    act = act if isinstance(act, dict) else {"name": act}
    return resolve.resolve({"act": act, "depth": sizes} | groups)


def draw(run, x, rng):
    """Forward and backward pass of one drawn network, as PyTorch users would write it.

    x: [2, inputs]. Returns a dict a layer: q, c (cosine of z), act_c, and the norms of dL/dW and
    dL/dz for a random dL/da of the last layer.
    """
    init, name, residual = run.init, run.act["name"], bool(run.model.residual)
    norm = run.model.norm
    weights, zs, hats, acts, skips = [], [], [], [x], []
    for i, width in enumerate(run.widths):
        inputs = acts[-1]
        fan_in = inputs.shape[-1]
        std = {
            "normal": init.sigma_w / math.sqrt(fan_in),
            "lecun_normal": math.sqrt(1 / fan_in),
            "he_normal": math.sqrt(2 / fan_in),
            "glorot_normal": math.sqrt(2 / (fan_in + width)),
            "torch_uniform": math.sqrt(1 / (3 * fan_in)),
        }[init.name]
        gain = 1.0 if i == 0 else init.gain
        w = rng.standard_normal((fan_in, width)) * std * init.scale * gain
        std_b = {"normal": init.sigma_b, "torch_uniform": std}.get(init.name, 0.0)
        b = rng.standard_normal(width) * std_b * init.scale + init.bias
        z = inputs @ w + b
        hat = z
        if norm in ("layer", "rms"):
            centred = z - z.mean(-1, keepdims=True) if norm == "layer" else z
            hat = centred / np.sqrt((centred**2).mean(-1, keepdims=True))
        a = evaluate(name, hat, {})[0]
        skips.append(residual and a.shape == inputs.shape)
        acts.append(inputs + a if skips[-1] else a)
        weights.append(w)
        zs.append(z)
        hats.append((hat, a))
    grad = rng.standard_normal(acts[-1].shape[-1])
    layers = []
    for i in reversed(range(len(weights))):
        z, (hat, a) = zs[i], hats[i]
        dz = grad * evaluate(name, hat[0], {})[1]
        if norm in ("layer", "rms"):
            root = math.sqrt((z[0] ** 2).mean())
            dz = (dz - hat[0] * (dz * hat[0]).mean()) / root
            dz = dz - dz.mean() if norm == "layer" else dz
        layers.append(
            {
                "second": (z[0] ** 2).mean(),
                "correlation": cosine(z),
                "act_cosine": cosine(a),
                "gradient": (acts[i][0] ** 2).sum() * (dz**2).sum(),
                "preact_gradient": (dz**2).sum(),
            }
        )
        grad = weights[i] @ dz + (grad if skips[i] else 0)
    return layers[::-1]


def cosine(pair):
    return pair[0] @ pair[1] / np.linalg.norm(pair[0]) / np.linalg.norm(pair[1])


def inputs_of(width, q_0, c_0):
    """Two inputs of this mean square and cosine, exactly."""
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((width, 2)))[0].T
    x = np.stack([basis[0], c_0 * basis[0] + math.sqrt(1 - c_0**2) * basis[1]])
    return x * math.sqrt(width * q_0)


def compare(run, inputs=300, q_0=0.7, c_0=0.3, networks=60):
    """To 4 standard errors of the mean over networks, and 3 % for their finite width."""
    predictions = predict(network_of(run, inputs), q_0, c_0)
    rng = np.random.default_rng(0)
    drawn = [draw(run, inputs_of(inputs, q_0, c_0), rng) for _ in range(networks)]
    for i, prediction in enumerate(predictions):
        values = {key: np.array([net[i][key] for net in drawn]) for key in drawn[0][i]}
        last = {key: np.array([net[-1][key] for net in drawn]) for key in drawn[0][i]}
        for key in ("second", "correlation", "act_cosine"):
            size = prediction.second if key == "second" else 0.3
            close = 4 * values[key].std() / networks**0.5 + 0.03 * size
            assert getattr(prediction, key) == pytest.approx(values[key].mean(), abs=close), (
                i,
                key,
            )
        for key in ("gradient", "preact_gradient"):
            ratio = values[key].mean() / last[key].mean()
            error = (values[key] / values[key].mean() - last[key] / last[key].mean()).std()
            close = 4 * error / networks**0.5 + 0.03
            assert getattr(prediction, key) ** 2 == pytest.approx(ratio, rel=close), (i, key)
    return predictions


@pytest.mark.parametrize(
    ("act", "init"),
    [
        ("tanh", {"name": "normal", "sigma_w": 1.3, "sigma_b": 0.2}),
        ("relu", {"name": "he_normal"}),
        ("gelu", {"name": "torch_uniform"}),
        ("selu", {"name": "glorot_normal", "gain": 1.1}),
        ("sigmoid", {"name": "normal", "sigma_w": 2.0, "scale": 1.5, "sigma_b": 0.1}),
        ("swish", {"name": "he_normal", "bias": 0.4}),
        ("relu", {"name": "he_normal", "bias": -0.2}),
    ],
)
def test_plain_networks(act, init):
    compare(run_of(act, init=init))


def test_widths_that_differ():
    run = run_of("relu", init={"name": "glorot_normal"}, widths=[500, 300, 400])
    compare(run)


@pytest.mark.parametrize("act", ["tanh", "relu", "gelu"])
def test_residual_networks(act):
    """Yang & Schoenholz 2017; with a mean of x where f isn't odd."""
    run = run_of(act, init={"name": "normal", "sigma_b": 0.1}, model={"residual": True})
    assert compare(run)[0].band is None


def test_residual_networks_skip_the_first_layer_too_where_it_is_as_wide():
    run = run_of("tanh", width=300, init={"name": "lecun_normal"}, model={"residual": True})
    assert network_of(run, 300).skips == (True,) * 5
    assert network_of(run, 200).skips == (False, *(True,) * 4)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize(("act", "residual"), [("tanh", False), ("relu", False), ("swish", True)])
def test_normalised_networks(norm, act, residual):
    init = {"name": "normal", "sigma_w": 3.0, "sigma_b": 0.5}
    run = run_of(act, init=init, model={"norm": norm, "residual": residual})
    compare(run)


def test_a_normalisation_makes_depth_harmless_to_lengths():
    init = {"name": "normal", "sigma_w": 9.0}
    layers = predict(network_of(run_of(init=init, model={"norm": "rms"})), 1.0, 0.0)
    assert layers[1].second == pytest.approx(layers[4].second)
    assert layers[4].gradient == 1
    assert layers[1].gradient < 5


@pytest.mark.parametrize(
    ("act", "init", "width"),
    [
        ("tanh", {"name": "normal", "sigma_w": 1.5, "sigma_b": 0.2}, 100),
        ("relu", {"name": "he_normal"}, 200),
        ("gelu", {"name": "normal", "sigma_w": 1.4}, 100),
        ("relu", {"name": "lecun_normal", "bias": 1.0}, 100),
    ],
)
def test_the_band_is_the_spread_of_a_thousand_networks(act, init, width):
    """To first order in depth / width, here 4 %; the standard error of a deviation is 2.2 %."""
    run = run_of(act, depth=4, width=width, init=init)
    predictions = predict(network_of(run, 50), 1.0, 0.0)
    rng = np.random.default_rng(2)
    x = inputs_of(50, 1.0, 0.0)
    drawn = np.array([[layer["second"] for layer in draw(run, x, rng)] for _ in range(1000)])
    for i, prediction in enumerate(predictions):
        assert prediction.band == pytest.approx(drawn[:, i].std(ddof=1), rel=0.12), i
    growth = predictions[-1].band / predictions[-1].second
    assert growth > predictions[0].band / predictions[0].second


@pytest.mark.parametrize("orthogonal", [True, False])
def test_jacobian_of_drawn_networks(orthogonal):
    """Eigenvalues of J J^T of 12 networks of width 120 on the edge."""
    depth, width = 8, 120
    unit = unit_of({"name": "tanh"})
    edge = edge_point(unit, 0.1)
    layer = Layer(edge.sigma_w2, edge.sigma_b2)
    mean, variance = jacobian_spectrum(unit, layer, 0.1, depth, orthogonal=orthogonal)
    rng = np.random.default_rng(3)
    eigenvalues = []
    for _ in range(12):
        z = rng.standard_normal(width) * math.sqrt(edge.q)
        jacobian = np.eye(width)
        for _ in range(depth):
            w = rng.standard_normal((width, width))
            w = np.linalg.qr(w)[0] if orthogonal else w / math.sqrt(width)
            w = w * math.sqrt(edge.sigma_w2)
            jacobian = w @ np.diag(evaluate("tanh", z, {})[1]) @ jacobian
            bias = rng.standard_normal(width) * math.sqrt(edge.sigma_b2)
            z = w @ np.tanh(z) + bias
        eigenvalues.append(np.linalg.svd(jacobian, compute_uv=False) ** 2)
    flat = np.concatenate(eigenvalues)
    assert mean == pytest.approx(flat.mean(), rel=0.05)
    assert variance == pytest.approx(flat.var() / flat.mean() ** 2, rel=0.1)


def test_orthogonal_weights_have_the_variance_of_their_larger_side():
    network = network_of(run_of(init={"name": "orthogonal"}, widths=[100, 50, 100]), 80)
    assert [layer.sigma_w2 for layer in network.layers] == [0.8, 1.0, 0.5]


@pytest.mark.parametrize("act", ["relu", "gelu", "geglu", "maxout"])
def test_gain_auto_keeps_activations_at_unit_scale(act):
    init = {"name": "lecun_normal", "gain": "auto"}
    layers = predict(network_of(run_of(act, init=init), 400), 1.0, 0.0)
    rel = 1e-9 if act in ("relu", "gelu") else 0.05
    assert [layer.second for layer in layers] == pytest.approx([1.0] * 5, rel=rel)


# --- what is refused


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"model": {"name": "cnn"}}, "model=cnn: there is no theory here for it; type model=mlp"),
        ({"model": {"norm": "batch"}}, "model.norm=batch: must be none, layer or rms"),
        ({"model": {"dropout": 0.2}}, "model.dropout=0.2: must be 0"),
        ({"act": {"name": "relu", "by_layer": {"hidden_1": "tanh"}}}, "act.by_layer: there is no"),
        ({"act": {"name": "softmax"}}, "act=softmax: its units depend on each other"),
        ({"act": {"name": "glu"}, "init": {"bias": 0.1}}, "init.bias=0.1: with several inputs"),
        ({"model": {"norm": "rms"}, "init": {"bias": 0.1}}, "init.bias=0.1: with several inputs"),
    ],
)
def test_what_there_is_no_theory_for_is_said_in_one_line(groups, said):
    with pytest.raises(UserError) as raised:
        network_of(run_of(**groups))
    assert str(raised.value).startswith(said)
    assert "; " in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("depth", [1, 3])
def test_a_gain_is_for_what_activations_made(depth):
    """The first layer reads the examples, also where it is the only one."""
    compare(run_of("relu", depth, init={"name": "lecun_normal", "gain": 1.6}))


def test_a_second_moment_that_is_not_finite_is_refused():
    init = {"name": "normal", "sigma_w": 1e3}
    with pytest.raises(
        UserError,
        match=r"act=squared_relu: E\[f²\] is infinite, or too large .* layer \d, .* init\.scale",
    ):
        predict(network_of(run_of("squared_relu", depth=20, init=init)), 1.0, 0.0)
