"""gallery: an activation and its derivative, and what there is to know about it. (S0, S1, S2)

Elementwise activations are shown as they are. Of the others a slice is shown, f of one number z:
gated ones with the value half at 1 and the gate at z; maxout of z and zeros; softmax and
log-softmax of [z, 0, 0], their first unit.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from actsweep import activations
from actsweep.activations import Activation
from actsweep.report import plotting
from actsweep.theory.gaussian import quadrature
from actsweep_tutorials.base import (
    MAIN_ACTIVATIONS,
    Experiment,
    Params,
    Quantities,
    Table,
    activation,
)

LEFT, RIGHT, POINTS = -5.0, 5.0, 1000
SIX = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "swish")
TIMED, REPEATS = 1 << 20, 15
FAR_LEFT = np.linspace(-200, 0, 20_001, dtype=np.float32)


def scalar_slice(act: Activation) -> Callable[[Array], Array]:
    """Return the activation, at its default parameters, as a function of one number; see above."""
    fn = partial(act.fn, **act.params)
    inputs: Mapping[str, Callable[[Array], Array]] = {
        "elementwise": lambda z: z[None],
        "gated": lambda z: jnp.stack([jnp.ones_like(z), z]),
        "maxout": lambda z: jnp.zeros(act.params.get("pieces", 2), z.dtype).at[0].set(z),
        "vector": lambda z: jnp.zeros(3, z.dtype).at[0].set(z),
    }
    return lambda z: fn(inputs[act.units](z))[0]


def describe(act: Activation) -> dict[str, Any]:
    """Return what there is to know about an activation.

    `formula`, `paper`, `range`, `zero`, `kinks` and `units` are facts; all else is measured in
    float32. Moments are over N(0, 1), by quadrature.
    """
    z = np.linspace(LEFT, RIGHT, 100_001, dtype=np.float32)
    nodes, weights = quadrature()
    scan = [-5 + 0.1 * i for i in range(100)]
    line, at_nodes, at_scan, left, at_zero = _values_and_slopes(act, z, nodes, scan, FAR_LEFT, [0])
    a, da = (np.asarray(x, float) for x in line)
    moments = [round(float(np.sum(weights * x)), 9) + 0.0 for x in _powers(*at_nodes)]
    dips = (a[1:-1] < a[:-2]) & (a[1:-1] < a[2:])
    return {
        "formula": act.formula,
        "paper": act.paper,
        "range": act.range,
        "zero": act.zero,
        "kinks": act.kinks,
        "units": act.units,
        "smallest": a.min(),
        "largest": a.max(),
        "smallest_at": z[a.argmin()] if dips.any() else None,
        "slope_zero": at_zero[1][0],
        "slope_least": da.min(),
        "slope_most": da.max(),
        "slope_most_at": z[np.abs(da - da.max()) < 1e-7].mean(),
        "monotone": not (np.diff(a) < -1e-6).any(),
        "scan_share": (np.abs(at_scan[1]) < 0.01).mean(),
        "flat_left": _flat_from(left[1]),
        "mean": moments[0],
        "square": moments[1],
        "slope_square": moments[2],
        "gain": 1 / math.sqrt(moments[1]),
        "slope_gain": 1 / math.sqrt(moments[2]),
    }


def _values_and_slopes(
    act: Activation, *points: npt.ArrayLike
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return f and f' in float32 at each of some arrays of points: one program for all of them."""
    inputs = [np.asarray(z, np.float32) for z in points]
    both = jax.jit(jax.vmap(jax.value_and_grad(scalar_slice(act))))
    ends = np.cumsum([len(z) for z in inputs])[:-1]
    values, slopes = (np.split(np.asarray(x), ends) for x in both(np.concatenate(inputs)))
    return list(zip(values, slopes, strict=True))


def _powers(a: np.ndarray, da: np.ndarray) -> tuple[np.ndarray, ...]:
    values, derivatives = np.asarray(a, float), np.asarray(da, float)
    return values, values**2, derivatives**2


def _flat_from(slopes: np.ndarray) -> Mapping[str, float | None]:
    """Return the z below which |f'| < 0.001, and below which f' is 0 (None: nowhere).

    Args:
        slopes: f' at `FAR_LEFT`.
    """
    size = np.abs(slopes)
    limits = {}
    for name, small in (("small", size < 1e-3), ("zero", size == 0)):
        length = int(np.argmin(small)) if not small.all() else len(size)
        limits[name] = float(FAR_LEFT[length - 1]) if length else None
    return limits


def cost(act: Activation) -> dict[str, float]:
    """Return what f costs on this machine, and f with its gradient: nanoseconds an input.

    The median of 15 repeats on a million float32 inputs.
    """
    f = jax.jit(partial(act.fn, **act.params))

    @jax.jit
    def with_gradient(z: Array) -> tuple[Array, Array]:
        a, pull = jax.vjp(f, z)
        return a, pull(jnp.ones_like(a))[0]

    z = jax.random.normal(jax.random.key(0), (TIMED // 1024, 1024))
    return {"forward_ns": _time(f, z), "with_backward_ns": _time(with_gradient, z)}


def _time(fn: Callable, z: Array) -> float:
    jax.block_until_ready([fn(z) for _ in range(3)])
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(fn(z))
        seconds.append(time.perf_counter() - start)
    return 1e9 * float(np.median(seconds)) / z.size


def measure(params: Params) -> Quantities:
    """Return curves and cards; with the parameter `cost`, what they cost as well."""
    z = jnp.linspace(LEFT, RIGHT, POINTS, dtype=jnp.float32)
    curves, cards, costs = {}, {}, {}
    for name in params["act"]:
        act = activation(name)
        ((value, slope),) = _values_and_slopes(act, z)
        curves[name] = {"value": value, "slope": slope}
        cards[name] = describe(act)
        if params["cost"]:
            costs[name] = cost(act)
    return {"z": z, "curves": curves, "cards": cards, "costs": costs}


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw all in one figure; and each alone, f and f' side by side."""
    z, curves = np.array(result["z"]), result["curves"]
    figures = {"gallery": _grid(z, curves)}
    if len(curves) > len(SIX) and set(SIX) <= set(curves):
        figures["six"] = _grid(z, {name: curves[name] for name in SIX})
    for name, curve in curves.items():
        figure, (left, right) = plotting.panels(2, 2, width=3.4, height=2.6, share=False)
        _curve(left, z, curve["value"], name, "f")
        _curve(right, z, curve["slope"], name, "f'")
        left.set_ylabel("f(z)")
        right.set_ylabel("f'(z)")
        for axes in (left, right):
            axes.set_xlabel("z")
        figure.suptitle(
            f"{name}: {result['cards'][name]['formula']}", fontsize=10, parse_math=False
        )
        figures[name] = figure
    return figures


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


def tables(result: Quantities) -> Sequence[Table]:
    """Return the cards as tables."""
    facts = (
        "formula",
        "range",
        "f'(0), and which side at a kink",
        "not differentiable at",
        "paper",
    )
    about, shape, moments, costs = [], [], [], []
    for name, card in result["cards"].items():
        kinks = ", ".join(f"{kink:g}" for kink in card["kinks"]) or "nowhere"
        about.append([name, card["formula"], card["range"], card["zero"], kinks, card["paper"]])
        extremum = (
            "none"
            if card["smallest_at"] is None
            else f"{card['smallest']:.4f} at {card['smallest_at']:.3f}"
        )
        shape.append(
            [
                name,
                "yes" if abs(card["mean"]) < 1e-6 else "no",
                "yes" if card["monotone"] else "no",
                extremum,
                f"{card['slope_least']:.4g} … {card['slope_most']:.4g}",
                100 * card["scan_share"],
            ]
        )
        keys = ("mean", "square", "slope_square", "gain", "slope_gain")
        moments.append([name, *(float(card[key]) for key in keys)])
        if name in result["costs"]:
            costs.append([name, *(f"{value:.2f}" for value in result["costs"][name].values())])
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
    {"act": MAIN_ACTIVATIONS, "cost": True},
    quick={"cost": False, "act": tuple(activations.ACTIVATIONS)},
)
