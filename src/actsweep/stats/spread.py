"""The spread of differences between rounded values. No jax."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def resolution(
    values: Sequence[float] | Float[np.ndarray, "*batch n"],
) -> Float[np.ndarray, "*batch"]:
    """Return the least difference between two of some values, float32's rounding aside.

    Accuracies of 300 examples lie on a grid of 1/300, for example. 0 if all values are the same.
    """
    ordered = np.sort(np.asarray(values, float), -1)
    gaps = np.diff(ordered)
    rounding = 1e-6 * np.maximum(np.abs(ordered[..., 1:]), np.abs(ordered[..., :-1]))
    least = np.min(gaps, -1, initial=np.inf, where=gaps > rounding)
    return np.where(np.isinf(least), 0.0, least)


def spread(
    differences: Sequence[float] | Float[np.ndarray, "*batch n"],
    resolution: float | Float[np.ndarray, "*batch"] = 0.0,
) -> Float[np.ndarray, "*batch"]:
    """Return the standard deviation of differences, including the rounding of both values.

    The rounding has variance resolution² / 12 for each value: few differences that happen to be the
    same don't mean that all would be. 0 for fewer than two differences.
    """
    values = np.asarray(differences, float)
    if values.shape[-1] < 2:
        return np.zeros(values.shape[:-1])
    return np.asarray(np.sqrt(np.var(values, -1, ddof=1) + np.asarray(resolution) ** 2 / 6))
