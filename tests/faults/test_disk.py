"""Files and folders that are taken away, or in the way, while a pack trains; full disks."""

import contextlib
import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packs import NUMBERS, Trained, resumed, train
from sweeping import ONE_PACK, Gate, Outcome, complete, left, runs, sweep
from test_resume import STEPS, folder, pack, what_is_left

from actsweep.config.schema import RunConfig
from actsweep.runs import run_dir
from actsweep.runs.run_dir import RunDir
from actsweep.train import active_set
from actsweep.utils import files


def after_chunks(monkeypatch: pytest.MonkeyPatch, count: int, act: Callable[[], None]) -> None:
    """Do something once, after some chunks of the training."""
    left, advance = [count], active_set.ActiveSet.advance

    def then(*arguments: Any) -> Any:
        readings = advance(*arguments)
        left[0] -= 1
        if left[0] == 0:
            act()
        return readings

    monkeypatch.setattr(active_set.ActiveSet, "advance", then)


def in_the_place_of(path: Path) -> None:
    files.remove(path)
    path.write_text("in the way")


def unlinked_and_made_anew(path: Path) -> None:
    path.unlink()
    path.mkdir()


IN_THE_MIDDLE: dict[str, tuple[Callable[[RunDir], Any], str]] = {
    "metrics.jsonl deleted": (lambda r: r.metrics.unlink(), "deleted during training"),
    "the folder deleted": (lambda r: shutil.rmtree(r.path), "deleted during training"),
    "checkpoints replaced by a file": (lambda r: in_the_place_of(r.checkpoints), "File exists"),
    "status.json replaced by a folder": (lambda r: unlinked_and_made_anew(r.status), "directory"),
    "summary.json a folder": (lambda r: r.summary.mkdir(), "directory"),
}


@pytest.mark.parametrize("how", IN_THE_MIDDLE)
def test_one_run_in_the_middle(
    how: str,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    runs = trained.cut(tmp_path)
    damage, cause = IN_THE_MIDDLE[how]
    with monkeypatch.context() as patch:
        after_chunks(patch, 2, lambda: damage(folder(runs[0])))
        assert_alone(trained, runs, train(runs), cause)
    assert [r["reused"] for r in train(runs)] == [False, True, True, True]
    trained.assert_whole(runs)
    outcome(
        f"in the middle of its training, of one run: {', '.join(IN_THE_MIDDLE)}",
        "that run has failed, with the cause; the others have the bytes of an undisturbed sweep; "
        "started again, so has that run",
    )


BEFORE: dict[str, tuple[Callable[[RunDir], Any], str]] = {
    "its folder is a file": (lambda r: in_the_place_of(r.path), "exists"),
    "its folder is a link to nowhere": (lambda r: to_nowhere(r.path), "exists"),
}


def to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("how", BEFORE)
def test_one_run_before(how: str, trained: Trained, tmp_path: Path, outcome: Outcome) -> None:
    runs = pack(tmp_path, *NUMBERS, trainer=STEPS | {"save_every_s": 60})
    damage, cause = BEFORE[how]
    folder(runs[0]).path.parent.mkdir()
    damage(folder(runs[0]))
    assert_alone(trained, runs, train(runs), cause)
    folder(runs[0]).path.unlink()
    train(runs)
    trained.assert_whole(runs)
    outcome(
        f"before a sweep starts, of one run: {', '.join(BEFORE)}",
        "that run has failed, with the cause; the others have the bytes of an undisturbed sweep; "
        "started again without what was in the way, so has that run",
    )


def assert_alone(
    trained: Trained, runs: list[RunConfig], results: list[dict[str, Any]], cause: str
) -> None:
    """The first has failed, and says why; the others are what they would be."""
    bad, *good = results
    assert bad["state"] == "failed"
    status = run_dir.read_status(folder(runs[0]))
    told = status["cause"] if status else bad["cause"]
    assert cause in told
    assert status is None or status["state"] == "failed"
    for one, result, expected in zip(runs[1:], good, trained.expected[1:], strict=True):
        assert result["state"] in ("complete", "diverged")
        assert what_is_left(one) == expected


@pytest.mark.parametrize("what", [".alive", ".claims"])
def test_claims_deleted(
    what: str,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    runs = trained.cut(tmp_path)
    with monkeypatch.context() as patch:
        after_chunks(patch, 2, lambda: shutil.rmtree(tmp_path / what))
        train(runs)
    trained.assert_whole(runs)
    assert all(len(resumed(one)) == 1 for one in runs)
    outcome(
        "outputs/.alive or outputs/.claims deleted in the middle of a training",
        "its runs train on, and end with the bytes of an undisturbed sweep",
    )


def test_everything_deleted(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    runs = trained.cut(tmp_path / "outputs")
    with monkeypatch.context() as patch:
        after_chunks(patch, 2, lambda: shutil.rmtree(tmp_path / "outputs"))
        results = train(runs)
    assert {r["state"] for r in results} == {"failed"}
    train(runs)
    trained.assert_whole(runs)
    outcome(
        "outputs/ deleted in the middle of a training",
        "its runs have failed; started again, they begin anew",
    )


@dataclass(frozen=True)
class Disk:
    """A small file system, seen only by the processes that enter it.

    Attributes:
        owner: the process in whose mounts it is.
        place: where it is mounted for them.
    """

    owner: int
    place: Path

    def __call__(self) -> None:
        """Enter it, for good."""
        libc = ctypes.CDLL(None, use_errno=True)
        for kind in ("user", "mnt"):
            with open(f"/proc/{self.owner}/ns/{kind}") as space:
                if libc.setns(space.fileno(), 0):
                    raise OSError(ctypes.get_errno(), "setns")

    @property
    def inside(self) -> Path:
        """The same place as seen from outside."""
        return Path(f"/proc/{self.owner}/root{self.place}")

    def fill(self) -> None:
        """Write to it until there is no room."""
        with contextlib.suppress(OSError), open(self.inside / "full", "wb", 0) as file:
            while file.write(bytes(4096)):
                pass

    def mount(self, *options: str) -> None:
        """Call `mount`, or with no option but a path `umount`, in there."""
        command = "umount" if len(options) == 1 else "mount"
        enter = [
            "nsenter",
            f"--target={self.owner}",
            "--user",
            "--mount",
            "--preserve-credentials",
        ]
        subprocess.run([*enter, command, *options], check=True)

    def make_room(self) -> None:
        (self.inside / "full").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = f"mount -t tmpfs -o size=16m none {place} && echo mounted && exec sleep 600"
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as p:
        assert p.stdout
        said = p.stdout.readline()
        if said.strip() != "mounted":
            p.kill()
            pytest.fail(f"this test needs user namespaces in which it may mount a tmpfs: {said}")
        yield Disk(p.pid, place)
        p.kill()


@pytest.mark.slow
def test_full_disk(
    disk: Disk, tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome
) -> None:
    gate, log = Gate(tmp_path / "gate", 4), tmp_path / "log.txt"
    how = {"before": [disk, gate], "log": log}
    with sweep(disk.place, "trainer.save_every_s=0", **how) as process:
        gate.wait()
        disk.fill()
        gate.open()
        process.join(60)
        said = log.read_text()
        assert process.exitcode == 1, said
    assert "Traceback" not in said
    assert "No space left" in said
    disk.make_room()
    assert complete(disk.place, before=[disk], log=log) == 0, log.read_text()
    shutil.copytree(disk.inside, tmp_path / "out", symlinks=True)
    assert [left(run) for run in runs(tmp_path / "out")] == undisturbed
    outcome(
        "the disk is full in the middle of a training",
        "its runs have failed, with the cause, exit code 1, no traceback; started again once there "
        "is room, every run ends with the bytes of an undisturbed one",
    )


@pytest.mark.slow
def test_one_folder_read_only(
    disk: Disk, tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome
) -> None:
    gate, log = Gate(tmp_path / "gate", 4), tmp_path / "log.txt"
    how: dict[str, Any] = {"base": ONE_PACK, "log": log}
    with sweep(disk.place, before=[disk, gate], **how) as process:
        gate.wait()
        victim = str(disk.place / "runs" / undisturbed[0]["run"])
        disk.mount("--bind", victim, victim)
        disk.mount("--options=remount,bind,ro", victim)
        gate.open()
        process.join(60)
        said = log.read_text()
        assert process.exitcode == 1, said
    assert "Traceback" not in said
    assert f"{undisturbed[0]['run']} failed: " in said
    assert "Read-only file system" in said
    own = [one for one in undisturbed if one["run"].startswith("relu")]
    shutil.copytree(disk.inside, tmp_path / "out", symlinks=True)
    assert [left(run) for run in runs(tmp_path / "out")[1:]] == own[1:]
    disk.mount(victim)
    assert complete(disk.place, before=[disk], **how) == 0, log.read_text()
    shutil.copytree(disk.inside, tmp_path / "whole", symlinks=True)
    assert [left(run) for run in runs(tmp_path / "whole")] == own
    outcome(
        "the folder of one run becomes read-only in the middle of its training",
        "that run has failed, with the cause, exit code 1, no traceback; the others have the bytes "
        "of an undisturbed sweep; started again once it can be written, so has that run",
    )
