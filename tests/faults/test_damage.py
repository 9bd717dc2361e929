"""Files that were altered, cut short or lost between two starts: found out, and trained again."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from packs import Trained, program, resumed, train
from sweeping import Outcome
from test_resume import folder

from actsweep.runs.run_dir import RunDir
from actsweep.train import checkpointing

NEWEST, BEFORE = Trained.steps


def at(run_dir: RunDir, step: int = NEWEST) -> Path:
    return run_dir.checkpoints / f"step-{step}"


def largest(path: Path) -> Path:
    return max((file for file in path.rglob("*") if file.is_file()), key=os.path.getsize)


def flip(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def flip_middle(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replace_in(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def metadata_of(path: Path) -> Path:
    (found,) = [p for p in path.rglob("*") if p.is_file() and b'"epoch"' in p.read_bytes()]
    return found


def as_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("not a folder")


def emptied(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def of_another(run_dir: RunDir) -> None:
    (other,) = [p for p in run_dir.path.parent.iterdir() if "-s1-" in p.name]
    shutil.rmtree(at(run_dir))
    shutil.copytree(at(RunDir(run_dir.root, other.name)), at(run_dir))


def without_lines(path: Path, count: int) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-count]))


def other_digit(path: Path) -> None:
    """A number that is still one."""
    lines = path.read_bytes().splitlines(keepends=True)
    place = sum(map(len, lines[:2])) + lines[2].rindex(b".") + 1
    data = bytearray(path.read_bytes())
    assert chr(data[place]).isdigit()
    data[place] = ord(str((int(chr(data[place])) + 1) % 10))
    path.write_bytes(data)


def fewer_histograms(path: Path) -> None:
    with np.load(path) as arrays:
        kept = {n: a if n.endswith("/edges") else a[:-1] for n, a in arrays.items()}
    np.savez_compressed(path, **kept)


def both(damage: Callable[[Path], None]) -> Callable[[RunDir], None]:
    def damage_both(run_dir: RunDir) -> None:
        damage(at(run_dir, NEWEST))
        damage(at(run_dir, BEFORE))

    return damage_both


Damage = Callable[[RunDir], Any]
CHECKPOINT: dict[str, Damage] = {
    "cut short": lambda r: halve(largest(at(r))),
    "a bit flipped": lambda r: flip_middle(largest(at(r))),
    "its metadata altered": lambda r: replace_in(
        metadata_of(at(r)), b'"ended": false', b'"ended": true'
    ),
    "its metadata cut short": lambda r: halve(metadata_of(at(r))),
    "its metadata missing": lambda r: metadata_of(at(r)).unlink(),
    "a file missing": lambda r: largest(at(r)).unlink(),
    "emptied": lambda r: emptied(at(r)),
    "a file in its place": lambda r: as_file(at(r)),
    "another run's in its place": of_another,
}
BOTH: dict[str, Damage] = {
    "missing": both(shutil.rmtree),
    "a bit flipped": both(lambda path: flip_middle(largest(path))),
    "a folder in the place of metadata": both(
        lambda path: (metadata_of(path).unlink(), os.mkdir(path / "_CHECKPOINT_METADATA"))
    ),
}
MEASURED: dict[str, Damage] = {
    "metrics.jsonl missing": lambda r: r.metrics.unlink(),
    "metrics.jsonl empty": lambda r: os.truncate(r.metrics, 0),
    "a line of metrics.jsonl cut short": lambda r: replace_in(r.metrics, b"}\n", b"\n"),
    "a digit of metrics.jsonl altered": lambda r: other_digit(r.metrics),
    "histograms.npz missing": lambda r: r.histograms.unlink(),
    "histograms.npz cut short": lambda r: halve(r.histograms),
    "a bit of histograms.npz flipped": lambda r: flip_middle(r.histograms),
    "histograms.npz without its last rows": lambda r: fewer_histograms(r.histograms),
}
STATUS: dict[str, Damage] = {
    "missing": lambda r: r.status.unlink(),
    "cut short": lambda r: halve(r.status),
    "without a state": lambda r: r.status.write_text("{}"),
}


def go_on(
    trained: Trained, outputs: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> tuple[list[int], list[str]]:
    """Damage the first member's files and start again. From where it went on, and what was said of
    it; the others have gone on where they were, and all end as if nothing had happened."""
    runs = trained.cut(outputs)
    damage(folder(runs[0]))
    caplog.clear()
    train(runs)
    trained.assert_whole(runs)
    assert all(resumed(one) in ([NEWEST], [BEFORE]) for one in runs[1:])
    own = folder(runs[0]).run_id
    return resumed(runs[0]), [text for text in caplog.messages if text.startswith(own)]


@pytest.mark.parametrize("how", CHECKPOINT)
def test_newest_checkpoint_damaged(
    how: str, trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture, outcome: Outcome
) -> None:
    steps, said = go_on(trained, tmp_path, CHECKPOINT[how], caplog)
    assert steps == [BEFORE]
    (line,) = said
    assert "\n" not in line
    assert line.endswith(f"; goes on from step {BEFORE}")
    outcome(
        f"a run's newest checkpoint damaged: {', '.join(CHECKPOINT)}",
        "a line says so; the run goes on from the checkpoint before it and ends with the bytes of "
        "an undisturbed one, as do the others",
    )


@pytest.mark.parametrize("how", BOTH)
def test_both_checkpoints_damaged(
    how: str, trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture, outcome: Outcome
) -> None:
    steps, said = go_on(trained, tmp_path, BOTH[how], caplog)
    assert steps == []
    assert len(said) == (1 if how == "missing" else 2)
    assert said[-1].endswith("; begins again")
    outcome(
        "both checkpoints of a run damaged or missing",
        "a line says so; the run begins again and ends with the bytes of an undisturbed one, as "
        "do the others",
    )


@pytest.mark.parametrize("how", MEASURED)
def test_measurements_damaged(
    how: str, trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture, outcome: Outcome
) -> None:
    steps, said = go_on(trained, tmp_path, MEASURED[how], caplog)
    back = [BEFORE] if "its last rows" in how else []
    assert steps == back
    assert said[-1].endswith(f"; goes on from step {BEFORE}" if back else "; begins again")
    outcome(
        f"a run's measurements damaged: {', '.join(MEASURED)}",
        "a line says so; the run goes on from the last checkpoint whose rows are all there, or "
        "begins again, and ends with the bytes of an undisturbed one",
    )


def test_last_row_lost(trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    steps, said = go_on(trained, tmp_path, lambda r: without_lines(r.metrics, 1), caplog)
    assert steps == [BEFORE]
    assert len(said) == 1


@pytest.mark.parametrize("how", STATUS)
def test_status_damaged(
    how: str, trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture, outcome: Outcome
) -> None:
    steps, said = go_on(trained, tmp_path, STATUS[how], caplog)
    assert steps == []
    (line,) = said
    assert "status.json" in line
    assert line.endswith("; begins again")
    outcome(
        f"a run's status.json {', '.join(STATUS)}",
        "a line says so; the run begins again and ends with the bytes of an undisturbed one",
    )


def test_any_bit(trained: Trained, tmp_path: Path, outcome: Outcome) -> None:
    """Bits here and there in every file that going on reads: noticed, or without any effect."""
    one = trained.cut(tmp_path)[0]
    own = folder(one)
    files = [p for p in at(own).rglob("*") if p.is_file()] + [own.metrics, own.histograms]
    intact = where(own)
    at(own).rename(tmp_path / "aside")
    without = where(own)
    (tmp_path / "aside").rename(at(own))
    assert [intact[0], without[0]] == [NEWEST, BEFORE]
    noticed = 0
    for file in files:
        data = file.read_bytes()
        for place in {*np.linspace(0, len(data) - 1, 7, dtype=int).tolist()} if data else ():
            flip(file, place, place % 8)
            found = where(own)
            file.write_bytes(data)
            assert found in (intact, without, (0, "")), (file, place)
            noticed += found != intact
    assert noticed > 30
    outcome(
        "bits flipped here and there in all files that a run goes on from",
        "noticed, or without effect",
    )


def where(own: RunDir) -> tuple[int, str]:
    """The step from which a run goes on, and all that it goes on with."""
    (point,) = checkpointing.resume_groups(
        [own], program().memory.population.member_state(), [False]
    )
    if point.start is None:
        return 0, ""
    states = [leaf.tobytes() for leaf in jax.tree.leaves(point.start.states)]
    return point.start.step, repr((states, point.start.rows))


def test_folder_elsewhere(trained: Trained, tmp_path: Path, outcome: Outcome) -> None:
    runs = trained.cut(tmp_path / "an" / "other disk")
    train(runs, "another sweep")
    trained.assert_whole(runs)
    assert [resumed(one) for one in runs] == [[NEWEST]] * len(runs)
    outcome(
        "an output folder copied elsewhere in the middle of a training",
        "the runs go on there with the same bytes",
    )
