"""What theory says of an untrained run's metrics, under the names and definitions of its rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from numpy import ndarray

from actsweep.config.schema import RunConfig
from actsweep.theory.networks import input_moments, network_of, predict
from actsweep.utils.errors import UserError

QUANTITIES = ("preact_std", "cos_sim", "preact_grad_ratio")
PREFIX, SPREAD = "predicted", "predicted_sd"
PARTED = 3.0
"""Standard deviations of the networks' spread beyond which prediction and measurement part."""


def predict_untrained(run: RunConfig, x: Float[ndarray, "examples *features"]) -> dict[str, float]:
    """Return the predictions for the row of step 0, by metric name.

    `predicted/preact_std/<layer>` and `predicted/cos_sim/<layer>` are what `preact_std/<layer>` and
    `cos_sim/<layer>` measure on these examples; `predicted/preact_grad_ratio/<layer>` is
    `preact_grad_rms/<layer>` over that of the last hidden layer. `predicted_sd/preact_std/<layer>`
    is the standard deviation of `preact_std` over drawn networks of these widths. The examples
    count by their mean square and mean cosine; see `networks.predict` for the formulas.

    Args:
        run: a resolved run.
        x: the probe batch, as the network reads it.

    Raises:
        UserError: there is no theory here for such a network, or an example is missing.
    """
    network = network_of(run, math.prod(x.shape[1:]))
    if not network.plain:
        raise UserError(
            f"model={run.model.name}: the predictions of rows are for networks without skips and "
            "normalisation; type model.norm=none model.residual=false"
        )
    if len(x) < 2:
        raise UserError("trainer.probe_examples: the predictions need at least two examples")
    n = len(x)
    predictions: dict[str, float] = {}
    layers = predict(network, *input_moments(x), examples=n)
    widths = network.widths[1:]
    for i, (layer, width) in enumerate(zip(layers, widths, strict=True), 1):
        name, q = f"hidden_{i}", layer.second - network.bias**2
        shared = (layer.correlation * layer.second - network.bias**2) / q if q > 0 else 1.0
        alike = (1 + (n - 1) * shared) / n  # of which the mean over units and examples is made
        units = width * network.unit.inputs
        std = math.sqrt(max(q * (1 - alike / units), 0.0))
        predictions[f"{PREFIX}/preact_std/{name}"] = std
        predictions[f"{PREFIX}/cos_sim/{name}"] = layer.act_cosine
        ratio = layer.preact_gradient * math.sqrt(widths[-1] / width)
        predictions[f"{PREFIX}/preact_grad_ratio/{name}"] = ratio
        if layer.band is not None and std and not network.bias:
            predictions[f"{SPREAD}/preact_std/{name}"] = layer.band / (2 * std)
    return {name: value for name, value in predictions.items() if math.isfinite(value)}


@dataclass(frozen=True)
class LayerComparison:
    """Prediction and measurement of a quantity in one layer of an untrained network.

    Attributes:
        layer: its name.
        predicted: by theory.
        measured: the mean over runs.
        z: their difference in standard deviations of that mean over drawn networks; None where
            theory has no spread.
    """

    layer: str
    predicted: float
    measured: float
    z: float | None

    @property
    def parted(self) -> bool:
        """Return whether they differ by more than networks of these widths do."""
        return self.z is not None and abs(self.z) > PARTED


def predictions_in(row: Mapping[str, float]) -> dict[str, float]:
    """Return what of a row are predictions."""
    prefixes = (f"{PREFIX}/", f"{SPREAD}/")
    return {name: value for name, value in row.items() if name.startswith(prefixes)}


def compare_untrained(
    rows: Sequence[Mapping[str, float]], predictions: Mapping[str, float]
) -> dict[str, list[LayerComparison]]:
    """Return prediction beside measurement, a list a quantity, in the order of layers.

    Args:
        rows: the row of step 0 of each run; runs that share the predictions.
        predictions: from `predict_untrained`, or out of such a row.
    """
    compared: dict[str, list[LayerComparison]] = {}
    of_layers = {k: v for k, v in predictions.items() if k.startswith(f"{PREFIX}/")}
    last = f"hidden_{max(map(_layer_number, of_layers), default=0)}"
    for name, predicted in of_layers.items():
        _, quantity, layer = name.split("/")
        metric = f"{quantity}/{layer}"
        values = [_measured(row, quantity, layer, last) for row in rows]
        known = [value for value in values if value is not None and math.isfinite(value)]
        if not known:
            continue
        mean = math.fsum(known) / len(known)
        spread = predictions.get(f"{SPREAD}/{metric}")
        z = (mean - predicted) / (spread / math.sqrt(len(known))) if spread else None
        compared.setdefault(quantity, []).append(LayerComparison(layer, predicted, mean, z))
    ordered = sorted(compared, key=QUANTITIES.index)
    return {quantity: sorted(compared[quantity], key=_place) for quantity in ordered}


def _place(comparison: LayerComparison) -> int:
    return _layer_number(comparison.layer)


def _layer_number(name: str) -> int:
    return int(name.rpartition("_")[2])


def _measured(row: Mapping[str, float], quantity: str, layer: str, last: str) -> float | None:
    """Return a quantity as the callbacks have measured it; None if they haven't."""
    if quantity != "preact_grad_ratio":
        return row.get(f"{quantity}/{layer}")
    own, of_last = (row.get(f"preact_grad_rms/{name}") for name in (layer, last))
    return own / of_last if own is not None and of_last else None
