"""Random crops and flips of images; CIFAR and SVHN in the formats in which they are published."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_fixtures import colour, idx
from test_resume import Cut, what_is_left
from test_run import LIGHT, make, run_pack

from actsweep.config import identity, resolve
from actsweep.config.schema import DataConfig, RunConfig
from actsweep.data import load, prepare, routes
from actsweep.data import tfds as our_tfds
from actsweep.data.images import IMAGES
from actsweep.train import augment
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

LOOKS: dict[str, Any] = {**LIGHT, "histograms": {}}
CROPPED = {"name": "digits", "val_size": 300, "augment": "crop_flip"}
STEPS = {"epochs": 2, "batch_size": 64, "probe_examples": 128, "chunk_steps": 6, "save_every_s": 0}


def small(outputs: Path, seed: int, **changes: Any) -> RunConfig:
    plain = {"data": CROPPED, "trainer": STEPS, "callbacks": LOOKS}
    return make(outputs, seed=seed, **{**plain, **changes})


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((64, 32, 32, 3), np.uint8), ((200, 8, 8, 1), np.uint8), ((9, 5, 7, 2), np.float32)],
)
def test_crops_and_flips_are_those_of_a_loop(shape: tuple[int, ...], dtype: type) -> None:
    images = np.random.default_rng(0).integers(1, 256, shape).astype(dtype)
    key = jax.random.key(5)
    found = np.asarray(jax.jit(augment.crop_flip)(jnp.asarray(images), key))
    assert found.dtype == dtype
    offsets, flips = (np.asarray(drawn) for drawn in augment.draw(key, len(images)))
    height, width = shape[1:3]
    for image, (down, right), flip, ours in zip(images, offsets, flips, found, strict=True):
        expected = np.zeros_like(image)
        for row in range(height):
            for column in range(width):
                source = row + down - 4, column + right - 4
                if 0 <= source[0] < height and 0 <= source[1] < width:
                    place = width - 1 - column if flip else column
                    expected[row, place] = image[source]
        np.testing.assert_array_equal(ours, expected)


def test_every_offset_is_drawn_equally_often_and_half_are_mirrored() -> None:
    n = 40_500
    offsets, flips = (np.asarray(drawn) for drawn in augment.draw(jax.random.key(0), n))
    counts = np.bincount(offsets[:, 0] * 9 + offsets[:, 1], minlength=81)
    assert len(counts) == 81
    assert np.abs(counts - n / 81).max() < 5 * np.sqrt(n / 81)
    assert abs(flips.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(flips, offsets[:, 0])[0, 1]) < 0.02
    assert abs(np.corrcoef(flips, offsets[:, 1])[0, 1]) < 0.02


@pytest.mark.parametrize("shared", [1, 2])
def test_each_step_has_a_key_of_seed_step_and_share(
    shared: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the batch's shares too, where devices divide it."""
    seen: list[tuple[int, ...]] = []

    def spy(images: jax.Array, key: jax.Array) -> jax.Array:
        jax.debug.callback(lambda data: seen.append(tuple(data.tolist())), jax.random.key_data(key))
        return augment.crop_flip(images, key)

    monkeypatch.setitem(augment.AUGMENTS, "crop_flip", spy)
    trainer = {**STEPS, "epochs": 1, "batch_size": 256, "mesh": {"data": shared}}
    run_pack([small(tmp_path, seed, trainer=trainer) for seed in (3, 0)], SweepContext("sweep"))
    jax.effects_barrier()
    expected = []
    for seed in (3, 0):
        stream = jax.random.fold_in(jax.random.key(seed), zlib.crc32(b"augment"))
        keys = [jax.random.fold_in(stream, step) for step in range(4)]
        if shared > 1:
            keys = [jax.random.fold_in(key, share) for key in keys for share in range(shared)]
        expected += [tuple(jax.random.key_data(key).tolist()) for key in keys]
    assert set(seen) == set(expected)
    assert len(set(expected)) == 8 * shared


def interrupt(runs: list[RunConfig], limit: int) -> None:
    """Train until the checkpoint of that number; at an odd one nothing is saved any more."""
    with pytest.MonkeyPatch.context() as patch:
        Cut(limit, saves=limit % 2 == 0).apply(patch)
        with pytest.raises(KeyboardInterrupt):
            run_pack(runs, SweepContext("sweep"))


@pytest.mark.usefixtures("compiled_once")
def test_alone_in_a_pack_and_after_an_interruption_a_member_is_the_same(tmp_path: Path) -> None:
    network = {"name": "cnn", "channels": [4]}
    trained = {}
    with jax.numpy_dtype_promotion("standard"):  # flax's average pool divides by an int
        for place in ("alone", "packed", "streamed", "cut"):
            data = {**CROPPED, "stream": place == "streamed"}
            runs = [small(tmp_path / place, seed, model=network, data=data) for seed in (0, 1)]
            for limit in (2, 3) if place == "cut" else ():
                interrupt(runs, limit)
            for part in [runs[:1], runs[1:]] if place == "alone" else [runs]:
                run_pack(part, SweepContext("sweep"))
            trained[place] = [what_is_left(one) for one in runs]
    assert trained["alone"] == trained["packed"] == trained["streamed"] == trained["cut"]
    assert trained["alone"][0]["state"] != trained["alone"][1]["state"]


def test_only_training_sees_changed_images(tmp_path: Path) -> None:
    """The untrained network's row is that of the run without; what it learns isn't."""
    rows = {}
    for name in ("none", "crop_flip"):
        run = small(tmp_path / name, 0, data={**CROPPED, "augment": name})
        run_pack([run], SweepContext("sweep"))
        rows[name] = what_is_left(run)["metrics"].splitlines()
    assert rows["none"][0] == rows["crop_flip"][0]
    assert rows["none"][1] != rows["crop_flip"][1]


def test_a_run_without_keeps_its_id(tmp_path: Path) -> None:
    ids = [identity.run_id(small(tmp_path, 0, data=data)) for data in without_and_with()]
    assert ids[0] == ids[1] != ids[2]


def without_and_with() -> list[dict[str, Any]]:
    plain = {key: value for key, value in CROPPED.items() if key != "augment"}
    return [plain, {**plain, "augment": "none"}, CROPPED]


def flat_images() -> Any:
    from actsweep.data import Dataset

    x, y = np.ones((20, 12), np.uint8), np.arange(20, dtype=np.int32) % 2
    return Dataset("flat", x, y, x, y, x, y, classes=2)


def test_what_cant_be_augmented_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        small(tmp_path, 0, data={**CROPPED, "augment": "crop"})
    assert "data.augment=crop" in str(raised.value)
    assert "crop_flip" in str(raised.value)
    for name in ("circle", "wine"):
        with pytest.raises(UserError) as raised:
            resolve.resolve({"act": {"name": "relu"}, "data": {"name": name, **AUGMENTED}})
        assert str(raised.value) == (
            f"data.augment=crop_flip: must be none for data={name}, which has no images; "
            "type for example data.augment=none"
        )
    own = {"name": "flat", "_target_": f"{__name__}.flat_images", **AUGMENTED}
    trainer = {**STEPS, "batch_size": 4}
    with pytest.raises(UserError) as raised:
        run_pack([small(tmp_path, 0, data=own, trainer=trainer)], SweepContext("sweep"))
    assert str(raised.value) == (
        "data.augment=crop_flip: must be none for data=flat, whose examples of shape [12] are no "
        "images; type for example data.augment=none"
    )


AUGMENTED = {"augment": "crop_flip", "val_size": 10}


# CIFAR and SVHN


@pytest.fixture
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with idx.isolated(tmp_path, monkeypatch):
        yield


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_what_is_published_is_what_is_trained_on(name: str, tmp_path: Path) -> None:
    arrays = colour.draw(name)
    idx.register(name, colour.write(name, routes.manual_dir(name, tmp_path), arrays))
    assert prepare.prepare(name, tmp_path) == prepare.set_folder(name, tmp_path)
    data = load(DataConfig(name=name, dir=str(tmp_path), val_size=10))
    assert [x.shape for x in (data.train_x, data.val_x, data.test_x)] == [
        (n, 32, 32, 3) for n in (30, 10, 12)
    ]
    both = np.concatenate([data.train_x, data.val_x]), np.concatenate([data.train_y, data.val_y])
    assert idx.as_rows(*both) == idx.as_rows(*arrays["train"])
    assert idx.as_rows(data.test_x, data.test_y) == idx.as_rows(*arrays["test"])
    assert (data.classes, data.labels) == (len(IMAGES[name].labels), IMAGES[name].labels)
    assert (0 * data.scale + data.offset, 255 * data.scale + data.offset) == (-1.0, 1.0)


@pytest.mark.usefixtures("isolated")
def test_tfds_itself_reads_what_we_prepared(tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    arrays = colour.draw("cifar100")
    idx.register("cifar100", colour.write("cifar100", tmp_path / "files", arrays))
    folder = our_tfds.build("cifar100", tmp_path / "files", tmp_path / "root")
    source = tfds.data_source("cifar100", data_dir=folder.parents[1], download=False, split="test")
    rows = {row["id"]: row for row in source}
    for index, (image, label) in enumerate(zip(*arrays["test"], strict=True)):
        row = rows[f"test_{index:05d}".encode()]
        np.testing.assert_array_equal(row["image"], image)
        assert (row["label"], row["coarse_label"]) == (label, label % 20)
    features = tfds.builder_from_directory(folder).info.features
    assert tuple(features["label"].names) == IMAGES["cifar100"].labels
    assert features["coarse_label"].names[3] == "kind_3"


def wrong_digest(path: Path) -> None:
    idx.flip(path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other(path: Path) -> None:
    path.write_bytes(b"<html>not found</html>")


def changed(name: str, file: str, content: bytes | None) -> Callable[[Path], None]:
    """Return a function that packs another content of one file, or none."""

    def write(path: Path) -> None:
        files = colour.cifar(name, colour.draw(name)) | {file: content}
        colour.tar(path, {key: value for key, value in files.items() if value is not None})

    return write


def digits_of(labels: int, images: int, dtype: type = np.uint8) -> Callable[[Path], None]:
    return lambda path: colour.mat(
        path, np.zeros((images, 32, 32, 3), dtype), np.full(images, labels)
    )


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("cifar10", wrong_digest, "checksum"),
        ("cifar10", truncated, "cifar-10-binary.tar.gz: not a whole tar.gz file"),
        ("cifar100", other, "cifar-100-binary.tar.gz: not a whole tar.gz file"),
        (
            "cifar10",
            changed("cifar10", "data_batch_3.bin", None),
            "cifar-10-binary.tar.gz: holds no cifar-10-batches-bin/data_batch_3.bin",
        ),
        (
            "cifar10",
            changed("cifar10", "test_batch.bin", b"x" * 3074),
            "cifar-10-batches-bin/test_batch.bin: 3074 bytes, not a multiple of 3073",
        ),
        (
            "cifar100",
            changed("cifar100", "train.bin", b"\x14" + b"\x00" * 3073),
            "cifar-100-binary/train.bin: a label is 20, must be from 0 to 19",
        ),
        (
            "cifar10",
            changed("cifar10", "batches.meta.txt", b"airplane\n"),
            "cifar-10-batches-bin/batches.meta.txt: 1 name, must be 10",
        ),
        ("svhn", wrong_digest, "checksum"),
        ("svhn", truncated, "train_32x32.mat: not a whole MATLAB file"),
        ("svhn", other, "train_32x32.mat: not a whole MATLAB file"),
        ("svhn", digits_of(11, 3), "train_32x32.mat: labels y from 11 to 11, must be 1 to 10"),
        ("svhn", digits_of(1, 3, np.float32), r"train_32x32.mat: X is float32 [32, 32, 3, 3]"),
    ],
)
def test_a_bad_file_is_named_in_one_line(
    name: str, damage: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    files = colour.write(name, routes.manual_dir(name, tmp_path), colour.draw(name))
    idx.register(name, files)
    damage(files / IMAGES[name].files[0])
    if damage is not wrong_digest:
        idx.register(name, files)
    with pytest.raises(UserError) as raised:
        prepare.prepare(name, tmp_path)
    (line,) = [line for line in str(raised.value).splitlines() if "fixture: " in line]
    assert words in line
    assert IMAGES[name].files[0] in line
    assert not prepare.set_folder(name, tmp_path).exists()


@pytest.mark.usefixtures("isolated")
def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        prepare.prepare("svhn", tmp_path)
    folder = routes.manual_dir("svhn", tmp_path)
    assert f"fixture: no {folder / 'train_32x32.mat'}" in str(raised.value)
    assert "or put train_32x32.mat, test_32x32.mat\n" in str(raised.value)
    assert "that holds svhn_cropped/3.1.0>" in str(raised.value)


def test_the_addresses_are_tfds_s() -> None:
    for name, url in [
        ("cifar10", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"),
        ("svhn", "http://ufldl.stanford.edu/housenumbers/train_32x32.mat"),
    ]:
        assert our_tfds.urls(name)[IMAGES[name].files[0]] == url
        info = our_tfds._builder_class(name).url_infos[url]
        assert len(info.checksum) == 64  # what TFDS registers reaches our builder


# A folder of IDX files


def idx_folder(folder: Path, gzipped: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    arrays = idx.draw(60, 20)
    idx.write(folder, arrays)
    for file in [] if gzipped else sorted(folder.iterdir()):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    return arrays


def own(folder: Path, **changes: Any) -> DataConfig:
    return DataConfig(**{"name": "idx", "path": str(folder), "val_size": 20, **changes})


@pytest.mark.parametrize("gzipped", [True, False])
def test_a_folder_of_idx_files(gzipped: bool, tmp_path: Path) -> None:
    arrays = idx_folder(tmp_path / "mine", gzipped)
    data = load(own(tmp_path / "mine"))
    assert (data.name, data.classes, data.labels) == ("mine", 10, tuple("0123456789"))
    assert (data.train_x.shape, data.val_x.shape) == ((40, 28, 28, 1), (20, 28, 28, 1))
    both = np.concatenate([data.train_x, data.val_x]), np.concatenate([data.train_y, data.val_y])
    assert idx.as_rows(*both) == idx.as_rows(*arrays["train"])
    np.testing.assert_array_equal(data.test_x[..., 0], arrays["test"][0])
    np.testing.assert_array_equal(data.test_y, arrays["test"][1])


def test_idx_files_are_trained_on_and_count_towards_the_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    idx_folder(Path("mine"), gzipped=False)
    mine = {"name": "idx", "path": "mine", "val_size": 20, "augment": "crop_flip"}
    run = small(tmp_path, 0, data=mine, trainer={**STEPS, "batch_size": 10})
    before = identity.run_id(run)
    (result,) = run_pack([run], SweepContext("sweep"))
    assert (result["run_id"], result["state"]) == (before, "complete")
    idx.flip(Path("mine") / "train-images-idx3-ubyte")
    assert identity.run_id(run) != before


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("train-labels-idx1-ubyte", None, "has no train-labels-idx1-ubyte, nor train-labels-idx1"),
        ("t10k-images-idx3-ubyte", b"x", "t10k-images-idx3-ubyte: not an IDX file of unsigned"),
        ("t10k-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x01\x05", "[20, 28, 28], t10k-labels-"),
    ],
)
def test_bad_idx_files_are_named(
    file: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    idx_folder(tmp_path, gzipped=False)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError) as raised:
        load(own(tmp_path))
    assert str(raised.value).startswith(f"data.path={tmp_path}: ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_idx_cant_be_asked_for_is_refused(tmp_path: Path) -> None:
    idx_folder(tmp_path, gzipped=True)
    for changes, words in [
        ({"path": None}, "data.path=null: must be a folder with four IDX files"),
        ({"path": "nowhere"}, "data.path=nowhere: must be a folder with four IDX files"),
        ({"task": "regression"}, "data.task=regression: must be auto"),
        ({"val_size": 60}, "data.val_size=60: must be from 1 to 59"),
    ]:
        with pytest.raises(UserError, match=words):
            load(own(tmp_path, **changes))
