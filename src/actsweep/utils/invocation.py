"""The command that was typed, and how it is typed again."""

import os
import shlex
import sys
from collections.abc import Sequence

TRAIN = "actsweep train"


def train_command() -> str:
    """What trains where the user stands: `python train.py` if that was typed, otherwise
    `actsweep train`, which is there wherever actsweep is installed."""
    return "python train.py" if os.path.basename(sys.argv[0]) == "train.py" else TRAIN


def program() -> list[str]:
    """The program of this process, as a sweep's plan records it: `train.py` or `actsweep train`."""
    return TRAIN.split() if sys.argv[0] == TRAIN else [os.path.basename(sys.argv[0])]


def typed_again(command: Sequence[str]) -> str:
    """A recorded command as one types it in a shell.

    Args:
        command: a `program` and its arguments.
    """
    script = command[0].endswith(".py")
    return shlex.join(["python", *command] if script else command)


def as_train(words: Sequence[str]) -> None:
    """Make this process `actsweep train` of some words: Hydra reads them, the sweep's plan records
    them, and the user's own code is found in the working folder, as `python train.py` finds it.
    """
    sys.argv = [TRAIN, *words]
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
