"""Leases: one process a run, with real processes that race, die, stand still and go on."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from actsweep.runs import leases
from actsweep.runs.leases import Leases, Owner, orphans, owner_of, owners
from actsweep.runs.run_dir import RunDir
from actsweep.utils.errors import UserError

RUNS = [f"relu-mlp4-torch-s{seed}-3fa9c1d2" for seed in range(20)]
QUICK = {"beat": 0.1, "expires": 1.0}

# Does what it reads, a line of JSON an order, and answers with a line.
WORKER = """
import json, os, sys, time
from pathlib import Path
from actsweep.runs.leases import Leases

def take(when, runs):
    while time.time() < when:
        pass
    return sorted(own.take(runs))

def stress(outputs, runs, seconds):
    "Train again and again; two that train one run at once meet in its `busy` file."
    end, trained = time.time() + seconds, 0
    while time.time() < end:
        with Leases(outputs, "stress") as own:
            for run in own.take(runs):
                busy = Path(outputs) / f"busy-{run}"
                os.close(os.open(busy, os.O_CREAT | os.O_EXCL))
                time.sleep(0.002)
                busy.unlink()
                trained += 1
                if trained % 3:
                    own.release([run])
    return trained

for line in sys.stdin:
    order, *given = json.loads(line)
    if order == "open":
        own = Leases(*given)
        answer = None
    elif order == "lost":
        answer = sorted(own.lost())
    elif order == "close":
        answer = own.close()
    else:
        answer = {"take": take, "stress": stress}[order](*given)
    print(json.dumps(answer), flush=True)
"""


class Worker:
    """Another process with leases."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *order: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def do(self, *order: Any) -> Any:
        self.ask(*order)
        return self.answer()


@pytest.fixture
def start() -> Iterator[Callable[[int], list[Worker]]]:
    started: list[Worker] = []

    def workers(count: int) -> list[Worker]:
        started.extend(Worker() for _ in range(count))
        return started[-count:]

    yield workers
    for worker in started:
        worker.process.kill()
        worker.process.communicate()


def race(workers: list[Worker]) -> list[list[str]]:
    """What each got, when all wanted all runs at the same moment."""
    when = time.time() + 0.02
    for worker in workers:
        worker.ask("take", when, RUNS)
    return [worker.answer() for worker in workers]


def became(condition: Callable[[], Any], within: float = 5.0) -> bool:
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def elsewhere(outputs: Path) -> None:
    """Let the owners be processes of another host."""
    for file in (outputs / ".alive").iterdir():
        beaten = file.stat().st_mtime
        about = json.loads(file.read_text())
        file.write_text(json.dumps({**about, "machine": ["other", "boot", "1"], "host": "other"}))
        os.utime(file, (beaten, beaten))


def numbers(outputs: Path, run: str = RUNS[0]) -> list[int]:
    return leases._numbers(outputs)[run]


def test_racing_processes_share_the_runs(start: Any, tmp_path: Path) -> None:
    workers = start(2)
    for turn in range(10):
        for worker in workers:
            worker.do("open", str(tmp_path / str(turn)), "nine")
        got = race(workers)
        assert sorted(run for runs in got for run in runs) == sorted(RUNS)


def test_racing_processes_share_what_a_killed_one_held(start: Any, tmp_path: Path) -> None:
    workers = start(4)
    for turn in range(5):
        outputs = tmp_path / str(turn)
        (victim,) = start(1)
        victim.do("open", str(outputs), "nine")
        assert victim.do("take", 0, RUNS) == sorted(RUNS)
        for worker in workers:
            worker.do("open", str(outputs), "nine")
        assert race(workers) == [[]] * 4
        victim.process.kill()  # and not waited for: a zombie
        assert became(lambda v=victim: psutil.Process(v.process.pid).status() == "zombie")
        got = race(workers)
        assert sorted(run for runs in got for run in runs) == sorted(RUNS)
        assert race(workers) == got


def test_a_lease_that_is_replaced_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when ours was to be made, and is gone when it is read."""

    def there(target: str, link: Path) -> None:
        raise FileExistsError(link)

    monkeypatch.setattr(os, "symlink", there)
    assert not leases._link("owner", tmp_path / "lease.2")


def test_no_two_ever_train_one_run(start: Any, tmp_path: Path) -> None:
    """Taking, releasing and leaving at random, for as long as one can wait."""
    workers = start(4)
    for worker in workers:
        worker.ask("stress", str(tmp_path), RUNS[:3], 2.0)
    assert min(worker.answer() for worker in workers) > 0
    assert max(map(len, leases._numbers(tmp_path).values())) <= 3  # the old ones were removed


def test_a_normal_exit_frees(start: Any, tmp_path: Path) -> None:
    (worker,) = start(1)
    worker.do("open", str(tmp_path), "nine")
    worker.do("take", 0, RUNS)
    with Leases(tmp_path, "ten") as own:
        assert own.take(RUNS) == set()
        worker.do("close")
        assert own.take(RUNS[:2]) == set(RUNS[:2])
        own.release(RUNS[:1])
        with Leases(tmp_path, "eleven") as other:
            assert other.take(RUNS[:2]) == set(RUNS[:1])
            assert own.take(RUNS[:2]) == set(RUNS[1:2])
    assert os.listdir(tmp_path / ".alive") == []
    own.close()
    assert own.lost() == set()


def test_two_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with Leases(tmp_path, "a") as own, Leases(tmp_path, "b") as other:
        assert own.take(RUNS[:1]) == set(RUNS[:1])
        assert other.take(RUNS[:2]) == set(RUNS[1:2])
        other.release(RUNS)
        assert own.take(RUNS[:2]) == set(RUNS[:2])
        assert own.take([]) == set()


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_another_host_counts_as_dead_once_it_expires(
    hours: int, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
    (worker,) = start(1)
    worker.do("open", str(tmp_path), "nine", 0.1, 1.0)
    worker.do("take", 0, RUNS)
    elsewhere(tmp_path)
    with Leases(tmp_path, "ten", **QUICK) as own:
        time.sleep(1.1)
        assert own.take(RUNS) == set()  # it beats
        worker.process.kill()
        killed = time.monotonic()
        assert own.take(RUNS) == set()
        held = owner_of(RunDir(tmp_path, RUNS[0]), 1.0)
        assert held == Owner("other", worker.process.pid, "nine", held.started if held else "")
        assert became(lambda: own.take(RUNS) == set(RUNS))
        assert 0.8 < time.monotonic() - killed < 4.0


def test_one_that_stood_still_loses_its_runs(start: Any, tmp_path: Path) -> None:
    (worker,) = start(1)
    worker.do("open", str(tmp_path), "nine", 0.1, 1.0)
    worker.do("take", 0, RUNS)
    worker.process.send_signal(signal.SIGSTOP)
    with Leases(tmp_path, "ten", **QUICK) as own:
        assert own.take(RUNS[:5]) == set()
        assert became(lambda: own.take(RUNS[:5]) == set(RUNS[:5]))
        worker.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)  # its heart beats again before it asks
        assert worker.do("lost") == sorted(RUNS[:5])
        assert worker.do("lost") == sorted(RUNS[:5])
        assert own.take(RUNS) == set(RUNS[:5])  # the rest stayed with it
        assert own.lost() == set()
    assert worker.do("take", 0, RUNS[:1]) == RUNS[:1]
    assert worker.do("lost") == sorted(RUNS[1:5])


def test_nothing_is_lost_if_nobody_took_it(start: Any, tmp_path: Path) -> None:
    (worker,) = start(1)
    worker.do("open", str(tmp_path), "nine", 0.1, 1.0)
    worker.do("take", 0, RUNS)
    before = numbers(tmp_path)
    assert worker.do("lost") == []
    assert numbers(tmp_path) == before  # as cheap as it says
    worker.process.send_signal(signal.SIGSTOP)
    time.sleep(1.2)
    worker.process.send_signal(signal.SIGCONT)
    assert worker.do("lost") == []
    with Leases(tmp_path, "ten", **QUICK) as own:
        assert own.take(RUNS) == set()


def test_the_holder_file_comes_back(tmp_path: Path) -> None:
    with Leases(tmp_path, "a", **QUICK) as own, Leases(tmp_path, "b", **QUICK) as other:
        own.take(RUNS)
        own._owner_file.unlink()
        assert other.take(RUNS[:3]) == set(RUNS[:3])
        assert became(own.lost)
        assert own.lost() == set(RUNS[:3])
        assert other.take(RUNS) == set(RUNS[:3])


def test_all_holder_files_come_back(tmp_path: Path) -> None:
    with Leases(tmp_path, "a", **QUICK) as own, Leases(tmp_path, "b", **QUICK) as other:
        own.take(RUNS)
        old = own._owner_file, other._owner_file
        (tmp_path / ".alive").rename(tmp_path / "gone")
        assert became(lambda: own._owner_file.exists() and other._owner_file.exists())
        assert not {own._owner_file, other._owner_file} & set(old)
        assert own.lost() == set()
        assert other.take(RUNS) == set()


def test_claims_that_were_deleted_are_nobodys(tmp_path: Path) -> None:
    with Leases(tmp_path, "a", **QUICK) as own:
        own.take(RUNS[:1])
        shutil.rmtree(tmp_path / ".claims")
        own._doubt.set()
        assert own.lost() == set(RUNS[:1])
        assert own.take(RUNS[:1]) == set(RUNS[:1])
        assert own.lost() == set()


def test_another_process_may_have_the_number_of_a_dead_one(tmp_path: Path) -> None:
    """This very process id lives, but it isn't the process that wrote the file."""
    with Leases(tmp_path, "a") as own, Leases(tmp_path, "b") as other:
        own.take(RUNS[:1])
        about = json.loads(own._owner_file.read_text())
        assert other.take(RUNS[:1]) == set()
        own._owner_file.write_text(json.dumps({**about, "began": str(int(about["began"]) - 1)}))
        assert other.take(RUNS[:1]) == set(RUNS[:1])


def test_a_hidden_process_counts_by_its_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", denied)
    monkeypatch.setattr(leases, "_began", lambda pid: None)
    assert leases._lives(1, "123")


def test_without_proc_psutil_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: (self / "missing").open())
    began = leases._began(os.getpid())
    assert began == repr(psutil.Process().create_time())
    assert leases._machine()[2] == ""


def test_a_slow_one_cannot_use_an_old_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has found a claim dead; until it acts the run has changed hands three times."""
    slow, judge = Leases(tmp_path, "slow"), leases._living
    with Leases(tmp_path, "dead") as dead:
        dead.take(RUNS[:1])
    holding: list[Leases] = []

    def meanwhile(path: Path, now: float, expires: float) -> Owner | None:
        found = judge(path, now, expires)
        monkeypatch.setattr(leases, "_living", judge)
        for _ in range(3):
            if holding:
                holding[-1].close()
            holding.append(Leases(tmp_path, "quick"))
            assert holding[-1].take(RUNS[:1]) == set(RUNS[:1])
        return found

    monkeypatch.setattr(leases, "_living", meanwhile)
    assert slow.take(RUNS[:1]) == set()
    assert numbers(tmp_path) == [3, 4]
    assert slow.take(RUNS[:1]) == set()
    holding[-1].close()
    assert slow.take(RUNS[:1]) == set(RUNS[:1])
    slow.close()


def test_a_slow_one_takes_nothing_from_one_that_came_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has found a suspended process dead, which wakes before it acts."""
    judge = leases._living
    with Leases(tmp_path, "a", 60.0, 1.0) as asleep, Leases(tmp_path, "b", **QUICK) as slow:
        asleep.take(RUNS)
        time.sleep(1.2)

        def meanwhile(path: Path, now: float, expires: float) -> Owner | None:
            found = judge(path, now, expires)
            assert found is None
            assert asleep.lost() == set()
            return found

        with monkeypatch.context() as patch:
            patch.setattr(leases, "_living", meanwhile)
            assert slow.take(RUNS) == set()
        assert slow.take(RUNS) == set()


def test_an_answer_that_was_lost_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.symlink

    def twice(target: str, link: Path) -> None:
        real(target, link)
        real(target, link)

    monkeypatch.setattr(os, "symlink", twice)
    with Leases(tmp_path, "a") as own:
        assert own.take(RUNS) == set(RUNS)


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EROFS])
def test_a_file_system_without_links(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(target: str, link: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "symlink", refused)
    with Leases(tmp_path, "a") as own:
        with pytest.raises(UserError) as caught:
            own.take(RUNS)
        own.release(RUNS)
    text = str(caught.value)
    assert text.startswith(f"paths.outputs={tmp_path}: ")
    assert os.strerror(code) in text
    assert "type for example paths.outputs=/some/folder" in text


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^paths\.outputs="):
        Leases(tmp_path / "file" / "outputs", "a")


def test_what_cannot_be_renewed_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(target: str, link: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Leases(tmp_path, "a") as own:
        own.take(RUNS[:2])
        own._doubt.set()
        monkeypatch.setattr(os, "symlink", broken)
        assert own.lost() == set(RUNS[:2])


def test_the_heart_beats_on_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Leases(tmp_path, "a", **QUICK) as own:
        with monkeypatch.context() as patch:
            patch.setattr(os, "utime", broken)
            time.sleep(0.3)
        before = own._owner_file.stat().st_mtime
        assert became(lambda: own._owner_file.stat().st_mtime > before)


@pytest.mark.parametrize("writable", [True, False])
def test_a_reader_needs_no_holder_file(
    writable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path, RUNS[0])
    assert owner_of(run) is None
    assert owners(tmp_path) == {}
    assert orphans(tmp_path) == []
    assert os.listdir(tmp_path) == []

    def refused(**given: object) -> None:
        raise PermissionError

    with Leases(tmp_path, "nine") as own:
        own.take(RUNS[:2])
        own.release(RUNS[1:2])
        if not writable:
            monkeypatch.setattr(leases.tempfile, "TemporaryFile", refused)
        found = owner_of(run)
        assert found is not None
        assert (found.pid, found.sweep, found.host) == (os.getpid(), "nine", os.uname().nodename)
        assert found.started.endswith("+00:00")
        assert owners(tmp_path) == {RUNS[0]: found}
        assert len(os.listdir(tmp_path / ".alive")) == 1
    assert owner_of(run) is None


def test_a_holder_file_of_somebody_else_may_be_unreadable(tmp_path: Path) -> None:
    with Leases(tmp_path, "a", **QUICK) as own:
        own.take(RUNS[:1])
        own._owner_file.write_text("")
        held = owner_of(RunDir(tmp_path, RUNS[0]), 1.0)
        assert held == Owner("?", 0, "?", "?")


def test_orphans_can_be_removed(tmp_path: Path) -> None:
    own, other, gone = (Leases(tmp_path, name, **QUICK) for name in "abc")
    own.take(RUNS[:1])
    other.take(RUNS[1:2])
    gone.take(RUNS[2:3])
    gone.close()
    assert orphans(tmp_path) == [tmp_path / ".claims" / f"{RUNS[2]}.1"]
    other._ended.set()  # as if it had been killed
    assert became(lambda: len(orphans(tmp_path, 1.0)) == 3)
    dead = orphans(tmp_path, 1.0)
    assert dead == [
        *(tmp_path / ".claims" / f"{run}.1" for run in RUNS[1:3]),
        other._owner_file,
    ]
    for path in dead:
        path.unlink()
    assert orphans(tmp_path, 1.0) == []
    assert own.lost() == set()
    assert other.lost() == set(RUNS[1:2])  # it was alive after all
    assert own.take(RUNS[:3]) == set(RUNS[:3])
    other.close()
    own.close()
