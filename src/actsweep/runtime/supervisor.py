"""A supervisor: a parent process that reports in one line why its child has died.

When a process of a group is lost, JAX aborts the others with a page of C++ text, and an aborted
process can't print a message of its own. No jax.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from actsweep.runtime.signals import ENDING

DYING = b"Terminating process because the JAX distributed service detected fatal errors"
RELATED = (b"coordination_service", b"GRPC error", b":UNKNOWN:")
PR_SET_PDEATHSIG = 1


def supervise(line: str, code: int) -> None:
    """Go on in a child process, supervised by this one.

    The parent passes signals on, and what the child's C++ code writes to standard error; what that
    code writes to standard output is lost. The parent ends with the child's exit code, or, if JAX
    has aborted the child, prints `line` and ends with `code`.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child:
        os.close(writing)
        _forward(child)
        aborted = _pass_on(reading)
        if aborted:
            os.write(2, f"{line}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(code if aborted else status if status >= 0 else 128 - status)
    os.setpgid(0, 0)  # a terminal's signals go to the parent, which passes them on once
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(code)
    os.close(reading)
    # What Python prints goes on directly; what C++ code prints, to the parent or nowhere.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(writing, 2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    for descriptor in (writing, nowhere):
        os.close(descriptor)


def report_abort() -> None:
    """Make the parent print its line, as if JAX had aborted this process."""
    os.write(2, DYING + b"\n")


@contextlib.contextmanager
def forwarding_signals(child: int) -> Iterator[None]:
    """Pass signals that would end this process on to a child in another process group."""
    before = {number: signal.getsignal(number) for number in ENDING}
    _forward(child)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _forward(child: int) -> None:
    def pass_on(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, pass_on)


def _pass_on(reading: int) -> bool:
    """Copy the child's output until it ends, except JAX's abort; return whether JAX aborted it."""
    aborted, rest = False, b""
    while block := os.read(reading, 1 << 16):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            aborted = aborted or DYING in line
            if not aborted and not any(word in line for word in RELATED):
                os.write(2, line + b"\n")
    return aborted
