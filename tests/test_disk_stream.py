"""Training sets that stay on the disk: the same runs, without the memory."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_fixtures import idx, prepared
from test_image_sets import LOOKS, interrupt, small
from test_resume import what_is_left
from test_run import run_pack

from actsweep.config import data_folders
from actsweep.config.schema import DataConfig, RunConfig
from actsweep.data import cache, decoding, load, prepare, routes
from actsweep.data.dataset import DiskRows
from actsweep.data.feed import ResidentFeed, StreamingFeed
from actsweep.launch import slurm_submit
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

STREAMS = (False, True, "disk")


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    data_folders.digest.cache_clear()
    with idx.isolated(tmp_path, monkeypatch):
        yield


def arrives(root: Path) -> dict[str, Any]:
    """A set that comes with actsweep."""
    files = idx.write(routes.manual_dir("mnist", root), idx.draw(200, 20))
    idx.register("mnist", files)
    return {"name": "mnist", "dir": str(root), "val_size": 20}


def of_tfds(root: Path) -> dict[str, Any]:
    prepared.tfds_set(root, prepared.draw({"train": 200, "test": 20}, (8, 8, 3)))
    return {"source": "tfds", "name": "rock_paper_scissors", "dir": str(root), "val_size": 20}


def of_hf(root: Path) -> dict[str, Any]:
    folder = prepared.image_folder(root / "mine", prepared.draw({"train": 220}, (8, 8, 3)))
    return {"source": "hf", "name": str(folder), "dir": str(root), "val_size": 20, "test_size": 20}


SETS = (arrives, of_tfds, of_hf)


@pytest.mark.parametrize("make_set", SETS)
def test_every_step_has_the_same_examples(make_set: Any, tmp_path: Path) -> None:
    known = make_set(tmp_path)
    resident, _, disk = (load(DataConfig(**known, stream=stream)) for stream in STREAMS)
    assert isinstance(disk.train_x, DiskRows)
    assert isinstance(disk.train_x.array.base, np.memmap)
    assert disk.train_x.array.shape[0] >= 180
    ids, examples = ResidentFeed(resident, [3, 0], 16, 5), StreamingFeed(disk, [3, 0], 16, 5)
    for start, n in ((0, 5), (5, 5), (10, 3), (22, 5), (2, 4)):  # on, and as after a resume
        chosen = ids.chunk(start, n)[:, :n]
        x, y = examples.chunk(start, n)
        np.testing.assert_array_equal(x[:, :n], resident.train_x[chosen])
        np.testing.assert_array_equal(y[:, :n], resident.train_y[chosen])
    examples.close()


def members(outputs: Path, data: dict[str, Any]) -> list[RunConfig]:
    trainer = {"epochs": 3, "batch_size": 16, "probe_examples": 32, "chunk_steps": 4}
    about: dict[str, Any] = {"data": data, "trainer": {**trainer, "save_every_s": 0}}
    return [small(outputs, seed, **about, callbacks=LOOKS) for seed in (0, 1)]


@pytest.mark.usefixtures("compiled_once")
def test_parameters_are_bitwise_the_same_after_a_resume_too(tmp_path: Path) -> None:
    known, left = of_tfds(tmp_path), {}
    for place in ("resident", "disk", "cut"):
        stream = place != "resident" and "disk"
        runs = members(tmp_path / "outputs" / place, {**known, "stream": stream})
        for limit in (2, 3) if place == "cut" else ():
            interrupt(runs, limit)
        run_pack(runs, SweepContext("sweep"))
        left[place] = [what_is_left(run) for run in runs]
    assert left["resident"] == left["disk"] == left["cut"]
    assert left["disk"][0]["step"] == 3 * (180 // 16)
    assert left["disk"][0]["state"] != left["disk"][1]["state"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_set_larger_than_what_is_allowed(tmp_path: Path) -> None:
    """It is decoded and read for an epoch; in memory it would grow by the whole set."""
    allowed, side, n = 150 << 20, 256, 2000
    prepared.tfds_set(tmp_path, prepared.draw({"train": n}, (4, 4, 3)))
    script = Path(prepared.__file__).with_name("peak_memory.py")
    found = {}
    for stream in ("disk", "true"):
        command = [sys.executable, str(script), str(tmp_path), str(side), stream]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found[stream] = [int(word) for word in done.stdout.split()]
    (disk, size, total), (memory, _, same) = found["disk"], found["true"]
    assert total == same
    assert disk < allowed < 2 * allowed < size < memory


def test_a_cache_is_written_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few images each, and the file is what NumPy would write of all of them."""
    monkeypatch.setattr(decoding, "MOST_BYTES", 4 * 8 * 8 * 3)
    sizes, stack = [], np.stack
    monkeypatch.setattr(np, "stack", lambda a: (sizes.append(len(a)), stack(a))[1])
    data = load(DataConfig(**of_tfds(tmp_path), stream="disk"))
    assert set(sizes) <= {1, 2, 3, 4}
    assert sum(sizes) == 220
    assert isinstance(data.train_x, DiskRows)
    (path,) = tmp_path.rglob("train_images.npy")
    expected = tmp_path / "expected.npy"
    np.save(expected, np.load(path))
    assert path.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_file_is_decoded_again(damage: str, tmp_path: Path) -> None:
    cfg = DataConfig(**of_tfds(tmp_path), stream="disk")
    before, lines = load(cfg).train_x[:], []
    (path,) = tmp_path.rglob("train_images.npy")
    idx.flip(path) if damage == "flip" else path.unlink()
    np.testing.assert_array_equal(load(cfg, lines.append).train_x[:], before)
    assert sum("damaged cache" in line for line in lines) == (damage == "flip")
    assert sum("decoding the images" in line for line in lines) == 1


def test_nowhere_to_write_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, raw: Any) -> None:
        raise PermissionError(30, "Read-only file system", str(path))

    known = of_tfds(tmp_path)
    monkeypatch.setattr(cache, "write_file", refuse)
    assert len(load(DataConfig(**known)).train_x) == 180  # decoded each time
    with pytest.raises(UserError) as raised:
        load(DataConfig(**known, stream="disk"))
    assert str(raised.value).startswith("data.stream=disk: the decoded images can be written ")
    assert str(raised.value).endswith("type for example data.stream=true")
    assert "\n" not in str(raised.value)


def test_a_submission_decodes_what_its_jobs_will_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg, lines = DataConfig(**of_tfds(tmp_path)), []
    slurm_submit._prepare_data([cfg, cfg])
    assert capsys.readouterr().err.count("decoding the images") == 1
    load(cfg, lines.append)
    assert lines == []


def test_what_arrives_is_mapped_too(tmp_path: Path) -> None:
    known = arrives(tmp_path)
    arrays = prepare.arrays("mnist", Path(known["dir"]), mapped=True)
    assert {type(array.base) for array in arrays.values()} == {np.memmap}
