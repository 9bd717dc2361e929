"""What is to know about an activation's numbers and shape before it is trained with."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy import ndarray
from scipy.optimize import brentq

from actsweep.formulas.grammar import Node, parameters, parse
from actsweep.formulas.rewrites import rewrites
from actsweep.theory.closed_forms import CLOSED_FORMS
from actsweep.theory.panels import Evaluate, normal_nodes
from actsweep.theory.units import GATES, Elementwise, unit_of
from actsweep.utils.errors import UserError

Finding = dict[str, Any]
SHAPE_TO = 20.0
"""Monotonicity, kinks and zeros of the derivative are looked for up to this |z|."""
VALUES = 100_000
EXACT_POINTS = 1_000
"""Points at which mpmath is asked, beside every exponent."""
LARGEST = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).tiny)
FLUSHED = 1e-36
"""Where exact and computed results are smaller, no error is told: XLA makes subnormals 0."""
SMALL_SLOPE = 0.01
"""Below it errors of the derivative are told in ulps of this number: it may be near a zero."""
COST_SIZE = 2**20


def lint(act: Mapping[str, Any], *, cost: bool = True) -> Finding:
    """Return what there is to know about an activation, as plain values; of a gated one, its gate.

    Errors are in units in the last place of float32, of a reference in float64, which for a formula
    is mpmath's of 40 digits at every power of 2 and 1,000 further points, if that is installed.

    Args:
        act: a run's, checked: `name`, `formula` or `_target_`, and parameters.
        cost: whether to measure the time of both directions beside ReLU's.

    Raises:
        UserError: a unit takes several inputs and isn't gated; or as `theory.units.unit_of`.
    """
    evaluate = _reference(act)
    z = points()
    value, slope, half = _computed(act, z)
    exact, exact_slope = _quietly(evaluate, z.astype(float))
    reference = "float64"
    errors = {
        "value": _ulps(value, exact, TINY),
        "derivative": _ulps(slope, exact_slope, SMALL_SLOPE),
    }
    if "formula" in act and (more := _by_mpmath(act)) is not None:
        reference = "mpmath at 1,508 points, float64 at the others"
        chosen, exact_values = more
        again = _computed(act, chosen)[0]
        z_all, ulps = (
            np.append(z, chosen),
            np.append(errors["value"], _ulps(again, exact_values, TINY)),
        )
    else:
        z_all, ulps = z, errors["value"]
    shape = _shape(evaluate)
    finding: Finding = {
        "act": dict(act),
        "gated": not act.get("_target_") and act["name"] in GATES,
        "values": len(z),
        "reference": reference,
        "value_finite": _finite(value, exact, z),
        "derivative_finite": _finite(slope, exact_slope, z),
        "value_ulps": _worst(ulps, z_all),
        "derivative_ulps": _worst(errors["derivative"], z),
        "bfloat16_ulps": _worst(_half_ulps(half, z, evaluate), z),
        **shape,
        "rewrites": [vars(each) for each in rewrites(act["formula"])] if "formula" in act else [],
        "cost": _cost(act) if cost else None,
    }
    return finding


def points() -> ndarray:
    """Return the inputs: every power of 2 of float32, with both signs, and 10^5 random values."""
    rng = np.random.Generator(np.random.Philox(0))
    powers = 2.0 ** np.arange(-126, 128)
    sizes = 2.0 ** rng.uniform(-126, 128, VALUES // 2)
    near = rng.uniform(-SHAPE_TO, SHAPE_TO, VALUES - len(sizes))
    signs = rng.choice([-1, 1], len(sizes))
    with np.errstate(over="ignore"):
        z = np.concatenate([[0.0], powers, -powers, sizes * signs, near]).astype(np.float32)
    return np.unique(z[np.isfinite(z)])


def _reference(act: Mapping[str, Any]) -> Evaluate:
    name = act["name"]
    if act.get("transform"):
        return _elementwise_unit(act).evaluate
    if not act.get("_target_") and name in GATES:
        return CLOSED_FORMS[GATES[name]].evaluate
    if not act.get("_target_") and name in CLOSED_FORMS:  # those that jump, too
        params = {k: v for k, v in act.items() if k not in ("name", "by_layer")}
        return functools.partial(CLOSED_FORMS[name].evaluate, **params)
    return _elementwise_unit(act).evaluate


def _elementwise_unit(act: Mapping[str, Any]) -> Elementwise:
    unit = unit_of(act)
    if not isinstance(unit, Elementwise):
        raise UserError(
            f"act={act['name']}: a unit takes {unit.inputs} inputs, and what is looked at is a "
            "function of one; type for example act=gelu"
        )
    return unit


def _quietly(evaluate: Evaluate, z: ndarray) -> tuple[ndarray, ndarray]:
    with np.errstate(all="ignore"):
        return evaluate(z)


def _function(act: Mapping[str, Any]) -> Callable[..., Any]:
    import jax.numpy as jnp

    from actsweep.activations import bind

    activation, params = bind(act)
    fn = functools.partial(activation.fn, **params)
    if activation.units == "gated":
        return lambda g: fn(jnp.concatenate([jnp.ones_like(g), g]))
    return fn


def _computed(act: Mapping[str, Any], z: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Return f and f' in float32, and f of z rounded to bfloat16, in bfloat16."""
    import jax
    import jax.numpy as jnp

    fn = _function(act)

    @jax.jit
    def program(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        value, pull = jax.vjp(fn, z)
        half = fn(z.astype(jnp.bfloat16)).astype(jnp.float32)
        return value, pull(jnp.ones_like(value))[0], half

    value, slope, half = (np.asarray(part, float) for part in program(jnp.asarray(z)))
    return value, slope, half


def _ulps(got: ndarray, exact: ndarray, least: float, digits: int = 23) -> ndarray:
    """Return errors in units in the last place; 0 where the exact value can't be represented."""
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(exact), least)
        unit = 2.0 ** (np.floor(np.log2(size)) - digits)
        error = np.abs(got - exact) / unit
        flushed = (np.abs(exact) < FLUSHED) & (np.abs(got - exact) < FLUSHED)
    known = (np.abs(exact) <= LARGEST) & np.isfinite(got) & ~flushed
    return np.where(known, error, 0.0)


def _half_ulps(half: ndarray, z: ndarray, evaluate: Evaluate) -> ndarray:
    import jax.numpy as jnp

    rounded = np.asarray(jnp.asarray(z, jnp.bfloat16).astype(jnp.float32), float)
    exact, _ = _quietly(evaluate, rounded)
    return _ulps(half, exact, TINY, digits=7)


def _worst(errors: ndarray, z: ndarray) -> Finding:
    place = int(np.argmax(errors))
    return {
        "worst": float(errors[place]),
        "at": float(z[place]),
        "median": float(np.median(errors)),
    }


def _finite(got: ndarray, exact: ndarray, z: ndarray) -> Finding:
    """Return whether all is finite that float32 can represent, and else where it begins not to."""
    bad = z[~np.isfinite(got) & ~(np.abs(exact) > LARGEST)]
    if not len(bad):
        return {"finite": True, "from": None, "share": 0.0}
    return {
        "finite": False,
        "from": float(bad[np.argmin(np.abs(bad))]),
        "share": float(len(bad) / len(z)),
    }


def _shape(evaluate: Evaluate) -> Finding:
    """Return monotonicity, range, zeros of f', kinks, jumps and the mean for z ~ N(0, 1)."""
    grid = np.linspace(-SHAPE_TO, SHAPE_TO, 20_001) + 0.000_37  # no kink, no zero on it
    f, df = _quietly(evaluate, grid)
    kinks, jumps = _breaks(evaluate, grid)
    zeros = _zeros(evaluate, grid, df, kinks)
    beyond = np.geomspace(SHAPE_TO, 1e6, 200)  # many, since x*sin(x) is small at some
    everywhere, _ = _quietly(evaluate, np.concatenate([grid, zeros, kinks, -beyond, beyond]))
    step = np.diff(f)
    slack = 1e-13 * max(1.0, float(np.abs(f).max()))
    rising, falling = bool((step >= -slack).all()), bool((step <= slack).all())
    nodes, weights = normal_nodes(1.0, np.array(sorted([*kinks, *jumps])))
    return {
        "monotone": "rising" if rising else "falling" if falling else "no",
        "range": [_bound(everywhere.min()), _bound(everywhere.max())],
        "zeros_of_derivative": zeros,
        "kinks": kinks,
        "jumps": jumps,
        "mean": float(np.sum(weights * _quietly(evaluate, nodes)[0])),
    }


def _bound(value: float) -> float | None:
    """Return an end of the range; None for one that isn't reached up to |z| = 1e6."""
    return round(float(value), 9) + 0.0 if abs(value) < 1e3 else None


def _breaks(evaluate: Evaluate, grid: ndarray) -> tuple[list[float], list[float]]:
    """Return where f' jumps, and where f does: halves of an interval are taken by what differs."""
    found: tuple[list[float], list[float]] = ([], [])
    for which, places in ((1, found[0]), (0, found[1])):
        low, high = grid[:-1], grid[1:]
        for _ in range(40):
            middle = (low + high) / 2
            left, inside, right = (_quietly(evaluate, x)[which] for x in (low, middle, high))
            first = np.abs(inside - left) >= np.abs(right - inside)
            low, high = np.where(first, low, middle), np.where(first, middle, high)
        difference = np.abs(_quietly(evaluate, high)[which] - _quietly(evaluate, low)[which])
        places += [round(float(x), 9) + 0.0 for x in high[difference > 1e-5]]
    return [x for x in found[0] if x not in found[1]], found[1]


def _zeros(evaluate: Evaluate, grid: ndarray, df: ndarray, kinks: list[float]) -> list[float]:
    """Return where f' changes its sign without a jump."""
    zeros = []
    for i in np.flatnonzero(df[:-1] * df[1:] < 0):
        low, high = float(grid[i]), float(grid[i + 1])
        if not any(low - 1e-6 <= kink <= high + 1e-6 for kink in kinks):
            root = brentq(lambda x: float(evaluate(np.array([x]))[1][0]), low, high, xtol=1e-12)
            zeros.append(round(float(root), 9) + 0.0)
    return zeros


def _cost(act: Mapping[str, Any]) -> Finding:
    """Return the time of a forward pass, and of both, as multiples of ReLU's; the least of 7."""
    import jax
    import jax.numpy as jnp

    z = jnp.asarray(
        np.random.Generator(np.random.Philox(1)).standard_normal(COST_SIZE), jnp.float32
    )
    programs: dict[tuple[str, str], Callable[..., Any]] = {}
    for who, fn in (("relu", _function({"name": "relu"})), ("act", _function(act))):
        both = jax.grad(lambda z, fn=fn: jnp.sum(fn(z)))
        programs[who, "forward"], programs[who, "backward"] = jax.jit(fn), jax.jit(both)
    best = dict.fromkeys(programs, np.inf)
    for turn in range(8):
        for key, program in programs.items():
            start = time.perf_counter()
            program(z).block_until_ready()
            if turn:  # the first one compiles
                best[key] = min(best[key], time.perf_counter() - start)
    return {way: best["act", way] / best["relu", way] for way in ("forward", "backward")}


def _by_mpmath(act: Mapping[str, Any]) -> tuple[ndarray, ndarray] | None:
    """Return points and a formula's values there by mpmath, or None where it isn't installed."""
    try:
        import mpmath as mp
    except ImportError:
        return None
    tree = parse(act["formula"])
    rng = np.random.Generator(np.random.Philox(2))
    powers = 2.0 ** np.arange(-126, 128)
    near = rng.uniform(-SHAPE_TO, SHAPE_TO, EXACT_POINTS)
    z = np.concatenate([powers, -powers, near]).astype(np.float32)
    with mp.workdps(40):
        numbers = {k: mp.mpf(float(np.float32(act[k]))) for k in parameters(tree)}
        exact = np.array([_exactly(mp, tree, mp.mpf(float(x)), numbers) for x in z])
    return z, exact


def _exactly(mp: Any, tree: Node, x: Any, numbers: Mapping[str, Any]) -> float:
    """Return a formula's value; NaN where mpmath can't hold a part, of which nothing is told."""
    try:
        return float(mp.re(_mp_value(mp, tree, x, numbers)))
    except (ZeroDivisionError, OverflowError, ValueError, mp.libmp.NoConvergence):
        return float("nan")


def _mp_value(mp: Any, node: Node, x: Any, numbers: Mapping[str, Any]) -> Any:
    if node.kind == "number":
        return mp.mpf(node.value)
    if node.kind in ("x", "parameter"):
        return numbers[node.name] if node.name else x
    args = [_mp_value(mp, arg, x, numbers) for arg in node.args[node.kind == "where" :]]
    if node.kind == "where":
        left, right = (_mp_value(mp, arg, x, numbers) for arg in node.args[0].args)
        holds = {">": left > right, ">=": left >= right, "<": left < right, "<=": left <= right}
        return args[0] if holds[node.args[0].kind] else args[1]
    if any(abs(arg) > 1e5 for arg in args) and node.kind in ("exp", "expm1", "sinh", "cosh", "erf"):
        args = [max(min(arg, mp.mpf(10) ** 5), -(mp.mpf(10) ** 5)) for arg in args]
    if node.kind in ("sin", "cos") and abs(args[0]) > 1e10:
        raise ValueError("more digits than are kept")
    return _MP[node.kind](mp, *args)


def _mp_softplus(mp: Any, a: Any) -> Any:
    return max(a, 0) + mp.log1p(mp.exp(-min(abs(a), mp.mpf(10) ** 5)))


def _mp_sigmoid(mp: Any, a: Any) -> Any:
    e = mp.exp(-min(abs(a), mp.mpf(10) ** 5))
    return 1 / (1 + e) if a > 0 else e / (1 + e)


def _mp_tanh(mp: Any, a: Any) -> Any:
    return mp.tanh(max(min(a, mp.mpf(10) ** 4), -(mp.mpf(10) ** 4)))


_MP: dict[str, Callable[..., Any]] = {
    "+": lambda mp, a, b: a + b,
    "*": lambda mp, a, b: a * b,
    "/": lambda mp, a, b: a / b,
    "**": lambda mp, a, b: a**b,
    "neg": lambda mp, a: -a,
    "max": lambda mp, a, b: max(a, b),
    "min": lambda mp, a, b: min(a, b),
    "abs": lambda mp, a: abs(a),
    "tanh": _mp_tanh,
    "softplus": _mp_softplus,
    "sigmoid": _mp_sigmoid,
    "silu": lambda mp, a: a * _mp_sigmoid(mp, a),
    "mish": lambda mp, a: a * _mp_tanh(mp, _mp_softplus(mp, a)),
    "gelu": lambda mp, a: a * mp.ncdf(max(min(a, mp.mpf(200)), mp.mpf(-200))),
    "erfc": lambda mp, a: mp.erfc(max(min(a, mp.mpf(200)), mp.mpf(-200))),
    **{
        name: lambda mp, a, name=name: getattr(mp, name)(a)
        for name in ("exp", "expm1", "log", "log1p", "sqrt", "sign", "erf", "sin", "cos", "atan")
    },
    **{name: lambda mp, a, name=name: getattr(mp, name)(a) for name in ("sinh", "cosh", "asinh")},
}
