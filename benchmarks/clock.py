"""A callback that tells when the first training step was done."""

import time
from collections.abc import Mapping
from pathlib import Path

from actsweep.callbacks import Callback
from actsweep.callbacks.base import EarlyStop, Hook


def first_step(file: str, began: float) -> Callback:
    """Note in `file` how many seconds after `began` (Unix time) it was, and end the training."""

    def hook() -> Hook:
        def look(step: int, epoch: float, readings: Mapping[str, float]) -> EarlyStop | None:
            if not step:
                return None
            Path(file).write_text(str(time.time() - began))
            return EarlyStop("timed")

        return look

    return Callback(hook=hook)
