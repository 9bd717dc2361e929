"""Examples and their order: sources, preparation without TensorFlow, feeds. No jax in here."""

from actsweep.data.dataset import Dataset
from actsweep.data.sources import load

__all__ = ["Dataset", "load"]
