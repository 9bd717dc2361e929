"""What an activation is, and what the model and the probes ask of any of them."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from actsweep.utils.errors import UserError, bad_value
from actsweep.utils.imports import find

Params = Mapping[str, Any]
Units = Literal["elementwise", "gated", "maxout", "vector"]


@dataclass(frozen=True)
class Activation:
    """One activation function and the facts about it.

    Attributes:
        name: as in `act=<name>`.
        fn: `fn(z, **params) -> a`, pure, at home under jit, vmap and grad. Units lie on the last
            axis, which is `inputs_per_unit` times as long in z as in a.
        formula: plain text.
        paper: where it comes from.
        range: the interval of its values at the default parameters.
        zero: f'(0), and which one-sided derivative stands for it at each kink.
        kinks: where the derivative doesn't exist, at the default parameters.
        monotone: whether it never decreases (elementwise ones; in every input for the others).
        params: names and defaults. A float is a number that may differ within a pack and may
            arrive as a traced array, scalar or of shape [units]. Ints, bools and strings are
            static.
        units: `elementwise`; `gated`, a value half times a function of the gate half; `maxout`, the
            largest of `pieces` inputs; `vector`, each unit depends on all of them.
        learnable: the float parameters that the layer trains, given the parameters.
        abs_derivative: a closed form of `abs_derivative` below; None to derive it from `fn`.
    """

    name: str
    fn: Callable[..., Array]
    formula: str
    paper: str
    range: str
    zero: str
    kinks: tuple[float, ...] = ()
    monotone: bool = True
    params: Params = field(default_factory=dict)
    units: Units = "elementwise"
    learnable: Callable[[Params], tuple[str, ...]] = lambda params: ()
    abs_derivative: Callable[..., Array] | None = None


def in_float32(fn: Callable[..., Array]) -> Callable[..., Array]:
    """Lift a function of float32 arrays to any float dtype and any shape of its parameters.

    z is computed with in at least float32 and the result rounded back to its dtype. Parameters
    whose default is a float, or that arrive as a float or an array, are cast likewise; elementwise
    functions get them broadcast to z along the last axis. Others pass through.
    """

    @functools.wraps(fn)
    def lifted(z: Array, **params: Any) -> Array:
        dtype = jnp.float32 if jnp.finfo(z.dtype).bits < 32 else z.dtype
        numbers = {
            name: jnp.broadcast_to(jnp.asarray(value, dtype), z.shape)
            for name, value in (defaults | params).items()
            if name in floats or is_number(value)
        }
        return fn(z.astype(dtype), **{**params, **numbers}).astype(z.dtype)

    defaults = {
        name: p.default
        for name, p in inspect.signature(fn).parameters.items()
        if p.default is not inspect.Parameter.empty
    }
    floats = {name for name, value in defaults.items() if isinstance(value, float)}
    return lifted


def is_number(value: object) -> bool:
    """Whether a parameter's value may differ within a pack: a float or an array, not an int."""
    return isinstance(value, float) or hasattr(value, "dtype")


def split(activation: Activation, params: Params) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part parameters into (static, numeric); `fn` takes both, so `{**static, **numeric}` is whole.

    What is numeric is decided by the default, so `act.alpha=1` is a number like `act.alpha=1.0`.
    """
    numeric = {k: v for k, v in params.items() if is_number(activation.params[k])}
    return {k: v for k, v in params.items() if k not in numeric}, numeric


def inputs_per_unit(activation: Activation, params: Params) -> int:
    """Pre-activations that one unit consumes: 1, 2 if gated, `pieces` for maxout.

    They are contiguous blocks of the last axis: [value units, gate units], [piece 0, piece 1, …].
    """
    if activation.units == "maxout":
        return int(params.get("pieces", activation.params["pieces"]))
    return 2 if activation.units == "gated" else 1


def abs_derivative(
    activation: Activation, z: Float[Array, "*batch inputs"], **params: Any
) -> Float[Array, "*batch units"]:
    """How much unit j moves when its inputs do: the L2 norm of row j of the Jacobian da/dz.

    Elementwise: |f'(z)| exactly. Gated: sqrt((da/dv)^2 + (da/dg)^2). Maxout: 1, and 1/sqrt(n) where
    n pieces tie, since JAX shares the derivative among them. Softmax and log-softmax have closed
    forms. Any other `vector` activation pays for its dense Jacobian.

    Args:
        activation: a known one or a user's own.
        z: pre-activations.
        params: the activation's parameters, as `activation.fn` takes them.
    """
    fn = functools.partial(activation.fn, **params)
    if activation.abs_derivative is not None:
        return activation.abs_derivative(z, **params)
    if activation.units == "vector":
        rows = jnp.vectorize(jax.jacrev(fn), signature="(n)->(n,n)")(z)
        return _norm(jnp.moveaxis(rows, -1, 0))
    k = inputs_per_unit(activation, params)
    block = jnp.arange(z.shape[-1]) // (z.shape[-1] // k)
    tangents = [jnp.broadcast_to((block == i).astype(z.dtype), z.shape) for i in range(k)]
    return _norm(jnp.stack([jax.jvp(fn, (z,), (t,))[1] for t in tangents]))


def _norm(rows: Array) -> Array:
    """L2 norm over the first axis; one row gives its absolute value, and squares never overflow."""
    largest = jnp.max(jnp.abs(rows), axis=0)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    if len(rows) == 1:
        return largest
    return scale * jnp.sqrt(jnp.sum(jnp.square(rows / scale[None]), axis=0))


def gate_input(
    activation: Activation, z: Float[Array, "*batch inputs"], **params: Any
) -> Float[Array, "*batch units"]:
    """What decides whether a unit fires: z; the gate half if gated; the largest piece of maxout."""
    if activation.units == "gated":
        return jnp.split(z, 2, axis=-1)[1]
    if activation.units == "maxout":
        k = inputs_per_unit(activation, params)
        return jnp.max(pieces_of(z, k), axis=-2)
    return z


def pieces_of(z: Float[Array, "*batch inputs"], k: int) -> Float[Array, "*batch k units"]:
    """The k contiguous blocks of the last axis, on an axis of their own."""
    return z.reshape(*z.shape[:-1], k, z.shape[-1] // k)


def custom(target: str, params: Params) -> Activation:
    """A user's own activation, from a dotted path.

    Args:
        target: `module.name` of an `Activation`, of a function that carries one as its attribute
            `activation`, or of a plain elementwise function `fn(z, **params)` of float32 arrays.
        params: its parameters as configured. They, and the function's own defaults, say which are
            numbers (floats) and which are static.

    Raises:
        UserError: the path can't be imported, isn't callable, or doesn't take a parameter.
    """
    found = find("act", target)
    found = getattr(found, "activation", found)
    if isinstance(found, Activation):
        check_names(found.name, params, found.params)
        return found
    if not callable(found):
        raise bad_value("act._target_", target, "a function", "act._target_=my_module.my_function")
    try:
        signature = inspect.signature(found)
        signature.bind(None, **params)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"act._target_={target}: doesn't take act's parameters ({error}); type for example "
            f"~act.<name> to drop one or +act.<name>=1.0 to add one"
        ) from error
    named = list(signature.parameters.values())[1:]
    defaults = {p.name: p.default for p in named if p.default is not inspect.Parameter.empty}
    return Activation(
        name=target.rpartition(".")[2],
        fn=in_float32(found),
        formula=f"{target}(z)",
        paper="the user's own",
        range="unknown",
        zero="JAX's derivative",
        monotone=False,
        params={**defaults, **params},
    )


def check_names(name: str, params: Params, known: Params) -> None:
    """Raise a UserError if a parameter is unknown or isn't of its default's type."""
    for key, value in params.items():
        path = f"act.{key}"
        if key not in known:
            names = ", ".join(sorted(known)) or "it has none"
            raise UserError(
                f"{path}={value}: {name} has no such parameter; type ~{path}. Known: {names}"
            )
        default = known[key]
        if isinstance(default, bool) and not isinstance(value, bool):
            raise bad_value(path, value, "true or false", f"{path}={str(default).lower()}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(default, float) and not (number or hasattr(value, "dtype")):
            raise bad_value(path, value, "a number", f"{path}={default}")
