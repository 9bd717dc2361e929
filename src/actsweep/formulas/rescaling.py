"""The keys of an activation that `act.transform` rescales, of the catalogue or typed as a formula.

It becomes output_scale * (f(input_scale * z + input_shift) + output_shift).
"""

from collections.abc import Mapping
from typing import Any

TARGET = "transform_target"
IDENTITY = {"input_scale": 1.0, "input_shift": 0.0, "output_scale": 1.0, "output_shift": 0.0}
SCALES = tuple(IDENTITY)
TRANSFORM_KEYS = ("transform", TARGET, *SCALES)


def transform_of(act: Mapping[str, Any]) -> str | None:
    """Return the transform of a run's `act`, None for most runs."""
    return act.get("transform")


def untransformed(act: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's `act` without its transform."""
    if not transform_of(act):
        return dict(act)
    return {key: value for key, value in act.items() if key not in TRANSFORM_KEYS}


def found_by_transform(act: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which keys of a run's `act` a transform finds: they follow from all others."""
    if not transform_of(act):
        return ()
    return (*SCALES, "slope") if act.get("name") == "leaky_relu" else SCALES
