"""gallery: an activation and its derivative, and what there is to know about it. (S0, S1, S2)

Elementwise activations are shown as they are. Of the others a slice is shown, f of one number z:
gated ones with the value half at 1, the gate at z; maxout of z and zeros; softmax and log-softmax
of [z, 0, 0], their first unit.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from actsweep import activations
from actsweep.activations import Activation
from actsweep.report import plotting
from actsweep.theory.gaussian import quadrature
from actsweep_tutorials.base import MAIN, Experiment, Params, Quantities, Table, activation

LEFT, RIGHT, POINTS = -5.0, 5.0, 1000
SIX = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "swish")
TIMED, REPEATS = 1 << 20, 15


def slice_of(one: Activation) -> Callable[[Array], Array]:
    """The activation, at its default parameters, as a function of one number; see above."""
    fn = partial(one.fn, **one.params)
    inputs: Mapping[str, Callable[[Array], Array]] = {
        "elementwise": lambda z: z[None],
        "gated": lambda z: jnp.stack([jnp.ones_like(z), z]),
        "maxout": lambda z: jnp.zeros(one.params.get("pieces", 2), z.dtype).at[0].set(z),
        "vector": lambda z: jnp.zeros(3, z.dtype).at[0].set(z),
    }
    return lambda z: fn(inputs[one.units](z))[0]


def card(one: Activation) -> dict[str, Any]:
    """What there is to know, measured in float32 but for `formula`, `paper`, `range`, `zero` and
    `kinks`, which are facts. Moments are over N(0, 1), by quadrature."""
    f = slice_of(one)
    value, slope = jax.jit(jax.vmap(f)), jax.jit(jax.vmap(jax.grad(f)))
    z = np.linspace(LEFT, RIGHT, 100_001, dtype=np.float32)
    a, da = np.asarray(value(z), float), np.asarray(slope(z), float)
    scan = np.array([-5 + 0.1 * i for i in range(100)], np.float32)
    nodes, weights = quadrature()
    at = nodes.astype(np.float32)
    moments = [round(float(np.sum(weights * x)), 9) + 0.0 for x in _powers(value(at), slope(at))]
    dips = (a[1:-1] < a[:-2]) & (a[1:-1] < a[2:])
    return {
        "formula": one.formula,
        "paper": one.paper,
        "range": one.range,
        "zero": one.zero,
        "kinks": one.kinks,
        "units": one.units,
        "smallest": a.min(),
        "largest": a.max(),
        "smallest_at": z[a.argmin()] if dips.any() else None,
        "slope_zero": slope(np.zeros(1, np.float32))[0],
        "slope_least": da.min(),
        "slope_most": da.max(),
        "slope_most_at": z[np.abs(da - da.max()) < 1e-7].mean(),
        "monotone": not (np.diff(a) < -1e-6).any(),
        "scan_share": (np.abs(np.asarray(slope(scan))) < 0.01).mean(),
        "flat_left": _flat_from(slope),
        "mean": moments[0],
        "square": moments[1],
        "slope_square": moments[2],
        "gain": 1 / math.sqrt(moments[1]),
        "slope_gain": 1 / math.sqrt(moments[2]),
    }


def _powers(a: Array, da: Array) -> tuple[np.ndarray, ...]:
    values, slopes = np.asarray(a, float), np.asarray(da, float)
    return values, values**2, slopes**2


def _flat_from(slope: Callable) -> Mapping[str, float | None]:
    """The z below which |f'| < 0.001, and below which it is 0, down to -200; None for nowhere."""
    z = np.linspace(-200, 0, 20_001, dtype=np.float32)
    size = np.abs(np.asarray(slope(z)))
    found = {}
    for name, small in (("small", size < 1e-3), ("zero", size == 0)):
        length = int(np.argmin(small)) if not small.all() else len(z)
        found[name] = float(z[length - 1]) if length else None
    return found


def cost(one: Activation) -> dict[str, float]:
    """Nanoseconds for each of a million float32 inputs on this machine: f, and f together with
    the gradient; the median of 15."""
    f = jax.jit(partial(one.fn, **one.params))

    @jax.jit
    def back(z: Array) -> tuple[Array, Array]:
        a, pull = jax.vjp(f, z)
        return a, pull(jnp.ones_like(a))[0]

    z = jax.random.normal(jax.random.key(0), (TIMED // 1024, 1024))
    return {"forward_ns": _time(f, z), "with_backward_ns": _time(back, z)}


def _time(fn: Callable, z: Array) -> float:
    jax.block_until_ready([fn(z) for _ in range(3)])
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(fn(z))
        seconds.append(time.perf_counter() - start)
    return 1e9 * float(np.median(seconds)) / z.size


def measure(params: Params) -> Quantities:
    """Curves and cards, and if asked what they cost."""
    z = jnp.linspace(LEFT, RIGHT, POINTS, dtype=jnp.float32)
    curves, cards, costs = {}, {}, {}
    for name in params["act"]:
        one = activation(name)
        f = slice_of(one)
        curves[name] = {"value": jax.vmap(f)(z), "slope": jax.vmap(jax.grad(f))(z)}
        cards[name] = card(one)
        if params["cost"]:
            costs[name] = cost(one)
    return {"z": z, "curves": curves, "cards": cards, "costs": costs}


def draw(found: Quantities) -> Mapping[str, Figure]:
    """All in one figure; and each alone, f and f' side by side."""
    z, curves = np.array(found["z"]), found["curves"]
    drawn = {"gallery": _grid(z, curves)}
    if len(curves) > len(SIX) and set(SIX) <= set(curves):
        drawn["six"] = _grid(z, {name: curves[name] for name in SIX})
    for name, curve in curves.items():
        alone, (left, right) = plotting.panels(2, 2, width=3.4, height=2.6, share=False)
        _curve(left, z, curve["value"], name, "f")
        _curve(right, z, curve["slope"], name, "f'")
        left.set_ylabel("f(z)")
        right.set_ylabel("f'(z)")
        for axes in (left, right):
            axes.set_xlabel("z")
        alone.suptitle(f"{name}: {found['cards'][name]['formula']}", fontsize=10, parse_math=False)
        drawn[name] = alone
    return drawn


def _grid(z: np.ndarray, curves: Mapping[str, Any]) -> Figure:
    grid, flat = plotting.panels(len(curves), 3 if len(curves) <= 9 else 5, height=2.2)
    for axes, (name, curve) in zip(flat, curves.items(), strict=True):
        _curve(axes, z, curve["value"], name, "f")
        axes.plot(z, curve["slope"], color="black", linestyle="--", linewidth=1.2, label="f'")
        axes.set_ylim(-2, 3)
        axes.set_title(name)
    flat[0].legend(loc="upper left")
    return grid


def _curve(axes: Axes, z: np.ndarray, values: Any, name: str, label: str) -> None:
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.axvline(0, color="0.7", linewidth=0.8)
    axes.plot(z, values, color=plotting.colour(name), linewidth=2.2, label=label)


def tables(found: Quantities) -> Sequence[Table]:
    """The cards."""
    facts = (
        "formula",
        "range",
        "f'(0), and which side at a kink",
        "not differentiable at",
        "paper",
    )
    about, shape, moments, costs = [], [], [], []
    for name, one in found["cards"].items():
        kinks = ", ".join(f"{kink:g}" for kink in one["kinks"]) or "nowhere"
        about.append([name, one["formula"], one["range"], one["zero"], kinks, one["paper"]])
        extremum = (
            "none"
            if one["smallest_at"] is None
            else f"{one['smallest']:.4f} at {one['smallest_at']:.3f}"
        )
        shape.append(
            [
                name,
                "yes" if abs(one["mean"]) < 1e-6 else "no",
                "yes" if one["monotone"] else "no",
                extremum,
                f"{one['slope_least']:.4g} … {one['slope_most']:.4g}",
                100 * one["scan_share"],
            ]
        )
        keys = ("mean", "square", "slope_square", "gain", "slope_gain")
        moments.append([name, *(float(one[key]) for key in keys)])
        if name in found["costs"]:
            costs.append([name, *(f"{value:.2f}" for value in found["costs"][name].values())])
    all_tables = [
        Table("Facts", ("activation", *facts), about),
        Table(
            "Shape on [-5, 5]",
            ("activation", "zero-centred", "monotone", "minimum", "f'", "|f'| < 0.01 on, %"),
            shape,
        ),
        Table(
            "For z ~ N(0, 1)",
            ("activation", "E[f]", "E[f²]", "E[f'²]", "1/√E[f²]", "1/√E[f'²]"),
            moments,
        ),
    ]
    if costs:
        heading = ("activation", "f", "f and its gradient")
        all_tables.append(Table("Nanoseconds an input, on this machine", heading, costs))
    return all_tables


EXPERIMENT = Experiment(
    "gallery",
    "What does an activation look like, and what is there to know about it?",
    "S0, S1, S2",
    measure,
    draw,
    tables,
    {"act": MAIN, "cost": True},
    quick={"cost": False, "act": tuple(activations.ACTIVATIONS)},
)
