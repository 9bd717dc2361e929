"""This process: what it has been asked to do, and whom it trains with. No jax."""

from dataclasses import dataclass, field

from actsweep.runtime.distributed import ProcessGroup
from actsweep.runtime.signals import StopRequest


@dataclass(frozen=True)
class Process:
    """What a process hands down to everything that trains in it."""

    stop: StopRequest = field(default_factory=StopRequest)
    group: ProcessGroup = field(default_factory=ProcessGroup)
