"""Where `actsweep.nn.models` was in version 0.1, for models that were written for it."""

import warnings

from actsweep.nn.models import MODELS, build

__all__ = ["MODELS", "build"]

warnings.warn("actsweep.models is now actsweep.nn.models", DeprecationWarning, stacklevel=2)
