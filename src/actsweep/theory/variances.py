"""Variances of initial weights and biases, by the names of `init`."""

from actsweep.config.schema import CRITICAL_INITS, INITS
from actsweep.utils.errors import UserError, unknown_name

WITH_SIGMA = ("normal", "delta_orthogonal", *CRITICAL_INITS)
"""The inits that `sigma_w` and `sigma_b` belong to."""


def weight_variance(init_name: str, fan_in: int, fan_out: int, sigma_w: float = 1.0) -> float:
    """Return the variance of one weight.

    Args:
        init_name: one of `config.schema.INITS`.
        fan_in: inputs of one output.
        fan_out: outputs of one input.
        sigma_w: used by `normal`, `critical…` and `delta_orthogonal`.

    Raises:
        UserError: the name is unknown, or each unit's weights have variances of their own.
    """
    variances = {
        "torch_uniform": 1 / (3 * fan_in),
        "lecun_normal": 1 / fan_in,
        "autoinit": 1 / fan_in,  # init.gain=auto divides by E[x^2]
        "he_normal": 2 / fan_in,
        "he_uniform": 2 / fan_in,
        "glorot_normal": 2 / (fan_in + fan_out),
        "glorot_uniform": 2 / (fan_in + fan_out),
        "orthogonal": 1 / max(fan_in, fan_out),
        "normal": sigma_w**2 / fan_in,
        "critical": sigma_w**2 / fan_in,
        "critical_orthogonal": sigma_w**2 / fan_in,
        "delta_orthogonal": sigma_w**2 / max(fan_in, fan_out),
    }
    if init_name == "randomized_asymmetric":
        raise UserError(
            f"init={init_name}: one weight of each unit is drawn apart, and there is no theory "
            "here for that; type for example init=he_normal"
        )
    if init_name == "lsuv":
        raise UserError(
            "init=lsuv: the size of the weights is found from data, so there is no theory here for "
            "that; type for example init=orthogonal"
        )
    if init_name not in variances:
        raise unknown_name("init", init_name, INITS)
    return variances[init_name]


def bias_variance(init_name: str, fan_in: int, sigma_b: float = 0.0) -> float:
    """Return a bias's variance: 1 / (3 fan_in) for torch_uniform, sigma_b^2 for `WITH_SIGMA`.

    Args:
        init_name: one of `config.schema.INITS`.
        fan_in: inputs of one output.
        sigma_b: used by `WITH_SIGMA` alone.
    """
    if init_name == "torch_uniform":
        return 1 / (3 * fan_in)
    return sigma_b**2 if init_name in WITH_SIGMA else 0.0
