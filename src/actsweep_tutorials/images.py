"""images: the training images that the networks see. (S2)"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import plotting
from actsweep.utils.errors import bad_value
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.networks import NetworkInspector, compose_run

SHOWN = 16


def measure(params: Params) -> Quantities:
    """Return the first 16 training images as stored, their labels, and the number in each class."""
    examples = NetworkInspector().dataset(compose_run(f"data={params['data']}"))
    if examples.train_x.ndim < 4:
        raise bad_value("data", params["data"], "a set of images", "data=fashion_mnist")
    names = examples.labels or tuple(map(str, range(examples.classes or 0)))
    first = examples.train_x[:SHOWN]
    return {
        "images": first[..., 0] if first.shape[-1] == 1 else first,
        "labels": [names[label] for label in examples.train_y[:SHOWN]],
        "counts": dict(
            zip(names, np.bincount(examples.train_y, minlength=len(names)), strict=True)
        ),
        "shape": first.shape[1:],
    }


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw a 4 x 4 grid."""
    figure, flat = plotting.panels(SHOWN, 4, width=1.4, height=1.5)
    for axes, image, label in zip(flat, result["images"], result["labels"], strict=True):
        axes.imshow(image, cmap="gray")
        axes.set_title(label, fontsize=8)
        axes.set_axis_off()
    return {"grid": figure}


def tables(result: Quantities) -> Sequence[Table]:
    """Return the number of training images in each class."""
    rows = list(result["counts"].items())
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
