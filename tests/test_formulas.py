"""Activations typed as formulas: grammar, values by mpmath, ids, sweeps, packs, mistakes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from test_app import Train, files, logging_as_before, train  # noqa: F401 (fixtures)
from test_by_layer import ids_of
from test_resume import what_is_left
from test_run import LIGHT, make, run_pack

from actsweep import activations, load_run
from actsweep.activations import ACTIVATIONS
from actsweep.config import identity, resolve
from actsweep.config.overrides import as_typed, bare_all, expand_all
from actsweep.formulas import grammar, values
from actsweep.runs.members import make_member
from actsweep.theory.closed_forms import CLOSED_FORMS
from actsweep.theory.twins import twin
from actsweep.theory.units import unit_of
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

X = np.concatenate([np.linspace(-9.03, 9, 41), [0.0, -1.0, 1.0, 1e-3]]).astype(np.float32)


def act(text: str, **params: Any) -> dict[str, Any]:
    """Return a run's act with a formula, checked."""
    config = resolve.resolve({"act": {"name": text, **params}})
    return dict(config.act)


NORMAL = {
    "x*tanh(softplus(x))": ["tanh( softplus(x) )*x", "1.0*x*(tanh(softplus((x/1))))"],
    "x**2.0+(-1.0)": ["x^2-1", "-1 + x**2", "square(x) - (2/2)"],
    "max(x,0.0)": ["max(0, x)", "relu(x)", "maximum(x^1, -0 + 0)"],
    "min(max(x,-1.0),1.0)": ["clip(x,-1,1)"],
    "-x**2.0": ["-x^2", "-1*x^2", "-(x^2)"],
    "(-x)**2.0": ["(-x)^2"],
    "x*silu(x)": ["swish(x)*x"],
    "x/(abs(x)+1.0)": ["softsign(x)", "x/(1+abs(x))"],
    "2.0**(3.0*x)": [],
    "(x**2.0)**3.0": ["(x^2)^3"],
    "x**8.0": ["x^2^3"],
    "-(x+(-3.0))+x": [],
    "where(x>0.0,x,a*(exp(x)+(-1.0)))": ["where(x > 0, x, (exp(x) - 1)*a)"],
    "x*3.141592653589793": ["pi*x"],
}  # fmt: skip


@pytest.mark.parametrize("normal", NORMAL)
def test_spellings_of_one_formula_have_one_normal_form(normal: str) -> None:
    first = grammar.normal_form(normal)
    assert grammar.parse(first) == grammar.parse(normal)
    assert grammar.normal_form(first) == first
    for text in NORMAL[normal]:
        assert grammar.normal_form(text) == first == normal


def test_what_floating_point_rounds_otherwise_stays_another_formula() -> None:
    texts = ["x+(a+b)", "(x+a)+b", "x*x", "x^2", "2*x/3", "x*(2/3)", "x+0", "x", "-x", "x-a", "a-x"]
    assert len({grammar.normal_form(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        *((name, False) for name in ("relu", "my-act", "own/x", "x", "leaky relu", "-1", "1e-3")),
        *((name, False) for name in ("[relu,elu]", "choice(relu,elu)", "glob(*)", "null", "")),
        *((text, True) for text in ("x*tanh(x)", "x-1", "1/x", "x - beta", "max(x,0)", "-x", "*")),
    ],
)
def test_formulas_are_told_from_names(text: str, formula: bool) -> None:
    assert grammar.is_formula(text) == formula


def sigmoid(z: Any) -> Any:
    return 1 / (1 + mp.exp(-z))


EXACT: dict[str, tuple[dict[str, float], Callable[[Any], Any]]] = {
    "x*tanh(softplus(x))": ({}, lambda x: x * mp.tanh(mp.log(1 + mp.exp(x)))),
    "x*sigmoid(beta*x)": ({"beta": 1.5}, lambda x: x * sigmoid(1.5 * x)),
    "where(x>0, x, a*expm1(x))": ({"a": 0.5}, lambda x: x if x > 0 else 0.5 * mp.expm1(x)),
    "x*min(max(x+3,0),6)/6": ({}, lambda x: x * min(max(x + 3, 0), 6) / 6),
    "x/(1+abs(x)) - x^3/100": ({}, lambda x: x / (1 + abs(x)) - x**3 / 100),
    "sin(a*x)^2/a + x": ({"a": 2.0}, lambda x: mp.sin(2 * x) ** 2 / 2 + x),
    "x*atan(x) + asinh(x)": ({}, lambda x: x * mp.atan(x) + mp.asinh(x)),
    "x*erf(x) - erfc(-x)": ({}, lambda x: x * mp.erf(x) - mp.erfc(-x)),
    "sqrt(x^2+1) + log1p(x^2) + cos(x)": (
        {}, lambda x: mp.sqrt(x**2 + 1) + mp.log1p(x**2) + mp.cos(x),
    ),
    "gelu(x) + silu(x) + mish(x)": (
        {},
        lambda x: x * mp.ncdf(x) + x * sigmoid(x) + x * mp.tanh(mp.log1p(mp.exp(x))),
    ),
    "log(1+exp(x)) + 2^x + x^-2*0": ({}, lambda x: mp.log1p(mp.exp(x)) + mp.mpf(2) ** x),
    "sinh(x)/cosh(x) + (x^2+1)^p": ({"p": 0.25}, lambda x: mp.tanh(x) + (x**2 + 1) ** 0.25),
}  # fmt: skip


@pytest.mark.parametrize("text", [text for text in EXACT if "^-2" not in text])
def test_values_and_derivatives_are_those_of_mpmath(text: str) -> None:
    params, exact = EXACT[text]
    x = X[(X != 0) & (np.abs(X) != 3)]  # kinks have no derivative
    with mp.workdps(30):
        points = [mp.mpf(float(z)) for z in x]
        expected = [[float(exact(z)) for z in points], [float(mp.diff(exact, z)) for z in points]]
    normal = grammar.normal_form(text)
    for got, value in zip(values.evaluate(normal, x, **params), expected, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-11, atol=1e-13)
    activation, bound = activations.bind(act(text, **params))
    fn = lambda z: activation.fn(z, **bound)  # noqa: E731
    got = jax.jit(lambda z: jax.jvp(fn, (z,), (jnp.ones_like(z),)))(jnp.asarray(x))
    for ours, value in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, value, rtol=2e-5, atol=3e-6)
    assert np.isnan(fn(jnp.float32(np.nan)))
    assert fn(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


def test_derivatives_by_parameters() -> None:
    text = "a*x*sigmoid(b*x) + x^2*a^b"
    params = {"a": 0.7, "b": 1.3}
    activation, _ = activations.bind(act(text, **params))
    fn = lambda z, p: activation.fn(z, **p)  # noqa: E731
    got = jax.vmap(jax.grad(fn, argnums=1), in_axes=(0, None))(jnp.asarray(X), params)
    for name in params:
        _, ours = values.evaluate(grammar.normal_form(text), X, by=name, **params)
        h = 1e-6
        ends = [
            values.evaluate(text, X, **{**params, name: params[name] + sign * h})[0]
            for sign in (1, -1)
        ]
        np.testing.assert_allclose(ours, (ends[0] - ends[1]) / (2 * h), rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(got[name], ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "name"),
    [("max(0,x)", "relu"), ("min(relu(x),6)", "relu6"), ("clip(x,-1,1)", "hard_tanh")],
)
def test_at_kinks_the_flat_side_counts_as_in_the_catalogue(text: str, name: str) -> None:
    x = jnp.asarray([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 6.0, 7.0, np.nan])
    pairs = []
    for fn in (activations.bind(act(text))[0].fn, ACTIVATIONS[name].fn):
        pairs.append(jax.vmap(jax.value_and_grad(fn))(x))
    np.testing.assert_array_equal(*pairs)
    exact = CLOSED_FORMS[name].evaluate(np.asarray(x[:-1], float))
    np.testing.assert_array_equal(values.evaluate(text, np.asarray(x[:-1], float)), exact)


def test_at_zero_abs_has_slope_0() -> None:
    fn = activations.bind(act("abs(x) + 2*x"))[0].fn
    assert jax.grad(fn)(0.0) == 2.0
    assert values.evaluate("abs(x) + 2*x", np.zeros(1))[1] == 2.0


@pytest.mark.parametrize(
    ("text", "params", "same"),
    [
        ("x*tanh(softplus(x))", {}, "act=mish"),
        ("x*sigmoid(beta*x)", {"beta": 2.0}, "act=swish act.beta=2.0"),
        ("x*sigmoid(c*x)", {"c": 1.0}, "act=swish"),
        ("log(1+exp(x))", {}, "act=softplus"),
        ("x*tanh(x)", {}, None),
        ("x*1.00001", {}, None),
        ("0.8944*relu(x)^2-0.4472", {}, "act=star_relu act.learnable=false"),
        ("x*sigmoid(beta*x)", {"beta": 2.0, "learnable": True}, None),
        ("max(x,0.25*x)", {}, None),  # the slope of prelu is always trained
    ],
)
def test_a_formula_of_the_catalogue_is_recognised(text: str, params: Any, same: Any) -> None:
    assert twin(act(text, **params)) == same


def test_theory_is_that_of_the_catalogue() -> None:
    formula = unit_of(act("x*tanh(softplus(x))")).moments(1.3)
    named = unit_of({"name": "mish"}).moments(1.3)
    for key, value in vars(named).items():
        if key != "error":
            assert getattr(formula, key) == pytest.approx(value, rel=1e-11)
    kinked, relu = (unit_of(a).moments(0.7) for a in (act("max(x,0)"), {"name": "relu"}))
    assert kinked.second == pytest.approx(relu.second, rel=1e-11)


def test_ids_count_the_normal_form_and_the_numbers() -> None:
    def run_id(text: str, **params: Any) -> str:
        return identity.run_id(resolve.resolve({"act": {"name": text, **params}}))

    first = run_id("x*tanh(softplus(x))")
    assert first == run_id(" tanh( softplus(x) )*x * 1 ")
    assert first.startswith("x_tanh_softplus_x-mlp4-torch-s0-")
    half = run_id("x*sigmoid(beta*x)", beta=0.5)
    assert half != run_id("x*sigmoid(beta*x)", beta=1)
    assert run_id("x*sigmoid(beta*x)", beta=1) == run_id("x*sigmoid(beta*x)", beta=1.0)
    learned = {run_id("x*b", b=1, learnable=given) for given in (True, "b", ["b"])}
    assert len(learned) == 1
    assert run_id("x*b", b=1, learnable=False) not in learned
    by_layer = [
        identity.run_id(resolve.resolve({"act": {"name": "relu", "by_layer": {"hidden_1": text}}}))
        for text in ("x*tanh(x)", "tanh(x) * x")
    ]
    assert by_layer[0] == by_layer[1]
    assert by_layer[0].startswith("relu+x_tanh_x-")


TYPED = [
    (["act=x*tanh(x)"], ["act=formula", "act.name='x*tanh(x)'"]),
    (
        ["act.b=1,2", "act=x*b", "seed=1"],
        ["++act.b=1,2", "act=formula", "act.name='x*b'", "seed=1"],
    ),
    (["act=relu,max(x,0), -x"], ["act=relu,'max(x,0)','-x'"]),
    (["act=relu,elu", "act.alpha=2"], ["act=relu,elu", "act.alpha=2"]),
]


@pytest.mark.parametrize(("words", "expanded"), TYPED)
def test_words_become_hydras_and_come_back(words: list[str], expanded: list[str]) -> None:
    assert expand_all(words) == expanded
    assert expand_all(bare_all(expanded)) == expanded
    again = as_typed(expanded)
    assert expand_all(again) == expanded
    assert not any("++" in word for word in again)


MISTAKES: list[tuple[list[str], str, int | None]] = [
    (["act=x*tahn(x)"], "unknown function tahn; did you mean tanh?", 2),
    (["act=x*tanh("], "'(' was never closed", 6),
    (["act=x+2y"], "invalid decimal literal", 2),
    (["act=x*beta"], "beta has no value; type act.beta=1.0", 2),
    (["act=tanh*x"], "tanh is a function; type tanh(x)", 0),
    (["act=sin(x)*z"], "z can't be a parameter's name; the input is x", 7),
    (["act=exp(3)*2"], "doesn't depend on x", 0),
    (["act=1/0*x"], "divides by 0", 1),
    (["act=x+1/x"], "divides by 0 at x=0", 3),
    (["act=x*log(x)"], "isn't a finite number at x=0", 2),
    (["act=sqrt(abs(x))"], "the derivative by x isn't finite at x=0", 0),
    (["act=x*log(1+exp(x^2))"], "overflows float32 at x=-9.4", 8),
    (["act=x ^ 2 > 1"], "a comparison is where()'s first argument", 0),
    (["act=x*(lambda: 3)(x)"], "':' has no meaning in a formula", 9),
    (["act=x*exp(x)(x)"], "isn't part of a formula", 2),
    (["act=x*b", "act.b=1", "act.c=2"], "act.c=2: act=x*b has no such parameter", None),
    (["act=x*b", "act.b=wide"], "act.b=wide: must be a number", None),
    (["act=x*b", "act.b=1", "act.learnable=c"], "act.learnable=c: must be true, false or a", None),
    (["act=relu", "act.by_layer.hidden_1=x*tanh(x)"], "type a formula in quotes: ", None),
    (["act=formula"], "act=formula: must be the formula itself", None),
    (["act=relu", "act.by_layer={hidden_1: 'x*tahn(x)'}"], "hidden_1=x*tahn(x): unknown", 2),
]


@pytest.mark.parametrize(("words", "line", "caret"), MISTAKES)
def test_mistakes_show_the_place(
    words: list[str],
    line: str,
    caret: int | None,
    train: Train,  # noqa: F811
    tmp_path: Path,
) -> None:
    answer = train(*words)
    assert (answer.code, answer.out) == (2, "")
    assert line in answer.err.splitlines()[0]
    assert not files(tmp_path)
    if caret is None:
        assert answer.err.count("\n") == 1
    else:
        text, place = answer.err.splitlines()[1:]
        assert text.strip() in words[-1]
        assert place == " " * (caret + 2) + "^"


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_alone_and_in_a_pack_a_member_is_the_same(tmp_path: Path) -> None:
    changes = {"callbacks": {**LIGHT, "histograms": {}}}
    formulas = [
        {"name": "x*sigmoid(beta*x)", "beta": beta, "learnable": True, "per_channel": True}
        for beta in (0.5, 2.0)
    ]
    alone = [make(tmp_path / "alone", act=dict(one), **changes) for one in formulas]
    for run in alone:
        run_pack([run], SweepContext("sweep"))
    packed = [make(tmp_path / "packed", act=dict(one), **changes) for one in formulas]
    assert len({make_member(run).pack_key for run in packed}) == 1
    results = run_pack(packed, SweepContext("sweep"))
    for one, other in zip(alone, packed, strict=True):
        assert what_is_left(one) == what_is_left(other)
    assert results[0]["act"] == "x*sigmoid(beta*x)"
    run = load_run(tmp_path / "packed" / "runs" / results[1]["run_id"])
    learned = run.metrics()["act_param/hidden_1/beta"]
    assert learned[0] == pytest.approx(2.0)
    assert learned[-1] != learned[0]


@pytest.mark.slow
def test_a_sweep_lists_formulas_and_names(train: Train, tmp_path: Path) -> None:  # noqa: F811
    words = ["act=relu,'x*sigmoid(beta*x)',max(x,0)", "act.beta=0.5,1", "logger=disabled"]
    answer = train("-m", *words)
    assert answer.code == 0, answer.err
    assert "act=max(x,0): the same as act=relu" in answer.err
    assert "act=x*sigmoid(beta*x) act.beta=0.5: the same as act=swish act.beta=0.5" in answer.err
    kinds = [run_id.split("-")[0] for run_id in ids_of(tmp_path / "outputs")]
    assert kinds == ["max_x_0", "relu", "x_sigmoid_x_beta", "x_sigmoid_x_beta"]
    lines = answer.out.splitlines()
    for label in ("relu ", "max(x,0) ", "x*sigmoid(beta*x)  0.5 ", "x*sigmoid(beta*x)  1.0 "):
        assert any(line.startswith(label) for line in lines), label
    assert "act.formula" not in answer.out
    (plan,) = (tmp_path / "outputs").glob("sweeps/*/plan.json")
    typed = [one["overrides"] for one in json.loads(plan.read_text())["members"].values()]
    for beta in ("0.5", "1"):
        pair = {"act=x*sigmoid(beta*x)", f"act.beta={beta}"}
        assert sum(pair <= {*words} for words in typed) == 1
    again = train("-m", *words)
    assert again.code == 0
    assert "4 of 4 runs were complete already" in again.out
    single = train("act=sigmoid(x*beta)*x", "act.beta=0.5", "logger=disabled")
    assert single.code == 0
    assert "1 of 1 runs were complete already" in single.out


def test_errors_in_values_that_only_a_file_can_hold() -> None:
    with pytest.raises(UserError, match="must be true or false"):
        act("x*b", b=1.0, per_channel=3)
    with pytest.raises(UserError, match="must be of at most 300 characters"):
        act("x*" + "1" * 400)
    with pytest.raises(UserError, match=r"act\.b=1e-44: must be 0, or from"):
        act("x*b", b=1e-44)
