"""The from-scratch tutorial's algorithms, written once more from its text, to the last bit."""

import math
import random

import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from actsweep import activations
from actsweep.utils.errors import UserError
from actsweep_tutorials import dead_units, gradient_scan, plane, signal_through_layers
from actsweep_tutorials.base import resolve_parameters
from actsweep_tutorials.scalar import SCALARS, scalar_activations

Z = [-8.0, -3.0, -1.3, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0, 8.0]


@pytest.mark.parametrize("name", SCALARS)
def test_scalars_are_the_activations(name: str) -> None:
    act = activations.get(name)
    params = {**act.params, **({"approximate": True} if name == "gelu" else {})}
    ours = act.fn(jnp.asarray(Z, jnp.float32), **params)
    np.testing.assert_allclose([SCALARS[name].f(z) for z in Z], ours, rtol=1e-5, atol=1e-6)
    exact = activations.abs_derivative(act, jnp.asarray(Z, jnp.float32)[:, None], **act.params)[
        :, 0
    ]
    derivatives = [abs(SCALARS[name].derivative(z)) for z in Z]
    np.testing.assert_allclose(derivatives, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("z", [-6.0, -0.75, 0.0, 0.3, 2.5])
def test_gelu_is_the_tanh_form_with_the_exact_derivative(z: float) -> None:
    tanh_form = z / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (z + mp.mpf("0.044715") * z**3)))
    assert SCALARS["gelu"].f(z) == pytest.approx(float(tanh_form), abs=1e-15)
    derivative = mp.ncdf(z) + z * mp.npdf(z)
    assert SCALARS["gelu"].derivative(z) == pytest.approx(float(derivative), abs=1e-15)


def test_far_inputs() -> None:
    for name, act in SCALARS.items():
        for z in (-1e4, -750.0, 750.0):
            if not (name == "squared_relu" and z > 0):
                assert math.isfinite(act.f(z)), name
                assert math.isfinite(act.derivative(z)), name


def test_several_units_at_once_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"^act=softmax: acts on several.*type for example act=relu$"
    ):
        scalar_activations(["relu", "softmax"])


def test_gradient_scan() -> None:
    result = gradient_scan.EXPERIMENT.measure(resolve_parameters(gradient_scan.EXPERIMENT, ()))
    assert len(result["points"]) == 100
    assert result["points"][0] == -5
    assert result["points"][-1] == pytest.approx(4.9)
    for name, f in (
        ("sigmoid", lambda z: mp.diff(lambda t: 1 / (1 + mp.exp(-t)), z)),
        ("tanh", lambda z: 1 - mp.tanh(z) ** 2),
        ("gelu", lambda z: mp.ncdf(z) + z * mp.npdf(z)),
        ("relu", lambda z: mp.mpf(z > 0)),
    ):
        share = sum(abs(f(-5 + 0.1 * i)) < 0.01 for i in range(100)) / 100
        assert result["share"][name] == share, name
    assert result["share"]["leaky_relu"] == 0


def test_signal_through_layers_of_relu() -> None:
    """Line by line: five inputs, then five weights a layer; z becomes all five values."""
    random.seed(42)
    values = [random.gauss(0, 1) for _ in range(5)]
    expected = []
    for _ in range(10):
        weights = [random.gauss(0, 1) for _ in range(5)]
        z = 0.0
        for weight, value in zip(weights, values, strict=True):
            z = z + weight * value
        values = [max(0.0, z)] * 5
        expected.append(abs(values[0]))
    assert signal_through_layers.signal_sizes(SCALARS["relu"], 10, 42) == expected
    assert expected[4] > 0
    assert expected[5] == 0  # what the tutorial says doesn't happen


def test_signal_over_seeds() -> None:
    words = ("act=relu,tanh", "layers=6", "seeds=40")
    result = signal_through_layers.measure(
        resolve_parameters(signal_through_layers.EXPERIMENT, words)
    )
    chains = [signal_through_layers.signal_sizes(SCALARS["relu"], 6, s) for s in range(40)]
    assert result["many"]["relu"]["zero"][5] == sum(sizes[5] == 0 for sizes in chains) / 40
    assert result["many"]["relu"]["median"][0] == np.median([sizes[0] for sizes in chains])
    assert result["single"]["relu"] == signal_through_layers.signal_sizes(SCALARS["relu"], 6, 42)


def test_dead_units() -> None:
    random.seed(0)
    weights = [[random.gauss(0, 1) for _ in range(5)] for _ in range(20)]
    biases = [random.gauss(0, 1) for _ in range(20)]
    fired = [0] * 20
    for _ in range(1000):
        x = [random.gauss(0, 1) for _ in range(5)]
        for i in range(20):
            z = 0.0
            for j in range(5):
                z += weights[i][j] * x[j]
            fired[i] += max(0.0, z + biases[i]) > 0
    result = dead_units.EXPERIMENT.measure(resolve_parameters(dead_units.EXPERIMENT, ()))
    assert list(result["rates"]) == [count / 1000 for count in fired]
    z = np.array(dead_units.preactivations(0, 1000)) - 6
    counts = result["shifted"]["-6.0"]
    assert counts["firing"]["dead"] == ((z > 0).sum(axis=1) == 0).sum()
    assert counts["flat"]["relu"] == counts["firing"]["dead"]
    assert [dead_units.classify_unit(rate) for rate in (0, 0.049, 0.05)] == ["dead", "weak", "ok"]


def circle_by_the_text(f, df, epochs):
    """Mean loss of each epoch, from the tutorial's words; nothing of ours is used."""
    random.seed(42)
    data = []
    for _ in range(200):
        x, y = random.uniform(-2, 2), random.uniform(-2, 2)
        data.append((x, y, 1 if x**2 + y**2 < 1.5 else 0))
    random.seed(0)
    w = [[random.gauss(0, 0.5), random.gauss(0, 0.5)] for _ in range(8)]
    b = [0.0] * 8
    v = [random.gauss(0, 0.5) for _ in range(8)]
    c = 0.0
    losses = []
    for _ in range(epochs):
        total = 0.0
        for x, y, t in data:
            z = [w[i][0] * x + w[i][1] * y + b[i] for i in range(8)]
            h = [f(s) for s in z]
            s = 0.0
            for i in range(8):
                s += v[i] * h[i]
            out = 1 / (1 + math.exp(-(s + c)))
            total += (out - t) ** 2
            d = (out - t) * out * (1 - out)
            for i in range(8):
                g = d * v[i] * df(z[i])
                v[i] -= 0.1 * d * h[i]
                w[i][0] -= 0.1 * g * x
                w[i][1] -= 0.1 * g * y
                b[i] -= 0.1 * g
            c -= 0.1 * d
        losses.append(total / 200)
    return losses


@pytest.mark.parametrize("name", ["sigmoid", "relu", "gelu"])
def test_circle(name: str) -> None:
    act = SCALARS[name]
    result = plane.train(name, act, "circle", resolve_parameters(plane.CIRCLE, ["epochs=5"]))
    np.testing.assert_allclose(
        result["loss"], circle_by_the_text(act.f, act.derivative, 5), rtol=1e-13
    )


def test_prelu_learns_its_slope_by_gradient() -> None:
    """One step against finite differences of the squared error's half."""
    network = plane.initial_network("prelu", SCALARS["prelu"], 0)
    x, y, label = -0.7, 0.4, 1

    def half_squared_error(slope: float) -> float:
        h = [z if z > 0 else slope * z for z in network.hidden(x, y)]
        return (network.output(h) - label) ** 2 / 2

    grad = (half_squared_error(0.25 + 1e-6) - half_squared_error(0.25 - 1e-6)) / 2e-6
    network.sgd_step(x, y, label, 0.1)
    assert network.slope == pytest.approx(0.25 - 0.1 * grad, rel=1e-7)


def test_xor_is_its_truth_table() -> None:
    examples = plane.examples_of("xor", 42)
    assert [(x, y, int(bool(x) != bool(y))) for x, y, _ in examples] == examples
    assert len({*examples}) == 4


def test_xor_signs_has_other_labels_on_the_same_points() -> None:
    circle, xor = (plane.examples_of(name, 42) for name in ("circle", "xor-signs"))
    assert [p[:2] for p in circle] == [p[:2] for p in xor]
    assert all(label == (x * y < 0) for x, y, label in xor)
