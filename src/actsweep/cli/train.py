"""`actsweep train`: what train.py does, in any folder, with the conf/ that actsweep brings."""

from collections.abc import Sequence

from actsweep.launch import entry
from actsweep.launch.train import application
from actsweep.utils.invocation import as_train


def train(words: Sequence[str]) -> int:
    """Train what the words ask for, all of which are Hydra's; the exit code."""
    as_train(words)
    return entry.guard(application())
