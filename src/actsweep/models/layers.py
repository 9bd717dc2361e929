"""Where `actsweep.nn.models.layers` was in version 0.1, under the names of then."""

from collections.abc import Callable
from typing import Any

from actsweep.nn.models.layers import Act, Conv, Dense, LayerFactory, apply

Make = LayerFactory
Capture = Tap = Callable[[str, Any, Act], Any]

__all__ = ["Act", "Capture", "Conv", "Dense", "LayerFactory", "Make", "Tap", "apply"]
