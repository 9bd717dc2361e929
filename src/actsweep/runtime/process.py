"""State of this process: the signals it has received, and its process group. No jax."""

from dataclasses import dataclass, field
from pathlib import Path

from actsweep.runtime.distributed import ProcessGroup
from actsweep.runtime.signals import StopRequest


@dataclass
class Process:
    """Signals and process group of a process, passed to everything that trains in it.

    Attributes:
        stop: the signals that have asked it to end.
        group: the processes with which it trains.
        called: whether Python code has called the training, and goes on after it.
        folder: of the sweep that it has planned.
    """

    stop: StopRequest = field(default_factory=StopRequest)
    group: ProcessGroup = field(default_factory=ProcessGroup)
    called: bool = False
    folder: Path | None = None
