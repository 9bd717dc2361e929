"""`init=critical`: its numbers against mpmath, drawn networks against the maps."""

import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from actsweep.config import resolve
from actsweep.config.identity import run_id
from actsweep.nn.models.layers import LayerFactory
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.sweeps.table import columns
from actsweep.theory import mean_field
from actsweep.theory.closed_forms import CLOSED_FORMS
from actsweep.theory.critical import critical_init
from actsweep.theory.networks import network_of, predict
from actsweep.theory.units import unit_of
from actsweep.utils.errors import UserError


def run_of(act: Any = "tanh", depth: int = 3, width: int = 20, **groups: Any):
    act = act if isinstance(act, dict) else {"name": act}
    groups = {"init": {"name": "critical"}} | groups
    return resolve.resolve({"act": act, "depth": {"layers": depth, "width": width}} | groups)


# --- the numbers

PUBLISHED = [  # name, sigma_b^2, sigma_w^2, the digits that are published
    ("tanh", 2.01e-5, 1.049996, 6),
    ("tanh", 0.01, 1.424205, 6),
    ("tanh", 0.05, 1.760955, 6),
    ("elu", 0.05, 1.5337, 4),
]


@pytest.mark.parametrize(("name", "sigma_b2", "sigma_w2", "digits"), PUBLISHED)
def test_the_published_edge_of_chaos(name, sigma_b2, sigma_w2, digits):
    (point,) = [
        p for p in mean_field.edge_at(unit_of({"name": name}), sigma_b2) if p.stable and p.q
    ]
    found = critical_init("critical", {"name": name}, q=point.q)
    assert found.sigma_w**2 == pytest.approx(sigma_w2, abs=0.6 * 10**-digits)
    assert found.sigma_b**2 == pytest.approx(sigma_b2, rel=1e-6)
    assert found.line.endswith("on the edge of chaos")


@pytest.mark.parametrize(
    ("name", "q", "sigma_w2", "sigma_b2"),
    [("swish", 14.32, 1.98800, 0.55514), ("gelu", 3.56, 1.98306, 0.17292)],
)
def test_the_published_beginning_of_a_stable_edge(name, q, sigma_w2, sigma_b2):
    begins = next(p for p in mean_field.edge_of_chaos(unit_of({"name": name})) if p.slope == 1)
    assert begins.q == pytest.approx(q, abs=0.005)
    found = critical_init("critical", {"name": name}, q=begins.q)
    assert found.sigma_w**2 == pytest.approx(sigma_w2, abs=6e-6)
    assert found.sigma_b**2 == pytest.approx(sigma_b2, abs=6e-6)


@pytest.mark.parametrize(
    ("name", "q"),
    [("tanh", 1.0), ("relu", 1.0), ("elu", 1.0), ("gelu", 5.56), ("swish", 25.4), ("mish", 2.6)],
)
def test_without_q_it_is_the_nearest_to_1_that_is_well_stable(name, q):
    act = {"name": name}
    assert critical_init("critical", act).q == q
    slopes = [mean_field.edge_point(unit_of(act), x).slope for x in (q * 0.85, q)]
    assert q == 1 or slopes[0] > 0.99 > slopes[1]


@pytest.mark.parametrize("act", [{"name": "relu"}, {"name": "leaky_relu", "slope": 0.3}])
def test_of_rectifiers_it_is_he_s_variance(act):
    found = critical_init("critical", act, q=7.0)
    slope = act.get("slope", 0.0)
    assert (found.sigma_w**2, found.sigma_b) == (pytest.approx(2 / (1 + slope**2), rel=1e-8), 0.0)


FORMULAS = {
    "tanh": (mp.tanh, lambda z: mp.sech(z) ** 2),
    "softsign": (lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),
    "mish": (lambda z: z * mp.tanh(mp.log(1 + mp.exp(z))), None),
}


@pytest.mark.parametrize(
    ("name", "bias"), [("tanh", 0.0), ("tanh", 0.3), ("softsign", 0.3), ("mish", 0.0)]
)
def test_the_point_is_a_fixed_point_with_chi_1(name, bias):
    """By mpmath: sigma_w^2 E[f^2] + sigma_b^2 = q and sigma_w^2 E[f'^2] = 1."""
    found = critical_init("critical", {"name": name}, bias=bias)
    f, df = FORMULAS[name]
    df = df or (lambda z: mp.diff(f, z))
    root = mp.sqrt(found.q)
    points = [-9, -bias / root, 9] if name == "softsign" else [-9, -3, 0, 3, 9]
    with mp.workdps(15):
        second, slope = (
            mp.quad(lambda z, g=g: g(root * z + bias) ** 2 * mp.npdf(z), points, maxdegree=5)
            for g in (f, df)
        )
    assert float(found.sigma_w**2 * second + found.sigma_b**2) == pytest.approx(found.q, rel=1e-7)
    assert float(found.sigma_w**2 * slope) == pytest.approx(1, rel=1e-7)


REFUSED = [
    ({"name": "softplus"}, {}, "no edge of chaos; type for example init=lecun_normal"),
    ({"name": "tanh"}, {"q": 1e-9}, None),
    ({"name": "sigmoid"}, {"q": 1.0}, "init.q=1: .*negative variance; type for example init.q=47"),
    ({"name": "swiglu"}, {}, "Monte Carlo"),
    ({"name": "softmax"}, {}, "act=softmax: its units depend on each other"),
    ({"name": "tanh", "by_layer": {"hidden_1": {"name": "relu"}}}, {}, "act.by_layer: init=crit"),
    (
        {"name": "growing", "_target_": f"{__name__}.growing"},
        {"q": 3.0},
        r"init.q=3: .*E\[f²\] is infinite; type for example init.q=",
    ),
]


def growing(z):
    return jnp.exp(z * z / 8) - 1 + z


@pytest.mark.parametrize(("act", "given", "line"), REFUSED, ids=lambda value: str(value)[:20])
def test_what_has_no_edge_is_refused(act, given, line):
    if line is None:  # as near to 0 as it may be, tanh is linear
        found = critical_init("critical", act, **given)
        assert (found.sigma_w, found.sigma_b) == (pytest.approx(1), pytest.approx(0, abs=1e-6))
        return
    with pytest.raises(UserError, match=line) as error:
        critical_init("critical", act, **given)
    assert "\n" not in str(error.value)


def test_the_page_shows_what_is_said():
    page = (Path(__file__).parents[1] / "docs" / "theory.md").read_text()
    shown = re.findall(r"^init=critical: act=(\w+): .*", page, re.MULTILINE)
    assert len(shown) == 5
    for name in shown:
        assert f"\n{critical_init('critical', {'name': name}).line}\n" in page


def test_a_point_that_is_not_stable_is_warned_of():
    found = critical_init("critical", {"name": "swish"}, q=0.6895)
    assert found.sigma_w == pytest.approx(1.680, abs=1e-3)
    assert "no edge of chaos, since Q' = 1.099 > 1" in found.line
    assert "on the edge" in critical_init("critical", {"name": "swish"}, q=20.0).line


# --- as a run's config


def test_a_member_has_the_numbers_and_says_so_once(capsys):
    bare = run_of("elu", init={"name": "critical", "bias": -0.125})
    member = make_member(bare)
    init = member.config.init
    expected = critical_init("critical", bare.act, bias=-0.125)
    assert (init.sigma_w, init.sigma_b) == (expected.sigma_w, expected.sigma_b)
    assert capsys.readouterr().err == expected.line + "\n"
    assert bare.init.sigma_w == 1.0  # what was given stays as it was
    stored = resolve.from_dict(resolve.to_dict(member.config))
    again = make_member(stored)
    assert (again.run_id, again.config) == (member.run_id, member.config)
    assert capsys.readouterr().err == ""


def test_numbers_of_solvers_that_differ_in_the_last_digits_stay():
    run = make_member(run_of("tanh")).config
    name = run_id(run)
    run.init.sigma_w *= 1 + 1e-11
    kept = make_member(run)
    assert kept.config.init.sigma_w == run.init.sigma_w
    assert kept.run_id == name
    run.init.sigma_w *= 1.01
    assert run_id(run) != name


def test_a_typed_number_that_is_another_is_refused():
    with pytest.raises(UserError, match=r"init.sigma_w=2.0: init=critical takes .* 1.46741; leave"):
        make_member(run_of("tanh", init={"name": "critical", "sigma_w": 2.0}))
    with pytest.raises(UserError, match=r"init.sigma_b=0.2: init=critical takes .* 0.388542; lea"):
        make_member(run_of("tanh", init={"name": "critical", "sigma_b": 0.2}))


@pytest.mark.parametrize(
    ("groups", "line"),
    [
        ({"init": {"name": "he_normal", "q": 1.0}}, "init.q=1.0: is a place on the edge of chaos"),
        ({"init": {"name": "critical", "q": 0.0}}, "init.q=0.0: must be a number above 0"),
        ({"init": {"name": "critical", "gain": "auto"}}, "init.gain=auto: init=critical finds"),
        (
            {"act": {"name": "mine", "_target_": "a.b"}, "trainer": {"distributed": "slurm"}},
            "init=critical: evaluates act._target_=a.b before",
        ),
    ],
)
def test_contradictions_are_refused(groups, line):
    with pytest.raises(UserError, match=line):
        run_of(**groups)


def test_members_with_other_numbers_share_a_pack():
    acts = [{"name": "elu", "alpha": alpha} for alpha in (0.5, 1.0)]
    members = [
        make_member(run_of(act, init={"name": "critical", "q": q}))
        for act in acts
        for q in (0.5, 2.0)
    ]
    assert len({member.run_id for member in members}) == 4
    hparams = stack_hparams(make_pack(members))
    found = [critical_init("critical", act, q=q) for act in acts for q in (0.5, 2.0)]
    np.testing.assert_allclose(hparams["init.sigma_w"], [f.sigma_w for f in found], rtol=1e-7)
    np.testing.assert_allclose(hparams["init.sigma_b"], [f.sigma_b for f in found], rtol=1e-7)
    assert len({*hparams["init.sigma_w"].tolist()}) == 4


def test_what_was_found_is_no_factor_of_a_comparison():
    members = [
        make_member(run_of(act, init={"name": init}))
        for act in ("tanh", "elu")
        for init in ("critical", "normal")
    ]
    assert {*columns([resolve.to_dict(m.config) for m in members])} == {"act.name", "init.name"}
    several = [make_member(run_of(init={"name": "critical", "q": q})) for q in (0.5, 1.0)]
    assert "init.q" in columns([resolve.to_dict(m.config) for m in several])


def test_beyond_plain_networks_the_line_says_so(capsys):
    make_member(run_of("tanh", model={"name": "mlp", "norm": "layer"}))
    assert "it is the edge of a plain network" in capsys.readouterr().err


# --- drawn networks

DEPTH, NETWORKS = 8, 12


def drawn_moments(run, x):  # x: [2, inputs]
    """q and c of every layer of drawn networks, by a forward pass in NumPy: [networks, layers]."""
    evaluate = CLOSED_FORMS[run.act["name"]].evaluate
    members = [
        make_member(resolve.resolve(resolve.to_dict(run) | {"seed": seed}))
        for seed in range(NETWORKS)
    ]
    pack, moments = make_pack(members), []

    @jax.jit
    def draw(hparams):
        make, widths = LayerFactory(pack.static, hparams), (x.shape[-1], *run.widths)
        layers = [make.dense(f"hidden_{i}", *widths[i - 1 : i + 1]) for i in range(1, DEPTH + 1)]
        return [(layer.kernel[...], layer.bias[...]) for layer in layers]

    columns = stack_hparams(pack)
    for i in range(NETWORKS):
        a, row = x, []
        for kernel, bias in draw({key: column[i] for key, column in columns.items()}):
            z = a @ np.asarray(kernel, float) + np.asarray(bias, float)
            row.append(((z**2).mean(), z[0] @ z[1] / np.sqrt((z[0] @ z[0]) * (z[1] @ z[1]))))
            a = evaluate(z)[0]
        moments.append(row)
    return np.moveaxis(np.array(moments), -1, 0)


@pytest.mark.parametrize(
    ("act", "init", "width"),
    [
        ("tanh", "critical", 400),
        ("relu", "critical", 400),
        ("gelu", "critical", 400),
        pytest.param("elu", "critical_orthogonal", 100, marks=pytest.mark.slow),
    ],
)
def test_a_wide_drawn_network_follows_the_maps(act, init, width):
    """Within 3 standard errors over networks, from the fixed point on, where q stays."""
    run = make_member(run_of(act, DEPTH, width, init={"name": init})).config
    q = critical_init(init, run.act).q
    start = (q - run.init.sigma_b**2) / run.init.sigma_w**2
    x = np.random.default_rng(0).standard_normal((2, width))
    x[1] -= x[0] * (x[0] @ x[1]) / (x[0] @ x[0])
    x *= math.sqrt(start * width) / np.linalg.norm(x, axis=-1, keepdims=True)
    layers = predict(network_of(run, width), start, 0.0)
    assert layers[-1].second == pytest.approx(q, rel=1e-6)
    measured = drawn_moments(run, x)
    for values, predicted in zip(
        measured, ([p.second for p in layers], [p.correlation for p in layers]), strict=True
    ):
        error = values.std(0, ddof=1) / math.sqrt(NETWORKS)
        assert (error < 0.1 * np.abs(predicted).max()).all()
        assert (np.abs(values.mean(0) - predicted) < 3 * error).all()
