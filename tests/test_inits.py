"""Initialisers against their published moments and jax.nn; the gain against mpmath's quadrature."""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import yaml
from scipy import integrate, stats

from actsweep.activations import ACTIVATIONS
from actsweep.config import resolve
from actsweep.config.schema import CRITICAL_INITS, INITS
from actsweep.nn import initializers
from actsweep.nn.models.layers import Conv, LayerFactory
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.theory.networks import network_of
from actsweep.theory.variances import WITH_SIGMA
from actsweep.utils.errors import UserError

CONF = Path(__file__).parents[1] / "conf" / "init"
KEY = jax.random.key(0)
DENSE, CONV = (300, 200), (3, 3, 40, 60)
FANS = {DENSE: (300, 200), CONV: (360, 540)}
VARIANCE = {
    "torch_uniform": lambda i, o: 1 / (3 * i),
    "lecun_normal": lambda i, o: 1 / i,
    "autoinit": lambda i, o: 1 / i,
    "he_normal": lambda i, o: 2 / i,
    "he_uniform": lambda i, o: 2 / i,
    "glorot_normal": lambda i, o: 2 / (i + o),
    "glorot_uniform": lambda i, o: 2 / (i + o),
    "orthogonal": lambda i, o: 1 / i,
    "lsuv": lambda i, o: 1 / i,
    "normal": lambda i, o: 1.5**2 / i,
    "critical": lambda i, o: 1.5**2 / i,
    "critical_orthogonal": lambda i, o: 1.5**2 / i,
    "delta_orthogonal": lambda i, o: 1.5**2 / i,
}
PAIRED = "randomized_asymmetric"  # kernel and bias are drawn together
SEPARATE = [name for name in INITS if name != PAIRED]


@functools.cache
def _weight(name, shape=DENSE, seed=0, **kwargs):
    fan_in, fan_out, key = *FANS[shape], jax.random.key(seed)
    kwargs = {"scale": 1.0, "sigma_w": 1.5} | kwargs
    return initializers.weight(name, key, shape, fan_in=fan_in, fan_out=fan_out, **kwargs)


@pytest.mark.parametrize("shape", [DENSE, CONV])
@pytest.mark.parametrize("name", VARIANCE)
def test_weights_have_the_published_mean_and_variance(name, shape):
    w = np.asarray(_weight(name, shape), np.float64)
    assert w.shape == shape
    assert _weight(name, shape).dtype == jnp.float32
    fans = FANS[shape]
    if len(shape) == 4 and name in ("critical_orthogonal", "delta_orthogonal"):
        fans, w = shape[2:], w[1, 1]  # all else is 0
    if name == "delta_orthogonal" and len(shape) == 4:
        fans = (max(fans), fans[1])
    variance = VARIANCE[name](*fans)
    # 5 standard errors of a mean; the variance's is at most sqrt(2 / n) of it
    assert abs(w.mean()) < 5 * math.sqrt(variance / w.size)
    assert w.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / w.size))


JAX_NN = [
    "lecun_normal",
    "he_normal",
    "he_uniform",
    "glorot_normal",
    "glorot_uniform",
    "orthogonal",
]


@pytest.mark.parametrize("shape", [DENSE, CONV])
@pytest.mark.parametrize("name", JAX_NN)
def test_agrees_with_jax_nn_initializers(name, shape):
    reference = getattr(jax.nn.initializers, name)()(KEY, shape, jnp.float32)
    np.testing.assert_allclose(_weight(name, shape), reference, rtol=1e-6)


def test_uniform_bounds_are_reached_and_kept():
    for name, bound in (("torch_uniform", 300**-0.5), ("he_uniform", (6 / 300) ** 0.5)):
        w = np.abs(_weight(name))
        assert bound * 0.999 < w.max() <= bound * (1 + 1e-6)
    b = np.abs(initializers.bias("torch_uniform", KEY, (10_000,), fan_in=16))
    assert 0.2499 < b.max() <= 0.25


def test_normal_is_not_truncated_and_he_normal_is():
    assert stats.kstest(np.ravel(_weight("normal")) * math.sqrt(300) / 1.5, "norm").pvalue > 0.01
    he = np.abs(_weight("he_normal")) / math.sqrt(2 / 300)
    assert he.max() <= 2 / 0.87962566 + 1e-5


@pytest.mark.parametrize("shape", [DENSE, (200, 300), CONV])
def test_orthogonal(shape):
    w = initializers.weight("orthogonal", KEY, shape, fan_in=1, fan_out=1)
    flat = np.asarray(w, np.float64).reshape(-1, shape[-1])
    gram = flat.T @ flat if flat.shape[0] >= flat.shape[1] else flat @ flat.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("shape", [DENSE, (200, 300), CONV])
def test_critical_orthogonal_keeps_the_variance_in_either_direction(shape):
    inputs, outputs = shape[-2:]
    kwargs = {"fan_in": 1, "fan_out": 1, "sigma_w": 1.5}
    w = np.asarray(initializers.weight("critical_orthogonal", KEY, shape, **kwargs), np.float64)
    matrix = w[1, 1] if len(shape) == 4 else w
    assert np.count_nonzero(w) == np.count_nonzero(matrix) == matrix.size
    gram = matrix.T @ matrix if inputs >= outputs else matrix @ matrix.T
    size = 1.5**2 * max(inputs, outputs) / inputs
    np.testing.assert_allclose(gram, size * np.eye(len(gram)), atol=2e-5)


@pytest.mark.parametrize("side", [2, 3])
def test_a_delta_orthogonal_convolution_keeps_the_norm_at_every_place(side):
    kernel = initializers.weight("delta_orthogonal", KEY, (side, side, 5, 8), fan_in=1, fan_out=1)
    x = jax.random.normal(jax.random.key(1), (2, 6, 7, 5))
    z = Conv(kernel, None)(x)
    np.testing.assert_allclose(jnp.linalg.norm(z, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5)
    reference = jax.nn.initializers.delta_orthogonal()(KEY, (side, side, 5, 8), jnp.float32)
    assert [*np.argwhere(np.asarray(reference).any((2, 3)))[0]] == [
        *np.argwhere(np.asarray(kernel).any((2, 3)))[0]
    ]


@pytest.mark.parametrize("shape", [(40, 5000), (2, 2, 10, 5000)])
def test_of_a_randomized_asymmetric_unit_one_number_is_beta(shape):
    w, b = initializers.asymmetric(KEY, shape, fan_in=40)
    assert w.shape == shape
    both = np.concatenate([np.asarray(w, float).reshape(40, -1), np.asarray(b)[None]])
    places = both.argmax(0)
    chosen = np.take_along_axis(both, places[None], 0)[0]
    far = 6 * 0.6007 / math.sqrt(40)  # of the others none is as large
    above = chosen[chosen > far]
    assert len(above) == pytest.approx(5000 * (1 - far**2), abs=4 * math.sqrt(5000) / 2)
    cdf = lambda v: (np.square(v) - far**2) / (1 - far**2)  # noqa: E731
    assert stats.kstest(above, cdf).pvalue > 0.01
    assert stats.chisquare(np.bincount(places[chosen > far], minlength=41)).pvalue > 0.01
    others = both[:, chosen > far][np.arange(41)[:, None] != places[chosen > far]]
    assert stats.kstest(others * math.sqrt(40) / 0.6007, "norm").pvalue > 0.01
    scaled = initializers.asymmetric(KEY, shape, fan_in=40, scale=3.0)
    np.testing.assert_allclose(scaled[0], 3 * w, rtol=1e-6)
    np.testing.assert_allclose(scaled[1], 3 * b, rtol=1e-6)


def test_fans_are_the_arguments_not_the_shape():
    w = initializers.weight("glorot_uniform", KEY, DENSE, fan_in=300, fan_out=100)
    assert float(jnp.abs(w).max()) == pytest.approx(math.sqrt(6 / 400), rel=1e-3)


@pytest.mark.parametrize("name", SEPARATE)
def test_same_key_same_draws_and_scale_multiplies_them(name):
    w = _weight(name)
    np.testing.assert_array_equal(w, _weight.__wrapped__(name))
    assert np.abs(w - _weight(name, seed=1)).max() > 1e-3
    np.testing.assert_allclose(_weight(name, scale=3.0), 3 * w, rtol=1e-6)
    np.testing.assert_array_equal(_weight(name, scale=0.0), np.zeros(DENSE))
    b = initializers.bias(name, KEY, (50,), fan_in=9, sigma_b=0.5)
    np.testing.assert_allclose(
        initializers.bias(name, KEY, (50,), fan_in=9, sigma_b=0.5, scale=3.0), 3 * b, rtol=1e-6
    )
    assert bool(jnp.any(b != 0)) == (name in ("torch_uniform", *WITH_SIGMA))


def test_bias_moments():
    normal = np.asarray(initializers.bias("normal", KEY, (40_000,), fan_in=9, sigma_b=0.5))
    assert normal.std() == pytest.approx(0.5, rel=0.02)
    np.testing.assert_array_equal(initializers.bias("normal", KEY, (5,), fan_in=9), np.zeros(5))
    uniform = np.asarray(initializers.bias("torch_uniform", KEY, (40_000,), fan_in=9))
    assert uniform.std() == pytest.approx(1 / math.sqrt(27), rel=0.02)


@pytest.mark.parametrize(
    "name", ["torch_uniform", "he_normal", "orthogonal", "normal", "critical_orthogonal", PAIRED]
)
def test_traced_and_batched_numbers_give_bitwise_the_same(name):
    def draw(key, scale, sigma):
        if name == PAIRED:
            return initializers.asymmetric(key, (8, 6), fan_in=8, scale=scale)
        w = initializers.weight(name, key, (8, 6), fan_in=8, fan_out=6, scale=scale, sigma_w=sigma)
        return w, initializers.bias(name, key, (6,), fan_in=8, sigma_b=sigma, scale=scale)

    keys = jax.vmap(jax.random.key)(jnp.arange(3, dtype=jnp.uint32))
    scales, sigmas = jnp.asarray([0.0, 1.0, 0.3]), jnp.asarray([1.3, 1.0, 0.7])
    batched, jitted = jax.jit(jax.vmap(draw))(keys, scales, sigmas), jax.jit(draw)
    for i in range(3):
        alone = jitted(keys[i], scales[i], sigmas[i])
        jax.tree.map(np.testing.assert_array_equal, (batched[0][i], batched[1][i]), alone)


def test_unknown_init_is_refused():
    with pytest.raises(UserError, match="did you mean init=he_normal"):
        initializers.weight("he_norml", KEY, (2, 2), fan_in=2, fan_out=2)
    with pytest.raises(UserError, match="init=zeros: no such name"):
        initializers.bias("zeros", KEY, (2,), fan_in=2)


def test_every_init_has_a_file():
    assert {path.stem for path in CONF.glob("*.yaml")} == set(INITS)
    defaults = {"scale": 1.0, "gain": 1.0, "sigma_w": 1.0, "sigma_b": 0.0, "bias": 0.0}
    for name in INITS:
        written = yaml.safe_load((CONF / f"{name}.yaml").read_text())
        own = {"q": None} if name in CRITICAL_INITS else {}
        own |= {"gain": "auto"} if name == "autoinit" else {}
        assert written == {"name": name, **defaults} | own


KNOWN = {
    "identity": 1.0,
    "relu": 2**0.5,
    "squared_relu": 1.5**-0.5,
    "leaky_relu": (2 / (1 + 0.01**2)) ** 0.5,
    "prelu": (2 / (1 + 0.25**2)) ** 0.5,
    "selu": 1.0,
    "reglu": 2**0.5,
    "maxout": 1.0,
}


@pytest.mark.parametrize("name", KNOWN)
def test_gain_of_the_ones_with_a_closed_form(name):
    activation = ACTIVATIONS[name]
    assert float(initializers.gain(activation, activation.params)) == pytest.approx(
        KNOWN[name], rel=1e-6
    )


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if ACTIVATIONS[n].units != "vector"])
def test_gain_against_adaptive_quadrature(name):
    activation = ACTIVATIONS[name]
    if activation.units == "maxout":
        f, density = (lambda z: z), lambda z: 2 * stats.norm.pdf(z) * stats.norm.cdf(z)
    else:
        gated = activation.units == "gated"
        block = lambda z: jnp.asarray([1.0, z] if gated else [z], jnp.float32)  # noqa: E731
        evaluate = jax.jit(activation.fn)
        f, density = (lambda z: float(evaluate(block(z))[0])), stats.norm.pdf
    total = sum(
        integrate.quad(lambda z: f(z) ** 2 * density(z), a, b, epsrel=1e-7, epsabs=1e-9)[0]
        for a, b in ((-9, -3), (-3, -1), (-1, 0), (0, 1), (1, 3), (3, 6), (6, 9))
    )
    got = float(initializers.gain(activation, activation.params))
    assert got == pytest.approx(total**-0.5, rel=2e-6)


def test_gain_of_maxout_with_many_pieces():
    with mp.workdps(20):
        second = mp.quad(lambda z: z**2 * 5 * mp.npdf(z) * mp.ncdf(z) ** 4, [-10, 0, 10])
    got = initializers.gain(ACTIVATIONS["maxout"], {"pieces": 5})
    assert float(got) == pytest.approx(float(second) ** -0.5, rel=1e-6)


def test_gain_with_traced_parameters_under_vmap():
    slopes = jnp.asarray([0.0, 0.1, 1.0])
    gains = jax.jit(jax.vmap(lambda s: initializers.gain(ACTIVATIONS["leaky_relu"], {"slope": s})))(
        slopes
    )
    np.testing.assert_allclose(gains, np.sqrt(2 / (1 + np.square(slopes))), rtol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_gain_of_units_that_depend_on_each_other_is_refused(name):
    with pytest.raises(UserError, match=r"init.gain=auto: .*type init.gain=1.0"):
        initializers.gain(ACTIVATIONS[name], {})


# --- init=autoinit


def run_of(init, act="tanh", **groups):
    act = {"name": act}
    sizes = {"depth": {"layers": 3, "width": 400}}
    return resolve.resolve({"act": act, "init": init} | sizes | groups)


def kernels_of(run):
    pack = make_pack([make_member(run)])
    hparams = {key: column[0] for key, column in stack_hparams(pack).items()}
    layers, _, _ = LayerFactory(pack.static, hparams).hidden(400, raw=True)
    return [np.asarray(layers[f"hidden_{i}"].kernel[...], float) for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("act", "size"), [("tanh", 2.53618), ("swish", 2.81076), ("gelu", 2.35172)]
)
def test_autoinit_has_the_published_variance(act, size):
    """Var(W) fan_in = 1 / E[x^2] of what a layer reads; of the first layer 1."""
    run = run_of({"name": "autoinit", "gain": "auto"}, act)
    kernels = kernels_of(run)
    variances = [kernel.var() * 400 for kernel in kernels]
    assert variances == pytest.approx([1, size, size], rel=0.015)
    activation = ACTIVATIONS[act]
    found = float(initializers.gain(activation, activation.params)) ** 2
    assert found == pytest.approx(size, abs=6e-6)
    assert network_of(run, 400).repeated.sigma_w2 == pytest.approx(size, abs=6e-6)
    plain = kernels_of(run_of({"name": "lecun_normal", "gain": "auto"}, act))
    for kernel, other in zip(kernels, plain, strict=True):
        np.testing.assert_array_equal(kernel, other)
    x = np.random.default_rng(0).standard_normal((50, 400))
    for kernel in kernels:
        z = x @ kernel
        assert np.mean(z**2) == pytest.approx(1, abs=0.1)
        x = np.asarray(activation.fn(jnp.asarray(z, jnp.float32), **activation.params), float)


@pytest.mark.parametrize(
    ("groups", "line"),
    [
        ({"init": {"name": "autoinit", "gain": 2.0}}, "init.gain=2.0: .*; type init.gain=auto"),
        ({"model": {"name": "mlp", "residual": True}}, "model=mlp with model.residual has more"),
        ({"model": {"name": "mlp", "norm": "layer"}}, "model=mlp with model.norm has more; type"),
        ({"model": {"name": "cnn"}}, "model=cnn with model.pool has more"),
        ({"model": {"name": "resnet"}}, "model=resnet has more; type init=lecun_normal"),
    ],
)
def test_autoinit_refuses_what_changes_the_moments(groups, line):
    with pytest.raises(UserError, match=line):
        run_of(**({"init": {"name": "autoinit", "gain": "auto"}} | groups))
