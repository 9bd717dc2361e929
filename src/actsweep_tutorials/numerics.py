"""numerics: where formulas written by hand break in float32, and ours don't. (all sources)"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from matplotlib.figure import Figure

from actsweep import activations
from actsweep.report import plotting
from actsweep_tutorials.base import Experiment, Params, Quantities, Table

BY_HAND: Mapping[str, Callable[[Array], Array]] = {
    "tanh": lambda z: (jnp.exp(z) - jnp.exp(-z)) / (jnp.exp(z) + jnp.exp(-z)),
    "sigmoid": lambda z: 1 / (1 + jnp.exp(-z)),
    "elu": lambda z: jnp.where(z > 0, z, jnp.exp(z) - 1),
    "relu": lambda z: jnp.maximum(z, 0.0),
    "swish": lambda z: z / (1 + jnp.exp(-z)),
    "softplus": lambda z: jnp.log(1 + jnp.exp(z)),
}
LARGE = 120


def measure(params: Params) -> Quantities:
    """Return values and gradients of both forms from -120 to 120.

    Also whether every activation is finite on the whole range of both float types, and the tails
    of tanh and softsign.
    """
    z = jnp.arange(-LARGE, LARGE + 1, 0.25, jnp.float32)
    curves = {}
    for name, by_hand in BY_HAND.items():
        ours = activations.get(name).fn
        curves[name] = {
            form: {"value": jax.vmap(f)(z), "slope": jax.vmap(jax.grad(f))(z)}
            for form, f in (("by hand", by_hand), ("ours", ours))
        }
    return {
        "z": z,
        "curves": curves,
        "finite": {name: _finite(name) for name in activations.ACTIVATIONS},
        "tails": _tails(),
        "flax_prelu_shape": list(nnx.PReLU().negative_slope[...].shape),
    }


def _finite(name: str) -> Mapping[str, bool]:
    """Return whether value and gradient are finite where the exact ones are representable."""
    act = activations.get(name)
    finite = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        dtype_max = float(jnp.finfo(dtype).max)
        # what multiplies two inputs, or squares one, leaves the range beyond its square root
        largest = (
            math.sqrt(dtype_max) / 2
            if act.units == "gated" or name in ("squared_relu", "star_relu", "xielu")
            else dtype_max / 2
        )
        sizes = np.logspace(-45, math.log10(largest), 400)
        z = jnp.asarray(np.concatenate([-sizes, [0.0], sizes]), dtype)
        rows = jnp.stack([z, z[::-1]], axis=-1) if act.units != "elementwise" else z[:, None]
        a, vjp = jax.vjp(partial(act.fn, **act.params), rows)
        (grad,) = vjp(jnp.ones_like(a))
        finite[dtype.__name__] = bool(jnp.isfinite(a).all() & jnp.isfinite(grad).all())
    return finite


def _tails() -> Mapping[str, Sequence[float]]:
    """Return 1 - f(z) in float64, from formulas that keep their digits."""
    z = 2.0 ** np.arange(1, 6)
    return {"z": z, "softsign": 1 / (1 + z), "tanh": 2 / (1 + np.exp(2 * z))}


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw the gradients of both forms; a cross where the hand-written one isn't finite."""
    figure, flat = plotting.panels(len(result["curves"]), 3, share=False)
    z = np.array(result["z"])
    for axes, (name, forms) in zip(flat, result["curves"].items(), strict=True):
        by_hand = np.array(forms["by hand"]["slope"], float)
        axes.plot(z, forms["ours"]["slope"], color=plotting.colour(name), label="ours")
        axes.plot(z, by_hand, color="black", linestyle=":", label="by hand")
        nan_points = z[np.isnan(by_hand)]
        axes.plot(nan_points, np.full(len(nan_points), 0.5), "x", color="black", markersize=3)
        nan_count = f"NaN at {len(nan_points)} of {len(z)}" if len(nan_points) else "never NaN"
        axes.set_title(f"{name}: {nan_count}")
        axes.set_xlabel("z")
    flat[0].set_ylabel("f'(z) in float32")
    flat[0].legend(fontsize=8)
    return {"by-hand": figure}


def tables(result: Quantities) -> Sequence[Table]:
    """Return where the formulas by hand give NaN (None in JSON)."""
    rows = []
    for name, forms in result["curves"].items():
        by_hand = forms["by hand"]
        nonfinite = [
            (z, "value" if value is None else "gradient")
            for z, value, slope in zip(result["z"], by_hand["value"], by_hand["slope"], strict=True)
            if value is None or slope is None
        ]
        span = f"{nonfinite[0][0]:g} … {nonfinite[-1][0]:g}" if nonfinite else "nowhere"
        rows.append([name, span, by_hand["slope"][result["z"].index(0.0)]])
    good = sum(all(by_dtype.values()) for by_dtype in result["finite"].values())
    heading = ("formula by hand", "not finite at some z in", "f'(0) by JAX")
    return [
        Table("Formulas by hand in float32", heading, rows),
        Table(
            "Ours",
            ("activations", "finite in float32 and bfloat16"),
            [[len(result["finite"]), good]],
        ),
    ]


EXPERIMENT = Experiment(
    "numerics",
    "Where do formulas written by hand break in float32, and do ours?",
    "all",
    measure,
    draw,
    tables,
)
