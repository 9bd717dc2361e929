"""A page for each activation of the catalogue, made of the code: facts, curves, theory."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from actsweep.activations import ACTIVATIONS
from actsweep.theory import mean_field
from actsweep.theory.card import describe_fixed_point
from actsweep.theory.critical import critical_init
from actsweep.theory.mean_field import Layer, Unit
from actsweep.theory.units import unit_of
from actsweep.utils.errors import UserError

LOW, HIGH, POINTS = -6.0, 6.0, 241
TOP, BOTTOM = 4.0, -2.0
WIDTH, HEIGHT = 480, 240
JUMP = 0.4  # between two points: the curve is cut
DEFAULT_WIDTH = 256
INITS = {
    "torch_uniform": Layer(1 / 3, 1 / (3 * DEFAULT_WIDTH)),
    "he_normal": Layer(2.0, 0.0),
}
"""sigma_w^2 and sigma_b^2 of hidden layers of that width."""


def names() -> list[str]:
    """Return the activations of the catalogue, in its order."""
    return list(ACTIVATIONS)


def activation_page(name: str) -> str:
    """Return the Markdown of one activation's page."""
    act = ACTIVATIONS[name]
    params = ", ".join(f"`act.{key}={_typed(value)}`" for key, value in act.params.items())
    rows = [
        ("formula", f"`{act.formula}`"),
        ("parameters", params or "none"),
        ("range", act.range),
        ("f'(0), and at kinks", act.zero),
        ("never decreases", "yes" if act.monotone else "no"),
        ("source", act.paper),
    ]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return "\n\n".join(
        [
            f"# {name}",
            _figure(name),
            f"| type | `act={name}` |\n|---|---|\n{table}",
            "## Before training",
            _theory(name),
            "## Type",
            f"```bash\nactsweep train -m act={name},relu seed=0,1,2\n"
            f"actsweep theory act={name} depth=10\nactsweep lint act={name}\n```",
            "[All activations](../activations.md)",
        ]
    )


def _typed(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _figure(name: str) -> str:
    """Return f and f' as an inline SVG; of units of several inputs, f over one of them."""
    act = ACTIVATIONS[name]
    z = np.linspace(LOW, HIGH, POINTS)
    if act.units == "elementwise":
        f = functools.partial(act.fn, **act.params)
        values, slopes = jax.vmap(jax.value_and_grad(f))(jnp.asarray(z, jnp.float32))
        curves = [np.asarray(values), np.asarray(slopes)]
        caption = f"{name}(z), solid, and its derivative, dashed"
    else:
        inputs = int(act.params.get("pieces", 2))
        others = jnp.ones((POINTS, inputs - 1), jnp.float32)
        own = jnp.asarray(z, jnp.float32)[:, None]
        parts = [others, own] if act.units == "gated" else [own, others]
        curves = [np.asarray(act.fn(jnp.concatenate(parts, axis=-1), **act.params))[:, 0]]
        varied = {"gated": "the gate g, where v = 1", "maxout": "one piece, the other at 1"}
        over = varied.get(act.units, "its own z, of two units, the other at 1")
        caption = f"{name} over {over}"
    lines = "".join(
        f'<path class="{kind}" d="{_path(z, curve)}"/>'
        for kind, curve in zip(("value", "derivative"), curves, strict=False)
    )
    return (
        f'<figure class="curves"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{caption}">{_axes()}{lines}</svg><figcaption>{caption}</figcaption></figure>'
    )


def _path(z: ndarray, y: ndarray) -> str:
    """Return SVG's commands for a curve; where it leaves the figure, or jumps, it is cut."""
    inside = (y >= BOTTOM - 1) & (y <= TOP + 1)
    jumps = np.abs(np.diff(y, prepend=y[0])) > JUMP
    words, drawing = [], False
    for zi, yi, shown, jump in zip(z, y, inside, jumps, strict=True):
        if shown:
            words.append(f"{'L' if drawing and not jump else 'M'}{_x(zi):.1f} {_y(yi):.1f}")
        drawing = bool(shown)
    return "".join(words)


def _axes() -> str:
    marks: list[str] = []
    for value in range(int(LOW) + 2, int(HIGH), 2):
        marks.append(
            f'<text x="{_x(value):.0f}" y="{_y(0) + 14:.0f}">{value}</text>' * (value != 0)
        )
    for value in range(int(BOTTOM) + 1, int(TOP)):
        marks.append(
            f'<text x="{_x(0) - 10:.0f}" y="{_y(value) + 4:.0f}">{value}</text>' * (value != 0)
        )
    lines = f'<path class="axis" d="M0 {_y(0):.1f}H{WIDTH}M{_x(0):.1f} 0V{HEIGHT}"/>'
    return lines + "".join(marks)


def _x(z: float) -> float:
    return (z - LOW) / (HIGH - LOW) * WIDTH


def _y(value: float) -> float:
    return (TOP - value) / (TOP - BOTTOM) * HEIGHT


def _theory(name: str) -> str:
    """Return the fixed points of mean-field theory at two inits, and the edge of chaos."""
    try:
        unit = unit_of({"name": name, **ACTIVATIONS[name].params})
    except UserError as error:
        return f"No theory here: {error}."
    if unit.inputs > 1:
        return (
            "Units of several inputs are computed by Monte Carlo: "
            f"`actsweep theory act={name} init=lecun_normal init.gain=auto depth=10`."
        )
    rows = [_row(init, unit, layer) for init, layer in INITS.items()]
    head = (
        f"Of wide layers at two inits; biases of `torch_uniform`, the default, as at width "
        f"{DEFAULT_WIDTH}. q* is the second moment of pre-activations that deep layers settle at, "
        "χ₁ the factor by which the mean square of gradients changes from layer to layer: below 1 "
        "they vanish, above 1 they explode. [Theory](../theory.md) has the formulas and sources."
    )
    table = "| `init=` | q* | χ₁ | in a deep network |\n|---|---|---|---|\n" + "\n".join(rows)
    return f"{head}\n\n{table}\n\n{_edge(name)}"


def _row(init: str, unit: Unit, layer: Layer) -> str:
    points: Sequence[mean_field.FixedPoint] = mean_field.fixed_points(unit, layer)
    start = mean_field.length_map(unit, layer, 1.0)
    point = mean_field.attractor(unit, layer, start, points)
    if point is None:
        return f"| `{init}` | none | – | second moments grow without bound |"
    found = describe_fixed_point(unit, layer, point)
    chi = found["chi_1"]
    kind = (
        "gradients keep their size"
        if math.isclose(chi, 1, abs_tol=1e-6)
        else ("gradients vanish" if chi < 1 else "gradients explode")
    )
    return f"| `{init}` | {found['q']:.4g} | {chi:.4g} | {kind} |"


def _edge(name: str) -> str:
    try:
        found = critical_init("critical", {"name": name, **ACTIVATIONS[name].params})
    except UserError as error:
        return f"No `init=critical`: {str(error).partition(f'act={name}: ')[2]}."
    return f"`{found.line.partition(': ')[0]}`: {found.line.partition(': ')[2].partition(': ')[2]}."
