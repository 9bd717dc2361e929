"""Who trains which run: never two processes one run, on whatever hosts, without a lock service.

A process that trains has an *owner* file, `<outputs>/.alive/<host>-<pid>-<token>`, and touches it
every few seconds. Its *lease* on a run is a symbolic link to that file,
`<outputs>/.claims/<run_id>.<number>`. The lease with the highest number counts, as long as its
owner is alive.

Every decision is the exclusive creation of the next number: to take over the lease of a dead owner,
to renew a lease that is in doubt, and to release a run. On every POSIX file system a symbolic link
is made whole or not at all, and only where there is none. So of all processes that race for a
number exactly one gets it, even on NFS with an outdated listing of the folder. No lease is ever
moved or pointed elsewhere. A lease is removed only if a later one has replaced it, or, by hand, if
it is one of the `orphans`.

Times are the file server's: owner files are compared with a file that was touched just now.
"""

import contextlib
import json
import os
import secrets
import socket
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from actsweep.runs.run_dir import RunDir
from actsweep.utils.errors import UserError
from actsweep.utils.files import write_json
from actsweep.utils.provenance import slurm_job

BEAT = 5.0  # seconds between two touches of an owner file
EXPIRES = 60.0  # seconds without one, after which its owner counts as dead
RELEASED = "nobody"  # where the lease of a released run points; there is no such file


@dataclass(frozen=True)
class Owner:
    """A process that owns runs.

    Attributes:
        host, pid: where it runs.
        sweep: the sweep that it trains.
        started: when it began to own runs, in ISO 8601.
        job: the SLURM batch job in which it runs, such as `12_3`; empty for none.
    """

    host: str
    pid: int
    sweep: str
    started: str
    job: str = ""


class Leases:
    """The runs that this process may train; a context manager that frees them when it ends.

    Two objects of one process exclude each other like two processes.

    Args:
        outputs: `paths.outputs`; created if it is missing.
        sweep: the name of the sweep; others that find a run taken report it.
        beat: seconds between two touches of the owner file.
        expires: seconds without a touch after which others may take the runs over.

    Raises:
        UserError: the folder can't be written.
    """

    def __init__(
        self, outputs: Path, sweep: str, beat: float = BEAT, expires: float = EXPIRES
    ) -> None:
        self._outputs, self._sweep, self._expires = Path(outputs), sweep, expires
        self._numbers: dict[str, int] = {}
        self._lost: set[str] = set()
        self._lock = threading.Lock()
        self._doubt, self._ended = threading.Event(), threading.Event()
        self._beaten = _clock()
        with _as_user_error(self._outputs):
            self._owner_file = self._new_owner_file()
        self._thread = threading.Thread(
            target=self._keep_beating, args=(beat,), name="actsweep-leases", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> "Leases":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def take(self, run_ids: Sequence[str]) -> set[str]:
        """Take the runs that nobody owns, or whose owner is dead.

        Returns:
            Those of `run_ids` that this process owns now; living processes own the others.

        Raises:
            UserError: the file system has no symbolic links, or can't be written.
        """
        wanted = set(run_ids) - self._numbers.keys()
        with _as_user_error(self._outputs):
            now = self._beat()
            # All leases are read before the first owner is judged. The other way round, an owner
            # that comes back to life in between and renews its lease would lose it.
            newest = _newest(self._outputs, wanted)
            held = _held(newest, now, self._expires)
            last = {run: number for run, (number, _) in newest.items() if run not in held}
            ours = self._make(last | dict.fromkeys(wanted - newest.keys(), 0))
        self._lost -= ours
        return ours | (set(run_ids) & self._numbers.keys())

    def release(self, run_ids: Iterable[str]) -> None:
        """Release runs; those that this process doesn't own are left alone."""
        released = {run: self._numbers.pop(run) for run in set(run_ids) & self._numbers.keys()}
        with contextlib.suppress(OSError):  # they are free when this process ends
            _make_next(self._outputs, released, RELEASED)

    def lost(self) -> set[str]:
        """Return the runs lost because this process was suspended or its owner file deleted.

        The call is cheap as long as neither has happened. Otherwise each lease is renewed. A run
        is lost if another process has taken it meanwhile, or if its lease can't be written; it
        stays lost unless `take` gets it back.
        """
        late = _clock() - self._beaten > self._expires / 2
        if self._numbers and (late or self._doubt.is_set()):
            last, self._numbers = self._numbers, {}
            kept: set[str] = set()
            with contextlib.suppress(OSError):
                self._beat()  # before the leases: from here on nobody may judge this owner dead
                self._doubt.clear()
                kept = self._make(last)
            self._lost |= last.keys() - kept
        return set(self._lost)

    def close(self) -> None:
        """Free all runs at once by removing the owner file, and end the thread."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._owner_file.unlink()
        self._numbers = {}

    def _make(self, last: Mapping[str, int]) -> set[str]:
        ours = _make_next(self._outputs, last, f"../.alive/{self._owner_file.name}")
        self._numbers |= {run: last[run] + 1 for run in ours}
        return ours

    def _new_owner_file(self) -> Path:
        """Write an owner file under a new name: NFS clients remember that names were missing."""
        host, pid = socket.gethostname(), os.getpid()
        path = _alive(self._outputs) / f"{host}-{pid}-{secrets.token_hex(4)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "host": host,
            "machine": _machine(),
            "pid": pid,
            "began": _began(pid),
            "sweep": self._sweep,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "job": slurm_job(),
        }
        write_json(path, about)
        return path

    def _beat(self) -> float:
        """Touch the owner file, and return the file server's time.

        If the file was missing, or was last touched long ago, the leases are in doubt. Its own time
        shows how long ago, even if the whole machine stood still, its clocks included.
        """
        with self._lock:
            clock = _clock()
            try:
                before = _read_owner(self._owner_file)[0]
                os.utime(self._owner_file)
                now = _read_owner(self._owner_file)[0]
            except FileNotFoundError:
                self._doubt.set()
                self._owner_file = self._new_owner_file()
                now = before = _read_owner(self._owner_file)[0]
            if now - before > self._expires / 2:
                self._doubt.set()
            self._beaten = clock
            return now

    def _keep_beating(self, beat: float) -> None:
        while not self._ended.wait(beat):
            with contextlib.suppress(OSError):  # the next touch may succeed; `lost` checks
                self._beat()


def owner_of(run: RunDir, expires: float = EXPIRES) -> Owner | None:
    """Return the living process that owns a run, if any; nothing that it writes stays on disk."""
    return owners(run.root, [run.run_id], expires).get(run.run_id)


def owners(
    outputs: Path, run_ids: Iterable[str] | None = None, expires: float = EXPIRES
) -> dict[str, Owner]:
    """Return the owners of `run_ids`, or of all runs, by run id; free runs are left out."""
    newest = _newest(outputs, run_ids)
    if not newest:
        return {}
    return _held(newest, _server_time(outputs), expires)


def living_owners(outputs: Path, expires: float = EXPIRES) -> list[Owner]:
    """Return the processes that train, or wait for jobs that do, whatever runs they own."""
    now = _server_time(outputs)
    files = sorted(_alive(outputs).iterdir()) if _alive(outputs).is_dir() else []
    return [held for path in files if (held := _living(path, now, expires))]


def orphans(outputs: Path, expires: float = EXPIRES) -> list[Path]:
    """Return the leases and owner files that dead processes left, to be removed in this order."""
    now, listed = _server_time(outputs), _numbers(outputs)
    newest = _newest(outputs, listed)
    dead = newest.keys() - _held(newest, now, expires).keys()
    links = [_lease(outputs, run, number) for run in sorted(dead) for number in listed[run]]
    files = sorted(_alive(outputs).iterdir()) if _alive(outputs).is_dir() else []
    return links + [path for path in files if not _living(path, now, expires)]


def _alive(outputs: Path) -> Path:
    return Path(outputs) / ".alive"


def _lease(outputs: Path, run_id: str, number: int) -> Path:
    return Path(outputs) / ".claims" / f"{run_id}.{number}"


def _numbers(outputs: Path) -> dict[str, list[int]]:
    """Return the numbers of all leases on each run, ascending."""
    numbers: dict[str, list[int]] = defaultdict(list)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(Path(outputs) / ".claims"):
            run, _, number = name.rpartition(".")
            if number.isdecimal():
                numbers[run].append(int(number))
    return {run: sorted(of_run) for run, of_run in numbers.items()}


def _newest(outputs: Path, run_ids: Iterable[str] | None) -> dict[str, tuple[int, Path]]:
    """Return each run's newest lease: its number, and the path of its owner file."""
    listed = _numbers(outputs)
    newest = {}
    for run in listed.keys() if run_ids is None else listed.keys() & set(run_ids):
        number = listed[run][-1]
        # A lease that was replaced and removed just now was dead: the next number is refused.
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(_lease(outputs, run, number))
            newest[run] = number, _alive(outputs) / Path(target).name
    return newest


def _make_next(outputs: Path, last: Mapping[str, int], target: str) -> set[str]:
    """Make the lease after number `last` of each run; return the runs for which that succeeded.

    A new lease counts only if it is still the highest and the one before it exists. Numbers that a
    later lease has replaced are removed, so a slow process could make one of them again.
    """
    if not last:
        return set()
    (Path(outputs) / ".claims").mkdir(parents=True, exist_ok=True)
    made = {run for run, number in last.items() if _link(target, _lease(outputs, run, number + 1))}
    listed = _numbers(outputs)
    ours = set()
    for run in made:
        number, numbers = last[run] + 1, listed.get(run, [])
        if numbers[-2:] == ([number - 1, number] if number > 1 else [1]):
            ours.add(run)
            stale = numbers[:-2]
        else:
            stale = [number]
        for old in stale:
            _lease(outputs, run, old).unlink(missing_ok=True)
    return ours


def _link(target: str, link: Path) -> bool:
    try:
        os.symlink(target, link)
    except FileExistsError:
        # An NFS client repeats a request whose answer was lost.
        with contextlib.suppress(FileNotFoundError):  # a later lease replaced it just now
            return os.readlink(link) == target
        return False
    return True


def _held(newest: Mapping[str, tuple[int, Path]], now: float, expires: float) -> dict[str, Owner]:
    """Return the living owners of the runs that have one; each file is read once."""
    living = {path: _living(path, now, expires) for path in {path for _, path in newest.values()}}
    return {run: held for run, (_, path) in newest.items() if (held := living[path])}


def _living(path: Path, now: float, expires: float) -> Owner | None:
    """Return the owner whose file this is, or None if it is dead."""
    try:
        beaten, about = _read_owner(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if now - beaten > expires:
        return None
    if about.get("machine") == _machine() and not _lives(about["pid"], about["began"]):
        return None
    texts = [str(about.get(key, "?")) for key in ("host", "sweep", "started")]
    job = str(about.get("job", ""))  # older versions don't write it
    return Owner(texts[0], int(about.get("pid", 0)), texts[1], texts[2], job)


def _read_owner(path: Path) -> tuple[float, dict[str, Any]]:
    """Return when an owner file was last touched, and its content; {} if it may not be read.

    The file is opened since NFS then asks the server; times of a closed file may be outdated.
    """
    try:
        with open(path) as file:
            beaten = os.fstat(file.fileno()).st_mtime
            try:
                return beaten, json.loads(file.read())
            except ValueError:
                return beaten, {}
    except PermissionError:
        return os.stat(path).st_mtime, {}


def _server_time(outputs: Path) -> float:
    """Return the file server's time, from a temporary file; this machine's if none can be made."""
    try:
        with tempfile.TemporaryFile(dir=_alive(outputs)) as probe:
            os.utime(probe.fileno())  # NFS may keep something else in the times of a new file
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()


def _machine() -> list[str]:
    """Return what processes share that see each other's process ids: one boot, one container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        boot, space = f"{uuid.getnode():012x}", ""
    return [socket.gethostname(), boot, space]


def _lives(pid: int, began: str | None) -> bool:
    """Return whether the process that began then still lives on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's, which may be hidden; then only its heartbeat counts
    current = _began(pid)
    return current is None or current == began


def _began(pid: int) -> str | None:
    """Return when a process began; "" if it is a zombie; None if it is hidden.

    The unit is the kernel's ticks where possible: psutil's time moves when the clock is set.
    """
    try:
        state, *later = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else later[18]
    except OSError:
        pass
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.Error:
        return None


def _clock() -> float:
    """Return seconds of a clock that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@contextlib.contextmanager
def _as_user_error(outputs: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"paths.outputs={outputs}: can't record which runs are being trained, which needs "
            f"files and symbolic links there: {error.strerror or error}; type for example "
            "paths.outputs=/some/folder, on another file system"
        ) from error
