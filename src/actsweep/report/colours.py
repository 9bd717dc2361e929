"""Colours and dashes that tell groups apart; an activation has the same ones everywhere."""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

# Okabe and Ito's colours, which colour-blind readers can tell apart, with a violet in place of the
# sky blue, which beside the blue looks like a shade of it. Each has three shades for related
# activations and for one activation with several parameters.
BLACK, GREY = "#2b2b2b", "#8a8a8a"
ORANGE, SKY, GREEN, BLUE = "#e69f00", "#56b4e9", "#009e73", "#0072b2"
RED, PINK, BROWN, VIOLET = "#d55e00", "#cc79a7", "#8c564b", "#8a3ffc"
HUES: dict[str, tuple[str, str, str, str]] = {
    "red": (RED, "#8f3f00", "#f0a36b", "#b04c00"),
    "blue": (BLUE, "#00456c", "#66a9d3", "#005a8d"),
    "green": (GREEN, "#005c43", "#6ccab0", "#007a59"),
    "orange": (ORANGE, "#946600", "#f3c968", "#b87f00"),
    "violet": (VIOLET, "#5b21b6", "#c9aef7", "#a86bf5"),
    "pink": (PINK, "#8a4a6d", "#e6b9d2", "#a95d88"),
    "brown": (BROWN, "#5a352d", "#bd9189", "#74453b"),
    "neutral": (BLACK, GREY, "#5a5a5a", "#b4b4b4"),
}
DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (7, 3), (2, 2), (9, 3, 2, 3), (14, 4), (5, 2, 1, 2))
FAMILIES: dict[str, tuple[str, ...]] = {
    "red": (
        "relu",
        "relu6",
        "squared_relu",
        "softplus",
        "star_relu",
        "squareplus",
        "sparse_plus",
        "threshold",
    ),
    "blue": (
        "tanh",
        "hard_tanh",
        "softsign",
        "penalized_tanh",
        "tanh_shrink",
        "soft_shrink",
        "hard_shrink",
    ),
    "green": ("elu", "celu", "selu", "xielu"),
    "orange": ("leaky_relu", "prelu", "rational", "snake", "rrelu"),
    "violet": ("swish", "silu", "hard_swish", "mish", "smish", "telu", "colu"),
    "pink": ("sigmoid", "hard_sigmoid", "log_sigmoid", "sparse_sigmoid"),
    "brown": ("glu", "swiglu", "geglu", "reglu"),
    "neutral": ("gelu", "identity", "maxout", "softmax", "log_softmax", "serf", "erf_act", "golu"),
}
PLACES = {act: (hue, place) for hue, acts in FAMILIES.items() for place, act in enumerate(acts)}
"""An activation's hue, and its place among the styles of that hue."""


DISTANCE = 12.0
"""Least distance (CIE76) between two groups of the same dashes, for every reader."""
# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency" (2009), severity 1: protanopia, deuteranopia, tritanopia; before them, all colours.
VISIONS = np.array(
    [
        np.eye(3),
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    ]
)
XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
) / np.array([[0.9505], [1.0], [1.089]])
"""From linear sRGB to XYZ, by the white of D65."""


@dataclass(frozen=True)
class Style:
    """How a group is drawn: its colour, and the lengths of its dashes and gaps in pixels."""

    colour: str
    dash: tuple[int, ...]


def colour(act: str) -> str:
    """Return an activation's colour; grey for one that isn't ours."""
    hue, place = PLACES.get(act, ("neutral", 1))
    return HUES[hue][place % len(HUES[hue])]


def group_styles(names: Iterable[str]) -> dict[str, Style]:
    """Return a style for each group: those with the same dashes differ clearly in colour.

    A group whose name begins with an activation has that activation's hue, and the first of each
    activation its own colour. Others go through the hues.

    Args:
        names: the groups' labels, such as `relu`, `swish beta=2` or `0.1`.
    """
    names = list(names)
    firsts = {act: name for name in reversed(names) if (act := name.split()[0]) in PLACES}
    firsts |= {name: name for name in names if name in PLACES}
    places = {name: PLACES[act] for act, name in firsts.items()}
    hues = list(HUES)
    for count, name in enumerate(names):
        hue, place = PLACES.get(name.split()[0], (hues[count % len(hues)], 0))
        while name not in places:
            if (hue, place) not in places.values():
                places[name] = (hue, place)
            place += 1
    styles: dict[str, Style] = {}
    for name in names:
        hue, place = places[name]
        shade = HUES[hue][place % len(HUES[hue])]
        styles[name] = Style(shade, _dash(shade, place, styles.values()))
    return styles


def _dash(shade: str, place: int, others: Iterable[Style]) -> tuple[int, ...]:
    """Return the next dashes that no group of a similar colour has."""
    first = place % len(DASHES)
    order = (*DASHES[first:], *DASHES[:first])
    nearest = dict.fromkeys(order, math.inf)
    for other in others:
        nearest[other.dash] = min(nearest[other.dash], distance(shade, other.colour))
    free = (dash for dash, least in nearest.items() if least >= DISTANCE)
    return next(free, max(nearest, key=lambda dash: nearest[dash]))


@functools.cache
def distance(a: str, b: str) -> float:
    """Return how far apart two colours are (CIE76), for the reader to whom they are nearest."""
    return float(np.linalg.norm(_lab(a) - _lab(b), axis=1).min())


@functools.cache
def _lab(shade: str) -> Float64[np.ndarray, "4 3"]:
    """Return a colour's CIE L*a*b*, for each of `VISIONS`."""
    srgb = np.array([*bytes.fromhex(shade[1:])]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(VISIONS @ linear, 0, 1) @ XYZ.T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
