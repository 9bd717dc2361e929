"""isometry: do orthogonal weights keep every direction of a signal, in networks of any depth?

Pennington, Schoenholz & Ganguli 2017, "Resurrecting the sigmoid in deep learning through dynamical
isometry". On the edge of chaos the squared singular values of the Jacobian of outputs by inputs
have the mean 1; what decides is their spread. It grows with depth for Gaussian weights, and for
ReLU. With orthogonal weights and q of order 1/depth, tanh keeps it.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep.stats.paired import mean_interval
from actsweep.theory.critical import critical_init
from actsweep.theory.jacobian import jacobian_spectrum
from actsweep.theory.mean_field import Layer, edge_point
from actsweep.theory.units import Elementwise, unit_of
from actsweep.utils.errors import UserError
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import compose_run

INITS = ("orthogonal", "normal")


def squared_singular_values(
    unit: Elementwise,
    layer: Layer,
    q: float,
    depth: int,
    width: int,
    *,
    orthogonal: bool,
    rng: np.random.Generator,
) -> Float64[np.ndarray, " width"]:
    """Return the squared singular values of da_L/dx of a drawn network, in descending order.

    J = D_L W_L … D_1 W_1, with D_l the diagonal of f' at the pre-activations of layer l. It is a
    plain NumPy network of `depth` square layers.

    Args:
        unit: of every layer.
        layer: the variances of weights and biases.
        q: the second moment of every layer's pre-activations, a fixed point of the length map.
        depth: how many layers.
        width: of the input and of every layer.
        orthogonal: whether weights are sigma_w times an orthogonal matrix, else Gaussian.
        rng: of the draws.
    """
    sigma_w, sigma_b = math.sqrt(layer.sigma_w2), math.sqrt(layer.sigma_b2)
    x = rng.standard_normal(width)
    x *= math.sqrt(width * max(q - layer.sigma_b2, 0.0) / layer.sigma_w2) / np.linalg.norm(x)
    jacobian = np.eye(width)
    for _ in range(depth):
        draw = rng.standard_normal((width, width))
        if orthogonal:
            basis, upper = np.linalg.qr(draw)
            weights = sigma_w * basis * np.sign(np.diag(upper))  # as Haar's measure has them
        else:
            weights = sigma_w * draw / math.sqrt(width)
        x, slopes = unit.evaluate(weights @ x + sigma_b * rng.standard_normal(width))
        jacobian = slopes[:, None] * (weights @ jacobian)
    return np.linalg.svd(jacobian, compute_uv=False) ** 2


def edge_for(unit: Elementwise, act: Mapping[str, object], depth: int) -> tuple[Layer, float]:
    """Return the edge of chaos at q = 1/depth where it is stable there, else at its usual place."""
    point = edge_point(unit, 1 / depth)
    if point is not None and point.stable:
        return Layer(point.sigma_w2, point.sigma_b2), point.q
    found = critical_init("critical", dict(act))
    return Layer(found.sigma_w**2, found.sigma_b**2), found.q


def measure(params: Params) -> Quantities:
    """Return mean and spread of the squared singular values by activation, depth and weights."""
    if unknown := {*params["init"]} - {*INITS}:
        raise UserError(f"init={min(unknown)}: must be {' or '.join(INITS)}; type init=orthogonal")
    cells = []
    for name in params["act"]:
        act = compose_run(f"act={name}").act
        unit = unit_of(act)
        if not isinstance(unit, Elementwise):
            raise UserError(f"act={name}: a unit has several inputs; type for example act=tanh")
        for depth in sorted(params["depth"]):
            layer, q = edge_for(unit, act, depth)
            for init in params["init"]:
                cells.append(
                    {"act": name, "depth": depth, "init": init, "q": q, "sigma_w2": layer.sigma_w2}
                    | _cell(unit, layer, q, depth, params, orthogonal=init == "orthogonal")
                )
    return {"cells": cells, "width": params["width"], "networks": params["networks"]}


def _cell(
    unit: Elementwise, layer: Layer, q: float, depth: int, params: Params, *, orthogonal: bool
) -> dict[str, object]:
    rng = np.random.default_rng(params["seed"])
    drawn = [
        squared_singular_values(
            unit, layer, q, depth, params["width"], orthogonal=orthogonal, rng=rng
        )
        for _ in range(params["networks"])
    ]
    mean, mean_error = mean_interval([float(values.mean()) for values in drawn])
    spreads = [float((values**2).mean() / values.mean() ** 2 - 1) for values in drawn]
    spread, spread_error = mean_interval(spreads)
    theory_mean, theory_spread = jacobian_spectrum(unit, layer, q, depth, orthogonal=orthogonal)
    return {
        "mean": mean,
        "mean_error": mean_error,
        "spread": spread,
        "spread_error": spread_error,
        "theory_mean": theory_mean,
        "theory_spread": theory_spread,
        "largest": float(np.mean([values[0] for values in drawn])),
        "values": np.sort(np.concatenate(drawn))[:: len(drawn)],
    }


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw the spread by depth, a panel an activation: points are drawn networks, lines theory."""
    acts = list(dict.fromkeys(cell["act"] for cell in result["cells"]))
    title = f"Variance of squared singular values over their squared mean, {result['width']} units"
    figure, flat = plotting.panels(len(acts), 2, width=3.8, height=3.0, title=title)
    marks = {"orthogonal": ("o", "-"), "normal": ("s", ":")}
    for axes, act in zip(flat, acts, strict=True):
        colour = plotting.line_style(act)["color"]
        for init, (mark, dash) in marks.items():
            cells = [c for c in result["cells"] if (c["act"], c["init"]) == (act, init)]
            depths = [cell["depth"] for cell in cells]
            axes.plot(depths, [c["theory_spread"] for c in cells], dash, color=colour, lw=1)
            errors = [cell["spread_error"] or 0 for cell in cells]
            axes.errorbar(
                depths, [c["spread"] for c in cells], errors, fmt=mark, color=colour, label=init
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(act)
        axes.set_xlabel("layers")
    flat[0].set_ylabel("normalised variance; lines: theory")
    flat[0].legend()
    return {"spread": figure}


def tables(result: Quantities) -> Sequence[Table]:
    """Return what was measured, beside theory."""
    keys = ("act", "init", "depth", "q", "mean", "mean_error", "theory_mean")
    rows = [
        [*(cell[key] for key in keys), cell["spread"], cell["spread_error"], cell["theory_spread"]]
        for cell in result["cells"]
    ]
    heading = (
        *("activation", "weights", "layers", "q", "mean", "± 95 %", "theory"),
        *("normalised variance", "± 95 %", "theory"),
    )
    title = (
        f"Squared singular values of the Jacobian: {result['networks']} networks of "
        f"{result['width']} units. Theory is for widths far above the depth"
    )
    return [Table(title, heading, rows)]


EXPERIMENT = Experiment(
    "isometry",
    "Do orthogonal weights keep every direction of a signal, at any depth?",
    "Pennington et al. 2017",
    measure,
    draw,
    tables,
    {
        "act": ("tanh", "relu"),
        "depth": (10, 100, 1000),
        "init": INITS,
        "width": 128,
        "networks": 4,
        "seed": 0,
    },
    quick=None,
)
