"""images: what the networks look at. (S2)"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep.utils.errors import bad_value
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import Lab, composed

SHOWN = 16


def measure(params: Params) -> Quantities:
    """The first 16 training images as stored, their labels, and how many each class has."""
    examples = Lab().examples(composed(f"data={params['data']}"))
    if examples.train_x.ndim < 4:
        raise bad_value("data", params["data"], "a set of images", "data=fashion_mnist")
    names = examples.labels or tuple(map(str, range(examples.classes or 0)))
    first = examples.train_x[:SHOWN]
    return {
        "images": first.reshape(first.shape[:3]),
        "labels": [names[label] for label in examples.train_y[:SHOWN]],
        "counts": dict(
            zip(names, np.bincount(examples.train_y, minlength=len(names)), strict=True)
        ),
        "shape": first.shape[1:],
    }


def draw(found: Quantities) -> Mapping[str, Figure]:
    """A 4 x 4 grid."""
    figure, flat = plotting.panels(SHOWN, 4, width=1.4, height=1.5)
    for axes, image, label in zip(flat, found["images"], found["labels"], strict=True):
        axes.imshow(image, cmap="gray")
        axes.set_title(label, fontsize=8)
        axes.set_axis_off()
    return {"grid": figure}


def tables(found: Quantities) -> Sequence[Table]:
    """Training images a class."""
    rows = list(found["counts"].items())
    return [Table("Training images", ("class", "images"), rows)]


EXPERIMENT = Experiment(
    "images",
    "What do the networks look at?",
    "S2",
    measure,
    draw,
    tables,
    {"data": "fashion_mnist"},
)
