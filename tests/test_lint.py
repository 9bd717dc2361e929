"""What `actsweep lint` says, against known numbers, mpmath and what the catalogue documents."""

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from actsweep.activations import ACTIVATIONS
from actsweep.cli.lint import lines
from actsweep.cli.main import main
from actsweep.config import resolve
from actsweep.formulas import grammar, values
from actsweep.formulas.rewrites import REWRITES, rewrites
from actsweep.theory.lint import _shape, lint, points
from actsweep.utils.errors import UserError


def found(name: str, **params: Any) -> dict[str, Any]:
    act = resolve.resolve({"act": {"name": name, **params}}).act
    return lint(act, cost=False)


def square_wave(z: Any) -> Any:
    """A user's own: a saw with kinks at 0.3 and 0.7."""
    return z + 0 * z if z is None else abs(z - 0.3) - abs(z - 0.7)


def test_points_are_every_exponent_and_1e5_values() -> None:
    z = points()
    assert z.dtype == np.float32
    _, exponents = np.frexp(z[z != 0])
    assert {*range(-125, 129)} <= {*exponents.tolist()}
    assert len(z) > 100_000


@pytest.mark.parametrize(
    ("name", "monotone", "kinks", "jumps", "zeros", "mean"),
    [
        ("relu", "rising", [0.0], [], [], 1 / math.sqrt(2 * math.pi)),
        ("hard_swish", "no", [-3.0, 3.0], [], [-1.5], None),
        ("hard_shrink", "rising", [], [-0.5, 0.5], [], 0.0),
        ("tanh", "rising", [], [], [], 0.0),
        ("geglu", "no", [], [], [-0.7517915246], 1 / (2 * math.sqrt(math.pi))),
    ],
)
def test_shapes(
    name: str, monotone: str, kinks: Any, jumps: Any, zeros: Any, mean: float | None
) -> None:
    said = found(name)
    assert said["monotone"] == monotone
    assert (said["kinks"], said["jumps"]) == (kinks, jumps)
    np.testing.assert_allclose(said["zeros_of_derivative"], zeros, atol=1e-8)
    assert said["value_ulps"]["worst"] <= 4
    assert said["bfloat16_ulps"]["worst"] <= 0.51
    assert said["value_finite"]["finite"]
    assert said["derivative_finite"]["finite"]
    if mean is not None:
        assert said["mean"] == pytest.approx(mean, abs=1e-8)


def test_the_range_is_from_the_minimum_on() -> None:
    low, high = found("swish", beta=2.0)["range"]
    exact = minimize_scalar(lambda z: z / (1 + math.exp(-2 * z)), (-2.0, 0.0)).fun
    assert low == pytest.approx(exact, abs=1e-7)
    assert high is None
    assert found("tanh")["range"] == pytest.approx([-1, 1])
    assert _shape(lambda z: (z * np.sin(z), np.sin(z) + z * np.cos(z)))["range"] == [None, None]


def test_overflow_and_lost_digits_are_found_with_what_mends_them() -> None:
    bad, good = found("log(1+exp(x))"), found("softplus(x)")
    assert bad["value_finite"]["from"] == pytest.approx(math.log(3.4028235e38), abs=0.1)
    assert bad["value_ulps"]["worst"] > 1e6
    assert bad["rewrites"][0]["better"] == "softplus(x)"
    assert good["value_finite"]["finite"]
    assert good["value_ulps"]["worst"] < 4
    assert good["rewrites"] == []
    assert good["reference"].startswith("mpmath")
    text = "\n".join(lines(bad))
    assert "no: from z = 88." in text
    assert "as softplus(x), since it overflows" in text


def test_nan_of_a_branch_that_does_not_count_is_found() -> None:
    said = found("where(x>0,x,a*(exp(x)-1))", a=0.7)
    assert said["value_finite"]["finite"]
    assert said["derivative_finite"]["from"] == pytest.approx(88.7, abs=0.2)
    assert said["kinks"] == [0.0]


@pytest.mark.parametrize("pattern", REWRITES)
def test_a_rewrite_is_the_same_function(pattern: str) -> None:
    wide = "".join(
        "(2*x)" if c == "x" and not _in_word(pattern, i) else c for i, c in enumerate(pattern)
    )
    (each,) = rewrites(f"x+sin({wide})")
    x = np.linspace(0.1, 1, 50)
    expected = values.evaluate(wide, x)
    for ours, exact in zip(values.evaluate(each.better, x), expected, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-10)


def _in_word(text: str, place: int) -> bool:
    return text[place + 1 : place + 2] == "p"  # of exp


def test_a_rewrite_needs_one_part_and_its_own_numbers() -> None:
    assert rewrites("log(2+exp(x))") == []
    assert rewrites("(exp(x)-exp(-2*x))/2") == []
    assert rewrites("x*sigmoid(2*x)") == []
    assert grammar.normal_form(rewrites("-1+exp(3*x)")[0].better) == "expm1(x*3.0)"


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "act=relu,max(x,0)", "--json", "--no-cost"]) == 0
    out, err = capsys.readouterr()
    relu, formula = json.loads(out)
    assert "act=max(x,0): the same as act=relu" in err
    assert relu["kinks"] == formula["kinks"] == [0.0]
    assert formula["act"]["formula"] == "max(x,0.0)"
    assert main(["lint", "act=x*tnh(x)"]) == 2
    assert capsys.readouterr().err.endswith("    ^\n")


def test_units_that_depend_on_each_other_are_refused() -> None:
    with pytest.raises(UserError, match="act=softmax: its units depend on each other"):
        found("softmax")
    with pytest.raises(UserError, match="act=maxout: a unit takes 2 inputs"):
        found("maxout")


def test_a_users_own() -> None:
    said = lint({"name": "saw", "_target_": f"{__name__}.square_wave"}, cost=False)
    assert said["kinks"] == [0.3, 0.7]
    assert said["range"] == pytest.approx([-0.4, 0.4])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, a in ACTIVATIONS.items() if a.units == "elementwise"])
def test_the_whole_catalogue_is_as_documented(name: str) -> None:
    said = found(name)
    assert said["value_finite"]["finite"]
    assert said["derivative_finite"]["finite"]
    assert (said["monotone"] == "rising") == ACTIVATIONS[name].monotone
    both = sorted([*said["kinks"], *said["jumps"]])
    np.testing.assert_allclose(both, ACTIVATIONS[name].kinks, atol=1e-7)


def test_cost_is_told_of_both_directions() -> None:
    cost = lint({"name": "relu"})["cost"]
    assert cost.keys() == {"forward", "backward"}
    assert all(value > 0 for value in cost.values())
