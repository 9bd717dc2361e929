"""The pieces of a network: dense, convolution, activation; each drawn by its name."""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray, UInt

from actsweep import activations
from actsweep.activations import Activation
from actsweep.config.schema import RunConfig
from actsweep.nn import initializers
from actsweep.utils.errors import UserError


class HParam(nnx.Variable):
    """A member's number that isn't trained, such as the slope of a leaky ReLU."""


class Dense(nnx.Module):
    """z = x W + b, with W: Float["inputs outputs"] and b: Float["outputs"]."""

    def __init__(self, kernel: Array, bias: Array) -> None:
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)

    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch outputs"]:
        z = product(x, self.kernel[...])
        return z + jnp.broadcast_to(self.bias[...], z.shape)


@jax.custom_vjp
def product(
    x: Float[Array, "batch inputs"], kernel: Float[Array, "inputs outputs"]
) -> Float[Array, "batch outputs"]:
    """x W. On CPUs the gradient of W reads a transposed copy of x: XLA's fast kernels take no
    product over both leading axes, and a training step becomes 5 % faster."""
    return x @ kernel


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _backward(kept: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = kept
    turned = x.T
    if jax.default_backend() == "cpu":
        turned = jax.lax.optimization_barrier(turned)
    return grad @ kernel.T, turned @ grad


product.defvjp(_forward, _backward)


class Conv(nnx.Module):
    """Two-dimensional convolution, stride 1, zero padding to the same size (NHWC, HWIO)."""

    def __init__(self, kernel: Array, bias: Array) -> None:
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch height width outputs"]:
        z = jax.lax.conv_general_dilated(
            x, self.kernel[...], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return z + jnp.broadcast_to(self.bias[...], z.shape)


class Act(nnx.Module):
    """An activation with its numbers: trained ones are `nnx.Param`, the others `Hyper`."""

    def __init__(
        self, spec: Activation, static: Mapping[str, object], numbers: Mapping[str, nnx.Variable]
    ) -> None:
        self.spec = spec
        self.static = tuple(static.items())
        self.numbers = nnx.Dict(dict(numbers))

    @property
    def params(self) -> dict[str, Any]:
        """All parameters of the activation, as its function takes them."""
        return dict(self.static) | {k: v[...] for k, v in self.numbers.items()}

    def __call__(self, z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
        return self.spec.fn(z, **self.params)

    def abs_derivative(self, z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
        """|f'(z)| of each unit; see `activations.abs_derivative`."""
        return activations.abs_derivative(self.spec, z, **self.params)

    def gate_input(self, z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
        """What decides whether a unit fires; see `activations.gate_input`."""
        return activations.gate_input(self.spec, z, **self.params)


Capture = Callable[[str, Array, Act], Array]


def apply(name: str, z: Array, act: Act) -> Array:
    """The capture that only applies the activation: what training uses."""
    del name
    return act(z)


@dataclass
class Intermediates:
    """The capture that keeps what passes: per layer z, f(z), |f'(z)| and what drives each unit.

    `perturbation[layer]`, where given, is added to z: the gradient of the loss with respect to it
    is the gradient with respect to z.
    """

    perturbation: Mapping[str, Array] = field(default_factory=dict)
    preact: dict[str, Array] = field(default_factory=dict)
    act: dict[str, Array] = field(default_factory=dict)
    abs_derivative: dict[str, Array] = field(default_factory=dict)
    gate_input: dict[str, Array] = field(default_factory=dict)

    def __call__(self, name: str, z: Array, act: Act) -> Array:
        if name in self.perturbation:
            z = z + self.perturbation[name].astype(z.dtype)
        a = act(z)
        self.preact[name], self.act[name] = z, a
        self.abs_derivative[name] = act.abs_derivative(z)
        self.gate_input[name] = act.gate_input(z)
        return a


@dataclass(frozen=True)
class Make:
    """Draws one member's layers.

    A layer's numbers depend on the member's seed and the layer's name alone: two networks with the
    same seed start from the same draws wherever their layers have the same name and shape.
    """

    config: RunConfig
    hparams: Mapping[str, Array]

    @property
    def numbers(self) -> dict[str, Array]:
        """The activation's parameters that belong to the member, by name."""
        return {k[4:]: v for k, v in self.hparams.items() if k.startswith("act.")}

    @property
    def spec(self) -> Activation:
        """The activation that the config names."""
        return self._bound[0]

    @property
    def static(self) -> dict[str, Any]:
        """The activation's parameters that are part of the program."""
        return {k: v for k, v in self._bound[1].items() if k not in self.numbers}

    @property
    def _bound(self) -> tuple[Activation, dict[str, Any]]:
        return activations.bind(self.config.act | dict.fromkeys(self.numbers, 1.0))

    def inputs(self, units: int) -> int:
        """Pre-activations that so many units need: 2 a unit for gated ones, k for maxout."""
        return units * activations.inputs_per_unit(self.spec, self.static)

    def dense(self, name: str, inputs: int, outputs: int, *, raw: bool = False) -> Dense:
        """A dense layer. `raw`: it reads the data, not activations, so `init.gain` isn't for it."""
        return Dense(*self._draw(name, (inputs, outputs), raw))

    def conv(self, name: str, inputs: int, outputs: int, *, raw: bool = False) -> Conv:
        """A 3x3 convolution from `inputs` to `outputs` channels."""
        return Conv(*self._draw(name, (3, 3, inputs, outputs), raw))

    def act(self, units: int) -> Act:
        """The activation of one layer, with its own numbers where they are trained."""
        static = self.static
        learnable = self.spec.learnable(static)
        for key in set(learnable) - self.numbers.keys():
            raise UserError(f"act.{key}: is trained, so it needs a start; type act.{key}=0.25")
        numbers: dict[str, nnx.Variable] = {}
        for key, value in self.numbers.items():
            if key not in learnable:
                numbers[key] = HParam(value)
            else:
                shape = (units,) if static.get("per_channel") else ()
                numbers[key] = nnx.Param(jnp.full(shape, value))
        return Act(self.spec, static, numbers)

    def hidden(self, inputs: int, *, raw: bool = False) -> tuple[nnx.Dict, nnx.Dict, int]:
        """hidden_1 … hidden_L of the widths in `depth`.

        Returns:
            The layers and the activations by layer name, and the width of the last.
        """
        layers: nnx.Dict = nnx.Dict()
        acts: nnx.Dict = nnx.Dict()
        for i, units in enumerate(self.config.widths, 1):
            name = f"hidden_{i}"
            layers[name] = self.dense(name, inputs, self.inputs(units), raw=raw and i == 1)
            acts[name] = self.act(units)
            inputs = units
        return layers, acts, inputs

    def _draw(self, name: str, shape: tuple[int, ...], raw: bool) -> tuple[Array, Array]:
        init, h = self.config.init, self.hparams
        key = named_key(h["seed"], f"init/{name}")
        fan_in, field_size = math.prod(shape[:-1]), math.prod(shape[:-2])
        kernel = initializers.weight(
            init.name,
            named_key(key, "kernel"),
            shape,
            fan_in=fan_in,
            fan_out=field_size * shape[-1],
            scale=h["init.scale"],
            sigma_w=h["init.sigma_w"],
        )
        bias = initializers.bias(
            init.name,
            named_key(key, "bias"),
            shape[-1:],
            fan_in=fan_in,
            scale=h["init.scale"],
            sigma_b=h["init.sigma_b"],
        )
        bias = bias + h["init.bias"]
        return kernel if raw else kernel * self._gain(), bias

    def _gain(self) -> Array:
        if self.config.init.gain != "auto":
            return jnp.float32(self.config.init.gain)
        return initializers.gain(self.spec, self.static | self.numbers)


def named_key(key: PRNGKeyArray | UInt[Array, ""], name: str) -> PRNGKeyArray:
    """A random stream by name. `key` is a key, or a seed to start from."""
    key = key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.key(key)
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
