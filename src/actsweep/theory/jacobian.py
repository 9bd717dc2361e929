"""The spectrum of a network's input-output Jacobian, and the networks that are born dead."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr

from actsweep.theory.mean_field import TINY, Layer, Unit
from actsweep.theory.units import Elementwise

LINE_NETWORKS = 20_000


def jacobian_spectrum(
    unit: Unit, layer: Layer, q: float, depth: int, *, orthogonal: bool
) -> tuple[float, float]:
    """Return mean and normalised variance of the eigenvalues of J J^T.

    The mean is chi_1^L. The variance over the squared mean is L (mu_2 / mu_1^2 - 1 + s) with
    mu_k = E[f'^(2k)] and s = 1 for Gaussian, 0 for orthogonal weights: Pennington, Schoenholz &
    Ganguli 2017, "Resurrecting the sigmoid in deep learning through dynamical isometry"; 2018,
    "The emergence of spectral universality in deep networks".

    Args:
        unit: elementwise.
        layer: the variances of every layer.
        q: a fixed point of the length map.
        depth: the number of layers L.
        orthogonal: whether the weights are.
    """
    moments = unit.quick_moments(max(q, TINY))
    try:
        mean = (layer.sigma_w2 * moments.derivative) ** depth
    except OverflowError:
        mean = math.inf
    if moments.derivative == 0:
        return mean, math.nan
    ratio = moments.derivative_fourth / moments.derivative**2
    return mean, depth * (ratio - 1 + (not orthogonal))


def born_dead(unit: Unit, q: Sequence[float], widths: Sequence[int]) -> float | None:
    """Return the probability that some layer is 0 for one input, so that nothing can train.

    1 - prod_l (1 - p_l^N_l), where p_l is the share of inactive units; 1/2 without `init.bias`.
    Lu et al. 2019, "Dying ReLU and initialization"; Rister & Rubin 2017, "Probabilistic bounds on
    neuron death". That a network is dead for all inputs is at most as probable.

    Args:
        unit: of the hidden layers.
        q: second moment of the pre-activations of each.
        widths: units of each.

    Returns:
        The probability; None for a unit that isn't 0 on all of one side of 0.
    """
    if not isinstance(unit, Elementwise) or not _is_zero_below(unit):
        return None
    inactive = ndtr(-unit.shift / np.sqrt(np.maximum(q, TINY)))
    return float(-np.expm1(np.sum(np.log1p(-(inactive ** np.array(widths))))))


def _is_zero_below(unit: Elementwise) -> bool:
    values, slopes = unit.evaluate(-np.logspace(-6, 3, 50) - unit.shift)
    positive, _ = unit.evaluate(np.logspace(-6, 0, 5) - unit.shift)
    return not values.any() and not slopes.any() and bool(positive.any())


def born_dead_on_line(
    widths: Sequence[int], *, networks: int = LINE_NETWORKS, seed: int = 0
) -> tuple[float, float]:
    """Return the share of ReLU networks of one input and no biases that are 0 for every input.

    Such a network is linear on each side of 0, so that two inputs, -1 and 1, decide. The size of
    the weights doesn't matter.

    Args:
        widths: units of each hidden layer.
        networks: how many are drawn.
        seed: of the draws.

    Returns:
        The share and its standard error.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    x = np.broadcast_to(np.array([[-1.0], [1.0]]), (networks, 2, 1))
    for width in widths:
        weights = generator.standard_normal((networks, x.shape[-1], width))
        x = np.maximum(x @ weights, 0)
        x = x / np.maximum(x.max(axis=(1, 2), keepdims=True), 1e-300)  # against underflow
    share = float(np.mean(~x.any(axis=(1, 2))))
    return share, math.sqrt(share * (1 - share) / networks)
