"""Gauss-Legendre panels that end at an activation's kinks, for integrals over normal variables."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from numpy.polynomial import legendre

from actsweep.utils.errors import UserError

POINTS = 10
_NODES, _WEIGHTS = legendre.leggauss(POINTS)
_TO_ENDS = (
    legendre.legvander(np.array([-1.0, 1.0]), POINTS - 1)
    @ np.diag(np.arange(POINTS) + 0.5)
    @ (legendre.legvander(_NODES, POINTS - 1).T * _WEIGHTS)
)
"""Takes values at the nodes to those of their polynomial at both ends of a panel."""
_DERIVATIVE = (
    legendre.legval(_NODES, legendre.legder(np.eye(POINTS))).T
    @ np.diag(np.arange(POINTS) + 0.5)
    @ (legendre.legvander(_NODES, POINTS - 1).T * _WEIGHTS)
)
"""Takes values at the nodes to the derivatives of their polynomial there."""
_BULK = np.arange(-12.0, 12.1, 1.0)
_TAIL = np.array([14.0, 18.0, 26.0, 38.0])  # for what grows like exp(z)
Z_EDGES = np.concatenate([-_TAIL[::-1], _BULK, _TAIL])
"""Edges of panels in units of the standard deviation."""
FARTHEST, SMALLEST_PANEL, MOST_PANELS = 2.0**20, 1e-13, 1000
TOLERANCE, END_TOLERANCE, JUMP, JUMP_STEP, FAST = 1e-12, 1e-6, 1e-6, 1e-12, 1e-3
_CUT = 0.45  # uneven, so that no symmetry hides a kink

Evaluate = Callable[[ndarray], tuple[ndarray, ndarray]]


def panel_nodes(
    edges: Float64[ndarray, "*batch edges"],
) -> tuple[Float64[ndarray, "*batch nodes"], Float64[ndarray, "*batch nodes"]]:
    """Return nodes and weights of the 10-point rule on every panel between sorted edges."""
    half = np.diff(edges)[..., None] / 2
    nodes = edges[..., :-1, None] + half * (1 + _NODES)
    weights = half * _WEIGHTS
    shape = (*edges.shape[:-1], -1)
    return nodes.reshape(shape), weights.reshape(shape)


def panel_derivative(
    nodes: Float64[ndarray, " nodes"], values: Float64[ndarray, " nodes"]
) -> Float64[ndarray, " nodes"]:
    """Return the derivative, at the nodes, of the polynomial through the values of each panel."""
    z, f = nodes.reshape(-1, POINTS), values.reshape(-1, POINTS)
    half = (z[:, -1:] - z[:, :1]) / (_NODES[-1] - _NODES[0])
    return (f @ _DERIVATIVE.T / half).ravel()


def normal_nodes(
    variance: float, breaks: ndarray, *, halvings: int = 0
) -> tuple[Float64[ndarray, " nodes"], Float64[ndarray, " nodes"]]:
    """Return nodes and weights for E[g(u)], u ~ N(0, variance), g smooth between breaks.

    Args:
        variance: above 0.
        breaks: where panels must end.
        halvings: how often every panel is cut into two, for an estimate of the error.
    """
    deviation = np.sqrt(variance)
    edges = Z_EDGES * deviation
    inside = breaks[(breaks > edges[0]) & (breaks < edges[-1])]
    edges = np.unique(np.concatenate([edges, inside]))
    for _ in range(halvings):
        edges = np.sort(np.concatenate([edges, (edges[1:] + edges[:-1]) / 2]))
    nodes, weights = panel_nodes(edges)
    return nodes, weights * normal_density(nodes / deviation) / deviation


def normal_density(z: ndarray) -> ndarray:
    """Return the density of N(0, 1)."""
    return np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def find_breaks(evaluate: Evaluate, kinks: Iterable[float], path: str) -> Float64[ndarray, " n"]:
    """Return where panels must end so that the rule is exact to rounding for f and f' on each.

    Panels are cut in two until that is so, see `_is_smooth`. A kink that nobody has named is found
    so.

    Args:
        evaluate: takes z, returns f(z) and f'(z).
        kinks: where f' is known to jump.
        path: of the activation in the config, for the message.

    Raises:
        UserError: f jumps, or isn't finite near 0.
    """
    powers = 2.0 ** np.arange(0, np.log2(FARTHEST) + 1)
    done = np.unique(np.concatenate([-powers, [0.0], powers, np.array([*kinks], float)]))
    waiting = np.stack([done[:-1], done[1:]], axis=-1)
    near = np.linspace(-8, 8, 1001)
    sizes = [max(float(np.abs(values).max()), 1e-300) for values in evaluate(near)]
    while len(waiting) and len(done) < MOST_PANELS:
        middle = waiting[:, :1] + _CUT * np.diff(waiting)
        parts = np.concatenate([waiting[:, :1], middle, waiting[:, 1:]], axis=-1)
        rough = ~_is_smooth(evaluate, waiting, parts, sizes)
        small = np.diff(waiting)[:, 0] <= SMALLEST_PANEL * np.maximum(1, np.abs(middle[:, 0]))
        cut = parts[rough & ~small]
        done = np.concatenate([done, cut[:, 1]])
        waiting = np.concatenate([cut[:, :2], cut[:, 1:]])
    _check_jumps(evaluate, done, path)
    return np.sort(done)


def _is_smooth(
    evaluate: Evaluate, panels: ndarray, parts: ndarray, sizes: Sequence[float]
) -> ndarray:
    """Return on which panels the rule is exact, but for rounding at these sizes of f and f'.

    The parts have the same integrals; and the polynomial through the nodes goes on to both ends, or
    a kink beyond the last node would stay hidden.
    """
    nodes, weights = panel_nodes(panels)
    finer, finer_weights = panel_nodes(parts)
    width = np.diff(panels)
    ends = panels + 1e-9 * width * [1, -1]
    smooth = np.ones(len(panels), bool)
    values = zip(sizes, evaluate(nodes), evaluate(finer), evaluate(ends), strict=True)
    for size_near_0, coarse, fine, at_ends in values:
        with np.errstate(over="ignore", invalid="ignore"):
            size = np.maximum(np.abs(fine).max(-1), size_near_0)
            difference = np.abs((coarse * weights).sum(-1) - (fine * finer_weights).sum(-1))
            off = np.abs(coarse @ _TO_ENDS.T - at_ends).max(-1)
        good = (difference <= TOLERANCE * size * width[:, 0]) & (off <= END_TOLERANCE * size)
        smooth &= good | ~np.isfinite(size)
    return smooth


def _check_jumps(evaluate: Evaluate, breaks: ndarray, path: str) -> None:
    below, above = (breaks + sign * JUMP_STEP * np.maximum(1, np.abs(breaks)) for sign in (-1, 1))
    (left, left_slope), (right, right_slope) = evaluate(below), evaluate(above)
    with np.errstate(over="ignore", invalid="ignore"):
        # What the slopes explain is no jump: far out even a sine goes far in one step.
        explained = (above - below) * (left_slope + right_slope) / 2
        jumps = np.abs(right - left - explained) > JUMP * np.maximum(1, np.abs(left))
        # Far out sin(z^2) goes through whole periods in a step: what f' says of it tells nothing.
        steepest = np.maximum(np.abs(left_slope), np.abs(right_slope))
        jumps &= (above - below) * steepest < FAST
    if jumps.any():
        raise UserError(
            f"{path}: jumps at z={breaks[jumps][0]:.6g}, where it has no derivative: there is no "
            "theory for it; type an activation without a jump, for example act=tanh"
        )
