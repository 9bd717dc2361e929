"""Integrals over a standard normal variable."""

import math

import numpy as np


def quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights for E[f(z)], z ~ N(0, 1), as the sum of weights * f(nodes).

    16-point Gauss-Legendre quadrature on each of the 48 half-unit panels of [-12, 12]; the weights
    include the normal density. It is accurate for f that are smooth between multiples of 1/2.

    Returns:
        Nodes and weights, each Float64["768"].
    """
    points, panel = np.polynomial.legendre.leggauss(16)
    nodes = np.concatenate([left + (points + 1) / 4 for left in np.arange(-12, 12, 0.5)])
    weights = np.tile(panel / 4, 48) * np.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)
    return nodes, weights
