"""The catalogue of activation functions.

Every activation is a function, an entry in `ACTIVATIONS` and a file in `conf/act/`. To add one,
write a function `fn(z, **params)` in `elementwise.py`, `further.py` or `across.py`, an entry below,
`conf/act/<name>.yaml` with the same parameters, a reference in `tests/test_activations.py`, which
fails until all four agree, and if it is elementwise its float64 form in `theory/closed_forms.py`.

Numerics. On every finite float32 and bfloat16 input, value and derivative are finite wherever the
exact ones are representable. In float32 on CPU, at default parameters, values are within 4 units in
the last place of the exact ones and derivatives within 5, zeros of the derivative included (gelu's
tanh form: 7, in its left tail). Softmax is JAX's own: within 70 units, since z - max is rounded
before it is exponentiated, and the derivative of a unit whose share rounds to 1 is 0. NaN in is NaN
out, and at ±infinity values and derivatives of elementwise functions are their limits. bfloat16 is
computed in float32 and rounded.
The activations of `further` have errors of up to 80 units in the last place where exponentials are
nested (11 elsewhere), values below 1e-36 that may be 0, and derivatives that near their zeros are
exact to 1e-6 only.
Parameters other than the defaults lose accuracy in exponential tails: the rounding error of
`beta * z` or `z / alpha` is multiplied by its size. XLA flushes subnormal numbers to 0 on CPU, so
an input below 1.2e-38 counts as 0, and a result below it may be 0; for gated units this applies to
the value of the gate.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax

from actsweep.activations import across, elementwise, further
from actsweep.activations.base import (
    Activation,
    Params,
    abs_derivative,
    check_params,
    custom,
    gate_input,
    inputs_per_unit,
    split,
)
from actsweep.activations.formula import bind_formula
from actsweep.activations.mixed import Part, mixed
from actsweep.activations.rescaled import rescaled
from actsweep.formulas.rescaling import IDENTITY, TARGET, transform_of, untransformed
from actsweep.utils.errors import unknown_name

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "abs_derivative",
    "bind",
    "custom",
    "gate_input",
    "get",
    "inputs_per_unit",
    "split",
]


def _learns(*names: str, default: bool = True) -> Callable[[Params], tuple[str, ...]]:
    """Return what an activation trains that has the switch `learnable`."""
    return lambda params: names if params.get("learnable", default) else ()


_NO_PARAMS = ("name", "_target_", "by_layer", "mix")
_SMOOTH = "{}; differentiable everywhere"
_SWISH = "Ramachandran et al. 2017, arXiv:1710.05941"
_GLU = "Shazeer 2020, arXiv:2002.05202"
_REALS = "(-inf, inf)"

_ENTRIES = (
    Activation(
        "identity", elementwise.identity, "z", "the linear baseline", _REALS, _SMOOTH.format(1)
    ),
    Activation(
        "sigmoid",
        elementwise.sigmoid,
        "1 / (1 + exp(-z))",
        "Rumelhart, Hinton & Williams 1986, Nature 323:533",
        "(0, 1)",
        _SMOOTH.format(0.25),
    ),
    Activation(
        "hard_sigmoid",
        elementwise.hard_sigmoid,
        "min(max(z + 3, 0), 6) / 6",
        "Courbariaux et al. 2015, arXiv:1511.00363; slope 1/6 as in MobileNetV3",
        "[0, 1]",
        "1/6; f'(-3) = f'(3) = 0, the flat sides",
        kinks=(-3.0, 3.0),
    ),
    Activation(
        "log_sigmoid",
        elementwise.log_sigmoid,
        "log(1 / (1 + exp(-z)))",
        "the log-likelihood of logistic regression",
        "(-inf, 0)",
        _SMOOTH.format(0.5),
    ),
    Activation(
        "tanh",
        elementwise.tanh,
        "(exp(z) - exp(-z)) / (exp(z) + exp(-z))",
        "LeCun et al. 1998, Efficient BackProp",
        "(-1, 1)",
        _SMOOTH.format(1),
    ),
    Activation(
        "hard_tanh",
        elementwise.hard_tanh,
        "min(max(z, -1), 1)",
        "Collobert 2004, Large Scale Machine Learning",
        "[-1, 1]",
        "1; f'(-1) = f'(1) = 0, the flat sides",
        kinks=(-1.0, 1.0),
    ),
    Activation(
        "softsign",
        elementwise.softsign,
        "z / (1 + |z|)",
        "Turian, Bergstra & Bengio 2009",
        "(-1, 1)",
        _SMOOTH.format(1),
    ),
    Activation(
        "softplus",
        elementwise.softplus,
        "log(1 + exp(beta * z)) / beta",
        "Dugas et al. 2000, NIPS 13",
        "(0, inf)",
        _SMOOTH.format(0.5),
        params={"beta": 1.0},
    ),
    Activation(
        "relu",
        elementwise.relu,
        "max(z, 0)",
        "Nair & Hinton 2010, ICML",
        "[0, inf)",
        "0, the flat side",
        kinks=(0.0,),
    ),
    Activation(
        "relu6",
        elementwise.relu6,
        "min(max(z, 0), 6)",
        "Krizhevsky 2010, Convolutional Deep Belief Networks on CIFAR-10",
        "[0, 6]",
        "0; f'(6) = 0, the flat sides",
        kinks=(0.0, 6.0),
    ),
    Activation(
        "squared_relu",
        elementwise.squared_relu,
        "max(z, 0)^2",
        "So et al. 2021 (Primer), arXiv:2109.08668",
        "[0, inf)",
        _SMOOTH.format(0),
    ),
    Activation(
        "leaky_relu",
        elementwise.leaky_relu,
        "z where z > 0, slope * z elsewhere",
        "Maas, Hannun & Ng 2013, ICML workshop",
        _REALS,
        "slope, the left side",
        kinks=(0.0,),
        params={"slope": 0.01},
    ),
    Activation(
        "prelu",
        elementwise.prelu,
        "z where z > 0, slope * z elsewhere; slope is learned",
        "He et al. 2015, arXiv:1502.01852",
        _REALS,
        "slope, the left side",
        kinks=(0.0,),
        params={"slope": 0.25, "per_channel": False},
        learnable=lambda params: ("slope",),
    ),
    Activation(
        "rrelu",
        elementwise.rrelu,
        "z where z > 0, slope * z elsewhere; in training the slope is drawn from [lower, upper)",
        "Xu et al. 2015, arXiv:1505.00853",
        _REALS,
        "(lower + upper) / 2, the left side",
        kinks=(0.0,),
        params={"lower": 0.125, "upper": 1 / 3},
        drawn=elementwise.rrelu_drawn,
    ),
    Activation(
        "elu",
        elementwise.elu,
        "z where z > 0, alpha * (exp(z) - 1) elsewhere",
        "Clevert, Unterthiner & Hochreiter 2015, arXiv:1511.07289",
        "(-alpha, inf)",
        "alpha, the left side; 0 is a kink unless alpha = 1",
        params={"alpha": 1.0},
    ),
    Activation(
        "celu",
        elementwise.celu,
        "z where z > 0, alpha * (exp(z / alpha) - 1) elsewhere",
        "Barron 2017, arXiv:1704.07483",
        "(-alpha, inf)",
        _SMOOTH.format(1),
        params={"alpha": 1.0},
    ),
    Activation(
        "selu",
        elementwise.selu,
        "s * z where z > 0, s * a * (exp(z) - 1) elsewhere; s = 1.05070, a = 1.67326",
        "Klambauer et al. 2017, arXiv:1706.02515",
        "(-1.7581, inf)",
        "s * a = 1.7581, the left side",
        kinks=(0.0,),
    ),
    Activation(
        "gelu",
        elementwise.gelu,
        "z * Phi(z); approximate: z / 2 * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 * z^3)))",
        "Hendrycks & Gimpel 2016, arXiv:1606.08415",
        "[-0.1700, inf)",
        _SMOOTH.format(0.5),
        monotone=False,
        params={"approximate": False},
    ),
    Activation(
        "swish",
        elementwise.swish,
        "z * sigmoid(beta * z)",
        _SWISH,
        "[-0.2785, inf)",
        _SMOOTH.format(0.5),
        monotone=False,
        params={"beta": 1.0, "learnable": False},
        learnable=_learns("beta", default=False),
    ),
    Activation(
        "silu",
        elementwise.swish,
        "z * sigmoid(z)",
        "Elfwing, Uchibe & Doya 2017, arXiv:1702.03118",
        "[-0.2785, inf)",
        _SMOOTH.format(0.5),
        monotone=False,
    ),
    Activation(
        "hard_swish",
        elementwise.hard_swish,
        "z * min(max(z + 3, 0), 6) / 6",
        "Howard et al. 2019 (MobileNetV3), arXiv:1905.02244",
        "[-0.375, inf)",
        "0.5; f'(-3) = 0, the flat side; f'(3) = 1.5, the left side",
        kinks=(-3.0, 3.0),
        monotone=False,
    ),
    Activation(
        "mish",
        elementwise.mish,
        "z * tanh(log(1 + exp(z)))",
        "Misra 2019, arXiv:1908.08681",
        "[-0.3088, inf)",
        _SMOOTH.format(0.6),
        monotone=False,
    ),
    Activation(
        "hard_shrink",
        further.hard_shrink,
        "z where |z| > threshold, 0 elsewhere",
        "torch.nn.Hardshrink",
        _REALS,
        "0, the flat part; it jumps at both thresholds",
        kinks=(-0.5, 0.5),
        params={"threshold": 0.5},
    ),
    Activation(
        "soft_shrink",
        further.soft_shrink,
        "sign(z) * max(|z| - threshold, 0)",
        "Donoho 1995, IEEE Trans. Inf. Theory 41:613",
        _REALS,
        "0, the flat part",
        kinks=(-0.5, 0.5),
        params={"threshold": 0.5},
    ),
    Activation(
        "tanh_shrink",
        further.tanh_shrink,
        "z - tanh(z)",
        "torch.nn.Tanhshrink",
        _REALS,
        _SMOOTH.format(0),
    ),
    Activation(
        "threshold",
        further.threshold,
        "z where z > threshold, value elsewhere",
        "Konda, Memisevic & Krueger 2014, arXiv:1402.3337",
        "{0} and (1, inf)",
        "0, the flat side; it jumps at the threshold",
        kinks=(1.0,),
        params={"threshold": 1.0, "value": 0.0},
    ),
    Activation(
        "squareplus",
        further.squareplus,
        "(z + sqrt(z^2 + b)) / 2",
        "Barron 2021, arXiv:2112.11687",
        "(0, inf)",
        _SMOOTH.format(0.5),
        params={"b": 4.0},
    ),
    Activation(
        "sparse_plus",
        further.sparse_plus,
        "0 up to -1, (z + 1)^2 / 4 up to 1, z beyond",
        "jax.nn.sparse_plus; Martins & Astudillo 2016, arXiv:1602.02068",
        "[0, inf)",
        _SMOOTH.format(0.5),
    ),
    Activation(
        "sparse_sigmoid",
        further.sparse_sigmoid,
        "min(max((z + 1) / 2, 0), 1)",
        "Martins & Astudillo 2016, arXiv:1602.02068",
        "[0, 1]",
        "0.5; f'(-1) = f'(1) = 0, the flat sides",
        kinks=(-1.0, 1.0),
    ),
    Activation(
        "golu",
        further.golu,
        "z * exp(-exp(-z))",
        "Das et al. 2025, arXiv:2502.03654",
        "[-0.0973, inf)",
        _SMOOTH.format(0.3679),
        monotone=False,
    ),
    Activation(
        "telu",
        further.telu,
        "z * tanh(exp(z))",
        "Fernandez & Mali 2024, arXiv:2412.20269",
        "[-0.3533, inf)",
        _SMOOTH.format(0.7616),
        monotone=False,
    ),
    Activation(
        "colu",
        further.colu,
        "z / (1 - z * exp(-(z + exp(z))))",
        "Vagerwal 2021, arXiv:2112.12078",
        "[-0.3772, inf)",
        _SMOOTH.format(1),
        monotone=False,
    ),
    Activation(
        "smish",
        further.smish,
        "z * tanh(log(1 + sigmoid(z)))",
        "Wang, Ren & Wang 2022, Electronics 11:540",
        "[-0.2500, inf)",
        _SMOOTH.format(0.3846),
        monotone=False,
    ),
    Activation(
        "serf",
        further.serf,
        "z * erf(log(1 + exp(z)))",
        "Nag & Bhattacharyya 2021, arXiv:2108.09598",
        "[-0.3484, inf)",
        _SMOOTH.format(0.673),
        monotone=False,
    ),
    Activation(
        "erf_act",
        further.erf_act,
        "z * erf(alpha * exp(beta * z))",
        "Biswas et al. 2021, arXiv:2109.04386",
        "[-0.4053, inf)",
        _SMOOTH.format("erf(alpha) = 0.7112"),
        monotone=False,
        params={"alpha": 0.75, "beta": 0.75, "learnable": True},
        learnable=_learns("alpha", "beta"),
    ),
    Activation(
        "star_relu",
        further.star_relu,
        "scale * max(z, 0)^2 + shift",
        "Yu et al. 2022, arXiv:2210.13452",
        "[-0.4472, inf)",
        _SMOOTH.format(0),
        params={"scale": 0.8944, "shift": -0.4472, "learnable": True},
        learnable=_learns("scale", "shift"),
    ),
    Activation(
        "snake",
        further.snake,
        "z + sin(frequency * z)^2 / frequency",
        "Ziyin, Hartwig & Ueda 2020, arXiv:2006.08195",
        _REALS,
        _SMOOTH.format(1),
        params={"frequency": 1.0, "learnable": False},
        learnable=_learns("frequency", default=False),
    ),
    Activation(
        "penalized_tanh",
        further.penalized_tanh,
        "tanh(z) where z > 0, slope * tanh(z) elsewhere",
        "Xu, Huang & Li 2016, arXiv:1602.05980",
        "(-0.25, 1)",
        "slope, the left side",
        kinks=(0.0,),
        params={"slope": 0.25},
    ),
    Activation(
        "xielu",
        further.xielu,
        "a z^2 + beta z where z > 0, c (exp(z) - 1 - z) + beta z elsewhere; a, c by softplus",
        "Huang & Schlag 2024, arXiv:2411.13010",
        "[-0.2058, inf)",
        _SMOOTH.format("beta = 0.5"),
        monotone=False,
        params={"rho_p": 0.2033823, "rho_n": -1.0502256, "beta": 0.5, "learnable": True},
        learnable=_learns("rho_p", "rho_n"),
    ),
    Activation(
        "rational",
        further.rational,
        "(p0 + p1 z + ... + p5 z^5) / (1 + |q1 z + ... + q4 z^4|)",
        "Molina, Schramowski & Kersting 2019, arXiv:1907.06732",
        _REALS,
        "p1 + p0 * q1, the left side",
        kinks=(-0.2853079538, 0.0),
        monotone=False,
        params={
            "p0": 0.02996348,
            "p1": 0.61690165,
            "p2": 2.37539147,
            "p3": 3.06608078,
            "p4": 1.52474449,
            "p5": 0.25281987,
            "q1": 1.19160814,
            "q2": 4.40811795,
            "q3": 0.91111034,
            "q4": 0.34885983,
            "learnable": True,
        },
        learnable=_learns("p0", "p1", "p2", "p3", "p4", "p5", "q1", "q2", "q3", "q4"),
    ),
    Activation(
        "softmax",
        across.softmax,
        "exp(z_j) / sum_k exp(z_k)",
        "Bridle 1990",
        "(0, 1)",
        "Jacobian diag(a) - a a^T; differentiable everywhere",
        monotone=False,
        units="vector",
        abs_derivative=across.softmax_abs_derivative,
    ),
    Activation(
        "log_softmax",
        across.log_softmax,
        "z_j - log(sum_k exp(z_k))",
        "Bridle 1990",
        "(-inf, 0)",
        "Jacobian I - 1 a^T with a the softmax; differentiable everywhere",
        monotone=False,
        units="vector",
        abs_derivative=across.log_softmax_abs_derivative,
    ),
    Activation(
        "maxout",
        across.maxout,
        "max over `pieces` inputs",
        "Goodfellow et al. 2013, arXiv:1302.4389",
        _REALS,
        "1 for the largest piece; n that tie share it, 1/n each",
        params={"pieces": 2},
        units="maxout",
    ),
    Activation(
        "glu",
        across.glu,
        "v * sigmoid(g), [v, g] = z",
        "Dauphin et al. 2016, arXiv:1612.08083",
        _REALS,
        "0.5 in v, v / 4 in g; differentiable everywhere",
        monotone=False,
        units="gated",
    ),
    Activation(
        "swiglu",
        across.swiglu,
        "v * g * sigmoid(g), [v, g] = z",
        _GLU,
        _REALS,
        "0 in v, v / 2 in g; differentiable everywhere",
        monotone=False,
        units="gated",
    ),
    Activation(
        "geglu",
        across.geglu,
        "v * g * Phi(g), [v, g] = z",
        _GLU,
        _REALS,
        "0 in v, v / 2 in g; differentiable everywhere",
        monotone=False,
        units="gated",
    ),
    Activation(
        "reglu",
        across.reglu,
        "v * max(g, 0), [v, g] = z",
        _GLU,
        _REALS,
        "0 in v, 0 in g: the flat side of the gate",
        kinks=(0.0,),
        monotone=False,
        units="gated",
    ),
)


def _traced_once(entry: Activation) -> Activation:
    """Return the activation with its function jitted: JAX then traces it, and its derivative, once
    for each shape rather than wherever it acts. What is compiled is the same."""
    static = [name for name, default in entry.params.items() if not isinstance(default, float)]
    return replace(entry, fn=jax.jit(entry.fn, static_argnames=static))


ACTIVATIONS: dict[str, Activation] = {entry.name: _traced_once(entry) for entry in _ENTRIES}


def get(name: str, path: str = "act") -> Activation:
    """Return the activation of that name.

    Args:
        name: as in `act=<name>`.
        path: the config path, for the message of an error.

    Raises:
        UserError: the name is unknown; the message suggests the nearest one.
    """
    if name not in ACTIVATIONS:
        raise unknown_name(path, name, ACTIVATIONS)
    return ACTIVATIONS[name]


def bind(act: Mapping[str, Any], path: str = "act") -> tuple[Activation, dict[str, Any]]:
    """Return the activation that a run's `act` names, with the value of each of its parameters.

    Args:
        act: the config's mapping: `name` or `_target_`, and any parameters; those that it leaves
            out take their defaults. What it has in `by_layer` isn't looked at.
        path: its config path, for the message of an error.

    Returns:
        The activation, and its parameters by name.

    Raises:
        UserError: an unknown name or parameter, a value of the wrong type, or a bad `_target_`.

    >>> activation, params = bind({"name": "leaky_relu", "slope": 0.1})
    >>> activation.fn(z, **params)  # doctest: +SKIP
    """
    if transform_of(act):
        spec, params = bind(untransformed(act), path)
        scales = {key: act.get(key, usual) for key, usual in {TARGET: 0.0, **IDENTITY}.items()}
        return rescaled(spec, transform_of(act), path), {**params, **scales}
    if "formula" in act:
        return bind_formula(act)
    params = {key: value for key, value in act.items() if key not in _NO_PARAMS}
    target = act.get("_target_")
    if act.get("mix"):
        activation = mixed([_part(part) for part in act["mix"]])
    else:
        activation = custom(target, params) if target else get(act["name"], path)
    check_params(activation.name, params, activation.params, path)
    return activation, {**activation.params, **params}


def _part(act: Mapping[str, Any]) -> Part:
    """Return a part of a mixed activation: numbers of the members stand as None in its `act`."""
    numbers = tuple(key for key, value in act.items() if value is None and key not in _NO_PARAMS)
    spec, params = bind({key: value for key, value in act.items() if key not in numbers})
    return Part(spec, {k: v for k, v in params.items() if k not in numbers}, numbers)
