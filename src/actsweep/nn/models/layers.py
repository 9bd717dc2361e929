"""The parts of a network (dense, convolution, activation), each drawn from a stream by name."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt

from actsweep import activations
from actsweep.activations import Activation
from actsweep.config import by_layer
from actsweep.config.schema import RunConfig
from actsweep.nn import initializers
from actsweep.nn.models import norms, recording
from actsweep.nn.models.unit_variance import scaled
from actsweep.utils.errors import UserError


class HParam(nnx.Variable):
    """A hyperparameter of an activation that isn't trained, such as the slope of a leaky ReLU."""


class Dense(nnx.Module):
    """A dense layer: z = x W + b, with W: Float["inputs outputs"] and b: Float["outputs"].

    x may have any number of axes in front of its last.
    """

    def __init__(self, kernel: Array, bias: Array) -> None:
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        kernel = self.kernel[...]
        z = product(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], kernel.shape[-1])
        z = scaled(self.kernel, z)
        return z + jnp.broadcast_to(self.bias[...], z.shape)


@jax.custom_vjp
def product(
    x: Float[Array, "batch inputs"], kernel: Float[Array, "inputs outputs"]
) -> Float[Array, "batch outputs"]:
    """Return x W.

    On CPUs the gradient of W reads a transposed copy of x: XLA's fast kernels don't support a
    product over both leading axes, and a training step becomes 5 % faster.
    """
    return x @ kernel


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _backward(residuals: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    transposed = x.T
    if jax.default_backend() == "cpu":
        transposed = jax.lax.optimization_barrier(transposed)
    return grad @ kernel.T, transposed @ grad


product.defvjp(_forward, _backward)


class Conv(nnx.Module):
    """A two-dimensional convolution, zero padding to the same size over the stride (NHWC, HWIO)."""

    def __init__(self, kernel: Array, bias: Array | None, stride: int = 1) -> None:
        self.kernel = nnx.Param(kernel)
        self.bias = None if bias is None else nnx.Param(bias)
        self.stride = stride

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch height/stride width/stride outputs"]:
        z = jax.lax.conv_general_dilated(
            x,
            self.kernel[...],
            (self.stride, self.stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        z = scaled(self.kernel, z)
        return z if self.bias is None else z + jnp.broadcast_to(self.bias[...], z.shape)


class Embedding(nnx.Module):
    """A table of vectors, one for each token or place."""

    def __init__(self, table: Float[Array, "entries features"]) -> None:
        self.embedding = nnx.Param(table)

    def __call__(self, ids: Int[Array, "*batch"]) -> Float[Array, "*batch features"]:
        return jnp.take(self.embedding[...], ids, axis=0)

    def attend(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch entries"]:
        """Return the product of each x with every vector."""
        return x @ self.embedding[...].T


class Act(nnx.Module):
    """An activation with its parameters: trained ones are `nnx.Param`, the others `HParam`.

    `numbers` holds the numeric ones. Its name is part of the paths of arrays in checkpoints. `name`
    is where it acts, by its path in the model; `Network` sets it, and checks what was said. `rngs`
    is the stream of one that is random in training.
    """

    name = ""

    def __init__(
        self,
        spec: Activation,
        static: Mapping[str, object],
        numbers: Mapping[str, nnx.Variable],
        rngs: nnx.Rngs | None = None,
    ) -> None:
        if spec.drawn is not None:
            self.rngs, self.deterministic = rngs, False
        self.spec = spec
        self.static = tuple(static.items())
        self.numbers = nnx.Dict(dict(numbers))

    @property
    def params(self) -> dict[str, Any]:
        """Return all parameters of the activation, as its function takes them."""
        return dict(self.static) | {key: value[...] for key, value in self.numbers.items()}

    def __call__(self, z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
        recorder = recording.current()
        return self.apply(z) if recorder is None else recorder(self.name, z, self)

    def apply(self, z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
        """Return f(z), and record nothing."""
        if self.spec.drawn is None or self.deterministic:
            return self.spec.fn(z, **self.params)
        assert self.rngs is not None
        return self.spec.drawn(z, self.rngs.act(), **self.params)

    def abs_derivative(self, z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
        """Return |f'(z)| of each unit; see `activations.abs_derivative`.

        It isn't differentiated, which not every rule of a user's own would allow.
        """
        numbers = {key: jax.lax.stop_gradient(value[...]) for key, value in self.numbers.items()}
        params = dict(self.static) | numbers
        return activations.abs_derivative(self.spec, jax.lax.stop_gradient(z), **params)

    def gate_input(self, z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch units"]:
        """Return what decides whether a unit is active; see `activations.gate_input`."""
        return activations.gate_input(self.spec, z, **self.params)


@dataclass(frozen=True)
class LayerFactory:
    """The source of one member's layers.

    An activation may be another one than the config's in some places (`act.by_layer`), which are
    told apart by the activation's name: its path in the model, as in `blocks.0`.

    The draws of a layer depend on the member's seed and the layer's name alone: two networks with
    the same seed have the same initial values wherever layers have the same name and shape.

    >>> class Shallow(nnx.Module):
    ...     def __init__(self, make, input_shape, outputs):
    ...         (units,) = make.config.widths
    ...         inputs = math.prod(input_shape)
    ...         self.dense = make.dense("hidden", inputs, make.inputs(units, "hidden"), raw=True)
    ...         self.act = make.act(units, "hidden")
    ...         self.head = make.dense("head", units, outputs, after="hidden")

    Attributes:
        config: the static config.
        hparams: config path -> the member's value.
        vocabulary: how many tokens there are; None where the examples aren't tokens.
    """

    config: RunConfig
    hparams: Mapping[str, Array]
    vocabulary: int | None = None

    @property
    def act_hparams(self) -> dict[str, Array]:
        """Return the activation's parameters that may differ between members, by name."""
        prefix = "act."
        return {
            path.removeprefix(prefix): value
            for path, value in self.hparams.items()
            if path.startswith(prefix)
        }

    @property
    def spec(self) -> Activation:
        """Return the activation that the config names; `act.by_layer` may name others."""
        return self._bound[0]

    @property
    def static(self) -> dict[str, Any]:
        """Return the activation's parameters that are part of the compiled program, by name."""
        return {k: v for k, v in self._bound[1].items() if k not in self.act_hparams}

    @property
    def _bound(self) -> tuple[Activation, dict[str, Any]]:
        return activations.bind(self.config.act | dict.fromkeys(self.act_hparams, 1.0))

    def _bound_at(self, name: str | None) -> tuple[Activation, dict[str, Any], dict[str, Array]]:
        """Return the activation of that name, its static parameters, and its numbers.

        Raises:
            UserError: no name, although it decides which activation it is.
        """
        act = self.config.act
        if not by_layer.entries(act):
            return self.spec, self.static, self.act_hparams
        if name is None:
            raise UserError(
                f"act.by_layer: model._target_={self.config.model._target_} doesn't say where its "
                "activations are; write make.act(units, name=<path>) and make.inputs(units, "
                "name=<path>), with its path in the model, such as 'blocks.0'"
            )
        pattern = by_layer.pattern_for(act, name)
        if pattern is None:
            return self.spec, self.static, self.act_hparams
        spec, params = activations.bind(act["by_layer"][pattern], by_layer.path_of(pattern))
        static, numbers = activations.split(spec, params)
        return spec, static, {key: jnp.float32(value) for key, value in numbers.items()}

    def inputs(self, units: int, name: str | None = None) -> int:
        """Return how many pre-activations `units` units need: 2 each if gated, k for maxout.

        Args:
            units: the width of the layer.
            name: of the activation, by its path in the model; see `act`.
        """
        spec, static, _ = self._bound_at(name)
        return units * activations.inputs_per_unit(spec, static)

    def dense(
        self, name: str, inputs: int, outputs: int, *, raw: bool = False, after: str | None = None
    ) -> Dense:
        """Draw a dense layer.

        Args:
            name: of the layer, which decides the draw.
            inputs, outputs: its widths.
            raw: whether it reads the data, so that `init.gain` doesn't apply.
            after: name of the activation that it reads, whose gain `init.gain=auto` is.
        """
        return Dense(*self._draw(name, (inputs, outputs), raw, after))

    def conv(
        self,
        name: str,
        inputs: int,
        outputs: int,
        *,
        raw: bool = False,
        after: str | None = None,
        kernel: int = 3,
        stride: int = 1,
        bias: bool = True,
    ) -> Conv:
        """Draw a convolution, kernel x kernel, from `inputs` to `outputs` channels.

        The others as in `dense`; without `bias` where a normalisation follows that has its own.
        """
        weight, drawn = self._draw(name, (kernel, kernel, inputs, outputs), raw, after)
        return Conv(weight, drawn if bias else None, stride)

    def embedding(self, name: str, entries: int, features: int) -> Embedding:
        """Draw a table of vectors, one for each token or place, with GPT-2's deviation of 0.02.

        Radford et al. 2019, "Language models are unsupervised multitask learners".
        """
        key = named_key(self.hparams["seed"], f"init/{name}")
        return Embedding(0.02 * jax.random.normal(key, (entries, features)))

    def norm(self, kind: str, name: str, features: int) -> nnx.Module | None:
        """Return the normalisation of that kind (`model.norm`), None for `none`."""
        return norms.build(kind, features, self.rngs(name))

    def dropout(self, rate: float, name: str) -> nnx.Dropout | None:
        """Return dropout, None at rate 0."""
        return nnx.Dropout(rate, rngs=self.rngs(name)) if rate else None

    def rngs(self, name: str) -> nnx.Rngs:
        """Return the random streams of a module of flax.nnx, which draws its own parameters."""
        return nnx.Rngs(named_key(self.hparams["seed"], f"init/{name}"))

    def act(self, units: int, name: str | None = None) -> Act:
        """Return the activation of a layer of so many units, with its parameters.

        Args:
            units: the width of the layer.
            name: of the activation, by its path in the model, such as `blocks.0`. Models without
                names have one kind of activation everywhere: `act.by_layer` needs them.

        Raises:
            UserError: a trained parameter has no initial value, or a name is needed.
        """
        spec, static, values = self._bound_at(name)
        learnable = spec.learnable(static)
        for key in set(learnable) - values.keys():
            raise UserError(f"act.{key}: is trained, so it must have a value; type act.{key}=0.25")
        numbers: dict[str, nnx.Variable] = {}
        for key, value in values.items():
            if key not in learnable:
                numbers[key] = HParam(value)
            else:
                shape = (units,) if static.get("per_channel") else ()
                numbers[key] = nnx.Param(jnp.full(shape, value))
        made = Act(spec, static, numbers, self.rngs(f"{name}.act") if spec.drawn else None)
        made.name = name or ""
        return made

    def equal_widths(self, model: str) -> tuple[int, int]:
        """Return the number and the width of the layers in `depth`.

        Raises:
            UserError: they aren't equally wide.
        """
        widths = self.config.widths
        if len({*widths}) > 1:
            raise UserError(
                f"depth.widths={list(widths)}: the layers of model={model} are equally wide; type "
                f"for example depth={len(widths)} depth.width={widths[0]}"
            )
        return len(widths), widths[0]

    def check_single_inputs(self, model: str, *names: str) -> None:
        """Check that a unit of each of the activations of these names takes one input.

        Raises:
            UserError: it is gated, or a maximum over several.
        """
        for name in names:
            spec, static, _ = self._bound_at(name)
            several = activations.inputs_per_unit(spec, static)
            if several > 1:
                raise UserError(
                    f"act={spec.name}: takes {several} inputs a unit, and {name} of model={model} "
                    "has one; type for example act=gelu, or model=mlp"
                )

    def hidden(
        self, inputs: int, *, raw: bool = False, after: str | None = None
    ) -> tuple[nnx.Dict, nnx.Dict, int]:
        """Draw hidden_1 … hidden_L of the widths in `depth`.

        Args:
            inputs: width of what the first layer reads.
            raw, after: of the first layer; see `dense`.

        Returns:
            The layers and the activations by layer name, and the width of the last layer.
        """
        layers: nnx.Dict = nnx.Dict()
        acts: nnx.Dict = nnx.Dict()
        for i, units in enumerate(self.config.widths, 1):
            name = f"hidden_{i}"
            outputs = self.inputs(units, name)
            layers[name] = self.dense(name, inputs, outputs, raw=raw and i == 1, after=after)
            acts[name] = self.act(units, name)
            inputs, after = units, name
        return layers, acts, inputs

    def _draw(
        self, name: str, shape: tuple[int, ...], raw: bool, after: str | None
    ) -> tuple[Array, Array]:
        init, hparams = self.config.init, self.hparams
        key = named_key(hparams["seed"], f"init/{name}")
        fan_in, field_size = math.prod(shape[:-1]), math.prod(shape[:-2])
        if init.name == "randomized_asymmetric":
            kernel, bias = initializers.asymmetric(
                key, shape, fan_in=fan_in, scale=hparams["init.scale"]
            )
            bias = bias + hparams["init.bias"]
            return kernel if raw else kernel * self._gain(name, after), bias
        kernel = initializers.weight(
            init.name,
            named_key(key, "kernel"),
            shape,
            fan_in=fan_in,
            fan_out=field_size * shape[-1],
            scale=hparams["init.scale"],
            sigma_w=hparams["init.sigma_w"],
        )
        bias = initializers.bias(
            init.name,
            named_key(key, "bias"),
            shape[-1:],
            fan_in=fan_in,
            scale=hparams["init.scale"],
            sigma_b=hparams["init.sigma_b"],
        )
        bias = bias + hparams["init.bias"]
        return kernel if raw else kernel * self._gain(name, after), bias

    def _gain(self, name: str, after: str | None) -> Array:
        if self.config.init.gain != "auto":
            return jnp.float32(self.config.init.gain)
        if by_layer.entries(self.config.act) and after is None:
            raise UserError(
                f"init.gain=auto: with act.by_layer it needs the name of the activation that the "
                f"layer {name} reads; write after=<path> where the model makes it, or type "
                "init.gain=1.0"
            )
        spec, static, numbers = self._bound_at(after)
        return initializers.gain(spec, static | numbers)


def named_key(key: PRNGKeyArray | UInt[Array, ""], name: str) -> PRNGKeyArray:
    """Return the key of the random stream of that name, derived from a key or a seed."""
    key = key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.key(key)
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
