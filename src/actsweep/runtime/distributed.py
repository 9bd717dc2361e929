"""Process group for distributed training: a coordinator, its workers, and their messages.

Process 0 is the coordinator: it alone plans, takes leases, writes and decides. The others are
workers: they make the same calls on their own devices, in the same order. They receive what the
coordinator decides through the key-value store of JAX's coordination service, which doesn't use the
devices.
"""

import contextlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

from actsweep.config.schema import TrainerConfig
from actsweep.runtime.signals import Interrupted
from actsweep.runtime.supervisor import supervise
from actsweep.utils.errors import LocalError, UserError
from actsweep.utils.invocation import train_command

PREEMPTED = 75
JOIN_S, HEARTBEAT_S, LEAVE_S = 120, 30, 10
"""Seconds to wait for other processes: at the start, for a heartbeat, at the end."""
LOOK_UP_S = 20
"""Seconds to look for a host's name."""
RECEIVE_MS = 24 * 3600 * 1000  # if the coordinator dies, an error comes at once
KEPT = 1_000  # messages that a worker may lag behind


class ProcessLost(Interrupted):
    """Another process is gone; the runs go on from checkpoints when all are started again."""

    def __init__(self, why: str) -> None:
        KeyboardInterrupt.__init__(self, why)


class ProcessGroup:
    """Processes that train distributed, as this one sees them; alone until it joins others.

    Attributes:
        rank: the index of this process.
        count: the number of processes.
        lost: why the group can't go on; empty as long as it can.
    """

    def __init__(self) -> None:
        self.rank, self.count, self.lost = 0, 1, ""
        self._client: Any = None
        self._messages = 0  # sent or received so far

    @property
    def alone(self) -> bool:
        """Return whether there are no other processes."""
        return self._client is None

    @property
    def is_coordinator(self) -> bool:
        """Return whether this process decides and writes."""
        return self.rank == 0

    def join(self, trainer: TrainerConfig) -> None:
        """Join the other processes, if the config asks for several; call it before using a device.

        Raises:
            UserError: the config asks for SLURM, but srun didn't start this process; or process 0
                can't be found.
        """
        self.rank, self.count = process_index(trainer)
        if self.count == 1 or not self.alone:
            return
        check_host(trainer)
        who = f"process {self.rank} of {self.count}"
        again = "start all again: what is saved goes on"
        supervise(f"{who}: another process is gone, or never came; {again}", PREEMPTED)
        import jax
        from jax._src import distributed

        from actsweep.runtime.devices import set_up_devices

        jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is ours
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        set_up_devices()
        jax.distributed.initialize(
            **_addresses(trainer),
            initialization_timeout=int(os.environ.get("ACTSWEEP_JOIN_S", JOIN_S)),
            heartbeat_timeout_seconds=HEARTBEAT_S,
            shutdown_timeout_seconds=LEAVE_S,
        )
        if trainer.distributed == "slurm" and _has_its_node():
            for kind in ("cuda", "rocm"):  # JAX assumes that a process has one GPU
                jax.config.update(f"jax_{kind}_visible_devices", "all")
        jax.devices()  # all start their backends now: none waits later for one that has failed
        self._client = distributed.global_state.client

    def send(self, value: Any) -> None:
        """Send the workers a value that JSON can hold."""
        self._client.key_value_set(f"actsweep/{self._messages}", json.dumps(value))
        self._messages += 1
        if self._messages > KEPT:
            self._client.key_value_delete(f"actsweep/{self._messages - KEPT}")

    def receive(self) -> Any:
        """Return the next value that the coordinator sends.

        Raises:
            ProcessLost: the coordinator is gone.
        """
        try:
            text = self._client.blocking_key_value_get(f"actsweep/{self._messages}", RECEIVE_MS)
        except Exception as error:
            raise self.declare_lost(error) from error
        self._messages += 1
        return json.loads(text)

    def broadcast(self, value: Any) -> Any:
        """Return the coordinator's `value`, in every process."""
        if self.alone:
            return value
        if not self.is_coordinator:
            return self.receive()
        self.send(value)
        return value

    def declare_lost(self, error: BaseException) -> ProcessLost:
        """Return the exception that ends this process, since `error` shows that others are gone."""
        self.lost = str(error).partition("\n")[0]
        return ProcessLost(f"another process is gone ({type(error).__name__}: {self.lost})")

    @contextlib.contextmanager
    def coordinating(self, trainer: TrainerConfig) -> Iterator[None]:
        """Join the group, and end the workers afterwards."""
        self.join(trainer)
        try:
            yield
        finally:
            if not self.alone and not self.lost:
                self.send(None)
                self.leave()

    def leave(self) -> None:
        """Leave the group; no device may be used afterwards."""
        import jax

        jax.distributed.shutdown()
        self._client = None


def process_index(trainer: TrainerConfig) -> tuple[int, int]:
    """Return the index of this process, and the number of processes.

    Raises:
        UserError: `trainer.distributed=slurm` outside of srun.
    """
    if trainer.distributed is None:
        return 0, 1
    if trainer.distributed != "slurm":
        assert trainer.process is not None
        assert trainer.processes is not None
        return trainer.process, trainer.processes
    try:
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
    except (KeyError, ValueError) as error:
        raise UserError(
            "trainer.distributed=slurm: this process was not started by srun; type for example "
            f"srun -n 2 {train_command()} …, or hydra/launcher=slurm slurm.nodes=2"
        ) from error


def check_host(trainer: TrainerConfig) -> None:
    """Check that the name of the host of process 0 can be found; JAX would try for minutes.

    Raises:
        LocalError: it can't.
    """
    by_hand = trainer.distributed != "slurm"
    address = (by_hand and trainer.distributed) or os.environ.get("JAX_COORDINATOR_ADDRESS")
    # Of SLURM's `node[07-12],other` the first is node07.
    first = re.sub(r"\[(\w+).*", r"\1", os.environ.get("SLURM_STEP_NODELIST", ""))
    host = address.rpartition(":")[0].strip("[]") if address else first.partition(",")[0]
    found: list[Any] = []
    looking = threading.Thread(target=lambda: found.extend(_addresses_of(host)), daemon=True)
    looking.start()  # a look-up knows no time-out
    looking.join(LOOK_UP_S)
    if host and not found:
        fix = (
            "trainer.distributed=10.0.0.7:8476"
            if by_hand
            else "JAX_COORDINATOR_ADDRESS=10.0.0.7:8476"
        )
        raise LocalError(
            f"trainer.distributed={trainer.distributed}: {socket.gethostname()} doesn't know the "
            f"host name {host} of process 0; give its address, for example {fix}"
            f"{'' if by_hand else ' before srun'}"
        )


def _addresses_of(host: str) -> list[Any]:
    try:
        return socket.getaddrinfo(host, None)
    except OSError:
        return []


def _addresses(trainer: TrainerConfig) -> dict[str, Any]:
    if trainer.distributed != "slurm":
        return {
            "coordinator_address": trainer.distributed,
            "num_processes": trainer.processes,
            "process_id": trainer.process,
            "cluster_detection_method": "deactivate",
        }
    return {"cluster_detection_method": "slurm"}


def _has_its_node() -> bool:
    """Return whether this is the only task of its SLURM job step on its node."""
    return os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[0] == "1"
