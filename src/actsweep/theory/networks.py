"""Predictions for every layer of an untrained network, from its configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from actsweep.config import by_layer
from actsweep.config.numbers import LARGEST
from actsweep.config.schema import InitConfig, RunConfig
from actsweep.theory.mean_field import TINY, Layer, Unit
from actsweep.theory.units import Elementwise, squared, unit_of
from actsweep.theory.variances import bias_variance, weight_variance
from actsweep.utils.errors import UserError, bad_value

NORMALISED = ("layer", "rms")


@dataclass(frozen=True)
class Network:
    """An untrained multilayer perceptron as mean-field theory sees it.

    Attributes:
        unit: of every hidden layer.
        widths: units of the input and of each hidden layer.
        layers: the variances of each hidden layer.
        repeated: those of a layer that is repeated without end.
        skips: whether a layer's input is added to its output.
        normalised: whether each pre-activation is divided by its root mean square.
        orthogonal: whether the weights are.
        bias: added to every pre-activation; the unit knows of it.
        name: of the activation.
        transform: what has rescaled the activation, so that q = 1 in every layer.
    """

    unit: Unit
    widths: tuple[int, ...]
    layers: tuple[Layer, ...]
    repeated: Layer
    skips: tuple[bool, ...]
    normalised: bool = False
    orthogonal: bool = False
    bias: float = 0.0
    name: str = ""
    transform: str | None = None

    @property
    def plain(self) -> bool:
        """Return whether it has neither skips nor normalisation."""
        return not self.normalised and not any(self.skips)


@dataclass(frozen=True)
class LayerPrediction:
    """What to expect of one hidden layer.

    Attributes:
        second: second moment of a pre-activation; with a normalisation, before it.
        band: standard deviation of the layer's mean square pre-activation over networks of these
            widths, to first order in depth / width; None where there is no theory for it.
        correlation: cosine of two inputs' pre-activations.
        act_cosine: cosine of two inputs' activations, as `cos_sim` measures it.
        gradient: the norm of dL/dW, relative to the last hidden layer's.
        preact_gradient: the norm of dL/dz, relative likewise.
    """

    second: float
    band: float | None
    correlation: float
    act_cosine: float
    gradient: float
    preact_gradient: float


def network_of(run: RunConfig, inputs: int | None = None) -> Network:
    """Return the network that a run's configuration describes.

    Args:
        run: a resolved run.
        inputs: the width of an example; by default that of the first hidden layer.

    Raises:
        UserError: there is no theory here for such a network.
    """
    _check(run)
    norm = run.model.norm or "none"
    unit = unit_of(run.act)
    gain = _gain(run.init, unit)
    bias = run.init.bias
    if bias:
        if not isinstance(unit, Elementwise) or norm != "none":
            raise UserError(
                f"init.bias={bias}: with several inputs a unit or a normalisation there is no "
                "theory here; type init.bias=0.0"
            )
        unit = unit.shifted(bias)
    units = run.widths
    widths = (units[0] if inputs is None else inputs, *units)
    layers = tuple(
        _layer(run.init, fan_in, fan_out * unit.inputs, gain if i else 1.0)
        for i, (fan_in, fan_out) in enumerate(zip(widths, units, strict=False))
    )
    # The gain is for what an activation made: the first layer reads the examples.
    alone = _layer(run.init, widths[0], units[0] * unit.inputs, gain)
    skips = tuple(bool(run.model.residual) and a == b for a, b in zip(widths, units, strict=False))
    return Network(
        unit,
        widths,
        layers,
        layers[-1] if len(layers) > 1 else alone,
        skips,
        normalised=norm in NORMALISED,
        orthogonal=run.init.name.endswith("orthogonal"),
        bias=bias,
        name=run.act["name"],
        transform=run.act.get("transform"),
    )


def _check(run: RunConfig) -> None:
    model = run.model
    if model.name != "mlp" or model._target_:
        raise UserError(f"model={model.name}: there is no theory here for it; type model=mlp")
    if model.norm not in (None, "none", *NORMALISED):
        allowed = f"none, {' or '.join(NORMALISED)}, for which there is a theory here"
        raise bad_value("model.norm", model.norm, allowed, "model.norm=layer")
    if model.dropout:
        allowed = "0, for which there is a theory here"
        raise bad_value("model.dropout", model.dropout, allowed, "model.dropout=0.0")
    if by_layer.entries(run.act):
        raise UserError(
            "act.by_layer: there is no theory here for several activations in one network; leave "
            "it out, and type for example act=tanh,relu"
        )


def _gain(init: InitConfig, unit: Unit) -> float:
    if init.gain != "auto":
        return float(init.gain)
    return float(unit.moments(1.0).second ** -0.5)


def _layer(init: InitConfig, fan_in: int, fan_out: int, gain: float) -> Layer:
    weights = fan_in * weight_variance(init.name, fan_in, fan_out, init.sigma_w)
    biases = bias_variance(init.name, fan_in, init.sigma_b)
    return Layer(weights * (init.scale * gain) ** 2, biases * init.scale**2)


def predict(network: Network, q_0: float, c_0: float, examples: int = 1) -> list[LayerPrediction]:
    """Return what to expect of every hidden layer, for two inputs of equal size.

    Plain layers: Poole et al. 2016 and Schoenholz et al. 2017. With skips x + f(z): Yang &
    Schoenholz 2017, "Mean field residual networks: on the edge of chaos", with the mean of x for
    activations that aren't odd. A normalisation makes each q 1. The band: the variance of a layer's
    mean square is 2 q^2 / width, and that of its expectation grows layer by layer by
    sigma_w^4 Var(f^2) / width and is multiplied by Q'(q)^2 (Roberts, Yaida & Hanin 2022, "The
    principles of deep learning theory", section 4.3).

    Args:
        network: from `network_of`.
        q_0: mean square of an input's features.
        c_0: cosine of two inputs.
        examples: how many the mean square is over, whose spread `band` is. Two of them fluctuate
            together as far as E[f(u1)^2 f(u2)^2] - E[f^2]^2 and 2 (q c)^2 say.

    Raises:
        UserError: the second moment isn't finite in some layer.
    """
    states = _forward(network, q_0, c_0, examples)
    gradients = _backward(network, states, q_0)
    last = gradients[-1]
    return [
        LayerPrediction(
            second=state.q + network.bias**2,
            band=state.band,
            correlation=_cosine(state, network.bias),
            act_cosine=state.act_cosine,
            gradient=_root(kernel, last[0]),
            preact_gradient=_root(preact, last[1]),
        )
        for state, (kernel, preact) in zip(states, gradients, strict=True)
    ]


def _cosine(state: "_State", bias: float) -> float:
    """Return the cosine of two inputs' pre-activations, 1 where both are 0."""
    second = state.q + bias**2
    return (state.q * state.c + bias**2) / second if second else 1.0


def _root(square: float, of: float) -> float:
    return (square / of) ** 0.5 if of > 0 else float("nan")


@dataclass(frozen=True)
class _State:
    """One layer's pre-activations, and its output x: second moment, product of two, mean."""

    q: float
    c: float
    derivative: float
    act_cosine: float
    second: float
    product: float
    mean: float
    band: float | None = None
    drift: float = 0.0


def _forward(network: Network, q_0: float, c_0: float, examples: int) -> list[_State]:
    alone, together = 1 / examples, 1 - 1 / examples  # shares of pairs
    squares = squared(network.unit)
    states: list[_State] = []
    state = _State(0, 0, 0, c_0, q_0, q_0 * c_0, 0.0)
    slope = spread = 0.0
    for i, layer in enumerate(network.layers):
        q = layer.sigma_w2 * state.second + layer.sigma_b2
        c = (layer.sigma_w2 * state.product + layer.sigma_b2) / max(q, TINY)
        c = min(c, 1.0) if q > TINY else 1.0
        at = 1.0 if network.normalised else max(q, TINY)
        moments = network.unit.moments(at)
        if not 0 <= moments.second < LARGEST:
            raise UserError(
                f"act={network.name}: E[f²] is infinite, or too large for float32, in layer "
                f"{i + 1}, whose pre-activations have the second moment {q:.3g}; type smaller "
                "weights, for example init.scale=0.1"
            )
        product, _ = network.unit.pair(at, c)
        drift = (layer.sigma_w2 * slope) ** 2 * state.drift + layer.sigma_w2**2 * spread
        added = (moments.second, product, moments.mean)
        cosine = product / moments.second if moments.second > 0 else float("nan")
        state = _add(state, added, skip=network.skips[i])
        width = network.widths[i + 1]
        state = replace(
            state, q=q, c=c, derivative=moments.derivative, act_cosine=cosine, drift=drift
        )
        if network.plain:
            own = alone * _spread(q, 1.0, network.bias) + together * _spread(q, c, network.bias)
            own /= width * network.unit.inputs
            state = replace(state, band=(own + drift) ** 0.5)
        fourth = alone * moments.fourth
        if together and network.plain:
            fourth += together * squares.pair(at, c)[0]
        slope, spread = moments.slope, (fourth - moments.second**2) / width
        states.append(state)
    return states


def _spread(q: float, c: float, bias: float) -> float:
    """Return the covariance of two inputs' squares of one pre-activation, (u + bias)^2."""
    return 2 * (q * c) ** 2 + 4 * bias**2 * q * c


def _add(state: _State, added: tuple[float, float, float], *, skip: bool) -> _State:
    """Return the output of a layer, its input added with `skip`."""
    second, product, mean = added
    if skip:
        cross = 2 * state.mean * mean
        second, product = second + state.second + cross, product + state.product + cross
        mean += state.mean
    return replace(state, second=second, product=product, mean=mean)


def _backward(network: Network, states: Sequence[_State], q_0: float) -> list[tuple[float, float]]:
    """Return |dL/dW|^2 and |dL/dz|^2 of every layer, up to one factor."""
    of_output = 1.0
    squares: list[tuple[float, float]] = []
    for i in range(len(states) - 1, -1, -1):
        scale = states[i].q if network.normalised else 1.0
        preact = of_output * states[i].derivative / scale
        before = states[i - 1].second if i else q_0
        squares.append((preact * network.widths[i] * before, preact))
        of_output *= network.skips[i] + network.layers[i].sigma_w2 * states[i].derivative / scale
    return squares[::-1]


def describe_layers(predictions: Sequence[LayerPrediction]) -> dict[str, list[Any]]:
    """Return the predictions as a column a quantity."""
    return {name: [getattr(p, name) for p in predictions] for name in vars(predictions[0])}


def input_moments(x: Float[ndarray, "examples *features"]) -> tuple[float, float]:
    """Return q_0, the mean square of the examples' features, and c_0, the mean cosine of two.

    Args:
        x: at least two examples as the network reads them, none of them 0.
    """
    flat = x.reshape(len(x), -1).astype(float)
    sizes = np.linalg.norm(flat, axis=-1, keepdims=True)
    units = flat / np.where(sizes > 0, sizes, 1)
    n = len(flat)
    cosine = (np.sum(units.sum(0) ** 2) - np.sum(units**2)) / (n * (n - 1))
    return float(np.mean(flat**2)), float(cosine)
