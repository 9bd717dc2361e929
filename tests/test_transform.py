"""`act.transform=dks|tat`: published numbers, maps by mpmath, drawn networks, runs and packs."""

import math

import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.optimize import brentq
from test_training import composed, leaves, same_bits, train

from actsweep import activations
from actsweep.config import resolve
from actsweep.config.identity import run_id
from actsweep.config.overrides import for_hydra
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.sweeps.table import columns
from actsweep.theory.card import card
from actsweep.theory.networks import network_of
from actsweep.theory.transforms import (
    dks_residual,
    network_maps,
    solve_scales,
    tat_residual,
    transform_numbers,
)
from actsweep.theory.units import unit_of
from actsweep.utils.errors import UserError


def run_of(act="tanh", transform="dks", depth=10, width=20, **groups):
    act = act if isinstance(act, dict) else {"name": act}
    groups = {"init": {"name": "normal"}} | groups
    act = {**act, "transform": transform}
    sizes = {"widths": depth} if isinstance(depth, list) else {"layers": depth, "width": width}
    return resolve.resolve({"act": act, "depth": sizes} | groups)


# --- the numbers


def resnet_maximum(x, layer):
    """The largest over subnetworks of the residual network that the published numbers are of."""
    branch = layer(layer(layer(x)))
    for blocks in (3, 4, 23, 3):
        for block in range(blocks):
            skip = x if block else layer(x)
            x = 0.36 * skip + 0.64 * layer(layer(layer(x)))
    return max(layer(x), branch)


LOCAL = {
    "dks": brentq(lambda s: resnet_maximum(1.0, lambda x: s * x) - 1.2, 1, 1.2, xtol=1e-15),
    "tat": brentq(lambda s: resnet_maximum(0.0, lambda x: s + x) - 0.2, 0, 1, xtol=1e-15),
}
"""Slope and curvature of a layer where the network's are 1.2 and 0.2."""
PUBLISHED = [  # the authors' own tests; input scale and shift, output scale and shift
    ("softplus", "dks", (0.1876100817, 0.4068806344, 8.8786725437, -0.9213466151)),
    ("tanh", "dks", (0.0746107306, 0.5566915200, 18.002635964, -0.5034378769)),
    ("gelu", "dks", (0.0704325313, 0.2594892979, 20.211589023, -0.1581537896)),
    ("softplus", "tat", (0.1501149179, 0.5374599901, 10.548801879, -0.9964810145)),
    ("tanh", "tat", (0.0580205219, 0.5218639804, 22.360662617, -0.4796430704)),
]


@pytest.mark.parametrize(("act", "transform", "expected"), PUBLISHED)
def test_the_numbers_are_the_published_ones(act, transform, expected):
    residual, unknowns = {"dks": (dks_residual, 2), "tat": (tat_residual, 3)}[transform]
    found = solve_scales(unit_of({"name": act}), residual(LOCAL[transform]), unknowns)
    # Their solver stops at 1e-8; of an input that is scaled so little that is 1e-6.
    np.testing.assert_allclose([*found.values()], expected, rtol=1e-6)


def test_the_slopes_of_a_leaky_relu_are_the_published_ones():
    act = {"name": "leaky_relu", "transform": "tat"}
    slopes = [transform_numbers(act, depth)["slope"] for depth in (50, 100)]
    assert slopes == [pytest.approx(0.430523, abs=1e-6), pytest.approx(0.570440, abs=1e-6)]
    found = transform_numbers(act, 50)
    assert found["output_scale"] == pytest.approx(math.sqrt(2 / (1 + found["slope"] ** 2)))
    found = transform_numbers(
        {"name": "leaky_relu", "transform": "dks", "transform_target": LOCAL["dks"]}, 1
    )
    expected = (0.8761257073, 1.0651832706, -0.0494186930)
    shown = [found[key] for key in ("slope", "output_scale", "output_shift")]
    np.testing.assert_allclose(shown, expected, rtol=1e-7)


def by_mpmath(f, numbers, kink):
    """C(0), Q(1), Q'(1), C'(1) and C''(1) of one layer, by quadrature and mpmath's derivatives."""
    a, b, g, d = (numbers[key] for key in NAMES)
    whole = lambda z: g * (f(a * z + b) + d)  # noqa: E731
    slope = lambda z: mp.diff(whole, z)  # noqa: E731
    ends = sorted([-9, -3, 3, 9, -b / a if kink else 0])
    mean = lambda h: mp.quad(lambda z: h(z) * mp.npdf(z), ends, maxdegree=5)  # noqa: E731
    return (
        float(mean(whole) ** 2),
        float(mean(lambda z: whole(z) ** 2)),
        float(mean(lambda z: z * whole(z) * slope(z))),
        float(mean(lambda z: slope(z) ** 2)),
        float(mean(lambda z: mp.diff(whole, z, 2) ** 2)),
    )


NAMES = ("input_scale", "input_shift", "output_scale", "output_shift")
FUNCTIONS = {
    "tanh": mp.tanh,
    "mish": lambda z: z * mp.tanh(mp.log(1 + mp.exp(z))),
    "elu": lambda z: z if z > 0 else mp.expm1(z),
    "x*exp(-x**2)": lambda z: z * mp.exp(-z * z),
}


@pytest.mark.parametrize(
    ("act", "transform", "depth"),
    [("tanh", "dks", 20), ("elu", "dks", 5), ("mish", "tat", 20), ("x*exp(-x**2)", "tat", 8)],
)
def test_the_maps_are_those_that_are_asked_for(act, transform, depth):
    run = make_member(run_of(act, transform, depth)).config
    with mp.workdps(15):
        c_0, q, q_slope, slope, curvature = by_mpmath(FUNCTIONS[act], run.act, act == "elu")
    assert (q, q_slope) == (pytest.approx(1, rel=1e-8), pytest.approx(1, rel=1e-7))
    maps = network_maps(network_of(run).unit, depth)
    if transform == "dks":
        assert c_0 == pytest.approx(0, abs=1e-12)
        assert slope**depth == pytest.approx(1.5, rel=1e-7)
        assert maps["correlation"] == pytest.approx(0, abs=1e-12)
    else:
        assert slope == pytest.approx(1, rel=1e-7)
        assert depth * curvature == pytest.approx(0.3, rel=1e-5)  # of second differences
        assert maps["curvature"] == pytest.approx(0.3, rel=1e-7)
    assert maps["slope"] == pytest.approx(slope**depth, rel=1e-7)


WIDTH = 300


@pytest.mark.parametrize(
    ("act", "transform"), [("tanh", "dks"), ("softplus", "tat"), ("leaky_relu", "tat")]
)
def test_a_wide_drawn_network_has_the_maps(act, transform):
    """Second moments and cosines of inputs, within 3.5 standard errors over drawn networks."""
    depth, networks, target = 12, 24, 0.8 if act == "leaky_relu" else None
    run = run_of({"name": act, "transform_target": target}, transform, depth)
    run = make_member(run).config
    spec, params = activations.bind(run.act)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((networks, WIDTH, 2))
    x = np.linalg.qr(x)[0] * math.sqrt(WIDTH)  # cosine 0, mean square 1
    a = np.moveaxis(x, -1, 1)
    for _ in range(depth):
        z = a @ (rng.standard_normal((networks, WIDTH, WIDTH), np.float32) / math.sqrt(WIDTH))
        a = np.asarray(spec.fn(jnp.asarray(z, jnp.float32), **params), float)
    square = np.mean(a**2, axis=(1, 2))
    cosine = np.mean(a[:, 0] * a[:, 1], axis=-1) / np.mean(a**2, axis=(1, 2))
    expected = network_maps(network_of(run).unit, depth)["correlation"]
    for measured, theory in ((square, 1.0), (cosine, expected)):
        error = measured.std(ddof=1) / math.sqrt(networks)
        assert error < 0.08
        assert abs(measured.mean() - theory) < 3.5 * error + 0.01  # + of order depth / width
    if act == "leaky_relu":
        assert expected == pytest.approx(0.8, rel=1e-9)


@pytest.mark.parametrize("transform", ["dks", "tat"])
def test_a_card_tells_the_maps_of_the_whole_network(transform):
    content = card(make_member(run_of("tanh", transform, 20)).config, 1.0, 0.0)
    shown = {"dks": "C(0) = 0, C'(1) = 1.5, C''", "tat": "C'(1) = 1, C''(1) = 0.3"}[transform]
    assert content["verdict"].startswith(f"rescaled by {transform}: the maps of all 20 layers")
    assert shown in content["verdict"]
    assert content["fixed_point"]["q"] == 1
    np.testing.assert_allclose(content["layers"]["second"], 1, rtol=1e-8)
    maps = content["network_maps"]
    assert maps["length_slope"] == pytest.approx(1, rel=1e-8)
    # Two inputs of cosine 0: the maps of the layers, one after the other, from z to f(z).
    assert content["layers"]["act_cosine"][-1] == pytest.approx(maps["correlation"], abs=1e-9)


# --- what is computed


def test_the_activation_is_the_rescaled_one():
    run = make_member(run_of("swish")).config
    spec, params = activations.bind(run.act)
    z = np.linspace(-5, 5, 41)
    a, b, g, d = (run.act[key] for key in NAMES)
    u = a * z + b
    f = g * (u / (1 + np.exp(-u)) + d)
    values = spec.fn(jnp.asarray(z, jnp.float32), **params)
    np.testing.assert_allclose(values, f, atol=1e-6 * g)
    s = 1 / (1 + np.exp(-u))
    slopes = activations.abs_derivative(spec, jnp.asarray(z, jnp.float32), **params)
    np.testing.assert_allclose(slopes, np.abs(g * a * (s + u * s * (1 - s))), rtol=1e-5)
    half = spec.fn(jnp.asarray(z, jnp.bfloat16), **params)
    assert half.dtype == jnp.bfloat16


# --- as a run's config


def test_a_member_has_the_numbers_and_says_so_once(capsys):
    bare = run_of("elu", depth=7)
    member = make_member(bare)
    line = capsys.readouterr().err
    assert line.startswith("act=elu act.transform=dks: input_scale=")
    assert line.endswith(", for 7 layers\n")
    assert member.run_id.startswith("elu+dks-mlp7-normal-s0-")
    assert "input_scale" not in bare.act  # what was given stays as it was
    stored = resolve.resolve(resolve.to_dict(member.config))
    again = make_member(stored)
    assert (again.run_id, again.config) == (member.run_id, member.config)
    typed = make_member(run_of({"name": "elu", "transform_target": 1.5}, depth=7))
    assert typed.run_id == member.run_id
    stored.act["input_scale"] *= 1 + 1e-10  # another machine's last digits
    assert run_id(stored) == member.run_id
    assert make_member(stored).config.act["input_scale"] == stored.act["input_scale"]


def wave(z, amount=0.3):
    return jnp.tanh(z) + amount * z


def test_a_user_s_own_activation_is_rescaled():
    act = {"name": "wave", "_target_": f"{__name__}.wave", "amount": 0.5}
    member = make_member(run_of(act, "tat", depth=4))
    formula = {"name": "tanh(x) + 0.5*x"}
    expected = transform_numbers(
        resolve.resolve({"act": formula}).act | {"transform": "tat"}, depth=4
    )
    found = [member.config.act[key] for key in NAMES]
    np.testing.assert_allclose(found, [expected[key] for key in NAMES], rtol=1e-6)


def test_none_is_no_transform():
    plain = resolve.resolve({"act": {"name": "tanh"}})
    assert run_id(resolve.resolve({"act": {"name": "tanh", "transform": "none"}})) == run_id(plain)
    assert make_member(plain).config.act == {"name": "tanh"}


def test_members_of_other_targets_share_a_pack():
    members = [
        make_member(run_of({"name": "swish", "beta": beta, "transform_target": target}))
        for beta in (1.0, 2.0)
        for target in (1.5, 2.0)
    ]
    scales = stack_hparams(make_pack(members))["act.input_scale"]
    assert len({*scales.tolist()}) == 4
    assert {*columns([resolve.to_dict(member.config) for member in members])} == {
        *("act.name", "act.beta", "act.transform_target")
    }
    several = [make_member(run_of("tanh", name)) for name in ("dks", "tat", "none")]
    shown = {*columns([resolve.to_dict(member.config) for member in several])}
    assert shown == {"act.name", "act.transform"}


def test_it_is_typed_without_a_plus():
    assert for_hydra(["act=tanh", "act.transform=dks"]) == ["act=tanh", "++act.transform=dks"]
    words = for_hydra(["-m", "act=relu,tanh", "act.transform=none,dks"])
    assert words == ["-m", "act=relu,tanh", "++act.transform=none,dks"]


REFUSED = [
    ({"transform": "dsk"}, "act.transform=dsk: no such name; did you mean act.transform=dks"),
    ({"init": {"name": "he_normal"}}, "init=he_normal: act.transform=dks assumes .* 1/fan_in"),
    ({"init": {"name": "critical"}}, "init=critical: act.transform=dks assumes"),
    ({"init": {"name": "normal", "gain": "auto"}}, "init.gain=auto: act.transform=dks finds"),
    ({"init": {"name": "normal", "sigma_w": 1.5}}, "init.sigma_w=1.5: .*; type init.sigma_w=1.0"),
    ({"init": {"name": "normal", "bias": 0.1}}, "init.bias=0.1: .*; type init.bias=0.0"),
    (
        {"init": {"name": "orthogonal"}, "depth": [5, 9]},
        "init=orthogonal: from 5 to 9 units .* type init=normal",
    ),
    ({"model": {"name": "mlp", "residual": True}}, "model=mlp model.residual=True isn't one"),
    ({"model": {"name": "cnn"}}, "plain networks, whose maps are known here, and model=cnn"),
    ({"model": {"name": "mlp", "norm": "layer"}}, "without normalisation; type model.norm=none"),
    ({"act": {"name": "swiglu"}}, "act=swiglu: a unit has several inputs.* type for example act="),
    ({"act": {"name": "relu"}}, "act=relu: to scale the input .* type act=leaky_relu"),
    ({"act": {"name": "selu"}, "transform": "tat"}, "act=selu: TAT is made for smooth act"),
    ({"act": {"name": "relu"}, "transform": "tat"}, "act=relu: .* type act=leaky_relu"),
    ({"act": {"name": "hard_tanh"}}, "act=hard_tanh: no scale and shift"),
    ({"act": {"name": "leaky_relu"}, "transform": "tat", "depth": 3}, "C\\(0\\) is at most"),
    ({"act": {"name": "leaky_relu", "slope": 0.3}}, "act.slope=0.3: act.transform=dks finds"),
    ({"act": {"name": "tanh", "transform_target": 0.5}}, "transform_target=0.5: must be above 1"),
    ({"act": {"name": "tanh", "transform_target": "x"}}, "transform_target=x: must be a number"),
    (
        {"act": {"name": "tanh", "by_layer": {"hidden_1": {"name": "relu"}}}},
        "act.transform=dks: is of one activation in all layers",
    ),
]


@pytest.mark.parametrize(("given", "line"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_it_is_not_made_for_is_refused(given, line):
    with pytest.raises(UserError, match=line) as error:
        make_member(run_of(**given))
    assert "\n" not in str(error.value)


# --- training


def test_a_member_is_the_same_alone_and_in_a_pack():
    words = (
        "act=leaky_relu",
        "++act.transform=dks",
        "init=normal",
        "callbacks=none",
        "depth=uniform",
    )
    runs = [
        make_member(
            composed(
                *words, "depth.widths=[8,8,8,8,8,8]", f"++act.transform_target={target}", "seed=3"
            )
        ).config
        for target in (1.2, 1.5, 2.0)
    ]
    packed, _ = train(*runs, devices=2)
    alone, _ = train(runs[1], devices=2)
    assert same_bits(leaves(packed.state, 1), leaves(alone.state, 0))
    assert not same_bits(leaves(packed.state, 1), leaves(packed.state, 0))
