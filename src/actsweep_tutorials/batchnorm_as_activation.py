"""batchnorm-as-activation: normalisations and maxout as activations across units. (S3)

An elementwise activation gives each output its own input. Softmax, maxout and the normalisations
don't: their Jacobians are taken here over a whole batch, so that what couples units is told from
what couples examples.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from actsweep import activations
from actsweep.report import plotting
from actsweep.utils.errors import bad_value
from actsweep_tutorials import jacobians
from actsweep_tutorials.base import Experiment, Params, Quantities, Table

RANK = 1e-4  # singular values below this share of the largest count as 0: float32, and eps
KINDS = ("own", "units", "examples", "both")
MAPS: Mapping[str, Callable[[Array], Array]] = {
    "relu": activations.get("relu").fn,
    "softmax": activations.get("softmax").fn,
    "maxout": activations.get("maxout").fn,
    "local_response_norm": jax.vmap(jacobians.local_response_norm),
    "layer_norm": jax.vmap(jacobians.layer_norm),
    "group_norm": jax.vmap(jacobians.group_norm),
    "batch_norm": jacobians.batch_norm,
    "batch_norm_evaluated": lambda z: z / jnp.sqrt(1 + jacobians.EPS),  # averages 0 and 1
}
"""Functions of a batch of pre-activations [examples, inputs] to outputs [examples, units]."""


def measure(params: Params) -> Quantities:
    """Return each function's Jacobian over a batch, where its entries are, its rank and its gain,
    and the formula of a normalisation beside autodiff.

    Raises:
        UserError: one example, or units that can't be halved.
    """
    examples, units = params["examples"], params["units"]
    if examples < 2:
        raise bad_value("examples", examples, "at least 2: one has no variance", "examples=4")
    if units % 2:
        raise bad_value("units", units, "even: groups and maxout take halves", "units=8")
    z = jax.random.normal(jax.random.key(params["seed"]), (examples, units))
    found: dict[str, Any] = {"examples": examples, "units": units, "maps": {}}
    for name, fn in MAPS.items():
        jacobian = np.asarray(jax.jit(jax.jacrev(fn))(z))
        flat = jacobian.reshape(jacobian.shape[0] * jacobian.shape[1], -1)
        sizes = np.linalg.svd(flat.astype(np.float64), compute_uv=False)
        found["maps"][name] = {
            "jacobian": flat,
            "share": {kind: np.mean(jacobian[where] != 0) for kind, where in masks(jacobian)},
            "outputs": len(flat),
            "rank": int(np.sum(sizes > RANK * sizes[0])),
            "gain": sizes[0],
            "row_sum": np.abs(flat.sum(axis=1)).max(),
        }
    row, column = np.asarray(z[0], np.float64), np.asarray(z[:, 0], np.float64)
    over_examples = jax.jit(jax.jacrev(jacobians.batch_norm))
    found["formula_error"] = {
        "layer_norm": _formula_error(jax.jit(jax.jacrev(jacobians.layer_norm))(z[0]), row),
        "batch_norm": _formula_error(over_examples(z)[:, 0, :, 0], column),
    }
    return found


def masks(
    jacobian: Float[np.ndarray, "b u b i"],
) -> Sequence[tuple[str, Bool[np.ndarray, "b u b i"]]]:
    """Return which entries are of a unit's own inputs, of other units' inputs, of the own inputs in
    other examples, and of both others; a maxout unit has several inputs of its own.
    """
    examples, units, _, inputs = jacobian.shape
    same_example = np.eye(examples, dtype=bool)[:, None, :, None]
    same_unit = (np.arange(inputs)[None] % units == np.arange(units)[:, None])[None, :, None, :]
    kinds = {
        "own": same_example & same_unit,
        "units": same_example & ~same_unit,
        "examples": ~same_example & same_unit,
        "both": ~same_example & ~same_unit,
    }
    return [(kind, np.broadcast_to(where, jacobian.shape)) for kind, where in kinds.items()]


def normalisation_jacobian(z: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n n"]:
    """Return (I - (1 + a a^T) / n) / sqrt(var + eps), with a the normalised z: of softmax's kind, a
    diagonal minus an outer product (Ioffe & Szegedy 2015, arXiv:1502.03167, section 3).
    """
    scale = np.sqrt(z.var() + jacobians.EPS)
    a = (z - z.mean()) / scale
    return (np.eye(len(z)) - (1 + np.outer(a, a)) / len(z)) / scale


def _formula_error(jacobian: Array, z: np.ndarray) -> float:
    return float(np.abs(np.asarray(jacobian) - normalisation_jacobian(z)).max())


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw each Jacobian over the batch: a block an example, in it a row a unit."""
    figure, flat = plotting.panels(len(result["maps"]), 4, width=2.6, height=2.6, share=False)
    for axes, (name, found) in zip(flat, result["maps"].items(), strict=True):
        size = np.abs(np.array(found["jacobian"]))
        axes.imshow(size / size.max(), cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for example in range(1, result["examples"]):
            for line, axis_size in ((axes.axhline, size.shape[0]), (axes.axvline, size.shape[1])):
                line(example * axis_size / result["examples"] - 0.5, color="w", linewidth=0.5)
        axes.set_title(f"{name}: {_couples(found)}", fontsize=9)
        axes.set_xlabel("input, by example")
        axes.grid(visible=False)
    flat[0].set_ylabel("output, by example")
    return {"jacobians": figure}


def _couples(found: Mapping[str, Any]) -> str:
    coupled = [kind for kind in ("units", "examples") if found["share"][kind] > 0]
    return " and ".join(coupled) or "each alone"


def tables(result: Quantities) -> Sequence[Table]:
    """Return where each Jacobian's entries are, and the formulas' errors."""
    rows = [
        [
            name,
            *(100 * found["share"][kind] for kind in KINDS),
            f"{found['rank']} of {found['outputs']}",
            found["gain"],
            found["row_sum"],
        ]
        for name, found in result["maps"].items()
    ]
    heading = ("function", "own inputs", "other units", "other examples", "both", "rank")
    errors = [[name, error] for name, error in result["formula_error"].items()]
    return [
        Table(
            "Entries of the Jacobian that aren't 0, %",
            (*heading, "largest gain", "largest |row sum|"),
            rows,
        ),
        Table("(I - (1 + a aᵀ) / n) / σ beside autodiff", ("function", "largest error"), errors),
    ]


EXPERIMENT = Experiment(
    "batchnorm-as-activation",
    "Which units and which examples do normalisations and maxout couple, beside softmax?",
    "S3",
    measure,
    draw,
    tables,
    {"examples": 4, "units": 8, "seed": 0},
)
