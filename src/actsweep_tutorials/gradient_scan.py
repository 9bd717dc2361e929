"""gradient-scan: where on [-5, 5) is an activation's derivative next to nothing? (S4)"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep_tutorials.base import MAIN, Experiment, Params, Quantities, Table
from actsweep_tutorials.scalar import scalars


def measure(params: Params) -> Quantities:
    """f' at -5 + 0.1 i, i = 0 … 99, and the share of the points with |f'| below the threshold."""
    points = [-5 + 0.1 * i for i in range(100)]
    slopes = {name: [one.slope(z) for z in points] for name, one in scalars(params["act"]).items()}
    low = {
        name: sum(abs(slope) < params["threshold"] for slope in values) / len(points)
        for name, values in slopes.items()
    }
    return {"threshold": params["threshold"], "points": points, "slopes": slopes, "share": low}


def draw(found: Quantities) -> Mapping[str, Figure]:
    """A panel an activation; what is below the threshold is shaded."""
    slopes: Mapping[str, list[float]] = found["slopes"]
    figure, flat = plotting.panels(len(slopes), 4, title="Where the gradient is next to nothing")
    for axes, (name, values) in zip(flat, slopes.items(), strict=True):
        points = found["points"]
        axes.plot(points, values, **plotting.line_style(name))
        small = [abs(value) < found["threshold"] for value in values]
        axes.fill_between(points, -0.2, 1.2, where=small, color="0.85", step="mid", linewidth=0)
        axes.set_title(f"{name}: {100 * found['share'][name]:.0f} % below {found['threshold']:g}")
        axes.set_ylim(-0.2, 1.2)
        axes.set_xlabel("z")
    flat[0].set_ylabel("f'(z)")
    return {"scan": figure}


def tables(found: Quantities) -> Sequence[Table]:
    """The shares."""
    rows = [[name, 100 * share] for name, share in found["share"].items()]
    heading = ("activation", f"share of 100 points with |f'| < {found['threshold']:g}, %")
    return [Table("Points with next to no gradient", heading, rows)]


EXPERIMENT = Experiment(
    "gradient-scan",
    "Where on [-5, 5) is an activation's derivative next to nothing?",
    "S4",
    measure,
    draw,
    tables,
    {"act": MAIN, "threshold": 0.01},
)
