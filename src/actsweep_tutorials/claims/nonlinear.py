"""Claims of S3, why non-linear at all."""

import math
from typing import Any

from actsweep_tutorials.claims.base import (
    ONLY_IF,
    REFUTED,
    Claim,
    Verdict,
    holds_if,
    inside,
    mean,
    of_all,
)

ELEMENTWISE = ("sigmoid", "tanh", "relu", "elu", "swish", "gelu")

NORMS = ("layer_norm", "group_norm", "local_response_norm", "batch_norm")


def _same_line(result: Any) -> Verdict:
    shallow, deep = (result["runs"][f"identity, {kind}"] for kind in ("one layer", "nine layers"))
    gaps = [
        max(abs(a - b) for a, b in zip(*lines, strict=True)) / result["spread"]
        for lines in zip(shallow["guess"], deep["guess"], strict=True)
    ]
    w, b = result["ols"]["w"], result["ols"]["b"]
    text = f"apart by at most {100 * max(gaps):.2g} % in {len(gaps)} seeds; "
    text += f"least squares: {w:.3f} x + {b:.3f}"
    return Verdict(inside(gaps, -math.inf, 0.01).verdict, text)


def _only_curved(result: Any) -> Verdict:
    runs, best = result["runs"], result["quadratic_error"]
    errors = {
        name: runs[f"{act}, {kind}"]["error"]
        for name, act, kind in (
            ("sigmoid", "sigmoid", "one layer"),
            ("one linear layer", "identity", "one layer"),
            ("nine", "identity", "nine layers"),
        )
    }
    sigmoid, *linear = errors.values()
    cases = {"sigmoid": inside(sigmoid, -math.inf, 2 * best)}
    cases |= {f"linear {i}": inside(row, 10 * best, math.inf) for i, row in enumerate(linear)}
    text = ", ".join(f"{name} {mean(error):.3f}" for name, error in errors.items())
    text += f"; least squares: a parabola {best:.3f}, a line {result['ols']['error']:.3f}; "
    text += "nine layers with an activation: "
    text += ", ".join(
        f"{act} {mean(runs[f'{act}, nine layers']['error']):.3f}"
        for act in ("sigmoid", "tanh", "relu")
    )
    return Verdict(of_all(cases), f"{text}; {len(sigmoid)} seeds")


def _same_function(result: Any) -> Verdict:
    gaps = {
        name: max(run["gap"]) / result["spread"]
        for name, run in result["runs"].items()
        if "gap" in run
    }
    text = ", ".join(f"{name}: {gap:.1g}" for name, gap in gaps.items())
    return holds_if(max(gaps.values()) < 1e-5, f"largest difference over the range of y: {text}")


def _diagonal(result: Any) -> Verdict:
    most = {act: result["off_diagonal"][act]["largest"] for act in ELEMENTWISE}
    return holds_if(
        not any(most.values()), f"largest entry off the diagonal: {max(most.values()):g}"
    )


def _rule(result: Any) -> Verdict:
    most = max(result["rule"].values())
    return holds_if(
        most < 1e-5, f"largest difference from autodiff, of {len(result['rule'])}: {most:.1g}"
    )


def _softmax(result: Any) -> Verdict:
    error = result["softmax"]["error"]
    a = ", ".join(f"{value:.4f}" for value in result["softmax"]["a"])
    return holds_if(error < 1e-6, f"at the example a = [{a}]: from autodiff by {error:.1g}")


def _dense(result: Any) -> Verdict:
    entries = result["off_diagonal"]["softmax"]
    return holds_if(
        entries["share"] == 1, f"{100 * entries['share']:.0f} % of the entries off it are not 0"
    )


def _across(result: Any) -> Verdict:
    shares = {name: result["off_diagonal"][name]["share"] for name in (*NORMS, "maxout")}
    text = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    over = result["batch_norm_over_examples"]
    text = f"entries between units that are not 0: {text}; batch_norm between examples: {over:.2f}"
    good = [name for name, share in shares.items() if share > 0]
    if len(good) == len(shares):
        return holds_if(True, text)
    return Verdict(ONLY_IF, text, f"it is {', '.join(good)}") if good else Verdict(REFUTED, text)


def _cheap(result: Any) -> Verdict:
    flops = result["flops"]
    text = (
        f"operations ~ n^{flops['product_exponent']:.2f}, dense ~ n^{flops['dense_exponent']:.2f}"
    )
    return holds_if(flops["product_exponent"] < 1.1 and flops["error"] < 1e-5, text)


def _one_sign(result: Any) -> Verdict:
    shares = result["one_sign"]
    text = f"units with gradients of one sign: {100 * shares['example']:.0f} % for one example, "
    text += f"{100 * shares['batch']:.0f} % for a batch of 256"
    if shares["example"] == 1 and shares["batch"] < 1:
        return Verdict(ONLY_IF, text, "it is the gradient of one example")
    return holds_if(shares["example"] == 1, text)


CLAIMS = (
    Claim(
        "S3.same-line",
        "Two networks without activations, of one and of nine hidden layers, fit the same line.",
        "linear-collapse",
        "largest difference of their predictions: 1 % of the range of y, 95 % over seeds",
        _same_line,
        "fits",
        needs_training=True,
    ),
    Claim(
        "S3.only-sigmoid-fits",
        "Of one layer of sigmoids, one linear layer and nine, only the first fits the parabola.",
        "linear-collapse",
        "mean squared error: below 2, above 10 times that of least squares with a parabola; 95 % "
        "over seeds",
        _only_curved,
        "fits",
        needs_training=True,
    ),
    Claim(
        "S3.collapsed",
        "W = W3 W2 W1 and b = W3 W2 b1 + W3 b2 + b3 compute the same function.",
        "linear-collapse",
        "largest difference; 1e-5 of the range of y",
        _same_function,
        "fits",
        needs_training=True,
    ),
    Claim(
        "S3.diagonal",
        "The Jacobian of an elementwise activation is diagonal.",
        "jacobians",
        "entries off the diagonal, of six activations; exact",
        _diagonal,
        "jacobians",
    ),
    Claim(
        "S3.chain-rule",
        "So dL/dz = dL/da * f'(z).",
        "jacobians",
        "beside autodiff, for a loss of all units; 1e-5",
        _rule,
        "jacobians",
    ),
    Claim(
        "S3.softmax-formula",
        "Softmax's Jacobian is diag(a) - a aᵀ.",
        "jacobians",
        "formula in float64 beside autodiff; 1e-6",
        _softmax,
        "jacobians",
    ),
    Claim(
        "S3.softmax-dense",
        "It is dense.",
        "jacobians",
        "entries off the diagonal that are not 0; all",
        _dense,
        "jacobians",
    ),
    Claim(
        "S3.across-units",
        "Maxout, local response, batch, layer and group normalisation act across units too.",
        "jacobians",
        "entries of the Jacobian between different units; not 0",
        _across,
        "jacobians",
        reason=(
            "Batch normalisation couples examples, not units; a maxout unit takes the "
            "largest of its own inputs."
        ),
    ),
    Claim(
        "S3.product",
        "A product with softmax's Jacobian takes O(n).",
        "jacobians",
        "operations that the compiler counts for n from 16 to 1024; exponent under 1.1",
        _cheap,
        "cost",
    ),
    Claim(
        "S3.one-sign",
        "If a layer's inputs are all positive, the weight gradients of a unit have one sign.",
        "gradient-flow",
        "units of sigmoid's second layer with gradients of one sign; all",
        _one_sign,
        reason="Each example's error has a sign of its own, and a batch sums them.",
    ),
)
