"""Preparing image sets: real formats, real processes, damaged files, read-only folders."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pytest
from data_fixtures import idx

from actsweep.config.schema import DataConfig
from actsweep.data import cache, load, prepare, routes
from actsweep.data import tfds as our_tfds
from actsweep.data.images import IMAGES
from actsweep.utils.errors import UserError

FIXTURES = Path(__file__).parent / "data_fixtures"
CACHE = "actsweep-cache-v1"


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    with idx.isolated(tmp_path, monkeypatch):
        yield


@pytest.fixture(scope="module")
def arrays():
    return idx.draw()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, arrays):
    """A TFDS folder with mnist prepared, decoded and cached; copied by those who change it."""
    root = tmp_path_factory.mktemp("whole")
    idx.register("mnist", idx.write(routes.manual_dir("mnist", root), arrays))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "ROUTES", (("fixture", routes.local_files),))
        prepare.prepare("mnist", root)
    return root


@pytest.fixture
def copy(whole, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(whole, root)
    idx.register("mnist", routes.manual_dir("mnist", root))
    return root, root / "mnist" / IMAGES["mnist"].version


def said(lines, words):
    return [line for line in lines if words in line]


@pytest.mark.parametrize("name", IMAGES)
def test_names_versions_and_labels_are_tfdss_own(name):
    import tensorflow_datasets as tfds

    cls = tfds.builder_cls(IMAGES[name].builder)
    assert cls.name == IMAGES[name].builder
    assert str(cls.VERSION) == IMAGES[name].version
    features = cls._info(our_tfds._builder_class(name)(data_dir="/nonexistent")).features
    assert features["label"].num_classes == len(IMAGES[name].labels)
    if name in idx.IDX_SETS:  # others have the names in their files
        assert tuple(features["label"].names) == IMAGES[name].labels
    assert features["image"].shape == IMAGES[name].shape


@pytest.mark.parametrize("name", idx.IDX_SETS)
def test_pixels_and_labels_survive_the_round_trip(name, tmp_path, arrays):
    idx.register(name, idx.write(routes.manual_dir(name, tmp_path), arrays))
    folder = prepare.prepare(name, tmp_path)
    assert folder == tmp_path / name / IMAGES[name].version
    decoded = prepare.arrays(name, tmp_path)
    for split, (images, labels) in arrays.items():
        assert decoded[f"{split}_images"].shape == (len(images), 28, 28, 1)
        ours = idx.as_rows(decoded[f"{split}_images"], decoded[f"{split}_labels"])
        assert ours == idx.as_rows(images, labels)
    data = load(DataConfig(name=name, dir=str(tmp_path), val_size=10))
    assert [len(data.train_x), len(data.val_x), len(data.test_x)] == [30, 10, 12]
    both = np.concatenate([data.train_x, data.val_x]), np.concatenate([data.train_y, data.val_y])
    assert idx.as_rows(*both) == idx.as_rows(*arrays["train"])
    assert (0 * data.scale + data.offset, 255 * data.scale + data.offset) == (-1.0, 1.0)
    assert {path.name for path in tmp_path.glob(".actsweep*")} <= {f".actsweep-{name}.lock"}


def test_tfds_itself_reads_what_we_prepared(whole, arrays):
    import tensorflow_datasets as tfds

    source = tfds.data_source("mnist", data_dir=whole, download=False, split="train")
    decoded = prepare.arrays("mnist", whole)
    for i in range(len(arrays["train"][1])):
        np.testing.assert_array_equal(source[i]["image"], decoded["train_images"][i])
        assert source[i]["label"] == decoded["train_labels"][i]


def test_a_set_that_tfds_prepared_without_us_is_decoded_and_recorded(copy):
    root, folder = copy
    expected = prepare.arrays("mnist", root)
    shutil.rmtree(folder / CACHE)
    (folder / cache.RECORDS).unlink()
    found = prepare.arrays("mnist", root)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)
    assert (folder / cache.RECORDS).exists()


def test_the_environment_says_where_data_live(copy, monkeypatch, tmp_path):
    root, folder = copy
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    assert prepare.prepare("mnist") == folder
    assert prepare.data_root(tmp_path) == tmp_path
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert prepare.data_root(None) == Path.home() / "tensorflow_datasets"


@pytest.mark.parametrize("file", ["train_images.npy", "test_labels.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_a_damaged_cache_is_rebuilt_and_never_believed(copy, file, damage):
    root, folder = copy
    expected, path, lines = prepare.arrays("mnist", root), folder / CACHE / file, []
    if damage == "flip":
        idx.flip(path)
    elif damage == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -10 if damage == "truncate" else 0])
    found = prepare.arrays("mnist", root, lines.append)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)
    assert len(said(lines, "decoding")) >= 1
    assert len(said(lines, "damaged cache")) == (0 if damage == "remove" else 1)
    lines.clear()
    prepare.arrays("mnist", root, lines.append)
    assert lines == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
@pytest.mark.parametrize("kind", ["*train.array_record*", "dataset_info.json"])
@pytest.mark.parametrize("state", ["cached", "recorded", "bare"])
def test_damaged_records_are_named_and_force_repairs_them(copy, damage, kind, state):
    root, folder = copy
    expected = prepare.arrays("mnist", root)
    [path] = folder.glob(kind)
    if damage == "remove":
        path.unlink()
    elif damage == "flip":
        idx.flip(
            path, 0 if path.suffix == ".json" else 20_000
        )  # in the pixels; the end of the file is padding
    else:
        path.write_bytes(path.read_bytes()[:100])
    if state != "cached":
        shutil.rmtree(folder / CACHE)
    if state == "bare":
        (folder / cache.RECORDS).unlink()
    named = str(folder) if state == "bare" else str(path)
    with pytest.raises(UserError) as error:
        prepare.arrays("mnist", root)
    assert named in str(error.value)
    command = f"TFDS_DATA_DIR={root} actsweep data prepare mnist --force"
    assert command in str(error.value)
    if state == "cached":
        prepare.prepare("mnist", root, force=True)
        for key, value in prepare.arrays("mnist", root).items():
            np.testing.assert_array_equal(value, expected[key])


def test_damaged_digests_are_named(copy):
    root, folder = copy
    (folder / cache.RECORDS).write_text("{")
    with pytest.raises(UserError, match=r"actsweep-records\.json: damaged.*--force"):
        prepare.arrays("mnist", root)


def test_a_failed_force_leaves_the_old_set(copy):
    root, _ = copy
    expected = prepare.arrays("mnist", root)
    idx.flip(routes.manual_dir("mnist", root) / our_tfds.IDX_NAMES[0])
    with pytest.raises(UserError, match="checksum"):
        prepare.prepare("mnist", root, force=True)
    for key, value in prepare.arrays("mnist", root).items():
        np.testing.assert_array_equal(value, expected[key])


def test_records_in_another_format_are_refused(copy):
    root, folder = copy
    shutil.rmtree(folder / CACHE)
    (folder / cache.RECORDS).unlink()
    path = folder / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match="format tfrecord"):
        prepare.arrays("mnist", root)


def test_a_read_only_folder_is_read_and_cached_elsewhere(copy, monkeypatch, tmp_path):
    root, folder = copy
    expected, lines = prepare.arrays("mnist", root), []
    shutil.rmtree(folder / CACHE)
    (folder / cache.RECORDS).unlink()
    (root / ".actsweep-mnist.lock").unlink()
    _make_read_only(monkeypatch, root)
    for decodes in (1, 0):
        lines.clear()
        found = prepare.arrays("mnist", root, lines.append)
        assert len(said(lines, "decoding")) == decodes
        np.testing.assert_array_equal(found["train_images"], expected["train_images"])
    assert list((tmp_path / "user-cache").rglob("train_images.npy"))
    assert not (folder / CACHE).exists()
    idx.flip(next(folder.glob("*train.array_record*")))
    with pytest.raises(UserError, match="not the file that was recorded"):
        prepare.arrays("mnist", root)


def test_nowhere_to_cache_decodes_each_time(copy, monkeypatch, tmp_path):
    root, folder = copy
    shutil.rmtree(folder / CACHE)
    _make_read_only(monkeypatch, tmp_path)
    for _ in range(2):
        lines = []
        assert len(prepare.arrays("mnist", root, lines.append)["train_labels"]) == 40
        assert len(said(lines, "can't be cached")) == 1


def _make_read_only(monkeypatch, folder):
    """As a read-only file system does it; chmod would not hold root back."""
    write, acquire = cache.write_file, filelock.FileLock.acquire

    def refuse_write(path, raw):
        if path.is_relative_to(folder) and "user-cache" not in path.parts[-6:-1]:
            raise PermissionError(30, "Read-only file system", str(path))
        if folder.name != "copy":
            raise PermissionError(30, "Read-only file system", str(path))
        write(path, raw)

    def refuse_lock(self, *args, **kwargs):
        if Path(self.lock_file).is_relative_to(folder):
            raise PermissionError(30, "Read-only file system", self.lock_file)
        return acquire(self, *args, **kwargs)

    monkeypatch.setattr(cache, "write_file", refuse_write)
    monkeypatch.setattr(filelock.FileLock, "acquire", refuse_lock)


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't be written to.*data\.dir="):
        prepare.prepare("mnist", tmp_path / "file")


def test_what_a_killed_process_left_is_not_taken_for_whole(tmp_path, arrays):
    idx.register("mnist", idx.write(routes.manual_dir("mnist", tmp_path), arrays))
    dead = tmp_path / ".actsweep-mnist-dead" / "0" / "tfds" / "mnist" / "3.0.1"
    dead.mkdir(parents=True)
    (dead / "dataset_info.json").write_text("{}")
    (tmp_path / "mnist" / "incomplete.ABC_3.0.1").mkdir(parents=True)
    (tmp_path / ".actsweep-fashion_mnist-alive").mkdir()
    prepare.prepare("mnist", tmp_path)
    assert len(prepare.arrays("mnist", tmp_path)["train_labels"]) == 40
    assert not dead.exists()
    assert (tmp_path / ".actsweep-fashion_mnist-alive").exists()


def test_processes_that_start_at_once_prepare_once(tmp_path, arrays):
    root = tmp_path / "shared"
    files = idx.write(routes.manual_dir("mnist", root), arrays)
    command = [sys.executable, str(FIXTURES / "prepare_once.py"), "mnist", str(files), str(root)]
    command.append(str(time.time() + 5))
    many = [subprocess.Popen(command, stdout=-1, stderr=-1, text=True) for _ in range(4)]
    texts = [process.communicate(timeout=90) for process in many]
    assert [process.returncode for process in many] == [0] * 4, texts
    outs = [out for out, _ in texts]
    assert sum("PREPARES" in out for out in outs) == 1
    assert sum("waiting for another process" in out for out in outs) >= 2
    labels = {line for out in outs for line in out.splitlines() if line.startswith("LABELS")}
    assert len(labels) == 1
    assert sum("decoding" in out for out in outs) == 1
