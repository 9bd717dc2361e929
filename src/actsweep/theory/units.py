"""Moments of a unit whose pre-activations are normal: what every mean-field formula is made of."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from actsweep.formulas.grammar import parameters, parse
from actsweep.formulas.rescaling import IDENTITY, transform_of, untransformed
from actsweep.formulas.values import evaluate
from actsweep.theory.closed_forms import CLOSED_FORMS
from actsweep.theory.panels import (
    Evaluate,
    find_breaks,
    normal_density,
    normal_nodes,
    panel_derivative,
    panel_nodes,
)
from actsweep.utils.errors import UserError

SAMPLES = 50_000
_INNER = np.arange(-10.0, 10.1, 1.25)  # edges of panels, in standard deviations
_AROUND = 2.0 ** np.arange(-1, 4)


@dataclass(frozen=True)
class Moments:
    """Moments of a unit, its pre-activations u ~ N(0, q).

    Attributes:
        mean: E[f].
        second: E[f^2]; infinite where it doesn't exist in float64.
        slope: d E[f^2] / dq, which is E[f'^2 + f f''] with the kinks' share of f''.
        derivative: E[f'^2]; of several inputs the sum over them.
        fourth: E[f^4].
        derivative_fourth: E[f'^4].
        error: of `second` and `derivative`, relative: the larger of the two. That of a quadrature
            is the difference that finer panels make; of a Monte Carlo estimate the standard error.
    """

    mean: float
    second: float
    slope: float
    derivative: float
    fourth: float
    derivative_fourth: float
    error: float = 0.0

    @property
    def curvature(self) -> float:
        """Return E[f f'']."""
        return self.slope - self.derivative


@dataclass(frozen=True)
class Elementwise:
    """A unit of one input; integrals by panels that end at its kinks.

    Attributes:
        evaluate: takes z in float64, returns f(z) and f'(z).
        breaks: where panels end, from `panels.find_breaks`.
        kinks: where f' jumps, as far as named.
        shift: added to every pre-activation, as `init.bias` is.
    """

    evaluate: Evaluate
    breaks: Float64[ndarray, " n"]
    kinks: tuple[float, ...] = ()
    shift: float = 0.0
    inputs: int = 1

    def shifted(self, bias: float) -> "Elementwise":
        """Return the unit u -> f(u + bias)."""
        evaluate, kinks = self.evaluate, tuple(kink - bias for kink in self.kinks)
        return Elementwise(
            lambda z: evaluate(z + bias), np.sort(self.breaks - bias), kinks, self.shift + bias
        )

    def rescaled(
        self, input_scale: float, input_shift: float, output_scale: float, output_shift: float
    ) -> "Elementwise":
        """Return the unit u -> output_scale (f(input_scale u + input_shift) + output_shift)."""

        def evaluate(z: ndarray) -> tuple[ndarray, ndarray]:
            f, df = self.evaluate(input_scale * z + input_shift)
            return output_scale * (f + output_shift), output_scale * input_scale * df

        breaks = np.sort((self.breaks - input_shift) / input_scale)
        kinks = tuple((kink - input_shift) / input_scale for kink in self.kinks)
        return Elementwise(evaluate, breaks, kinks)

    def second_derivative(self, q: float) -> float:
        """Return E[f''^2], at q = 1 the curvature C''(1) of the correlation map without the factor
        1 / E[f^2]: f' is a polynomial on every panel. Of an f' that jumps it is infinite."""
        u, weights = normal_nodes(q, self.breaks)
        with np.errstate(over="ignore", invalid="ignore"):
            _, df = self.evaluate(u)
            curvature = panel_derivative(u, df)
            total = float((weights * curvature**2).sum())
        return total if np.isfinite(total) and not self._bends() else np.inf

    def _bends(self) -> bool:
        """Return whether f' jumps at one of the breaks near 0."""
        near = self.breaks[np.abs(self.breaks) < 38]
        step = 1e-9 * np.maximum(1, np.abs(near))
        (_, left), (_, right) = self.evaluate(near - step), self.evaluate(near + step)
        return bool((np.abs(right - left) > 1e-6 * np.maximum(1e-6, np.abs(left))).any())

    def moments(self, q: float) -> Moments:
        """Return the moments, with their error."""
        rough, fine = self.quick_moments(q), self.quick_moments(q, halvings=1)
        pairs = ((rough.second, fine.second), (rough.derivative, fine.derivative))
        if not np.isfinite([fine.second, fine.derivative]).all():
            return fine
        error = max(abs(a - b) / abs(b) if b else abs(a) for a, b in pairs)
        return Moments(**{**vars(fine), "error": error})

    def quick_moments(self, q: float, *, halvings: int = 0) -> Moments:
        """Return the moments without their error, in half the time."""
        u, weights = normal_nodes(q, self.breaks, halvings=halvings)
        with np.errstate(over="ignore", invalid="ignore"):
            f, df = self.evaluate(u)
            squares = weights * f * f
            second = float(squares.sum())
            if not np.isfinite(second) or _is_heavy(u, squares, q):
                return Moments(np.inf, np.inf, np.inf, np.inf, np.inf, np.inf)
            slope = float((weights * f * df * u).sum()) / q
            powers = (weights * f, weights * df**2, squares * f * f, weights * df**4)
            mean, derivative, fourth, derivative_fourth = (float(term.sum()) for term in powers)
        return Moments(mean, second, slope, derivative, fourth, derivative_fourth)

    def pair(self, q: float, c: float) -> tuple[float, float]:
        """Return E[f(u1) f(u2)] and E[f'(u1) f'(u2)].

        With u1, u2 = v + s y1, v + s y2 (for c < 0: v + s y1, -v + s y2), v of variance q |c| and
        s^2 = q (1 - |c|), both are E_v[g(v) g(±v)] with g(v) = E_y[f(v + s y)].
        """
        if c >= 1:
            same = self.quick_moments(q)
            return same.second, same.derivative
        if c == 0:
            means, slopes = self._smoothed(np.zeros(1), np.sqrt(q))
            return float(means[0] ** 2), float(slopes[0] ** 2)
        spread = np.sqrt(q * (1 - abs(c)))
        v, weights = normal_nodes(q * abs(c), self._outer_breaks(spread, both=c < 0))
        near = np.abs(v) < 12 * np.sqrt(q * abs(c))
        v, weights = v[near], weights[near]
        smoothed = functools.partial(self._smoothed, spread=spread)
        first = smoothed(v) if spread else self.evaluate(v)
        second = first if c > 0 else smoothed(-v) if spread else self.evaluate(-v)
        product = float((weights * first[0] * second[0]).sum())
        return product, float((weights * first[1] * second[1]).sum())

    def _outer_breaks(self, spread: float, *, both: bool) -> ndarray:
        """Return the breaks of the smoothed function, finer around each kink; `both`: of -v too."""
        kinks = np.array([*self.kinks, -self.shift])
        around = np.concatenate([[0.0], _AROUND, -_AROUND]) * spread
        breaks = np.concatenate([self.breaks, np.add.outer(kinks, around).ravel()])
        return np.unique(np.concatenate([breaks, -breaks]) if both else breaks)

    def _smoothed(self, centres: ndarray, spread: float) -> tuple[ndarray, ndarray]:
        """Return E[f(v + spread y)] and E[f'(v + spread y)] for every v, y ~ N(0, 1)."""
        low, high = centres.min() + spread * _INNER[0], centres.max() + spread * _INNER[-1]
        inside = self.breaks[(self.breaks > low) & (self.breaks < high)]
        breaks = np.clip((inside - centres[:, None]) / spread, _INNER[0], _INNER[-1])
        fixed = np.broadcast_to(_INNER, (len(centres), len(_INNER)))
        y, weights = panel_nodes(np.sort(np.concatenate([fixed, breaks], axis=-1), axis=-1))
        weights = weights * normal_density(y)
        f, df = self.evaluate(centres[:, None] + spread * y)
        return (weights * f).sum(-1), (weights * df).sum(-1)


def squared(unit: "Elementwise | SeveralInputs") -> "Elementwise | SeveralInputs":
    """Return the unit f^2, whose `pair` gives E[f(u1)^2 f(u2)^2]."""

    def evaluate(z: ndarray) -> tuple[ndarray, ndarray]:
        f, df = unit.evaluate(z)
        return f * f, 2 * (f if df.ndim == f.ndim else f[..., None]) * df

    return replace(unit, evaluate=evaluate)


def _is_heavy(u: ndarray, squares: ndarray, q: float) -> bool:
    """Return whether the farthest panels, where the density is below 1e-146, still count."""
    return bool(squares[np.abs(u) > 26 * np.sqrt(q)].sum() > 1e-9 * squares.sum())


@dataclass(frozen=True)
class SeveralInputs:
    """A unit of several independent inputs, such as a gated one: moments by Monte Carlo.

    The draws are the same at every q and c, so that moments are smooth in both.

    Attributes:
        evaluate: takes z: Float64["samples inputs"]; returns f: ["samples"] and its gradient,
            ["samples inputs"].
        inputs: pre-activations of a unit.
        samples: draws.
    """

    evaluate: Evaluate
    inputs: int
    samples: int = SAMPLES

    @functools.cached_property
    def _draws(self) -> ndarray:
        shape = (2, self.samples, self.inputs)
        return np.random.Generator(np.random.Philox(0)).standard_normal(shape)

    def moments(self, q: float) -> Moments:
        """Return the moments, with the larger standard error of the two."""
        z = self._draws[0]
        with np.errstate(over="ignore", invalid="ignore"):
            f, df = self.evaluate(np.sqrt(q) * z)
            squares, slopes = f * f, (df * df).sum(-1)
            slope = (f * (df * z).sum(-1)).mean() / np.sqrt(q)
            errors = [x.std() / max(x.mean(), 1e-300) for x in (squares, slopes)]
        return Moments(
            mean=float(f.mean()),
            second=float(squares.mean()),
            slope=float(slope),
            derivative=float(slopes.mean()),
            fourth=float((squares**2).mean()),
            derivative_fourth=float((slopes**2).mean()),
            error=float(max(errors)) / self.samples**0.5,
        )

    def quick_moments(self, q: float) -> Moments:
        """Return `moments`, which cost no less."""
        return self.moments(q)

    def pair(self, q: float, c: float) -> tuple[float, float]:
        """Return E[f(u1) f(u2)] and E[f'(u1) · f'(u2)]."""
        first, other = self._draws
        second = c * first + np.sqrt(max(1 - c * c, 0.0)) * other
        (f1, df1), (f2, df2) = (self.evaluate(np.sqrt(q) * z) for z in (first, second))
        return float(np.mean(f1 * f2)), float(np.mean((df1 * df2).sum(-1)))


GATES = {"glu": "sigmoid", "swiglu": "silu", "geglu": "gelu", "reglu": "relu"}
"""Gated units v * h(g): h, by a name of `CLOSED_FORMS`."""


def unit_of(act: Mapping[str, Any], path: str = "act") -> Elementwise | SeveralInputs:
    """Return the unit that a run's `act` names.

    >>> round(unit_of({"name": "relu"}).moments(2.0).second, 6)
    1.0

    Args:
        act: the config's mapping: `name` or `_target_`, and any parameters.
        path: its config path, for the message of an error.

    Raises:
        UserError: each of its units depends on the whole layer, or it jumps; or, of a user's own,
            as `activations.bind`.
    """
    if transform_of(act):
        scales = [act.get(key, usual) for key, usual in IDENTITY.items()]
        unit = unit_of(untransformed(act), path)
        if not isinstance(unit, Elementwise):
            raise UserError(
                f"{path}={act['name']}: a unit has several inputs, and act.transform="
                f"{transform_of(act)} rescales one; type for example act=tanh"
            )
        return unit.rescaled(*scales)
    if "formula" in act:
        numbers = {key: act[key] for key in parameters(parse(act["formula"]))}
        return _elementwise(functools.partial(evaluate, act["formula"], **numbers), (), path)
    params = {key: value for key, value in act.items() if key not in _NO_PARAMS}
    name = act.get("name")
    if not act.get("_target_"):
        if name in CLOSED_FORMS:
            form = CLOSED_FORMS[name]
            return _elementwise(functools.partial(form.evaluate, **params), form.kinks, path)
        if name in GATES:
            return SeveralInputs(functools.partial(_gated, CLOSED_FORMS[GATES[name]].evaluate), 2)
        if name == "maxout":
            return SeveralInputs(_maxout, int(params.get("pieces", 2)))
    return _from_jax(act, path)


_NO_PARAMS = ("name", "_target_", "by_layer")


def _elementwise(evaluate: Evaluate, kinks: tuple[float, ...], path: str) -> Elementwise:
    return Elementwise(evaluate, find_breaks(evaluate, kinks, path), kinks)


def _gated(gate: Evaluate, z: ndarray) -> tuple[ndarray, ndarray]:
    value, (h, dh) = z[:, 0], gate(z[:, 1])
    return value * h, np.stack([h, value * dh], axis=-1)


def _maxout(z: ndarray) -> tuple[ndarray, ndarray]:
    return z.max(-1), (z == z.max(-1, keepdims=True)).astype(float)


def _from_jax(act: Mapping[str, Any], path: str) -> Elementwise | SeveralInputs:
    """Return the unit of an activation that is known to jax alone, evaluated in float64."""
    import jax
    import jax.numpy as jnp

    from actsweep.activations import bind, inputs_per_unit

    activation, params = bind(act, path)
    if activation.units == "vector":
        raise UserError(
            f"{path}={activation.name}: its units depend on each other, and there is no theory "
            f"here for that; type for example {path}=tanh"
        )
    inputs = inputs_per_unit(activation, params)

    @jax.jit
    def with_derivative(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        a, pull = jax.vjp(functools.partial(activation.fn, **params), z)
        return a, pull(jnp.ones_like(a))[0]

    def evaluate(z: ndarray) -> tuple[ndarray, ndarray]:
        rows = z.reshape(-1, inputs)
        size = max(2048, 2 ** int(np.ceil(np.log2(max(len(rows), 1)))))  # few shapes, few programs
        padded = np.concatenate([rows, np.zeros((size - len(rows), inputs))])
        with jax.enable_x64(True):
            a, da = with_derivative(jnp.asarray(padded))
            a, da = np.asarray(a, float)[: len(rows), 0], np.asarray(da, float)[: len(rows)]
        return a.reshape(z.shape if inputs == 1 else len(rows)), da.reshape(z.shape)

    if inputs > 1:
        return SeveralInputs(evaluate, inputs)
    return _elementwise(evaluate, activation.kinks, path)
