"""The `theory` callback: what mean-field theory says of the untrained network, in row 0."""

import json
import logging
from dataclasses import asdict

from jaxtyping import Float
from numpy import ndarray

from actsweep.callbacks.base import Callback
from actsweep.config.schema import RunConfig
from actsweep.utils.errors import UserError

log = logging.getLogger(__name__)


def theory() -> Callback:
    """Put predictions beside the measurements of the row of step 0.

    `predicted/preact_std/<layer>`, `predicted/cos_sim/<layer>`,
    `predicted/preact_grad_ratio/<layer>`, `predicted_sd/preact_std/<layer>`: see
    `theory.predictions.predict_untrained`. A network for which there is no theory has none, and a
    warning says why.
    """
    known: dict[str, dict[str, float]] = {}

    def before(config: RunConfig, x: Float[ndarray, "n ..."]) -> dict[str, float]:
        from actsweep.theory.predictions import predict_untrained  # loads scipy.optimize: 0.4 s

        network = (config.act, asdict(config.init), asdict(config.depth), asdict(config.model))
        key = json.dumps(network, sort_keys=True)  # members often differ in the seed alone
        if key not in known:
            try:
                known[key] = predict_untrained(config, x)
            except UserError as error:
                log.warning("callbacks.theory: nothing is predicted: %s", error)
                known[key] = {}
        return known[key]

    return Callback(before=before)
