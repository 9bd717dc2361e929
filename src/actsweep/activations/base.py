"""The record of an activation, and the quantities that models and probes derive from it."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from actsweep.utils.errors import UserError, bad_value
from actsweep.utils.imports import import_target

Params = Mapping[str, Any]
Units = Literal["elementwise", "gated", "maxout", "vector"]


@dataclass(frozen=True)
class Activation:
    """One activation function and the facts about it.

    >>> MINE = Activation(
    ...     "bent", bent, "z + bend * (sqrt(z^2 + 1) - 1)", "own", "(-inf, inf)", "1",
    ...     params={"bend": 0.5, "learnable": True}, learnable=lambda params: ("bend",),
    ... )  # doctest: +SKIP

    Attributes:
        name: as in `act=<name>`.
        fn: `fn(z, **params) -> a`, pure; works under jit, vmap and grad. Units lie on the last
            axis, which is `inputs_per_unit` times as long in z as in a.
        formula: plain text.
        paper: its source.
        range: the interval of its values at the default parameters.
        zero: f'(0), and which one-sided derivative is used at each kink.
        kinks: where the derivative doesn't exist, at the default parameters.
        monotone: whether it never decreases; for units of several inputs, in each of them.
        params: names and defaults. A float parameter may differ within a pack and may arrive as a
            traced array, scalar or of shape [units]. Ints, bools and strings are static.
        units: `elementwise`; `gated`, the value half times a function of the gate half; `maxout`,
            the largest of `pieces` inputs; `vector`, where each unit depends on all inputs.
        learnable: takes the parameters, returns the names of those that the layer trains.
        abs_derivative: a closed form of `abs_derivative` below; None derives it from `fn`.
        drawn: `drawn(z, key, **params) -> a`, how it acts in training where it is random; `fn` is
            then how the trained network, and every measurement, uses it. None: it isn't random.
        only_backward: whether `fn` has a backward rule alone (`jax.custom_vjp`), such as a
            straight-through estimator's; found out for a user's own.
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
    drawn: Callable[..., Array] | None = None
    only_backward: bool = False


def in_float32(fn: Callable[..., Array]) -> Callable[..., Array]:
    """Extend a function of float32 arrays to any float dtype and any shape of its parameters.

    z is cast to at least float32, and the result is rounded back to its dtype. Parameters whose
    default is a float, or that arrive as a float or an array, are cast likewise and broadcast to z
    along the last axis. Other parameters are passed on unchanged.

    Args:
        fn: `fn(z, **params)`, elementwise in z and its float parameters.

    Returns:
        A function with the same arguments.
    """

    @functools.wraps(fn)
    def cast(z: Array, **params: Any) -> Array:
        dtype = jnp.float32 if jnp.finfo(z.dtype).bits < 32 else z.dtype
        numeric = {
            name: jnp.broadcast_to(jnp.asarray(value, dtype), z.shape)
            for name, value in (defaults | params).items()
            if name in floats or is_number(value)
        }
        a = fn(z.astype(dtype), **{**params, **numeric})
        if not hasattr(a, "astype"):
            raise TypeError(f"must return an array, not {type(a).__name__}")
        return a.astype(z.dtype)

    defaults = {
        name: p.default
        for name, p in inspect.signature(fn).parameters.items()
        if p.default is not inspect.Parameter.empty
    }
    floats = {name for name, value in defaults.items() if isinstance(value, float)}
    return cast


def keep_nan(z: Array, a: Array) -> Array:
    """Return a, with NaN for value and derivative where z is NaN.

    For functions with flat parts, chosen by comparisons: all comparisons with NaN are false, so
    NaN would come out as one of the parts.
    """
    nan = jnp.where(jnp.isnan(z), z, 0)
    return jnp.where(jnp.isnan(z), nan * nan, a)


def is_number(value: object) -> bool:
    """Return whether a parameter may differ within a pack: a float or an array, not an int."""
    return isinstance(value, float) or hasattr(value, "dtype")


def split(activation: Activation, params: Params) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide parameters into static ones and numeric ones, which may differ within a pack.

    The type of the default decides, so `act.alpha=1` is numeric as `act.alpha=1.0` is.

    Args:
        activation: a known activation or a user's.
        params: its parameters by name.

    Returns:
        (static, numeric); together they are all of `params`.
    """
    numeric = {key: value for key, value in params.items() if is_number(activation.params[key])}
    return {key: value for key, value in params.items() if key not in numeric}, numeric


def inputs_per_unit(activation: Activation, params: Params) -> int:
    """Return how many pre-activations one unit takes: 1, 2 if gated, `pieces` for maxout.

    They are contiguous blocks of the last axis: [value units, gate units], [piece 0, piece 1, …].
    """
    if activation.units == "maxout":
        return int(params.get("pieces", activation.params["pieces"]))
    return 2 if activation.units == "gated" else 1


def abs_derivative(
    activation: Activation, z: Float[Array, "*batch inputs"], **params: Any
) -> Float[Array, "*batch units"]:
    """Return how sensitive each unit is to its inputs: the L2 norm of its row of da/dz.

    Where f has only a backward rule (`jax.custom_vjp`), its derivative is what that rule says.

    Elementwise: |f'(z)| exactly. Gated: sqrt((da/dv)^2 + (da/dg)^2). Maxout: 1, and 1/sqrt(n) where
    n pieces tie, since JAX shares the derivative among them. Softmax and log-softmax have closed
    forms. Any other `vector` activation computes its dense Jacobian, [units, units] per example.

    Args:
        activation: a known activation or a user's.
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
    if activation.only_backward:
        a, backward = jax.vjp(fn, z)
        return _norm(jnp.stack(jnp.split(backward(jnp.ones_like(a))[0], k, axis=-1)))
    return _norm(jnp.stack([jax.jvp(fn, (z,), (t,))[1] for t in tangents]))


def _norm(rows: Array) -> Array:
    """Return the L2 norm over the first axis, scaled by powers of 2 so that no square overflows."""
    largest = jnp.max(jnp.abs(rows), axis=0)
    if len(rows) == 1:
        return largest
    up, down = 2.0**70, 2.0**-70  # a quotient by `largest` would use 1 / largest, which may be 0
    huge, tiny = largest > 2.0**60, largest < 2.0**-60
    scaled = rows * jnp.where(huge, down, jnp.where(tiny, up, 1.0))[None].astype(rows.dtype)
    back = jnp.where(huge, up, jnp.where(tiny, down, 1.0)).astype(rows.dtype)
    return back * jnp.sqrt(jnp.sum(jnp.square(scaled), axis=0))


def gate_input(
    activation: Activation, z: Float[Array, "*batch inputs"], **params: Any
) -> Float[Array, "*batch units"]:
    """Return the quantity whose sign decides whether a unit is active.

    It is z for elementwise and vector activations, the gate half for gated ones, and the largest
    piece for maxout.
    """
    if activation.units == "gated":
        return jnp.split(z, 2, axis=-1)[1]
    if activation.units == "maxout":
        k = inputs_per_unit(activation, params)
        return jnp.max(pieces_of(z, k), axis=-2)
    return z


def pieces_of(z: Float[Array, "*batch inputs"], k: int) -> Float[Array, "*batch k units"]:
    """Return the k contiguous blocks of the last axis as an axis before it."""
    return z.reshape(*z.shape[:-1], k, z.shape[-1] // k)


def custom(target: str, params: Params) -> Activation:
    """Return a user's activation from a dotted path.

    Args:
        target: `module.name` of an `Activation`, of a function that has one as its attribute
            `activation`, or of a plain elementwise function `fn(z, **params)` of float32 arrays.
        params: its parameters as configured. The types of their values, and of the function's
            defaults, decide which are numeric (floats) and which are static.

    Raises:
        UserError: the path can't be imported, isn't callable, or doesn't take a parameter.
    """
    fn = import_target("act", target)
    fn = getattr(fn, "activation", fn)
    if isinstance(fn, Activation):
        check_params(fn.name, params, fn.params)
        return replace(fn, only_backward=True) if _only_backward(fn, params) else fn
    if not callable(fn):
        raise bad_value("act._target_", target, "a function", "act._target_=my_module.my_function")
    try:
        signature = inspect.signature(fn)
        signature.bind(None, **params)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"act._target_={target}: the function doesn't take the parameters in act ({error}); "
            f"type for example ~act.<name> to remove one, or +act.<name>=1.0 to add one"
        ) from error
    accepted = list(signature.parameters.values())[1:]
    defaults = {p.name: p.default for p in accepted if p.default is not inspect.Parameter.empty}
    activation = Activation(
        name=target.rpartition(".")[2],
        fn=in_float32(fn),
        formula=f"{target}(z)",
        paper="user-defined",
        range="unknown",
        zero="JAX's derivative",
        monotone=False,
        params={**defaults, **params},
    )
    return replace(activation, only_backward=_only_backward(activation, params))


def _only_backward(activation: Activation, params: Params) -> bool:
    """Return whether a user's function has a backward rule of its own; False if it can't be traced,
    which is told later."""
    z = jax.ShapeDtypeStruct((1, inputs_per_unit(activation, params)), jnp.float32)
    given = {**activation.params, **params}
    try:
        traced = jax.make_jaxpr(lambda z: activation.fn(z, **given))(z)
    except Exception:
        return False
    return "custom_vjp" in str(traced)


def check_params(name: str, params: Params, known: Params, act_path: str = "act") -> None:
    """Check that every parameter is known and has the type of its default.

    Args:
        name: of the activation, for the message.
        params: parameters as configured.
        known: the activation's parameters with their defaults.
        act_path: the activation's config path, likewise.

    Raises:
        UserError: a parameter is unknown, or its value has another type.
    """
    for key, value in params.items():
        path = f"{act_path}.{key}"
        if key not in known:
            names = ", ".join(sorted(known)) or "none"
            raise UserError(
                f"{path}={value}: {name} has no such parameter; leave it out, or type ~{path} to "
                f"remove it. Known: {names}"
            )
        default = known[key]
        if isinstance(default, bool) and not isinstance(value, bool):
            raise bad_value(path, value, "true or false", f"{path}={str(default).lower()}")
        is_scalar = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(default, float) and not (is_scalar or hasattr(value, "dtype")):
            raise bad_value(path, value, "a number", f"{path}={default}")
