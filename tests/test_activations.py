"""Activations against mpmath, JAX's dense Jacobians and the files in conf/act/."""

import functools
import inspect
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import yaml

from actsweep import activations
from actsweep.activations import ACTIVATIONS, Activation, smooth
from actsweep.theory.closed_forms import CLOSED_FORMS
from actsweep.utils.errors import UserError

CONF = Path(__file__).parents[1] / "conf" / "act"
TINY = np.float32(np.finfo(np.float32).tiny)
MAX = np.finfo(np.float32).max
C = mp.sqrt(2 / mp.pi)


def _logistic(z):
    return 1 / (1 + mp.exp(-z)) if z > 0 else mp.exp(z) / (1 + mp.exp(z))


def _softplus(z):
    return z + mp.log1p(mp.exp(-z)) if z > 0 else mp.log1p(mp.exp(z))


def _sech2(z):
    return mp.mpf(0) if abs(z) > 1e4 else mp.sech(z) ** 2


def _tanh(z):
    return mp.sign(z) if abs(z) > 1e4 else -mp.expm1(-2 * z) / (1 + mp.exp(-2 * z))


def _phi(z):
    return mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi) if abs(z) < 1e4 else mp.mpf(0)


def _cdf(z):
    if abs(z) > 1e4:
        return mp.mpf(int(z > 0))
    return mp.erfc(-z / mp.sqrt(2)) / 2


def _swish_derivative(z, u, du):
    return _logistic(u) + z * du * _logistic(u) * _logistic(-u)


def _gelu_tanh(z):
    z = max(z, mp.mpf(-100))
    return z * _logistic(2 * C * (z + mp.mpf("0.044715") * z**3))


def _gelu_tanh_derivative(z):
    z = max(min(z, mp.mpf(100)), mp.mpf(-100))
    cubic = mp.mpf("0.044715") * z**3
    return _swish_derivative(z, 2 * C * (z + cubic), 2 * C * (1 + 3 * mp.mpf("0.044715") * z**2))


def _mish_derivative(z):
    return _tanh(_softplus(z)) + z * _logistic(z) * _sech2(_softplus(z))


def _elu(z, scale=1, alpha=1):
    return scale * (z if z > 0 else alpha * mp.expm1(z))


def _elu_derivative(z, scale=1, alpha=1):
    return scale * (1 if z > 0 else alpha * mp.exp(z))


def _hard_sigmoid(z):
    return min(max((z + 3) / 6, 0), 1)


def _hard_swish_derivative(z):
    return 1 if z > 3 else (2 * z + 3) / 6 if z > -3 else 0


SELU = {"scale": mp.mpf(smooth.SELU_SCALE), "alpha": mp.mpf(smooth.SELU_ALPHA)}
LEAK, PRELU = mp.mpf(float(np.float32(0.01))), mp.mpf("0.25")
SWISH = (lambda z: z * _logistic(z), lambda z: _swish_derivative(z, z, 1))
# f and f' of one unit; at kinks the side that the entry's `zero` documents.
REFERENCE = {
    "identity": (lambda z: z, lambda z: 1),
    "sigmoid": (_logistic, lambda z: _logistic(z) * _logistic(-z)),
    "hard_sigmoid": (_hard_sigmoid, lambda z: mp.mpf(int(abs(z) < 3)) / 6),
    "log_sigmoid": (lambda z: -_softplus(-z), lambda z: _logistic(-z)),
    "tanh": (_tanh, _sech2),
    "hard_tanh": (lambda z: min(max(z, -1), 1), lambda z: int(abs(z) < 1)),
    "softsign": (lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),
    "softplus": (_softplus, _logistic),
    "relu": (lambda z: max(z, 0), lambda z: int(z > 0)),
    "relu6": (lambda z: min(max(z, 0), 6), lambda z: int(0 < z < 6)),
    "squared_relu": (lambda z: max(z, 0) ** 2, lambda z: 2 * max(z, 0)),
    "leaky_relu": (lambda z: max(z, z * LEAK), lambda z: 1 if z > 0 else LEAK),
    "prelu": (lambda z: max(z, z * PRELU), lambda z: 1 if z > 0 else PRELU),
    "rrelu": (lambda z: max(z, z * 11 / mp.mpf(48)), lambda z: 1 if z > 0 else 11 / mp.mpf(48)),
    "elu": (_elu, _elu_derivative),
    "celu": (_elu, _elu_derivative),
    "selu": (lambda z: _elu(z, **SELU), lambda z: _elu_derivative(z, **SELU)),
    "gelu": (lambda z: z * _cdf(z), lambda z: _cdf(z) + z * _phi(z)),
    "swish": SWISH,
    "silu": SWISH,
    "hard_swish": (lambda z: z * _hard_sigmoid(z), _hard_swish_derivative),
    "mish": (lambda z: z * _tanh(_softplus(z)), _mish_derivative),
}


def _erf_gate(u):
    """erf, to full precision for tiny u; mpmath's needs no care for large ones."""
    return mp.erf(u) if u < 1e4 else mp.mpf(1)


def _mp(value):
    """The float32 number that a parameter is."""
    return mp.mpf(float(np.float32(value)))


def _clipped_exp(z):
    return mp.exp(min(max(z, mp.mpf(-500)), mp.mpf(10)))


def _golu(z):
    return z * mp.exp(-mp.exp(-max(z, mp.mpf(-30))))


def _golu_derivative(z):
    e = mp.exp(-max(z, mp.mpf(-30)))
    return mp.exp(-e) * (1 + z * e)


def _telu_derivative(z):
    e = _clipped_exp(z)
    return _tanh(e) + z * e * _sech2(e)


def _colu(z):
    e = _clipped_exp(z)
    return z * mp.exp(min(z, 200) + e) / (mp.exp(min(z, 200) + e) - z) if z < 200 else z


def _colu_derivative(z):
    if abs(z) > 200:
        return mp.mpf(int(z > 0))
    e = mp.exp(z)
    big = mp.exp(z + e)
    return big / (big - z) + z * big * (1 - z * (1 + e)) / (big - z) ** 2


def _smish_gate(z):
    s = _logistic(z)
    return s * (2 + s) / (2 + 2 * s + s * s)


def _smish_derivative(z):
    w = 1 + _logistic(z)
    slope = 4 * w / (w * w + 1) ** 2 * _logistic(z) * _logistic(-z)
    return _smish_gate(z) + z * slope


def _serf_derivative(z):
    u = _softplus(z)
    gauss = mp.exp(-u * u) if u < 1e3 else mp.mpf(0)
    return _erf_gate(u) + z * 2 / mp.sqrt(mp.pi) * gauss * _logistic(z)


def _erf_act(z):
    return z * _erf_gate(mp.mpf("0.75") * _clipped_exp(mp.mpf("0.75") * z))


def _erf_act_derivative(z):
    u = mp.mpf("0.75") * _clipped_exp(mp.mpf("0.75") * z)
    gauss = mp.exp(-u * u) if u < 1e3 else mp.mpf(0)
    return _erf_gate(u) + z * 2 / mp.sqrt(mp.pi) * gauss * u * mp.mpf("0.75")


def _shrink(z):
    return mp.sign(z) * max(abs(z) - mp.mpf("0.5"), 0)


def _tanh_shrink(z):
    with mp.workdps(120):
        return +(z - _tanh(z))


def _xielu(z):
    a, c = _softplus(_mp(0.2033823)), _mp(0.5) + _softplus(_mp(-1.0502256))
    return a * z * z + z / 2 if z > 0 else c * (mp.expm1(z) - z) + z / 2


def _xielu_derivative(z):
    a, c = _softplus(_mp(0.2033823)), _mp(0.5) + _softplus(_mp(-1.0502256))
    return 2 * a * z + mp.mpf("0.5") if z > 0 else c * mp.expm1(z) + mp.mpf("0.5")


RATIONAL = (
    [_mp(p) for p in (0.02996348, 0.61690165, 2.37539147, 3.06608078, 1.52474449, 0.25281987)],
    [_mp(q) for q in (0.0, 1.19160814, 4.40811795, 0.91111034, 0.34885983)],
)


def _polynomial(coefficients, z):
    return sum(c * z**i for i, c in enumerate(coefficients))


def _rational(z):
    above, below = (_polynomial(c, z) for c in RATIONAL)
    return above / (1 + abs(below))


def _rational_derivative(z):
    above, below = (_polynomial(c, z) for c in RATIONAL)
    d_above, d_below = (_polynomial([i * c for i, c in enumerate(cs)][1:], z) for cs in RATIONAL)
    divisor = 1 + abs(below)
    return d_above / divisor - above * (1 if below > 0 else -1) * d_below / divisor**2


def _snake_derivative(z):
    with mp.workdps(120):
        return 1 + mp.sin(2 * z)


def _snake(z):
    with mp.workdps(120):
        return z + mp.sin(z) ** 2


FURTHER = {
    "hard_shrink": (lambda z: z if abs(z) > 0.5 else 0, lambda z: int(abs(z) > 0.5)),
    "soft_shrink": (_shrink, lambda z: int(abs(z) > 0.5)),
    "tanh_shrink": (_tanh_shrink, lambda z: _tanh(z) ** 2),
    "threshold": (lambda z: z if z > 1 else 0, lambda z: int(z > 1)),
    "squareplus": (
        lambda z: 2 / (mp.sqrt(z * z + 4) - z) if z < 0 else (z + mp.sqrt(z * z + 4)) / 2,
        lambda z: (
            2 / mp.sqrt(z * z + 4) / (mp.sqrt(z * z + 4) - z)
            if z < 0
            else (1 + z / mp.sqrt(z * z + 4)) / 2
        ),
    ),
    "sparse_plus": (
        lambda z: z if z >= 1 else max(z + 1, 0) ** 2 / 4,
        lambda z: min(max(z + 1, 0), 2) / 2,
    ),
    "sparse_sigmoid": (
        lambda z: min(max(z + 1, 0), 2) / 2,
        lambda z: mp.mpf(int(abs(z) < 1)) / 2,
    ),
    "golu": (_golu, _golu_derivative),
    "telu": (lambda z: z * _tanh(_clipped_exp(z)), _telu_derivative),
    "colu": (_colu, _colu_derivative),
    "smish": (lambda z: z * _smish_gate(z), _smish_derivative),
    "serf": (lambda z: z * _erf_gate(_softplus(z)), _serf_derivative),
    "erf_act": (_erf_act, _erf_act_derivative),
    "star_relu": (
        lambda z: _mp(0.8944) * max(z, 0) ** 2 + _mp(-0.4472),
        lambda z: 2 * _mp(0.8944) * max(z, 0),
    ),
    "snake": (_snake, _snake_derivative),
    "penalized_tanh": (
        lambda z: _tanh(z) if z > 0 else _tanh(z) / 4,
        lambda z: _sech2(z) if z > 0 else _sech2(z) / 4,
    ),
    "xielu": (_xielu, _xielu_derivative),
    "rational": (_rational, _rational_derivative),
}
REFERENCE |= FURTHER
# Of a vector z, in float64.
ACROSS_REFERENCE = {
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(),
    "log_softmax": lambda z: [float(t - mp.log(sum(map(mp.exp, z)))) for t in map(mp.mpf, z)],
    "maxout": lambda z: np.max(np.split(z, 2), axis=0),
    "glu": lambda z: np.split(z, 2)[0] / (1 + np.exp(-np.split(z, 2)[1])),
    "swiglu": lambda z: np.prod(np.split(z, 2), axis=0) / (1 + np.exp(-np.split(z, 2)[1])),
    "geglu": lambda z: np.split(z, 2)[0] * [float(t * _cdf(t)) for t in np.split(z, 2)[1]],
    "reglu": lambda z: np.split(z, 2)[0] * np.maximum(np.split(z, 2)[1], 0),
}
# Units in the last place allowed in value and derivative; 4 unless listed.
ULPS = {
    "telu": 5,
    "colu": 5,
    "smish": 5,
    "serf": 6,
    "xielu": 5,
    "rational": 9,
    "tanh_shrink": 11,
    "erf_act": 64,
    "golu": 80,
    "swish": 5,
    "silu": 5,
    "mish": 5,
    "gelu_tanh": 7,
}
VARIANTS = {
    **{name: (name, {}) for name in REFERENCE},
    "gelu_tanh": ("gelu", {"approximate": True}),
}
VARIANT_REFERENCE = {**REFERENCE, "gelu_tanh": (_gelu_tanh, _gelu_tanh_derivative)}


def _inputs() -> np.ndarray:
    """Return every exponent, the range's edges, kinks and roots with neighbours, random points."""
    rng = np.random.default_rng(0)
    powers = 2.0 ** np.arange(-126, 128)
    edges = [0, 1e-38 * 2, 0.7, 1, 2.5, 3, 6, 11, 13.1, 15, 44, 64, 87.3, 88, 88.7, 104, 3e38, MAX]
    edges += [1.2784645, 1.1924312, 0.75179154, 0.75246143]
    edges = np.float32(edges)
    around = [np.nextafter(edges, np.float32(0)), np.nextafter(edges, MAX)]
    draws = [rng.uniform(0, w, 100) for w in (2, 12, 110)]
    x = np.concatenate([powers * rng.choice([1, 1.37], 254), edges, *around, *draws]).astype(
        np.float32
    )
    x = x[np.isfinite(x) & ((x == 0) | (x >= TINY))]
    return np.unique(np.concatenate([x, -x]))


INPUTS = _inputs()
HALF = INPUTS[::3].astype(jnp.bfloat16)
HALF = HALF[np.isfinite(HALF.astype(np.float32))]
GRID = np.array([0.0, *(np.linspace(-12, 12, 97) + 0.013)], np.float32)


def _derivative(fn, z):
    return jax.jvp(fn, (z,), (jnp.ones_like(z),))[1]


def _worst_ulp(
    got: np.ndarray, reference, inputs: np.ndarray, tiny: float = float(TINY), least: float = 0.0
) -> float:
    """Return the largest error in ulps; results below `tiny` count as 0, overflow as inf.

    Ulps are those of `least` where a result is smaller and |z| < 4.
    """
    worst = 0.0
    for z, value in zip(inputs, got.astype(np.float64), strict=True):
        with mp.workdps(40):
            exact = mp.mpf(reference(mp.mpf(float(z))))
            if abs(exact) > float(MAX) * (1 + 2**-25):  # else it rounds to MAX
                assert value == np.inf, (z, value)
            elif abs(exact) < tiny:
                assert abs(value) <= tiny, (z, value)
            else:
                assert np.isfinite(value), (z, value)
                error = abs(mp.mpf(value) - exact)
                size = max(abs(float(exact)), least if abs(z) < 4 or least > 1 else 0.0)
                below = np.nextafter(np.float32(size), np.float32(0))
                worst = max(worst, float(error / float(np.spacing(max(below, TINY)))))
    return worst


@functools.cache
def _evaluate(variant: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return f, f' and f'' in float32 on INPUTS, HALF and GRID, computed by one program."""
    name, params = VARIANTS[variant]
    value = functools.partial(ACTIVATIONS[name].fn, **params)
    first = functools.partial(_derivative, value)
    program = jax.jit(lambda z: (value(z), first(z), _derivative(first, z)))
    return tuple(map(np.asarray, program(jnp.concatenate([INPUTS, HALF.astype(np.float32), GRID]))))


@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_is_exact_to_a_few_ulps_everywhere(variant):
    pairs = zip(_evaluate(variant), VARIANT_REFERENCE[variant], strict=False)
    for order, (got, reference) in enumerate(pairs):
        further = {}
        if variant in FURTHER:
            order = 1 if variant in ("star_relu", "xielu", "rational") else order  # f has zeros
            further = {"tiny": 1e-36, "least": 1.5 if variant == "snake" else 0.25 * order}
        worst = _worst_ulp(got[: len(INPUTS)], reference, INPUTS, **further)
        assert worst <= ULPS.get(variant, 4), worst


@pytest.mark.parametrize("variant", VARIANTS)
def test_bfloat16_is_the_rounded_float32(variant):
    name, params = VARIANTS[variant]
    fn = functools.partial(ACTIVATIONS[name].fn, **params)
    z = jnp.asarray(HALF)
    for i, got in enumerate(jax.jit(lambda z: jax.jvp(fn, (z,), (jnp.ones_like(z),)))(z)):
        assert got.dtype == jnp.bfloat16
        exact = _evaluate(variant)[i][len(INPUTS) : -len(GRID)].astype(np.float64)
        exact = np.where(np.abs(exact) > float(jnp.finfo(jnp.bfloat16).max), np.inf, exact)
        np.testing.assert_allclose(np.asarray(got, np.float64), exact, rtol=2**-8, atol=2e-38)


@pytest.mark.parametrize("variant", VARIANTS)
def test_second_derivative_is_finite_and_matches_differences_of_the_first(variant):
    second = _evaluate(variant)[2]
    assert np.isfinite(second).all()
    derivative, got = VARIANT_REFERENCE[variant][1], second[-len(GRID) :]
    with mp.workdps(40):
        h = mp.mpf("1e-12")
        points = [mp.mpf(float(z)) for z in GRID]
        exact = [float((derivative(z + h) - derivative(z - h)) / (2 * h)) for z in points]
    first = int(_bends_at_zero(variant))
    atol = 3e-6 if variant == "rational" else 1e-6
    np.testing.assert_allclose(got[first:], exact[first:], rtol=1e-4, atol=atol)


def _bends_at_zero(variant: str) -> bool:
    return 0.0 in ACTIVATIONS[VARIANTS[variant][0]].kinks or variant in (
        "softsign", "elu", "celu", "squared_relu", "star_relu", "xielu",
    )  # fmt: skip


def _wide(name: str, seed: int = 0, batch: int = 5, units: int = 3) -> jax.Array:
    k = activations.inputs_per_unit(ACTIVATIONS[name], ACTIVATIONS[name].params)
    return 2 * jax.random.normal(jax.random.key(seed), (batch, k * units), jnp.float32)


def _exactly(reference, row: np.ndarray) -> np.ndarray:
    with mp.workdps(40):
        return np.asarray(reference(row.astype(np.float64)))


@pytest.mark.parametrize("name", ACROSS_REFERENCE)
def test_across_units_matches_numpy(name):
    z = np.concatenate([_wide(name), np.zeros_like(_wide(name)), 10 * np.asarray(_wide(name, 1))])
    expected = np.stack([_exactly(ACROSS_REFERENCE[name], row) for row in z])
    got = np.asarray(jax.jit(ACTIVATIONS[name].fn)(jnp.asarray(z)), np.float64)
    np.testing.assert_allclose(got, expected, rtol=5e-6, atol=1e-38)
    half = jax.ShapeDtypeStruct(z.shape, jnp.bfloat16)
    assert jax.eval_shape(ACTIVATIONS[name].fn, half).dtype == jnp.bfloat16


@pytest.mark.parametrize("name", ACROSS_REFERENCE)
def test_across_units_is_finite_at_the_extremes(name):
    z = jnp.asarray([[1.0, -104.0, 1.6e38, -1.6e38], [-1.6e38, 1.0, -88.0, 0.0], [0.0] * 4])
    fn = ACTIVATIONS[name].fn
    measure = jax.jit(lambda z: (fn(z), jax.vmap(jax.jacrev(fn))(z)))
    for dtype in (jnp.float32, jnp.bfloat16):
        for measured in measure(z.astype(dtype)):
            assert np.isfinite(np.asarray(measured, np.float32)).all()


def test_log_softmax_keeps_the_digits_of_the_dominant_unit():
    got = ACTIVATIONS["log_softmax"].fn(jnp.asarray([0.0, -30.0, -31.0]))
    assert float(got[0]) == pytest.approx(-(np.exp(-30) + np.exp(-31)), rel=1e-6)
    ties = jax.jacrev(ACTIVATIONS["log_softmax"].fn)(jnp.asarray([1.0, 1.0, 1.0]))
    np.testing.assert_allclose(ties, np.eye(3) - 1 / 3, atol=1e-7)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_abs_derivative_is_the_norm_of_the_jacobian_row(name):
    activation = ACTIVATIONS[name]
    abs_derivative = functools.partial(activations.abs_derivative, activation, **activation.params)

    @jax.jit
    def measure(z):
        rows = jax.vmap(jax.jacrev(activation.fn))(z)
        mapped = jax.vmap(abs_derivative)(z)
        return rows, abs_derivative(z), mapped, jnp.abs(_derivative(activation.fn, z))

    rows, got, mapped, derivative = measure(_wide(name, batch=7))
    expected = np.sqrt(np.square(np.asarray(rows, np.float64)).sum(-1))
    near = 3e-7 if name == "snake" else 1e-7  # its derivative has zeros without end
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=near)
    np.testing.assert_allclose(mapped, got, rtol=1e-6, atol=near if name == "snake" else 0)
    if activation.units == "elementwise" and name != "snake":
        np.testing.assert_array_equal(got, derivative)
    if name == "maxout":
        np.testing.assert_array_equal(got, np.ones_like(got))


def test_abs_derivative_shares_ties_and_survives_saturation_and_large_numbers():
    maxout, softmax, swiglu = (ACTIVATIONS[n] for n in ("maxout", "softmax", "swiglu"))
    tied = activations.abs_derivative(maxout, jnp.ones((6,)), pieces=3)
    np.testing.assert_allclose(tied, [3**-0.5] * 2, rtol=1e-6)
    saturated = activations.abs_derivative(softmax, jnp.asarray([0.0, -30.0]))
    np.testing.assert_allclose(saturated, np.exp(-30) * np.sqrt(2) * np.ones(2), rtol=1e-5)
    large = activations.abs_derivative(swiglu, jnp.asarray([1e25, 1e25]))
    np.testing.assert_allclose(large, [np.sqrt(2) * 1e25], rtol=1e-6)


def test_abs_derivative_of_a_users_vector_activation_uses_the_dense_jacobian():
    fn = lambda z: z * jnp.sum(z, axis=-1, keepdims=True)  # noqa: E731
    activation = Activation("square", fn, "", "", "", "", units="vector")
    z = _wide("relu")
    expected = jnp.linalg.norm(jax.vmap(jax.jacrev(fn))(z), axis=-1)
    np.testing.assert_allclose(activations.abs_derivative(activation, z), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gate_input_is_what_decides_whether_a_unit_is_active(name):
    activation, z = ACTIVATIONS[name], np.asarray(_wide(name))
    got = activations.gate_input(activation, jnp.asarray(z), **activation.params)
    expected = {
        "gated": lambda: z[:, z.shape[1] // 2 :],
        "maxout": lambda: np.maximum(z[:, :3], z[:, 3:]),
    }.get(activation.units, lambda: z)()
    np.testing.assert_array_equal(got, expected)


def test_blocks_are_contiguous_value_first():
    z = jnp.asarray([1.0, 2.0, -1.0, 5.0, 4.0, 0.0])
    np.testing.assert_array_equal(ACTIVATIONS["maxout"].fn(z, pieces=3), [4.0, 5.0])
    np.testing.assert_array_equal(ACTIVATIONS["reglu"].fn(z[:4]), [-0.0, 10.0])
    assert activations.inputs_per_unit(ACTIVATIONS["maxout"], {"pieces": 3}) == 3
    assert activations.inputs_per_unit(ACTIVATIONS["glu"], {}) == 2
    assert activations.inputs_per_unit(ACTIVATIONS["relu"], {}) == 1


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if ACTIVATIONS[n].units != "maxout"])
def test_float_parameters_may_be_traced_batched_or_one_per_unit(name):
    activation = ACTIVATIONS[name]
    z = _wide(name)
    static, numeric = activations.split(activation, activation.params)
    run = lambda z, numeric: activation.fn(z, **static, **numeric)  # noqa: E731
    plain = jax.jit(functools.partial(run, numeric=numeric))(z)
    scalars = jax.tree.map(jnp.float32, numeric)
    np.testing.assert_allclose(jax.jit(run)(z, scalars), plain, rtol=1e-6)
    members = jax.tree.map(lambda v: jnp.asarray([v, 2 * v], jnp.float32), scalars)
    if numeric:
        both = jax.vmap(run, in_axes=(None, 0))(z, members)
        np.testing.assert_allclose(
            both[1], run(z, {k: 2 * v for k, v in numeric.items()}), rtol=1e-6
        )
        channels = {k: v * jnp.asarray([1.0, 2.0, 3.0]) for k, v in numeric.items()}
        third = run(z[:, 2:], {k: 3 * v for k, v in numeric.items()})
        atol = 1e-6 if name == "rational" else 0  # near its zero
        np.testing.assert_allclose(run(z, channels)[:, 2:], third, rtol=1e-6, atol=atol)
        assert run(z.astype(jnp.bfloat16), channels).dtype == jnp.bfloat16


@pytest.mark.parametrize("name", ["leaky_relu", "prelu", "elu", "celu", "swish"])
@pytest.mark.parametrize("value", [0.3, 1.0, 1.7])
def test_derivative_in_a_float_parameter(name, value):
    activation = ACTIVATIONS[name]
    (key,) = activations.split(activation, activation.params)[1]
    fn = lambda z, p: activation.fn(z, **{key: p})  # noqa: E731
    grad = jax.jit(jax.vmap(jax.grad(fn, argnums=1), in_axes=(0, None)))
    finite = INPUTS[np.abs(INPUTS) < 1e18]
    assert np.isfinite(grad(jnp.asarray(finite), jnp.float32(value))).all()
    z = jnp.linspace(-9, 9, 61)
    with mp.workdps(40):
        p, h = mp.mpf(float(np.float32(value))), mp.mpf("1e-12")
        exact = {
            "elu": lambda z, p: _elu(z, alpha=p),
            "celu": lambda z, p: z if z > 0 else p * mp.expm1(z / p),
            "swish": lambda z, p: z * _logistic(p * z),
        }.get(name, lambda z, p: z if z > 0 else p * z)
        derivatives = [
            float((exact(mp.mpf(float(t)), p + h) - exact(mp.mpf(float(t)), p - h)) / (2 * h))
            for t in z
        ]
    np.testing.assert_allclose(grad(z, jnp.float32(value)), derivatives, rtol=1e-5, atol=1e-6)
    values = [float(exact(mp.mpf(float(t)), p)) for t in z]
    np.testing.assert_allclose(activation.fn(z, **{key: value}), values, rtol=2e-6)


def test_parameters_survive_every_finite_input():
    for name, value in (
        ("celu", 0.1),
        ("celu", 9.0),
        ("swish", 1e-3),
        ("swish", 50.0),
        ("elu", 3.0),
    ):
        (key,) = activations.split(ACTIVATIONS[name], ACTIVATIONS[name].params)[1]
        fn = functools.partial(ACTIVATIONS[name].fn, **{key: value})
        z = jnp.asarray(INPUTS)
        assert np.isfinite(jax.jit(fn)(z)).all(), name
        assert np.isfinite(jax.jit(functools.partial(_derivative, fn))(z)).all(), name


def test_inputs_at_which_textbook_formulas_fail():
    grad = lambda name, z: float(jax.jit(jax.grad(ACTIVATIONS[name].fn))(jnp.float32(z)))  # noqa: E731
    assert grad("tanh", 44) == pytest.approx(float(mp.sech(44) ** 2), rel=1e-6)
    assert grad("tanh", 88.8) == 0
    assert grad("elu", 100) == 1
    assert grad("sigmoid", -100) == 0
    assert grad("relu", 0) == 0
    assert grad("leaky_relu", 0) == pytest.approx(0.01)


@pytest.mark.parametrize("name", REFERENCE)
def test_monotone_and_kinks_are_correct(name):
    activation = ACTIVATIONS[name]
    z = jnp.asarray(np.linspace(-8, 8, 20_001), jnp.float32)
    rising = np.diff(np.asarray(jax.jit(activation.fn)(z), np.float64)) >= -1e-6
    assert rising.all() == activation.monotone
    derivative = REFERENCE[name][1]
    with mp.workdps(30):
        step = mp.mpf("1e-9")
        jumps = [
            k / 2
            for k in range(-16, 17)
            if abs(derivative(k / 2 + step) - derivative(k / 2 - step)) > 1e-3
        ]
    assert jumps == [kink for kink in activation.kinks if 2 * kink == int(2 * kink)]


def test_every_activation_has_a_reference_and_a_file():
    assert set(REFERENCE) | set(ACROSS_REFERENCE) == set(ACTIVATIONS)
    assert {path.stem for path in CONF.glob("*.yaml")} == {*ACTIVATIONS, "formula"}
    for name, activation in ACTIVATIONS.items():
        written = yaml.safe_load((CONF / f"{name}.yaml").read_text())
        assert written == {"name": name, **activation.params}, name
        assert {k: type(v) for k, v in written.items() if k != "name"} == {
            k: type(v) for k, v in activation.params.items()
        }
        signature = inspect.signature(activation.fn).parameters
        assert {k: signature[k].default for k in activation.params} == dict(activation.params)
        assert (name in REFERENCE) == (activation.units == "elementwise")
        assert all((activation.formula, activation.paper, activation.range, activation.zero))


@pytest.mark.parametrize("name", sorted(CLOSED_FORMS))
def test_the_least_value_is_that_of_the_range(name):
    """The lower end of the range is the least value in float64, as far as the range is finite."""
    low = ACTIVATIONS[name].range.strip("[({").split(",")[0].split("}")[0]
    values = CLOSED_FORMS[name].evaluate(np.linspace(-40.01, 40, 80_011))[0]
    if low == "-inf":
        assert values.min() < -0.39
    else:
        expected = -1.0 if low == "-alpha" else float(low)
        slow = name in ("softsign", "squareplus")  # to their ends as 1 / z
        assert values.min() == pytest.approx(expected, abs=0.03 if slow else 6e-5)


def test_the_table_in_the_docs_is_the_catalogue():
    lines = (CONF.parents[1] / "docs" / "activations.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("| `") and "act=`" not in line]
    rows = {line.split("`")[1]: line for line in table}
    assert list(rows) == list(ACTIVATIONS)
    for name, activation in ACTIVATIONS.items():
        for text in (activation.formula, activation.range, activation.zero, activation.paper):
            assert text.replace("|", "\\|") in rows[name], name
        for key, value in activation.params.items():
            shown = str(value).lower() if isinstance(value, bool) else value
            assert f"`{key}={shown}`" in rows[name]


def test_learnable_parameters():
    learned = {n: a.learnable(a.params) for n, a in ACTIVATIONS.items() if a.learnable(a.params)}
    rational = (*(f"p{i}" for i in range(6)), *(f"q{i}" for i in range(1, 5)))
    assert learned == {
        "prelu": ("slope",),
        "erf_act": ("alpha", "beta"),
        "star_relu": ("scale", "shift"),
        "xielu": ("rho_p", "rho_n"),
        "rational": rational,
    }
    assert ACTIVATIONS["star_relu"].learnable({"learnable": False}) == ()
    assert ACTIVATIONS["snake"].learnable({"learnable": True}) == ("frequency",)
    assert ACTIVATIONS["swish"].learnable({"beta": 1.0, "learnable": True}) == ("beta",)


def test_unknown_names_and_values_are_refused_with_a_hint():
    with pytest.raises(UserError, match="did you mean act=relu"):
        activations.get("rellu")
    with pytest.raises(UserError, match=r"act.slop=0.1: leaky_relu has no such.*Known: slope"):
        activations.bind({"name": "leaky_relu", "slop": 0.1})
    with pytest.raises(UserError, match=r"act.slope=steep: must be a number"):
        activations.bind({"name": "leaky_relu", "slope": "steep"})
    with pytest.raises(UserError, match=r"act.approximate=3: must be true or false"):
        activations.bind({"name": "gelu", "approximate": 3})


def test_bind_fills_in_defaults_and_split_goes_by_their_types():
    activation, params = activations.bind({"name": "prelu", "slope": 1})
    assert params == {"slope": 1, "per_channel": False}
    assert activations.split(activation, params) == ({"per_channel": False}, {"slope": 1})
    assert activations.split(ACTIVATIONS["maxout"], {"pieces": 3}) == ({"pieces": 3}, {})


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    (tmp_path / "users_acts.py").write_text(
        "import jax.numpy as jnp\n"
        "from actsweep.activations import ACTIVATIONS\n"
        "def cubic(z, power=1.0, odd=True):\n    return z * z * z * power\n"
        "def gate(z):\n    return z\n"
        "gate.activation = ACTIVATIONS['glu']\n"
        "ready = ACTIVATIONS['relu']\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("users_acts", None)


@pytest.mark.usefixtures("users_module")
def test_custom_activation_from_a_dotted_path():
    act = {"name": "mine", "_target_": "users_acts.cubic", "power": 2.0}
    activation, params = activations.bind(act)
    assert params == {"power": 2.0, "odd": True}
    assert activations.split(activation, params) == ({"odd": True}, {"power": 2.0})
    z = jnp.asarray([[1.0, -2.0]], jnp.bfloat16)
    got = activation.fn(z, power=jnp.float32(2.0))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got.astype(jnp.float32), [[2.0, -16.0]])
    np.testing.assert_array_equal(
        activations.abs_derivative(activation, jnp.ones(2), **params), [6.0, 6.0]
    )
    assert activations.custom("users_acts.gate", {}) is ACTIVATIONS["glu"]
    assert activations.custom("users_acts.ready", {}) is ACTIVATIONS["relu"]


@pytest.mark.usefixtures("users_module")
@pytest.mark.parametrize(
    ("target", "params", "message"),
    [
        ("users_acts.none", {}, "act._target_=users_acts.none: can't be imported"),
        ("no_such_module.f", {}, "can't be imported"),
        ("undotted", {}, "can't be imported"),
        ("users_acts.number", {}, "must be a function"),
        ("users_acts.cubic", {"powr": 1.0}, "powr"),
        ("users_acts.ready", {"slope": 1.0}, "no such parameter"),
    ],
)
def test_custom_activation_errors_name_the_target(target, params, message):
    with pytest.raises(UserError, match=message):
        activations.custom(target, params)


@pytest.mark.parametrize("variant", VARIANTS)
def test_nan_in_is_nan_out(variant):
    """Comparisons with NaN are false: written without care, relu(NaN) is 0 and trains on."""
    name, given = VARIANTS[variant]
    act, params = ACTIVATIONS[name], {**ACTIVATIONS[name].params, **given}
    k = activations.inputs_per_unit(act, params)
    z = jnp.full((3, 4 * k), jnp.nan)
    fn = jax.jit(functools.partial(act.fn, **params))
    abs_derivative = jax.jit(functools.partial(activations.abs_derivative, act, **params))
    assert np.isnan(fn(z)).all()
    assert np.isnan(abs_derivative(z)).all()
    if act.units == "elementwise" and act.name != "identity":
        slopes = jax.jit(jax.grad(lambda x: act.fn(x, **params).sum()))
        mixed = jnp.array([[1.0, jnp.nan, -1.0, jnp.nan]] * 3)
        for values in (fn(mixed), slopes(mixed)):
            np.testing.assert_array_equal(np.isnan(values), np.isnan(mixed))


JAX_NN = {
    "soft_sign": "softsign",
    **{name: name for name in ("squareplus", "sparse_plus", "sparse_sigmoid", "softplus", "mish")},
    **{name: name for name in ("relu6", "hard_tanh", "log_sigmoid", "celu", "selu", "elu")},
}


@pytest.mark.parametrize("theirs", JAX_NN)
def test_jax_nn_has_the_same_values_and_derivatives(theirs):
    z = jnp.asarray(GRID)
    expected, ours = (
        jax.vmap(jax.value_and_grad(fn))(z)
        for fn in (getattr(jax.nn, theirs), ACTIVATIONS[JAX_NN[theirs]].fn)
    )
    first = 1 if 0.0 in ACTIVATIONS[JAX_NN[theirs]].kinks else 0
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a[first:], b[first:], rtol=2e-5, atol=1e-6)


TORCH_NN = {
    "hard_shrink": ("Hardshrink", {}),
    "soft_shrink": ("Softshrink", {}),
    "tanh_shrink": ("Tanhshrink", {}),
    "threshold": ("Threshold", {"threshold": 0.3, "value": -2.0}),
    "softplus": ("Softplus", {"beta": 2.5}),
    "prelu": ("PReLU", {}),
    "rrelu": ("RReLU", {}),
    "celu": ("CELU", {"alpha": 1.3}),
}


@pytest.mark.parametrize("name", TORCH_NN)
def test_torch_nn_has_the_same_values_and_derivatives(name):
    torch = pytest.importorskip("torch")
    module, given = TORCH_NN[name]
    z = torch.tensor(GRID, requires_grad=True)
    expected = getattr(torch.nn, module)(**given).eval()(z)
    expected.sum().backward()
    fn = functools.partial(ACTIVATIONS[name].fn, **given)
    values, slopes = jax.vmap(jax.value_and_grad(fn))(jnp.asarray(GRID))
    np.testing.assert_allclose(values, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slopes, z.grad.numpy(), rtol=1e-5, atol=1e-6)


LIMITS = {  # at -inf and inf: of the value, of the derivative
    "identity": (-np.inf, np.inf, 1, 1),
    "sigmoid": (0, 1, 0, 0),
    "log_sigmoid": (-np.inf, 0, 1, 0),
    "tanh": (-1, 1, 0, 0),
    "softsign": (-1, 1, 0, 0),
    "hard_sigmoid": (0, 1, 0, 0),
    "hard_tanh": (-1, 1, 0, 0),
    "relu": (0, np.inf, 0, 1),
    "relu6": (0, 6, 0, 0),
    "squared_relu": (0, np.inf, 0, np.inf),
    "leaky_relu": (-np.inf, np.inf, 0.01, 1),
    "prelu": (-np.inf, np.inf, 0.25, 1),
    "rrelu": (-np.inf, np.inf, 11 / 48, 1),
    "elu": (-1, np.inf, 0, 1),
    "celu": (-1, np.inf, 0, 1),
    "selu": (-1.7580993408473766, np.inf, 0, 1.0507009873554805),
    "softplus": (0, np.inf, 0, 1),
    "silu": (0, np.inf, 0, 1),
    "swish": (0, np.inf, 0, 1),
    "hard_swish": (0, np.inf, 0, 1),
    "mish": (0, np.inf, 0, 1),
    "gelu": (0, np.inf, 0, 1),
    **dict.fromkeys(("hard_shrink", "soft_shrink", "tanh_shrink"), (-np.inf, np.inf, 1, 1)),
    **dict.fromkeys(("threshold", "squareplus", "sparse_plus"), (0, np.inf, 0, 1)),
    **dict.fromkeys(("golu", "telu", "colu", "serf", "erf_act"), (0, np.inf, 0, 1)),
    "sparse_sigmoid": (0, 1, 0, 0),
    "smish": (0, np.inf, 0, 0.6),
    "star_relu": (-0.4472, np.inf, 0, np.inf),
    "snake": (-np.inf, np.inf, 1, 1),
    "penalized_tanh": (-0.25, 1, 0, 0),
    "xielu": (np.inf, np.inf, -0.3, np.inf),
    "rational": (-np.inf, np.inf, 0.25281987 / 0.34885983, 0.25281987 / 0.34885983),
}


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_limits_at_infinity(name):
    act = ACTIVATIONS[name]
    z = jnp.array([-jnp.inf, jnp.inf])
    low, high, left, right = LIMITS[name]
    fn = functools.partial(act.fn, **act.params)
    value, slopes = jax.jit(lambda z: (fn(z), jax.grad(lambda x: fn(x).sum())(z)))(z)
    np.testing.assert_allclose(value, [low, high], rtol=1e-6)
    np.testing.assert_allclose(slopes, [left, right], rtol=1e-6)


def test_every_elementwise_activation_has_its_limits():
    elementwise = {a.name for a in ACTIVATIONS.values() if a.units == "elementwise"}
    assert set(LIMITS) == elementwise


@pytest.mark.parametrize("name", ["glu", "swiglu", "geglu", "reglu"])
@pytest.mark.parametrize("v", [1e38, -1e38, 1e-30])
def test_abs_derivative_of_gated_units_at_the_ends_of_float32(name, v):
    """Against the two partial derivatives, whose squares float32 can't hold."""
    act = ACTIVATIONS[name]
    z = jnp.array([[v, 1.0]], jnp.float32)
    parts = np.asarray(jax.jacrev(act.fn)(z)[0, 0, 0], np.float64)
    expected = np.hypot(*parts)
    np.testing.assert_allclose(activations.abs_derivative(act, z)[0, 0], expected, rtol=1e-6)
