"""Who trains which run: never two processes one run, on whatever hosts, without a lock service.

A process that trains has an *owner* file, `<outputs>/.alive/<host>-<pid>-<token>`, and touches it
every few seconds. Its *claim* on a run is a symbolic link to that file,
`<outputs>/.claims/<run_id>.<number>`. The highest number counts, as long as its owner is alive.

Every decision is one exclusive creation of the next number, by whoever takes over a dead claim, by
an owner that isn't sure any more, and to give a run up. A symbolic link is made whole or not at
all, and only where there is none, on every POSIX file system: of all that race for a number, on
NFS with whatever old listing of the folder, one gets it. No claim is ever moved or pointed
elsewhere; only those are removed that a later one has replaced, or, by hand, that are `orphans`.

Time is the file server's: owner files are compared with a file that was touched just now.
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

BEAT = 5.0  # seconds between two touches of an owner file
EXPIRES = 60.0  # seconds without one, after which its owner counts as dead
RELEASED = "nobody"  # where the claim on a run that was given up points; there is no such file


@dataclass(frozen=True)
class Owner:
    """A process that holds runs; `started` is when it began to, in ISO 8601."""

    host: str
    pid: int
    sweep: str
    started: str


class Leases:
    """The runs that this process may train; a context manager, at whose end they are free again.

    Two objects of one process exclude each other like two processes.

    Args:
        outputs: `paths.outputs`; created if it is missing.
        sweep: the name of the sweep, for those who find a run taken.
        beat: seconds between two signs of life.
        expires: seconds without one after which others may take the runs over.

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
        with _explained(self._outputs):
            self._own_file = self._appear()
        self._thread = threading.Thread(
            target=self._keep_beating, args=(beat,), name="actsweep-claims", daemon=True
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
        """Claim runs that nobody holds, or whose owner is dead.

        Returns:
            Those of `run_ids` that are ours now, or were so before; the others are held.

        Raises:
            UserError: the file system has no symbolic links, or can't be written.
        """
        wanted = set(run_ids) - self._numbers.keys()
        with _explained(self._outputs):
            now = self._beat()
            # All claims are read before the first owner is judged. The other way round, an owner
            # that comes back to life in between and renews its claim would lose it.
            newest = _newest(self._outputs, wanted)
            held = _held(newest, now, self._expires)
            last = {run: number for run, (number, _) in newest.items() if run not in held}
            ours = self._make(last | dict.fromkeys(wanted - newest.keys(), 0))
        self._lost -= ours
        return ours | (set(run_ids) & self._numbers.keys())

    def release(self, run_ids: Iterable[str]) -> None:
        """Give up runs of ours; those that aren't ours are left alone."""
        given = {run: self._numbers.pop(run) for run in set(run_ids) & self._numbers.keys()}
        with contextlib.suppress(OSError):  # they are free when this process ends
            _follow(self._outputs, given, RELEASED)

    def lost(self) -> set[str]:
        """Runs that were ours until this process was suspended, or its owner file deleted.

        Cheap as long as neither has happened. Otherwise each claim is made anew, and what somebody
        else has taken meanwhile, or can't be made, is lost: for good, unless it is taken again.
        """
        late = _clock() - self._beaten > self._expires / 2
        if self._numbers and (late or self._doubt.is_set()):
            mine, self._numbers = self._numbers, {}
            kept: set[str] = set()
            with contextlib.suppress(OSError):
                self._beat()  # before the claims: nobody may take us for dead from here on
                self._doubt.clear()
                kept = self._make(mine)
            self._lost |= mine.keys() - kept
        return set(self._lost)

    def close(self) -> None:
        """Free all runs at once, by removing the owner file; end the thread."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._own_file.unlink()
        self._numbers = {}

    def _make(self, last: Mapping[str, int]) -> set[str]:
        ours = _follow(self._outputs, last, f"../.alive/{self._own_file.name}")
        self._numbers |= {run: last[run] + 1 for run in ours}
        return ours

    def _appear(self) -> Path:
        """Make an owner file under a new name: clients of NFS remember names that were missing."""
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
        }
        write_json(path, about)
        return path

    def _beat(self) -> float:
        """Touch the owner file, and return the file server's time.

        If it had gone, or the last time was long ago, our claims are in doubt. The file knows how
        long ago, even if the whole machine stood still, its clocks included.
        """
        with self._lock:
            clock = _clock()
            try:
                before = _look(self._own_file)[0]
                os.utime(self._own_file)
                now = _look(self._own_file)[0]
            except FileNotFoundError:
                self._doubt.set()
                self._own_file = self._appear()
                now = before = _look(self._own_file)[0]
            if now - before > self._expires / 2:
                self._doubt.set()
            self._beaten = clock
            return now

    def _keep_beating(self, beat: float) -> None:
        while not self._ended.wait(beat):
            with contextlib.suppress(OSError):  # the next one may get through; `lost` looks
                self._beat()


def owner_of(run: RunDir, expires: float = EXPIRES) -> Owner | None:
    """The living process that holds a run, if there is one. Writes nothing that stays."""
    return owners(run.root, [run.run_id], expires).get(run.run_id)


def owners(
    outputs: Path, run_ids: Iterable[str] | None = None, expires: float = EXPIRES
) -> dict[str, Owner]:
    """Who holds which run, by run id; of `run_ids`, or of all. Free ones are left out."""
    newest = _newest(outputs, run_ids)
    if not newest:
        return {}
    return _held(newest, _server_time(outputs), expires)


def living_owners(outputs: Path, expires: float = EXPIRES) -> list[Owner]:
    """The processes that train, or wait for jobs of a sweep that do, whatever they hold."""
    now = _server_time(outputs)
    files = sorted(_alive(outputs).iterdir()) if _alive(outputs).is_dir() else []
    return [held for path in files if (held := _living(path, now, expires))]


def orphans(outputs: Path, expires: float = EXPIRES) -> list[Path]:
    """What dead processes have left: claims and owner files, to be removed in this order."""
    now, listed = _server_time(outputs), _numbers(outputs)
    newest = _newest(outputs, listed)
    dead = newest.keys() - _held(newest, now, expires).keys()
    claims = [_claim(outputs, run, number) for run in sorted(dead) for number in listed[run]]
    files = sorted(_alive(outputs).iterdir()) if _alive(outputs).is_dir() else []
    return claims + [path for path in files if not _living(path, now, expires)]


def _alive(outputs: Path) -> Path:
    return Path(outputs) / ".alive"


def _claim(outputs: Path, run_id: str, number: int) -> Path:
    return Path(outputs) / ".claims" / f"{run_id}.{number}"


def _numbers(outputs: Path) -> dict[str, list[int]]:
    """The numbers of all claims on each run, ascending."""
    found: dict[str, list[int]] = defaultdict(list)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(Path(outputs) / ".claims"):
            run, _, number = name.rpartition(".")
            if number.isdecimal():
                found[run].append(int(number))
    return {run: sorted(numbers) for run, numbers in found.items()}


def _newest(outputs: Path, run_ids: Iterable[str] | None) -> dict[str, tuple[int, Path]]:
    """The claim that counts on each run: its number, and where its owner file would be."""
    listed = _numbers(outputs)
    found = {}
    for run in listed.keys() if run_ids is None else listed.keys() & set(run_ids):
        number = listed[run][-1]
        # One that has just been replaced and removed was dead: the next number will be refused.
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(_claim(outputs, run, number))
            found[run] = number, _alive(outputs) / Path(target).name
    return found


def _follow(outputs: Path, last: Mapping[str, int], target: str) -> set[str]:
    """Make the claim that follows number `last` of each run, and say for which that was us.

    A claim counts only if it is still the highest, and the one before it is there: numbers that a
    later claim has replaced are removed, so somebody who was slow can make one of them again.
    """
    if not last:
        return set()
    (Path(outputs) / ".claims").mkdir(parents=True, exist_ok=True)
    made = {run for run, number in last.items() if _link(target, _claim(outputs, run, number + 1))}
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
            _claim(outputs, run, old).unlink(missing_ok=True)
    return ours


def _link(target: str, link: Path) -> bool:
    try:
        os.symlink(target, link)
    except FileExistsError:
        # NFS asks twice where the first answer was lost on its way.
        return os.readlink(link) == target
    return True


def _held(newest: Mapping[str, tuple[int, Path]], now: float, expires: float) -> dict[str, Owner]:
    """The living owners of those runs that have one; each file is read once."""
    living = {path: _living(path, now, expires) for path in {path for _, path in newest.values()}}
    return {run: held for run, (_, path) in newest.items() if (held := living[path])}


def _living(path: Path, now: float, expires: float) -> Owner | None:
    """The owner whose file this is, or None if it is dead."""
    try:
        beaten, about = _look(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if now - beaten > expires:
        return None
    if about.get("machine") == _machine() and not _lives(about["pid"], about["began"]):
        return None
    texts = [str(about.get(key, "?")) for key in ("host", "sweep", "started")]
    return Owner(texts[0], int(about.get("pid", 0)), texts[1], texts[2])


def _look(path: Path) -> tuple[float, dict[str, Any]]:
    """When an owner last beat, and what its file says; nothing if it isn't ours to read.

    Opened, since that is when NFS asks the server; what it knows of a closed file may be old.
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
    """The file server's clock, from a file that is gone afterwards; ours if none can be made."""
    try:
        with tempfile.TemporaryFile(dir=_alive(outputs)) as probe:
            os.utime(probe.fileno())  # NFS may keep something else in the times of a new file
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()


def _machine() -> list[str]:
    """Equal for processes that see each other under their process ids: one boot, one container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        boot, space = f"{uuid.getnode():012x}", ""
    return [socket.gethostname(), boot, space]


def _lives(pid: int, began: str | None) -> bool:
    """Is there still this very process on this machine?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, which may be hidden; then its heartbeat alone counts
    found = _began(pid)
    return found is None or found == began


def _began(pid: int) -> str | None:
    """When a process began; "" if it has ended and waits for its parent; None if it is hidden.

    In the kernel's ticks where they can be had: psutil's time moves if the clock is set.
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
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@contextlib.contextmanager
def _explained(outputs: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"paths.outputs={outputs}: can't mark there which runs are being trained, which takes "
            f"files and symbolic links: {error.strerror or error}; type for example "
            "paths.outputs=/some/folder, on another file system"
        ) from error
