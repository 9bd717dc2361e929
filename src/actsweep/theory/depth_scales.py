"""Depth scales over sigma_w^2 and sigma_b^2, from the Hermite series of an activation."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from actsweep.theory.mean_field import CLOSE
from actsweep.theory.panels import normal_nodes
from actsweep.theory.units import Elementwise

ORDER = 50
_BISECTIONS = 25


@dataclass(frozen=True)
class DepthScaleMap:
    """Depth scales at fixed points q (rows), for variances of the biases (columns).

    Attributes:
        sigma_w2: the variance of the weights that makes q a fixed point; NaN where none does.
        xi_c: the depth scale of correlations there.
        stable: whether the fixed point is.
    """

    sigma_w2: Float64[ndarray, "qs biases"]
    xi_c: Float64[ndarray, "qs biases"]
    stable: Bool[ndarray, "qs biases"]


def hermite_squares(unit: Elementwise, q: float, order: int = ORDER) -> Float64[ndarray, " order"]:
    """Return the squares of the coefficients of f(√q z) in normalised Hermite polynomials.

    E[f(u1) f(u2)] is the sum over n of squares[n] c^n (Mehler's formula).

    Args:
        unit: elementwise.
        q: variance of u1 and u2.
        order: how many coefficients.
    """
    u, weights = normal_nodes(q, unit.breaks)
    z = u / np.sqrt(q)
    inside = np.abs(z) <= 12  # beyond, the polynomials are large and the density is 0
    z, weighted = z[inside], (weights * unit.evaluate(u)[0])[inside]
    squares = np.empty(order)
    before, polynomial = np.zeros_like(z), np.ones_like(z)
    for n in range(order):
        squares[n] = (weighted * polynomial).sum() ** 2
        after = (z * polynomial - np.sqrt(n) * before) / np.sqrt(n + 1)
        before, polynomial = polynomial, after
    return squares


def depth_scale_map(
    unit: Elementwise, q: Float64[ndarray, " qs"], sigma_b2: Float64[ndarray, " biases"]
) -> DepthScaleMap:
    """Return the depth scales at every fixed point q and variance of the biases.

    Nothing is solved for q: sigma_w^2 = (q - sigma_b^2) / E[f^2]. c* is the root of C(c) = c in
    [0, 1), by bisection of the Hermite series, where chi_1 > 1.
    """
    moments = [unit.quick_moments(value) for value in q]
    second, slope, derivative = (
        np.array([getattr(m, name) for m in moments])[:, None]
        for name in ("second", "slope", "derivative")
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        sigma_w2 = (q[:, None] - sigma_b2) / second
        sigma_w2 = np.where(np.isfinite(sigma_w2) & (sigma_w2 > 0), sigma_w2, np.nan)
        chi = sigma_w2 * derivative
        squares = np.stack([hermite_squares(unit, value) for value in q])
        c = _fixed_correlations(squares, sigma_w2, sigma_b2, q[:, None])
        n = np.arange(1, squares.shape[1])
        powers = n * c[..., None] ** (n - 1)
        at_c = sigma_w2 / q[:, None] * (squares[:, None, 1:] * powers).sum(-1)
        factor = np.where(chi > 1, at_c, chi)
        xi_c = np.where(np.abs(factor) < 1, -1 / np.log(np.abs(factor)), np.inf)
        stable = np.abs(sigma_w2 * slope) <= 1 + CLOSE
    return DepthScaleMap(sigma_w2, np.where(np.isnan(sigma_w2), np.nan, xi_c), stable)


def _fixed_correlations(
    squares: ndarray, sigma_w2: ndarray, sigma_b2: ndarray, q: ndarray
) -> ndarray:
    low, high = np.zeros_like(sigma_w2), np.full_like(sigma_w2, 1 - 1e-4)
    orders = np.arange(squares.shape[1])
    for _ in range(_BISECTIONS):
        c = (low + high) / 2
        product = (squares[:, None] * c[..., None] ** orders).sum(-1)
        above = (sigma_w2 * product + sigma_b2) / q > c
        low, high = np.where(above, c, low), np.where(above, high, c)
    return (low + high) / 2
