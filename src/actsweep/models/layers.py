"""Where `actsweep.nn.models.layers` was in version 0.1, under the names of then."""

from collections.abc import Callable
from typing import Any

from actsweep.nn.models.layers import Act, Conv, Dense, LayerFactory

Make = LayerFactory
Capture = Tap = Callable[[str, Any, Act], Any]


def apply(name: str, z: Any, act: Act) -> Any:
    """Apply the activation: what models of this version called `capture`."""
    del name
    return act(z)


__all__ = ["Act", "Capture", "Conv", "Dense", "LayerFactory", "Make", "Tap", "apply"]
