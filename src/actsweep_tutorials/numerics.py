"""numerics: where formulas written by hand break in float32, and where ours don't. (all sources)"""

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
    """Values and gradients of both forms from -120 to 120; whether every activation is finite on
    the whole range of both float types; the tails of tanh and softsign."""
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
    """Whether value and gradient are finite where the exact ones are representable."""
    one = activations.get(name)
    found = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        top = float(jnp.finfo(dtype).max)
        # what multiplies two inputs, or squares one, leaves the range beyond its square root
        most = math.sqrt(top) / 2 if one.units == "gated" or name == "squared_relu" else top / 2
        sizes = np.logspace(-45, math.log10(most), 400)
        z = jnp.asarray(np.concatenate([-sizes, [0.0], sizes]), dtype)
        rows = jnp.stack([z, z[::-1]], axis=-1) if one.units != "elementwise" else z[:, None]
        a, pull = jax.vjp(partial(one.fn, **one.params), rows)
        (grad,) = pull(jnp.ones_like(a))
        found[dtype.__name__] = bool(jnp.isfinite(a).all() & jnp.isfinite(grad).all())
    return found


def _tails() -> Mapping[str, Sequence[float]]:
    """1 - f(z) in float64, from formulas that keep their digits."""
    z = 2.0 ** np.arange(1, 6)
    return {"z": z, "softsign": 1 / (1 + z), "tanh": 2 / (1 + np.exp(2 * z))}


def draw(found: Quantities) -> Mapping[str, Figure]:
    """Gradients of both forms; a cross where the one by hand isn't finite."""
    figure, flat = plotting.panels(len(found["curves"]), 3, share=False)
    z = np.array(found["z"])
    for axes, (name, forms) in zip(flat, found["curves"].items(), strict=True):
        hand = np.array(forms["by hand"]["slope"], float)
        axes.plot(z, forms["ours"]["slope"], color=plotting.colour(name), label="ours")
        axes.plot(z, hand, color="black", linestyle=":", label="by hand")
        broken = z[np.isnan(hand)]
        axes.plot(broken, np.full(len(broken), 0.5), "x", color="black", markersize=3)
        said = f"NaN at {len(broken)} of {len(z)}" if len(broken) else "never NaN"
        axes.set_title(f"{name}: {said}")
        axes.set_xlabel("z")
    flat[0].set_ylabel("f'(z) in float32")
    flat[0].legend(fontsize=8)
    return {"by-hand": figure}


def tables(found: Quantities) -> Sequence[Table]:
    """Where the formulas by hand give NaN, None in JSON."""
    rows = []
    for name, forms in found["curves"].items():
        hand = forms["by hand"]
        broken = [
            (z, "value" if value is None else "gradient")
            for z, value, slope in zip(found["z"], hand["value"], hand["slope"], strict=True)
            if value is None or slope is None
        ]
        span = f"{broken[0][0]:g} … {broken[-1][0]:g}" if broken else "nowhere"
        rows.append([name, span, hand["slope"][found["z"].index(0.0)]])
    good = sum(all(one.values()) for one in found["finite"].values())
    heading = ("formula by hand", "not finite at some z in", "f'(0) by JAX")
    return [
        Table("Formulas by hand in float32", heading, rows),
        Table(
            "Ours",
            ("activations", "finite in float32 and bfloat16"),
            [[len(found["finite"]), good]],
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
