"""State of this process: the signals it has received, and its process group. No jax."""

from dataclasses import dataclass, field

from actsweep.runtime.distributed import ProcessGroup
from actsweep.runtime.signals import StopRequest


@dataclass(frozen=True)
class Process:
    """Signals and process group of a process, passed to everything that trains in it."""

    stop: StopRequest = field(default_factory=StopRequest)
    group: ProcessGroup = field(default_factory=ProcessGroup)
