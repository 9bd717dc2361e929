"""gradient-scan: where on [-5, 5) is an activation's derivative next to nothing? (S4)"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep_tutorials.base import MAIN_ACTIVATIONS, Experiment, Params, Quantities, Table
from actsweep_tutorials.scalar import scalar_activations


def measure(params: Params) -> Quantities:
    """Return f' at -5 + 0.1 i, i = 0 … 99, and the share of these below the threshold."""
    points = [-5 + 0.1 * i for i in range(100)]
    derivatives = {
        name: [act.derivative(z) for z in points]
        for name, act in scalar_activations(params["act"]).items()
    }
    low = {
        name: sum(abs(derivative) < params["threshold"] for derivative in values) / len(points)
        for name, values in derivatives.items()
    }
    return {"threshold": params["threshold"], "points": points, "slopes": derivatives, "share": low}


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw a panel an activation; what is below the threshold is shaded."""
    derivatives: Mapping[str, list[float]] = result["slopes"]
    figure, flat = plotting.panels(
        len(derivatives), 4, title="Where the gradient is next to nothing"
    )
    for axes, (name, values) in zip(flat, derivatives.items(), strict=True):
        points = result["points"]
        axes.plot(points, values, **plotting.line_style(name))
        small = [abs(value) < result["threshold"] for value in values]
        axes.fill_between(points, -0.2, 1.2, where=small, color="0.85", step="mid", linewidth=0)
        axes.set_title(f"{name}: {100 * result['share'][name]:.0f} % below {result['threshold']:g}")
        axes.set_ylim(-0.2, 1.2)
        axes.set_xlabel("z")
    flat[0].set_ylabel("f'(z)")
    return {"scan": figure}


def tables(result: Quantities) -> Sequence[Table]:
    """Return the shares."""
    rows = [[name, 100 * share] for name, share in result["share"].items()]
    heading = ("activation", f"share of 100 points with |f'| < {result['threshold']:g}, %")
    return [Table("Points with next to no gradient", heading, rows)]


EXPERIMENT = Experiment(
    "gradient-scan",
    "Where on [-5, 5) is an activation's derivative next to nothing?",
    "S4",
    measure,
    draw,
    tables,
    {"act": MAIN_ACTIVATIONS, "threshold": 0.01},
)
