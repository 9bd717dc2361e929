"""Where `actsweep.nn.models.layers` was in version 0.1, under the names of then."""

from actsweep.nn.models.layers import Act, Capture, Conv, Dense, LayerFactory, apply

Make, Tap = LayerFactory, Capture

__all__ = ["Act", "Capture", "Conv", "Dense", "LayerFactory", "Make", "Tap", "apply"]
