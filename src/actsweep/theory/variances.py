"""Variances of initial weights and biases, by the names of `init`."""

from actsweep.config.schema import INITS
from actsweep.utils.errors import unknown_name


def weight_variance(init_name: str, fan_in: int, fan_out: int, sigma_w: float = 1.0) -> float:
    """Return the variance of one weight.

    Args:
        init_name: one of `config.schema.INITS`.
        fan_in: inputs of one output.
        fan_out: outputs of one input.
        sigma_w: used by `normal` alone.

    Raises:
        UserError: the name is unknown.
    """
    variances = {
        "torch_uniform": 1 / (3 * fan_in),
        "lecun_normal": 1 / fan_in,
        "he_normal": 2 / fan_in,
        "he_uniform": 2 / fan_in,
        "glorot_normal": 2 / (fan_in + fan_out),
        "glorot_uniform": 2 / (fan_in + fan_out),
        "orthogonal": 1 / max(fan_in, fan_out),
        "normal": sigma_w**2 / fan_in,
    }
    if init_name not in variances:
        raise unknown_name("init", init_name, INITS)
    return variances[init_name]


def bias_variance(init_name: str, fan_in: int, sigma_b: float = 0.0) -> float:
    """Return a bias's variance: 1 / (3 fan_in) for torch_uniform, sigma_b^2 for normal, else 0.

    Args:
        init_name: one of `config.schema.INITS`.
        fan_in: inputs of one output.
        sigma_b: used by `normal` alone.
    """
    if init_name == "torch_uniform":
        return 1 / (3 * fan_in)
    return sigma_b**2 if init_name == "normal" else 0.0
