"""Mean-field theory against published numbers, mpmath and closed forms."""

import math

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import erf

from actsweep.activations import ACTIVATIONS
from actsweep.theory import mean_field as mf
from actsweep.theory.closed_forms import CLOSED_FORMS
from actsweep.theory.jacobian import born_dead, born_dead_on_line, jacobian_spectrum
from actsweep.theory.mean_field import Layer
from actsweep.theory.units import GATES, SeveralInputs, unit_of
from actsweep.utils.errors import UserError

ELEMENTWISE = [name for name, act in ACTIVATIONS.items() if act.units == "elementwise"]


def evaluate(name, z, params):
    return CLOSED_FORMS[name].evaluate(z, **params)


def unit(name, **params):
    return unit_of({"name": name, **params})


def own(name):
    """A user's own activation from this file."""
    return unit_of({"name": name, "_target_": f"{__name__}.{name}"})


def erf_unit(z):
    return jax.scipy.special.erf(z)


def unnamed_kink(z):
    return jnp.where(z > 0.3, z - 0.3, 0.2 * (z - 0.3))


def step(z):
    return jnp.where(z > 0.5, 1.0, 0.0)


def square_exponential(z):
    return jnp.exp(z * z / 4)


def gated_cosine(z):
    v, g = jnp.split(z, 2, axis=-1)
    return v * jnp.cos(g)


# --- the functions in float64


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_closed_form_is_the_catalogue_s_function(name):
    act = ACTIVATIONS[name]
    z = np.concatenate([np.linspace(-9.03, 9.07, 2001), [-80.5, 80.5]]).astype(np.float32)
    given = {key: value for key, value in act.params.items() if isinstance(value, float)}
    for params in ({}, act.params, {key: 1.7 * value for key, value in given.items()}):
        fn = lambda z, params=params: act.fn(z[None], **{**act.params, **params})[0]  # noqa: E731
        values, slopes = jax.vmap(jax.value_and_grad(fn))(z)
        f, df = evaluate(name, z.astype(float), params)
        atol = 5e-5 if name == "snake" else 2e-6  # of sin(2 * 1.7 * 80)
        np.testing.assert_allclose(f, values, rtol=3e-6, atol=atol)
        np.testing.assert_allclose(df, slopes, rtol=3e-6, atol=atol)
    assert CLOSED_FORMS[name].kinks == act.kinks


def test_every_elementwise_activation_and_gate_has_a_closed_form():
    assert {*CLOSED_FORMS} == {*ELEMENTWISE}
    assert {*GATES} == {name for name, act in ACTIVATIONS.items() if act.units == "gated"}


# --- moments

MP = {
    "tanh": (mp.tanh, []),
    "relu": (lambda z: max(z, 0), [0]),
    "relu6": (lambda z: min(max(z, 0), 6), [0, 6]),
    "hard_tanh": (lambda z: min(max(z, -1), 1), [-1, 1]),
    "hard_swish": (lambda z: z * min(max(z + 3, 0), 6) / 6, [-3, 3]),
    "gelu": (lambda z: z * mp.ncdf(z), []),
    "softsign": (lambda z: z / (1 + abs(z)), [0]),
    "selu": (
        lambda z: (
            mp.mpf("1.0507009873554805")
            * (z if z > 0 else mp.mpf("1.6732632423543772") * mp.expm1(z))
        ),
        [0],
    ),
}


def mp_expectation(f, q, kinks):
    """E[f(u)], u ~ N(0, q), to 20 digits."""
    root = mp.sqrt(q)
    edges = sorted(
        {-14 * root, *map(mp.mpf, kinks), *(k * root for k in range(-12, 13, 3)), 14 * root}
    )
    return mp.quad(lambda u: f(u) * mp.npdf(u / root) / root, edges)


@pytest.mark.parametrize("q", [0.04, 1.0, 9.0])
@pytest.mark.parametrize("name", MP)
def test_moments_have_ten_digits(name, q):
    f, kinks = MP[name]
    moments = unit(name).moments(q)
    with mp.workdps(20):
        expected = mp_expectation(lambda u: f(u) ** 2, q, kinks)
        slope = mp_expectation(lambda u: f(u) ** 2 * (u * u / q - 1) / (2 * q), q, kinks)
        fourth = mp_expectation(lambda u: f(u) ** 4, q, kinks)
    assert moments.second == pytest.approx(float(expected), rel=1e-10)
    assert moments.slope == pytest.approx(float(slope), rel=1e-10)
    assert moments.fourth == pytest.approx(float(fourth), rel=1e-10)
    assert moments.error < 1e-11


@pytest.mark.parametrize("q", [0.04, 9.0])
def test_moments_of_the_derivative(q):
    def squared(power):
        return mp_expectation(lambda u: mp.sech(u) ** (2 * power), q, [])

    with mp.workdps(20):
        both = [float(squared(power)) for power in (2, 4)]
        curvature = mp_expectation(lambda u: -2 * mp.tanh(u) ** 2 * mp.sech(u) ** 2, q, [])
    moments = unit("tanh").moments(q)
    assert [moments.derivative, moments.derivative_fourth] == pytest.approx(both, rel=1e-10)
    assert moments.curvature == pytest.approx(float(curvature), rel=1e-10)
    assert unit("hard_tanh").moments(q).derivative == pytest.approx(math.erf((2 * q) ** -0.5))


def test_a_kink_that_nobody_names_is_found():
    """Its integrals are those of the leaky ReLU at N(-0.3, 1), by mpmath."""
    moments = own("unnamed_kink").moments(1.0)
    f = lambda u: (u - 0.3) * (1 if u > 0.3 else 0.2)  # noqa: E731
    assert moments.second == pytest.approx(
        float(mp_expectation(lambda u: f(u) ** 2, 1.0, [0.3])), rel=1e-10
    )
    share = mp.ncdf(-0.3)
    assert moments.derivative == pytest.approx(float(share + 0.04 * (1 - share)), rel=1e-10)


@pytest.mark.parametrize("c", [-1.0, -0.6, 0.0, 1e-9, 0.3, 0.9, 0.99999, 1.0])
def test_two_relus_have_the_arc_cosine_kernel(c):
    """Cho & Saul 2009, "Kernel methods for deep learning"."""
    angle, q = math.acos(c), 2.5
    product = q / (2 * math.pi) * (math.sin(angle) + (math.pi - angle) * c)
    slopes = (math.pi - angle) / (2 * math.pi)
    assert unit("relu").pair(q, c) == pytest.approx((product, slopes), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("c", [-1.0, -0.4, 0.2, 0.999, 1.0])
def test_two_error_functions_have_the_arc_sine_kernel(c):
    """Williams 1997, "Computing with infinite networks"; a user's own, evaluated by jax."""
    q = 0.8
    product, slopes = own("erf_unit").pair(q, c)
    assert product == pytest.approx(2 / math.pi * math.asin(2 * q * c / (1 + 2 * q)), rel=1e-9)
    root = math.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2)
    assert slopes == pytest.approx(4 / math.pi / root, rel=1e-9)


@pytest.mark.parametrize(("name", "q", "c"), [("hard_tanh", 2.0, -0.7), ("selu", 0.5, 0.8)])
def test_two_kinked_units_against_draws(name, q, c):
    z = np.random.default_rng(0).standard_normal((2, 4_000_000))
    u1, u2 = math.sqrt(q) * z[0], math.sqrt(q) * (c * z[0] + math.sqrt(1 - c * c) * z[1])
    (f1, d1), (f2, d2) = (evaluate(name, u, {}) for u in (u1, u2))
    for value, draws in zip(unit(name).pair(q, c), (f1 * f2, d1 * d2), strict=True):
        assert value == pytest.approx(draws.mean(), abs=4 * draws.std() / 2000)


# --- published numbers


@pytest.mark.parametrize(
    ("sigma_b2", "sigma_w2"), [(2.01e-5, 1.049996), (0.01, 1.424205), (0.05, 1.760955)]
)
def test_edge_of_chaos_of_tanh(sigma_b2, sigma_w2):
    (point,) = mf.edge_at(unit("tanh"), sigma_b2)
    assert point.sigma_w2 == pytest.approx(sigma_w2, abs=1e-6)
    assert point.stable
    assert mf.gradient_factor(unit("tanh"), Layer(point.sigma_w2, sigma_b2), point.q) == (
        pytest.approx(1, abs=1e-10)
    )


def test_edge_of_chaos_without_biases():
    """tanh: sigma_w = 1 at q = 0, stable; swish: sigma_w = 2, whence q = q + 3/4 q^2 grows."""
    (tanh,), swish = mf.edge_at(unit("tanh"), 0.0), mf.edge_at(unit("swish"), 0.0)[0]
    assert (tanh.q, tanh.sigma_w2, tanh.stable) == (0.0, pytest.approx(1), True)
    assert (swish.q, swish.sigma_w2, swish.stable) == (0.0, pytest.approx(4), False)
    assert swish.slope == pytest.approx(1 + 1.5e-4, abs=1e-6)


def test_edge_of_chaos_of_elu():
    assert mf.edge_at(unit("elu"), 0.05)[0].sigma_w2 == pytest.approx(1.5337, abs=1e-4)


@pytest.mark.parametrize(
    ("sigma_w2", "q", "chi", "c", "xi_q", "xi_c"),
    [
        (1.0, 0.19359, 0.75903, 1, 1.748, 3.63),
        (1.5, 0.41804, 0.93864, 1, 1.683, 15.79),
        (2.5, 1.06396, 1.13352, 0.4468, 1.180, 11.8),
    ],
)
def test_fixed_points_and_depth_scales_of_tanh(sigma_w2, q, chi, c, xi_q, xi_c):
    tanh, layer = unit("tanh"), Layer(sigma_w2, 0.05)
    (point,) = mf.fixed_points(tanh, layer)
    assert point == mf.attractor(tanh, layer, 3.0) == mf.attractor(tanh, layer, 0.01)
    assert point.q == pytest.approx(q, abs=1e-5)
    assert mf.gradient_factor(tanh, layer, point.q) == pytest.approx(chi, abs=1e-5)
    correlation = mf.fixed_correlation(tanh, layer, point.q)
    assert correlation == pytest.approx(c, abs=1e-4)
    assert mf.depth_scale(point.slope) == pytest.approx(xi_q, abs=1e-3)
    slope = mf.correlation_slope(tanh, layer, point.q, correlation)
    assert mf.depth_scale(slope) == pytest.approx(xi_c, abs=0.01)


def relu_on_its_edge(layers):
    """l^2 (1 - c_l) from c_0 = 0."""
    relu, c = unit("relu"), 0.0
    for _ in range(layers):
        c = mf.correlation_map(relu, Layer(2.0), 1.0, c)
    return layers**2 * (1 - c)


@pytest.mark.parametrize(("layers", "value"), [(10, 12.846), (100, 35.769), (1000, 43.130)])
def test_correlation_on_the_edge_of_relu(layers, value):
    """Its limit is 9 pi^2 / 2 = 44.413: Hayou et al. 2019."""
    assert relu_on_its_edge(layers) == pytest.approx(value, abs=1e-3)


def test_the_edge_of_relu_is_one_point():
    edge = mf.edge_of_chaos(unit("relu"))
    assert {(round(p.sigma_w2, 12), p.sigma_b2, p.stable) for p in edge} == {(2.0, 0.0, True)}
    assert mf.edge_at(unit("relu"), 0.01) == []
    assert mf.edge_at(unit("relu"), 0.0)[0].sigma_w2 == pytest.approx(2)


def test_correlation_on_a_smooth_edge():
    """1 - c_l ~ 2 E[f'^2] / (q E[f''^2] l): Hayou et al. 2019; f'' of tanh is -2 tanh sech^2."""
    tanh = unit("tanh")
    (edge,) = mf.edge_at(tanh, 0.05)
    z = np.linspace(-9, 9, 20_001) * math.sqrt(edge.q)
    weights = np.exp(-(z**2) / (2 * edge.q))
    curvature = np.average((2 * np.tanh(z) / np.cosh(z) ** 2) ** 2, weights=weights)
    c, layers = 0.5, 400
    for _ in range(layers):
        c = mf.correlation_map(tanh, Layer(edge.sigma_w2, 0.05), edge.q, c)
    limit = 2 / edge.sigma_w2 / (edge.q * curvature)
    assert layers * (1 - c) == pytest.approx(limit, rel=0.05)


@pytest.mark.parametrize(
    ("name", "q", "sigma_w2", "sigma_b2"),
    [("swish", 14.32, 1.98800, 0.55514), ("gelu", 3.56, 1.98306, 0.17292)],
)
def test_where_an_edge_becomes_stable(name, q, sigma_w2, sigma_b2):
    edge = mf.edge_of_chaos(unit(name))
    turns = [i for i in range(1, len(edge)) if edge[i].stable != edge[i - 1].stable]
    (start,) = (edge[i] for i in turns)
    assert start.q == pytest.approx(q, abs=0.005)
    assert (start.sigma_w2, start.sigma_b2) == pytest.approx((sigma_w2, sigma_b2), abs=1e-5)
    assert not edge[0].stable
    assert edge[-1].stable


def test_the_published_edge_of_swish_is_unstable():
    """At sigma_b = 0.2 chi_1 = 1 where Q' > 1; at sigma_w = 1.718 there is no fixed point."""
    swish = unit("swish")
    points = mf.edge_at(swish, 0.04)
    assert points
    assert not any(point.stable for point in points)
    layer = Layer(1.718**2, 0.04)
    assert mf.attractor(swish, layer, 1.0) is None
    q = 1.0
    for _ in range(100):
        q = mf.length_map(swish, layer, q)
    assert q > 1e10


def test_a_fixed_point_that_the_map_only_touches_is_found():
    """At a slope of 1 iterating converges slowly: two fixed points meet."""
    gelu = unit("gelu")
    low, high = 0.5, 3.0  # of q, between which Q' = 1 on sigma_b^2 = 0.04

    def bias_left(q):
        moments = gelu.moments(q)
        return q - moments.second / moments.slope - 0.04

    q = brentq(bias_left, low * 0.01, high)
    layer = Layer(1 / gelu.moments(q).slope, 0.04)
    points = mf.fixed_points(gelu, layer)
    assert min(abs(point.q - q) for point in points) < 1e-5
    assert all(abs(point.slope - 1) < 1e-4 for point in points if abs(point.q - q) < 1e-5)


def test_every_fixed_point_of_squared_relu():
    """Q(q) = 3/2 sigma_w^2 q^2: 0, and an unstable one."""
    first, second = mf.fixed_points(unit("squared_relu"), Layer(2.0))
    assert (first.q, first.stable) == (0.0, True)
    assert (second.q, second.slope) == pytest.approx((1 / 3, 2))
    assert not second.stable
    assert mf.attractor(unit("squared_relu"), Layer(2.0), 0.3).q == 0
    assert mf.attractor(unit("squared_relu"), Layer(2.0), 0.4) is None


def test_relu_keeps_every_length_or_has_one():
    relu = unit("relu")
    assert mf.attractor(relu, Layer(2.0), 3.7).q == 3.7
    assert [point.q for point in mf.fixed_points(relu, Layer(1.5))] == [0.0]
    (point,) = mf.fixed_points(relu, Layer(1.5, 0.1))
    assert point.q == pytest.approx(0.1 / (1 - 0.75))
    assert mf.attractor(relu, Layer(2.2), 1.0) is None


@pytest.mark.parametrize(("depth", "variance"), [(10, 0.397), (100, 0.0727)])
def test_jacobian_of_orthogonal_tanh(depth, variance):
    """On the edge at q* = 1 / L."""
    edge = mf.edge_point(unit("tanh"), 1 / depth)
    if depth == 100:
        assert edge.sigma_w2 == pytest.approx(1.019711, abs=1e-6)
        assert edge.sigma_b2 == pytest.approx(1.258e-6, abs=1e-9)
    layer = Layer(edge.sigma_w2, edge.sigma_b2)
    spread = {
        orthogonal: jacobian_spectrum(unit("tanh"), layer, edge.q, depth, orthogonal=orthogonal)
        for orthogonal in (True, False)
    }
    assert spread[True] == pytest.approx((1, variance), rel=2e-3)
    assert spread[False][1] == pytest.approx(spread[True][1] + depth)


@pytest.mark.parametrize(("depth", "slope"), [(50, 0.430523), (100, 0.570440)])
def test_tailored_leaky_relu(depth, slope):
    """Zhang et al. 2022: the whole network's C(0) is 0.9 at weights of 2 / (1 + slope^2)."""

    def end(slope):
        leaky, c = unit("leaky_relu", slope=slope), 0.0
        for _ in range(depth):
            c = mf.correlation_map(leaky, Layer(2 / (1 + slope**2)), 1.0, c)
        return c - 0.9

    assert end(slope - 2e-6) > 0 > end(slope + 2e-6)


@pytest.mark.parametrize(
    ("name", "variance"), [("tanh", 2.53618), ("swish", 2.81076), ("gelu", 2.35172)]
)
def test_autoinit(name, variance):
    """Bingham & Miikkulainen 2021, at mean 0 and variance 1."""
    assert 1 / unit(name).moments(1.0).second == pytest.approx(variance, abs=1e-5)


@pytest.mark.parametrize(
    ("width", "shares"),
    [(2, (0.620, 0.912, 0.995)), (3, (0.294, 0.631, 0.907)), (5, (0.040, 0.151, 0.381))],
)
def test_relu_networks_born_dead(width, shares):
    """On all of R, 5, 10 and 20 hidden layers; for one input it is more probable."""
    for depth, share in zip((5, 10, 20), shares, strict=True):
        measured, error = born_dead_on_line([width] * depth)
        assert measured == pytest.approx(share, abs=0.0035 + 3 * error)
        bound = born_dead(unit("relu"), [1.0] * depth, [width] * depth)
        assert bound == pytest.approx(1 - (1 - 2.0**-width) ** depth)
        assert bound > measured - 3 * error


def test_only_units_that_are_zero_below_are_born_dead():
    assert born_dead(unit("leaky_relu"), [1.0], [2]) is None
    assert born_dead(unit("hard_tanh"), [1.0], [2]) is None
    assert born_dead(unit("squared_relu"), [1.0], [2]) == pytest.approx(0.25)
    assert born_dead(unit("relu").shifted(-0.5), [4.0], [1]) == pytest.approx(
        0.5 * (1 + erf(0.25 / math.sqrt(2)))
    )


# --- units of several inputs


@pytest.mark.parametrize("name", GATES)
def test_gated_units_within_their_error(name):
    """E[f^2] = q E[h^2] and E[f1 f2] = q c E[h1 h2], since value and gate are independent."""
    gated, gate, q, c = unit(name), unit(GATES[name]), 0.7, 0.6
    moments, of_gate = gated.moments(q), gate.moments(q)
    assert moments.second == pytest.approx(q * of_gate.second, rel=4 * moments.error)
    expected = of_gate.second + q * of_gate.derivative
    assert moments.derivative == pytest.approx(expected, rel=4 * moments.error)
    assert moments.slope == pytest.approx(of_gate.second + q * of_gate.slope, rel=8 * moments.error)
    product, slopes = gated.pair(q, c)
    h, dh = gate.pair(q, c)
    assert product == pytest.approx(q * c * h, rel=8 * moments.error)
    assert slopes == pytest.approx(h + q * c * dh, rel=8 * moments.error)
    assert 1e-4 < moments.error < 0.03


@pytest.mark.parametrize(("pieces", "second"), [(2, 1.0), (3, 1 + math.sqrt(3) / (2 * math.pi))])
def test_maxout_within_its_error(pieces, second):
    moments = unit("maxout", pieces=pieces).moments(2.0)
    assert moments.second == pytest.approx(2 * second, rel=4 * moments.error)
    assert moments.derivative == pytest.approx(1)
    assert moments.slope == pytest.approx(second, rel=4 * moments.error)


def test_a_gated_unit_of_a_user_s_own():
    from dataclasses import replace

    gated_cosine.activation = replace(ACTIVATIONS["glu"], fn=gated_cosine)
    made = own("gated_cosine")
    assert isinstance(made, SeveralInputs)
    moments = made.moments(1.0)
    assert moments.second == pytest.approx((1 + math.exp(-2)) / 2, rel=4 * moments.error)


# --- what is refused


def test_a_jump_is_refused():
    with pytest.raises(UserError, match=r"act: jumps at z=0\.5, .* act=tanh"):
        own("step")


def test_a_sine_of_a_formula_is_no_jump():
    """E[sin(z)^2] = (1 - exp(-2)) / 2; far from 0 the smallest step changes a sine by much."""
    moments = unit_of({"name": "sin(x)", "formula": "sin(x)"}).quick_moments(1.0)
    assert moments.second == pytest.approx((1 - math.exp(-2)) / 2, rel=1e-12)
    assert moments.derivative == pytest.approx((1 + math.exp(-2)) / 2, rel=1e-12)


@pytest.mark.parametrize(("q", "error"), [(0.1, 1e-12), (1.0, 1e-12), (10.0, 1e-5)])
def test_nor_is_one_that_is_ever_faster(q, error):
    """E[exp(i t z^2)] = (1 - 2 i t)^(-1/2)."""
    moments = unit_of({"name": "sin(x^2)", "formula": "sin(x**2)"}).quick_moments(q)
    assert moments.second == pytest.approx((1 - ((1 - 4j * q) ** -0.5).real) / 2, rel=error)
    assert moments.mean == pytest.approx(((1 - 2j * q) ** -0.5).imag, rel=error)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_units_that_depend_on_each_other_are_refused(name):
    with pytest.raises(UserError, match=f"act={name}: its units depend on each other"):
        unit(name)


def test_a_second_moment_that_is_infinite():
    """E[exp(z^2 / 2)] exists for q < 1 alone: (1 - q)^(-1/2)."""
    grows = own("square_exponential")
    assert grows.moments(0.5).second == pytest.approx(2**0.5, rel=1e-10)
    assert grows.moments(1.0).second == math.inf
    assert grows.moments(4.0).second == math.inf


def test_a_negative_variance_is_refused():
    with pytest.raises(UserError, match=r"init\.sigma_b=-0\.1: must be"):
        mf.edge_at(unit("tanh"), -0.01)
