"""jacobians: which activations act on each unit alone, and what a product with J costs. (S3)"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from actsweep import activations
from actsweep.report import colours, plotting
from actsweep_tutorials.base import Experiment, Params, Quantities, Table

EXAMPLE = (-2.4, 0.9, -0.1)
UNITS, BATCH, EPS = 8, 4, 1e-5


def layer_norm(z: Array) -> Array:
    """Return (z - mean) / sqrt(var + eps) over the units (Ba et al. 2016, arXiv:1607.06450)."""
    return (z - z.mean()) / jnp.sqrt(z.var() + EPS)


def group_norm(z: Array) -> Array:
    """Return `layer_norm` of each of two groups of units (Wu & He 2018, arXiv:1803.08494)."""
    return jnp.concatenate([layer_norm(half) for half in jnp.split(z, 2)])


def local_response_norm(z: Array) -> Array:
    """Return z_i / (2 + 1e-4 sum of z_j^2 over |i - j| <= 2)^0.75 (Krizhevsky et al. 2012)."""
    near = jnp.abs(jnp.subtract.outer(jnp.arange(len(z)), jnp.arange(len(z)))) <= 2
    return z / (2 + 1e-4 * (near.astype(z.dtype) @ jnp.square(z))) ** 0.75


def batch_norm(z: Array) -> Array:
    """Return (z - mean) / sqrt(variance + eps) of each unit over the batch, [batch, units]
    (Ioffe & Szegedy 2015, arXiv:1502.03167).
    """
    centred = z - z.mean(axis=0, keepdims=True)
    return centred / jnp.sqrt(z.var(axis=0, keepdims=True) + EPS)


def measure(params: Params) -> Quantities:
    """Return Jacobians at normal inputs, softmax's formula, and the FLOPs of J v by XLA's count."""
    z = jax.random.normal(jax.random.key(0), (UNITS,))
    result: dict[str, Any] = {"jacobian": {}, "off_diagonal": {}, "rule": {}}
    for name in params["act"]:
        act = activations.get(name)
        fn = partial(act.fn, **act.params)
        result["jacobian"][name] = jax.jit(jax.jacrev(fn))(z)
        if act.units == "elementwise":
            result["rule"][name] = jax.jit(partial(_rule_error, fn))(z)
    for norm in (layer_norm, group_norm, local_response_norm):
        result["jacobian"][norm.__name__] = jax.jit(jax.jacrev(norm))(z)
    batch = jax.random.normal(jax.random.key(1), (BATCH, UNITS))
    whole = jax.jit(jax.jacrev(batch_norm))(batch)  # [BATCH, UNITS, BATCH, UNITS]
    result["jacobian"]["batch_norm"] = whole[0, :, 0, :]
    for name, jacobian in result["jacobian"].items():
        entries = _off_diagonal(jacobian)
        result["off_diagonal"][name] = {
            "largest": jnp.max(jnp.abs(entries)),
            "share": jnp.mean(entries != 0),
        }
    unit = whole[:, 0, :, 0]  # one unit, over examples
    result["batch_norm_over_examples"] = jnp.max(jnp.abs(_off_diagonal(unit)))
    return result | {"softmax": _softmax(), "flops": _flops(params["sizes"])}


def _off_diagonal(jacobian: Array) -> Array:
    """Return entries [i, j] where output i and input j belong to different units."""
    outputs, inputs = jacobian.shape
    same_unit = jnp.arange(inputs)[None] % outputs == jnp.arange(outputs)[:, None]
    return jacobian[~same_unit]


def _rule_error(fn: Callable, z: Array) -> Array:
    """Return the largest error of dL/dz = dL/da * f'(z) beside autodiff, by a loss of all units."""
    loss = lambda a: jnp.sum(jnp.sin(a)) + jnp.prod(a)  # noqa: E731
    derivative = jax.vmap(jax.grad(lambda z_i: fn(z_i[None])[0]))(z)
    return jnp.max(jnp.abs(jax.grad(lambda z: loss(fn(z)))(z) - jax.grad(loss)(fn(z)) * derivative))


def _softmax() -> Mapping[str, Any]:
    """Compare diag(a) - a a^T in float64 with autodiff, at the tutorial's example."""
    z = np.array(EXAMPLE)
    a = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    formula = np.diag(a) - np.outer(a, a)
    auto = jax.jacrev(activations.get("softmax").fn)(jnp.asarray(EXAMPLE, jnp.float32))
    sigmoids = activations.get("sigmoid").fn(jnp.asarray(EXAMPLE, jnp.float32))
    return {
        "z": z,
        "a": a,
        "formula": formula,
        "error": np.abs(formula - np.asarray(auto)).max(),
        "sum": a.sum(),
        "sigmoid_sum": float(jnp.sum(sigmoids)),
    }


def _flops(sizes: Sequence[int]) -> Mapping[str, Any]:
    """Return the FLOPs of softmax's J v: by the dense J, and by a * (v - a . v)."""
    fn = activations.get("softmax").fn
    products: Mapping[str, Callable] = {
        "dense": lambda z, v: jax.jacrev(fn)(z) @ v,
        "product": lambda z, v: jax.jvp(fn, (z,), (v,))[1],
    }
    flops: dict[str, Any] = {"n": sizes, "error": 0.0}
    for name, product in products.items():
        flops[name] = []
        for n in sizes:
            z, v = jax.random.normal(jax.random.key(2), (2, n))
            compiled = jax.jit(product).lower(z, v).compile()
            flops[name].append(float((compiled.cost_analysis() or {})["flops"]))
            a = fn(z)
            error = jnp.max(jnp.abs(compiled(z, v) - a * (v - jnp.sum(a * v))))
            flops["error"] = max(flops["error"], float(error))
        exponent = np.polyfit(np.log(sizes), np.log(flops[name]), 1)[0]
        flops[f"{name}_exponent"] = exponent
    return flops


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw which output depends on which input, and the cost of J v."""
    figure, flat = plotting.panels(len(result["jacobian"]), 4, width=2.4, height=2.4, share=False)
    for axes, (name, jacobian) in zip(flat, result["jacobian"].items(), strict=True):
        size = np.abs(np.array(jacobian))
        axes.imshow(size / size.max(), cmap="cividis", vmin=0, vmax=1)
        dense = result["off_diagonal"][name]["share"] > 0
        axes.set_title(f"{name}: {'across units' if dense else 'each alone'}")
        axes.set_xlabel("input")
        axes.grid(visible=False)
    flat[0].set_ylabel("output")
    cost, (axes,) = plotting.panels(1, 1, width=5.5, height=3.2)
    flops = result["flops"]
    for name, mark, colour in (("dense", "o-", colours.RED), ("product", "s-", colours.BLUE)):
        label = f"{name}: ~n^{flops[f'{name}_exponent']:.2f}"
        axes.loglog(flops["n"], flops[name], mark, color=colour, label=label)
    axes.set_xlabel("units n of a softmax")
    axes.set_ylabel("floating-point operations of J v")
    axes.legend()
    return {"jacobians": figure, "cost": cost}


def tables(result: Quantities) -> Sequence[Table]:
    """Return the off-diagonal entries, and the example."""
    rows = [
        [name, entries["largest"], 100 * entries["share"], result["rule"].get(name)]
        for name, entries in result["off_diagonal"].items()
    ]
    heading = ("function", "largest |entry| between units", "of those not 0, %", "rule's error")
    softmax = result["softmax"]
    matrix = [
        [f"{z:g}", a, *row]
        for z, a, row in zip(softmax["z"], softmax["a"], softmax["formula"], strict=True)
    ]
    return [
        Table("Entries of the Jacobian between different units", heading, rows),
        Table("softmax: diag(a) - a aᵀ", ("z", "a", "", "", ""), matrix),
    ]


EXPERIMENT = Experiment(
    "jacobians",
    "Which activations act on each unit alone, and what does a product with the Jacobian cost?",
    "S3",
    measure,
    draw,
    tables,
    {
        "act": ("sigmoid", "tanh", "relu", "elu", "swish", "gelu", "softmax", "maxout", "glu"),
        "sizes": (16, 64, 256, 1024),
    },
)
