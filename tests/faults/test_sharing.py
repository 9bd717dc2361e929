"""Two processes that were started with the same sweep: each run is trained once, whoever dies."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sweeping import ONE_PACK, Gate, Outcome, left, runs, sweep, wait_for

from actsweep.runs import leases, run_dir

SAVE = "trainer.save_every_s=0"
BASE = (*ONE_PACK, "pack.size=1")


@dataclass(frozen=True)
class Expiring:
    """Claims of a process that shows no sign of life are free after a second, not after sixty."""

    seconds: float = 1.0

    def __call__(self) -> None:

        leases.Leases.__init__.__defaults__ = (self.seconds / 10, self.seconds)  # type: ignore[misc]
        for look in (leases.owners, leases.owner_of):
            *others, _ = look.__defaults__ or ()
            look.__defaults__ = (*others, self.seconds)


def status(run: run_dir.RunDir) -> dict[str, Any]:
    return run_dir.read_status(run) or {}


def complete_ones(folder: Path) -> list[run_dir.RunDir]:
    return [run for run in runs(folder) if status(run).get("state") == "complete"]


def tables(folder: Path) -> list[list[dict[str, Any]]]:
    """The members of every sweep that has ended."""
    return [run_dir.read_members_csv(p.parent) for p in folder.glob("sweeps/*/members.csv")]


@pytest.mark.slow
def test_two_at_once(tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome) -> None:
    gate, logs = Gate(tmp_path / "gate", 2), [tmp_path / "a.txt", tmp_path / "b.txt"]
    folder = tmp_path / "out"
    with (
        sweep(folder, base=BASE, log=logs[0], before=[gate]) as one,
        sweep(folder, base=BASE, log=logs[1]) as other,
    ):
        gate.wait()
        wait_for(lambda: complete_ones(folder))  # by the other
        gate.open()
        for process, log in ((one, logs[0]), (other, logs[1])):
            process.join(120)
            assert process.exitcode == 0, log.read_text()
    assert [left(run) for run in runs(folder)] == undisturbed[:3]
    assert len({status(run)["sweep"] for run in runs(folder)}) == 2  # both have trained some
    assert not any("resumed" in status(run) for run in runs(folder))
    found = tables(folder)
    assert [[row["state"] for row in table] for table in found] == [["complete"] * 3] * 2
    trained = [row["run_id"] for table in found for row in table if row["reused"] == "False"]
    assert sorted(trained) == [one["run"] for one in undisturbed[:3]]
    outcome(
        "the same sweep started twice at once, a job a run",
        "every run is trained once, by one or the other, with the bytes of an undisturbed sweep; "
        "both end with exit code 0 and a table over all runs",
    )


def test_one_of_two_killed(
    tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome
) -> None:
    gate, log, folder = Gate(tmp_path / "gate", 5), tmp_path / "b.txt", tmp_path / "out"
    with sweep(folder, SAVE, base=BASE, log=tmp_path / "a.txt", before=[gate]) as one:
        gate.wait()
        (begun,) = runs(folder)
        with sweep(folder, base=BASE, log=log) as other:
            wait_for(lambda: complete_ones(folder))
            os.kill(one.pid or 0, signal.SIGKILL)
            other.join(120)
            assert other.exitcode == 0, log.read_text()
    assert [left(run) for run in runs(folder)] == undisturbed[:3]
    assert status(begun)["resumed"] == [24]
    outcome(
        "the same sweep started twice at once, one of them killed by SIGKILL",
        "the other goes on with its run and trains all that is left; exit code 0, the bytes of an "
        "undisturbed sweep",
    )


@pytest.mark.slow
def test_one_of_two_suspended(
    tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome
) -> None:
    """The first is woken up while the other is in the middle of what was its run."""
    gates, logs = (
        [Gate(tmp_path / name, 5) for name in "ab"],
        [tmp_path / "a.txt", tmp_path / "b.txt"],
    )
    folder, quick, base = tmp_path / "out", Expiring(), ("act=relu", "seed=0", *BASE[2:])
    with sweep(folder, SAVE, base=base, log=logs[0], before=[quick, gates[0]]) as one:
        gates[0].wait()
        os.kill(one.pid or 0, signal.SIGSTOP)
        (run,) = runs(folder)
        with sweep(folder, base=base, log=logs[1], before=[quick, gates[1]]) as other:
            gates[1].wait()
            before = files(run.path)
            assert status(run)["resumed"] == [24]
            gates[0].open()
            os.kill(one.pid or 0, signal.SIGCONT)
            wait_for(lambda: "waiting for 1 run" in logs[0].read_text())
            assert files(run.path) == before
            gates[1].open()
            for process, log in ((one, logs[0]), (other, logs[1])):
                process.join(60)
                assert process.exitcode == 0, log.read_text()
                assert "Traceback" not in log.read_text()
    assert left(run) == undisturbed[0]
    assert [[row["state"] for row in table] for table in tables(folder)] == [["complete"]] * 2
    outcome(
        "the same sweep started twice at once, one of them suspended for longer than claims last",
        "the other goes on with its run; the first, woken up, writes nothing more into the run's "
        "folder, waits, and ends with exit code 0 and the whole table",
    )


def files(folder: Path) -> dict[Path, tuple[bytes, int, int]]:
    """All files under a folder: content, time, inode."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
        for path in folder.rglob("*")
        if path.is_file()
    }
