"""Distributions of initial weights and biases, and the gain that keeps a signal at unit scale."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from actsweep.activations import Activation, inputs_per_unit
from actsweep.activations.base import Params
from actsweep.config.schema import INITS
from actsweep.theory.gaussian import quadrature
from actsweep.theory.variances import WITH_SIGMA, weight_variance
from actsweep.utils.errors import UserError, unknown_name

Number = float | int | Array
ASYMMETRIC_STD = 0.6007
_TRUNCATED_STD = 0.87962566103423978  # of a standard normal cut at -2 and 2


def weight(
    init_name: str,
    key: Array,
    shape: tuple[int, ...],
    *,
    fan_in: int,
    fan_out: int,
    scale: Number = 1.0,
    sigma_w: Number = 1.0,
) -> Float[Array, "..."]:
    """Draw a kernel.

    With U(b) uniform on [-b, b), T(v) normal of variance v truncated at two standard deviations
    before rescaling (what `jax.nn.initializers` calls normal), N(v) untruncated:

    - torch_uniform: U(1 / sqrt(fan_in)), PyTorch's `nn.Linear`
    - lecun_normal: T(1 / fan_in), LeCun et al. 1998
    - autoinit: T(1 / fan_in), which `init.gain=auto` divides by E[x^2] of what the layer reads,
      Bingham & Miikkulainen 2021, "AutoInit: analytic signal-preserving weight initialization for
      neural networks"
    - he_normal, he_uniform: T(2 / fan_in), U(sqrt(6 / fan_in)), He et al. 2015
    - glorot_normal, glorot_uniform: T(2 / (fan_in + fan_out)), U(sqrt(6 / (fan_in + fan_out))),
      Glorot & Bengio 2010
    - orthogonal: orthonormal columns, or rows where there are fewer, of the kernel flattened to
      [prod(shape[:-1]), shape[-1]], Saxe et al. 2013
    - normal: N(sigma_w^2 / fan_in), Poole et al. 2016
    - critical: as normal, with the sigma_w of `theory.critical`
    - critical_orthogonal: sigma_w times an orthogonal kernel of variance 1 / fan_in, Pennington et
      al. 2017; a convolution's as delta_orthogonal
    - delta_orthogonal: sigma_w times an orthogonal kernel, which of a convolution is the matrix at
      the centre, all else 0, Xiao et al. 2018; it keeps the norm where there are no fewer outputs
      than inputs
    - lsuv: as orthogonal; `Network.unit_variance` scales it afterwards

    randomized_asymmetric draws kernel and bias together, see `asymmetric`.

    Args:
        init_name: one of `config.schema.INITS`.
        key: a PRNG key; the same key gives the same draws for every scale.
        shape: dense [in, out], convolution [height, width, in, out].
        fan_in: inputs of one output; for a convolution height * width * in.
        fan_out: outputs of one input.
        scale: multiplies every draw; may be traced.
        sigma_w: used by `normal`, `critical…` and `delta_orthogonal`; may be traced.

    Returns:
        A float32 array of that shape.

    Raises:
        UserError: the name is unknown.
    """
    if init_name in ("critical_orthogonal", "delta_orthogonal"):
        inputs, outputs = shape[-2:]
        keeps_variance = init_name == "critical_orthogonal"
        size = math.sqrt(max(inputs, outputs) / inputs) if keeps_variance else 1.0
        return _delta_orthogonal(key, shape) * (_factor(size, scale) * jnp.float32(sigma_w))
    if init_name in ("orthogonal", "lsuv"):
        draw = jax.nn.initializers.orthogonal()(key, shape, jnp.float32)
        return draw * _factor(1.0, scale)
    if init_name in ("normal", "critical"):
        factor = _factor(1 / math.sqrt(fan_in), scale) * jnp.float32(sigma_w)
        return jax.random.normal(key, shape, jnp.float32) * factor
    if init_name not in INITS:
        raise unknown_name("init", init_name, INITS)
    std = math.sqrt(weight_variance(init_name, fan_in, fan_out))
    if init_name.endswith("uniform"):
        return _uniform(key, shape, std * math.sqrt(3), scale)
    draw = jax.random.truncated_normal(key, -2, 2, shape, jnp.float32)
    return draw * _factor(std / _TRUNCATED_STD, scale)


def bias(
    init_name: str,
    key: Array,
    shape: tuple[int, ...],
    *,
    fan_in: int,
    sigma_b: Number = 0.0,
    scale: Number = 1.0,
) -> Float[Array, "..."]:
    """Draw a bias: U(1 / sqrt(fan_in)) for torch_uniform, N(sigma_b^2) for `WITH_SIGMA`, else 0.

    Args:
        init_name: one of `config.schema.INITS`.
        key: a PRNG key.
        shape: usually [out].
        fan_in: inputs of one output.
        sigma_b: used by `WITH_SIGMA` alone; may be traced.
        scale: multiplies every draw, as for the weights; may be traced.

    Returns:
        A float32 array of that shape.

    Raises:
        UserError: the name is unknown.
    """
    if init_name not in INITS:
        raise unknown_name("init", init_name, INITS)
    if init_name == "torch_uniform":
        return _uniform(key, shape, 1 / math.sqrt(fan_in), scale)
    if init_name in WITH_SIGMA:
        return (
            jax.random.normal(key, shape, jnp.float32) * _factor(1.0, scale) * _factor(1, sigma_b)
        )
    return jnp.zeros(shape, jnp.float32)


def asymmetric(
    key: Array, shape: tuple[int, ...], *, fan_in: int, scale: Number = 1.0
) -> tuple[Float[Array, "..."], Float[Array, " outputs"]]:
    """Draw a kernel and a bias with which ReLU networks are less often born dead.

    Each unit's weights and bias are N(0.6007^2 / fan_in), but for one of the fan_in + 1, at a
    random place, which is Beta(2, 1): positive on average. Lu et al. 2019, "Dying ReLU and
    initialization: theory and numerical examples", section 4.

    Args:
        key: a PRNG key.
        shape: of the kernel, as in `weight`.
        fan_in: inputs of one output.
        scale: multiplies every draw; may be traced.

    Returns:
        The kernel, and the bias of shape [shape[-1]], both float32.
    """
    normal_key, place_key, beta_key = jax.random.split(key, 3)
    rows, outputs = math.prod(shape[:-1]), shape[-1]
    std = ASYMMETRIC_STD / math.sqrt(fan_in)
    draw = std * jax.random.normal(normal_key, (rows + 1, outputs), jnp.float32)
    place = jax.random.randint(place_key, (outputs,), 0, rows + 1)
    beta = jnp.sqrt(jax.random.uniform(beta_key, (outputs,), jnp.float32))  # of Beta(2, 1)
    chosen = jnp.arange(rows + 1)[:, None] == place[None]
    draw = jnp.where(chosen, beta[None], draw) * _factor(1.0, scale)
    return draw[:-1].reshape(shape), draw[-1]


def _delta_orthogonal(key: Array, shape: tuple[int, ...]) -> Array:
    """Return an orthogonal matrix [inputs, outputs], at the centre of a convolution's kernel."""
    matrix = jax.nn.initializers.orthogonal()(key, shape[-2:], jnp.float32)
    if len(shape) == 2:
        return matrix
    centre = tuple((side - 1) // 2 for side in shape[:-2])
    return jnp.zeros(shape, jnp.float32).at[centre].set(matrix)


def _uniform(key: Array, shape: tuple[int, ...], bound: float, scale: Number) -> Array:
    return jax.random.uniform(key, shape, jnp.float32, -1, 1) * _factor(bound, scale)


def _factor(constant: float, scale: Number) -> Array:
    """Return the product as one float32 scalar, so that a traced and a fixed scale round alike."""
    return jnp.float32(constant) * jnp.float32(scale)


def gain(activation: Activation, params: Params) -> Float[Array, ""]:
    """Return 1 / sqrt(E[f(z)^2]) for z ~ N(0, 1).

    Weights of variance gain^2 / fan_in keep E[a^2] = 1 from layer to layer. Computed by quadrature,
    with a relative error below 1e-5 if f is smooth between multiples of 1/2. For gated units
    f(v, g), E[v^2] = 1, so E[f(1, g)^2] is used; the pieces of maxout are taken as independent.

    Args:
        activation: elementwise, gated or maxout.
        params: its parameters, scalars; may be traced.

    Raises:
        UserError: each unit depends on the whole layer (softmax), so there is no such number.
    """
    if activation.units == "vector":
        raise UserError(
            f"init.gain=auto: isn't defined for act={activation.name}, whose units depend on each "
            f"other; type init.gain=1.0"
        )
    nodes, weights = quadrature()
    z = jnp.asarray(nodes, jnp.float32)[:, None]
    if activation.units == "maxout":
        pieces = inputs_per_unit(activation, params)
        cdf = np.array([0.5 * math.erfc(-node / math.sqrt(2)) for node in nodes])
        weights = weights * pieces * cdf ** (pieces - 1)
        values = z
    elif activation.units == "gated":
        values = activation.fn(jnp.concatenate([jnp.ones_like(z), z], axis=-1), **params)
    else:
        values = activation.fn(z, **params)
    squares = jnp.square(values[:, 0].astype(jnp.float32))
    return 1 / jnp.sqrt(jnp.sum(squares * jnp.asarray(weights, jnp.float32)))
