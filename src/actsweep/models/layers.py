"""Where `actsweep.nn.models.layers` was in version 0.1."""

from actsweep.nn.models.layers import Act, Capture, Conv, Dense, Make, apply

Tap = Capture

__all__ = ["Act", "Capture", "Conv", "Dense", "Make", "Tap", "apply"]
