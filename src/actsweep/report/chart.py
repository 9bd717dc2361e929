"""What a figure of the report is: its texts, its style, the numbers that it draws. No jax."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from actsweep.report import plotting

INK = "#1a1b1c"
"""Colour of text and axes, which the page replaces by its own text colour."""
INK_PARAMS: Any = dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
)
TITLES = {
    "grad_norm": "Gradient norm",
    "dead_frac": "Share of dead units",
    "saturated_frac": "Share of saturated units",
    "cos_sim": "Cosine similarity between examples",
    "val/accuracy": "Validation accuracy, %",
    "val/mean_average_precision": "Validation mean average precision, %",
    "val/loss": "Validation loss",
    "train/loss": "Training loss",
}
HINTS = {
    "grad_norm": "L2 norm of the weights' gradient. Even rows: every layer learns; rows that fade "
    "towards the input: gradients vanish.",
    "dead_frac": "Units with |f'(z)| < 0.001 on every probed example.",
    "saturated_frac": "Share of (example, unit) pairs with |f'(z)| < 0.01.",
    "cos_sim": "Mean cosine similarity between the activations of different examples: at 1, the "
    "layer has forgotten its input.",
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw figures inside in our style, in the ink that the page replaces."""
    with plotting.use_style(), matplotlib.rc_context(INK_PARAMS):
        yield


@dataclass(frozen=True)
class Chart:
    """A figure: its file name, title and caption, and the numbers that it draws."""

    name: str
    title: str
    caption: str
    figure: Figure
    rows: Sequence[Mapping[str, Any]]
