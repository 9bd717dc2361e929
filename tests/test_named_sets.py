"""Image sets of any name: those that TFDS has prepared, and those that `datasets` reads."""

import http.server
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import jax
import numpy as np
import pytest
from data_fixtures import idx, prepared
from PIL import Image
from test_going_on import ask
from test_image_sets import small
from test_run import run_pack

from actsweep.config import data_folders, identity, resolve
from actsweep.config.schema import DataConfig
from actsweep.data import Dataset, load
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    data_folders.digest.cache_clear()
    with idx.isolated(tmp_path, monkeypatch):
        datasets.disable_progress_bars()
        yield
        datasets.enable_progress_bars()


def of_tfds(root: Path, name: str = "rock_paper_scissors", **changes: Any) -> DataConfig:
    return DataConfig(
        **{"source": "tfds", "name": name, "dir": str(root), "val_size": 8, **changes}
    )


def of_hf(folder: Path, **changes: Any) -> DataConfig:
    where = {"name": str(folder), "dir": str(folder.parent / "decoded")}
    return DataConfig(**{"source": "hf", "val_size": 8, **where, **changes})


def rows(data: Dataset, *splits: str) -> list[tuple[str, bytes]]:
    """Examples in an order of their own, each with the name of its class."""
    return sorted(
        (data.labels[int(y)], x.tobytes())
        for split in splits
        for x, y in zip(getattr(data, f"{split}_x")[:], getattr(data, f"{split}_y"), strict=True)
    )


def went_in(images: np.ndarray, labels: np.ndarray) -> list[tuple[str, bytes]]:
    pairs = zip(images, labels, strict=True)
    return sorted((prepared.CLASSES[label], image.tobytes()) for image, label in pairs)


def refused(cfg: DataConfig) -> str:
    with pytest.raises(UserError) as raised:
        load(cfg)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def as_tfds(root: Path, splits: prepared.Splits) -> DataConfig:
    prepared.tfds_set(root, splits)
    return of_tfds(root)


def as_folder(root: Path, splits: prepared.Splits) -> DataConfig:
    return of_hf(prepared.image_folder(root / "mine", splits))


def as_saved(root: Path, splits: prepared.Splits) -> DataConfig:
    prepared.hf_tables(splits).save_to_disk(root / "mine")
    return of_hf(root / "mine")


def as_parquet(root: Path, splits: prepared.Splits) -> DataConfig:
    (root / "mine").mkdir(parents=True)
    for split, table in prepared.hf_tables(splits).items():
        table.to_parquet(root / "mine" / f"{split}-00000-of-00001.parquet")
    return of_hf(root / "mine")


WRITERS = (as_tfds, as_folder, as_saved, as_parquet)
Writer = Callable[[Path, prepared.Splits], DataConfig]


@pytest.mark.parametrize("stream", [False, "disk"])
@pytest.mark.parametrize("write", WRITERS)
def test_what_went_in_comes_out(write: Writer, stream: Any, tmp_path: Path) -> None:
    splits = prepared.draw({"train": 300, "validation": 7, "test": 9})
    cfg = write(tmp_path / "root", splits)
    cfg.stream = stream
    for _ in range(2):  # decoded, then cached
        data = load(cfg)
        assert data.train_x.shape == (300, 8, 6, 3)
        assert (data.classes, sorted(data.labels)) == (3, sorted(prepared.CLASSES))
        for split, ours in (("train", "train"), ("validation", "val"), ("test", "test")):
            assert rows(data, ours) == went_in(*splits[split])
        assert (0 * data.scale + data.offset, 255 * data.scale + data.offset) == (-1.0, 1.0)


@pytest.mark.parametrize("write", [as_tfds, as_saved])
def test_splits_that_are_missing_are_taken_from_training(write: Writer, tmp_path: Path) -> None:
    splits = prepared.draw({"train": 60}, (5, 5, 1))
    cfg = write(tmp_path / "root", splits)
    cfg.test_size = 0.25
    data = load(cfg)
    assert [len(x) for x in (data.train_x, data.val_x, data.test_x)] == [37, 8, 15]
    assert rows(data, "train", "val", "test") == went_in(*splits["train"])
    cfg.split_seed = 1
    assert rows(load(cfg), "test") != rows(data, "test")
    cfg.val_size, cfg.test_size = 30, 30
    assert "data.val_size=30: must be smaller" in refused(cfg)


def test_a_set_has_one_order_however_it_is_read(tmp_path: Path) -> None:
    cfg = as_tfds(tmp_path / "root", prepared.draw({"train": 50, "test": 9}))
    memory, disk = load(cfg), load(of_tfds(tmp_path / "root", stream="disk"))
    np.testing.assert_array_equal(disk.train_x[:], memory.train_x)
    ids = np.array([[3, 1], [40, 3]])
    np.testing.assert_array_equal(disk.train_x[ids], memory.train_x[ids])
    np.testing.assert_array_equal(disk.train_x[5:9], memory.train_x[5:9])
    for name in ("train_y", "val_x", "val_y", "test_x", "test_y"):
        np.testing.assert_array_equal(getattr(disk, name), getattr(memory, name))


def test_configs_and_versions_are_sets_of_their_own(tmp_path: Path) -> None:
    for seed, version in enumerate(("1.0.0", "10.0.0", "9.0.0")):
        splits = prepared.draw({"train": 30, "test": 9}, seed=seed)
        prepared.tfds_set(tmp_path, splits, "emnist", "letters", version)
    found = {
        name: rows(load(of_tfds(tmp_path, name)), "test")
        for name in ("emnist/letters", "emnist/letters:10.0.0", "emnist/letters:9.0.0")
    }
    assert (
        found["emnist/letters"] == found["emnist/letters:10.0.0"] != found["emnist/letters:9.0.0"]
    )
    assert found["emnist/letters:9.0.0"] == went_in(*splits["test"])
    assert refused(of_tfds(tmp_path, "emnist")) == (
        f"data.name=emnist: {tmp_path}/emnist holds several configs; type for example "
        "data.name=emnist/letters. Known: emnist/letters"
    )
    assert "Known: 1.0.0, 9.0.0, 10.0.0" in refused(of_tfds(tmp_path, "emnist/letters:2.0.0"))


def test_a_set_that_is_not_prepared(tmp_path: Path) -> None:
    assert f"no such set in {tmp_path}; it holds no prepared set" in refused(of_tfds(tmp_path))
    prepared.tfds_set(tmp_path, prepared.draw({"train": 30}))
    assert refused(of_tfds(tmp_path, "cats_vs_dogs")) == (
        f"data.name=cats_vs_dogs: no such set in {tmp_path}; it holds rock_paper_scissors. Type "
        "data.dir=<another TFDS folder>, or prepare it where TensorFlow is installed: tfds build "
        f"cats_vs_dogs --file_format=array_record --data_dir={tmp_path}"
    )
    fix = "Type data=svhn, which arrives by itself, or actsweep data prepare svhn"
    assert refused(of_tfds(tmp_path, "svhn_cropped")).endswith(fix)


def test_the_environment_says_where_tfds_has_its_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared.tfds_set(tmp_path / "elsewhere", prepared.draw({"train": 30, "test": 9}))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    assert len(load(DataConfig(source="tfds", name="rock_paper_scissors", val_size=8)).test_x) == 9


# Shapes


def pictures(*shapes: tuple[int, ...]) -> prepared.Splits:
    """Images of several shapes."""
    rng = np.random.default_rng(0)
    images = np.empty(len(shapes), object)
    images[:] = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    return {"train": (images, np.arange(len(shapes)) % 3)}


def features(**changes: Any) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    known = {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(names=prepared.CLASSES),
    }
    return {key: value for key, value in {**known, **changes}.items() if value is not None}


def test_several_shapes_are_refused_or_resized(tmp_path: Path) -> None:
    shapes = [(8, 6, 3)] * 20 + [(16, 12, 3)] * 10
    prepared.tfds_set(tmp_path, pictures(*shapes), features=features())
    said = refused(of_tfds(tmp_path))
    found = re.search(
        r"train record \d+ has the shape (.+), train record 0 (.+); they must have one: type for "
        r"example 'data.size=(.+)'$",
        said,
    )
    assert found
    assert {found[1], found[2]} == {"[8, 6, 3]", "[16, 12, 3]"}
    assert found[3] == found[2].replace(", 3]", "]")
    data = load(of_tfds(tmp_path, size=[4, 3]))
    assert data.train_x.shape[1:] == (4, 3, 3)
    resized = [
        Image.fromarray(image).resize((3, 4), Image.Resampling.BILINEAR)
        for image in pictures(*shapes)["train"][0]
    ]
    labels = np.arange(30) % 3
    assert rows(data, "train", "val", "test") == went_in(
        np.array(list(map(np.asarray, resized))), labels
    )
    assert load(of_tfds(tmp_path, size=[4, 3, 1])).train_x.shape[1:] == (4, 3, 1)


def test_grey_and_colour_together_are_refused_or_converted(tmp_path: Path) -> None:
    shapes = [(8, 6, 3)] * 18 + [(8, 6, 1)] * 12
    folder = prepared.image_folder(tmp_path / "mine", pictures(*shapes))
    said = refused(of_hf(folder))
    assert ".png)" in said
    assert said.endswith("they must have one: type for example 'data.size=[8, 6, 3]'")
    assert load(of_hf(folder, size=[8, 6, 3])).train_x.shape == (30 - 8 - 6, 8, 6, 3)


def test_photographs_are_upright_as_datasets_shows_them(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    for i in range(12):
        path = tmp_path / "mine" / "train" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, exif=exif)
    data = load(of_hf(tmp_path / "mine", val_size=2))
    theirs = datasets.load_dataset(str(tmp_path / "mine"))["train"][0]["image"]
    np.testing.assert_array_equal(data.train_x[0], np.asarray(theirs))
    assert data.train_x.shape[1:] == (6, 8, 3)


# What isn't such a set


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": None}, "has no label of a class"),
        ({"label": "value"}, "has no label of a class"),
        ({"image": None}, "has no image"),
        ({"other": "image"}, "has 2 images an example (image, other)"),
        (
            {"other": "label"},
            "has several labels; type for example data.target=label. Known: label, other",
        ),
        ({"image": "deep"}, "images of uint16; only those of 8 bits a channel are read"),
    ],
)
def test_other_sets_of_tfds_are_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    kinds = {
        "value": lambda: tfds.features.Scalar(np.int32),
        "image": tfds.features.Image,
        "label": lambda: tfds.features.ClassLabel(num_classes=5),
        "deep": lambda: tfds.features.Image(shape=(None, None, 1), dtype=np.uint16),
    }
    known = features(**{k: None if v is None else kinds[v]() for k, v in change.items()})
    folder = prepared.tfds_set(
        tmp_path, {"train": ([png(np.zeros((8, 8, 1), np.uint8))], [0])}, features=known
    )
    assert f"{folder}: {words}" in refused(of_tfds(tmp_path))


def test_the_label_is_chosen_by_data_target(tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    splits = prepared.draw({"train": 30})
    known = features(coarse=tfds.features.ClassLabel(num_classes=4))
    prepared.tfds_set(tmp_path, splits, features=known)
    assert load(of_tfds(tmp_path, target="label")).labels == prepared.CLASSES
    assert load(of_tfds(tmp_path, target="coarse")).labels == ("0", "1", "2", "3")
    assert "did you mean data.target=coarse?" in refused(of_tfds(tmp_path, target="corse"))


def test_other_formats_and_splits_are_refused(tmp_path: Path) -> None:
    folder = prepared.tfds_set(tmp_path, prepared.draw({"test": 30}))
    assert f"{folder}: has no split train, but test" in refused(of_tfds(tmp_path))
    path = folder / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fileFormat": "tfrecord"}))
    assert "in the format tfrecord; only array_record" in refused(of_tfds(tmp_path))


def test_a_class_that_training_lacks_is_named(tmp_path: Path) -> None:
    images, labels = prepared.draw({"train": 30})["train"]
    test = images[:6], np.array([0, 1, 0, 1, 2, 0])
    prepared.tfds_set(tmp_path, {"train": (images, labels % 2), "test": test})
    assert "no example of class 'scissors' is left for training" in refused(of_tfds(tmp_path))


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    prepared.picture(image).save(file, "png")
    return file.getvalue()


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    images, labels = prepared.draw({"train": 40})["train"]
    where = f"data=tfds data.name=rock_paper_scissors: {tmp_path}/rock_paper_scissors/1.0.0"
    files = [png(image)[: 60 if i == 17 else None] for i, image in enumerate(images)]
    prepared.tfds_set(tmp_path, {"train": (files, labels)}, features=features())
    assert refused(of_tfds(tmp_path)).startswith(f"{where}: train record ")
    assert " is damaged (" in refused(of_tfds(tmp_path))
    folder = prepared.image_folder(tmp_path / "mine", {"train": (images, labels)})
    path = folder / "train" / "rock" / "0003.png"
    path.write_bytes(path.read_bytes()[:60])
    assert f"({path}) is damaged (" in refused(of_hf(folder))


def test_damaged_records_are_named(tmp_path: Path) -> None:
    folder = prepared.tfds_set(tmp_path, prepared.draw({"train": 60}, (20, 20, 3)))
    (path,) = folder.glob("*train.array_record*")
    raw = bytearray(path.read_bytes())
    raw[20_000:20_100] = bytes(100)
    path.write_bytes(raw)
    said = refused(of_tfds(tmp_path))
    assert re.search(rf"{folder}: train record \d+ is damaged \(", said)


# The run's id


def test_another_content_is_another_run(tmp_path: Path) -> None:
    ids = []
    for name, version, seed in (("a", "1.0.0", 0), ("b", "1.0.0", 0), ("c", "1.0.1", 0)):
        prepared.tfds_set(tmp_path / name, prepared.draw({"train": 30}, seed=seed), version=version)
        cfg = {"source": "tfds", "name": "rock_paper_scissors", "dir": str(tmp_path / name)}
        ids.append(identity.run_id(small(tmp_path, 0, data={**cfg, "val_size": 4})))
        load(DataConfig(**cfg, val_size=4))
        data_folders.digest.cache_clear()  # our own cache in the folder doesn't count
        assert ids[-1] == identity.run_id(small(tmp_path, 0, data={**cfg, "val_size": 4}))
    assert ids[0] == ids[1] != ids[2]
    prepared.image_folder(tmp_path / "mine", prepared.draw({"train": 30}))
    mine = {"source": "hf", "name": str(tmp_path / "mine"), "val_size": 4}
    ids = [identity.run_id(small(tmp_path, 0, data=mine))]
    idx.flip(tmp_path / "mine" / "train" / "rock" / "0000.png")
    data_folders.digest.cache_clear()
    ids += [identity.run_id(small(tmp_path, 0, data={**mine, **c})) for c in ({}, {"size": [4, 4]})]
    assert len({*ids}) == 3


def test_every_part_of_a_large_file_counts_but_not_every_byte(tmp_path: Path) -> None:
    path, size = tmp_path / "set" / "train.arrow", 40 << 20

    def digest(*places: int) -> str:
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
            for place in places:
                file.seek(place)
                file.write(b"x")
        data_folders.digest.cache_clear()
        return data_folders.digest(path.parent)

    zeros = digest()
    assert zeros == digest()
    begins = [(size - (1 << 20)) * i // 15 for i in range(16)]
    assert len({zeros, *map(digest, begins), digest(size - 1)}) == 18
    assert digest((2 << 20) + 1) == zeros  # between two blocks
    size = 16 << 20
    assert len({digest(), *(digest(place) for place in range(0, size, 1_234_567))}) == 15


def test_runs_without_a_source_keep_their_ids(tmp_path: Path) -> None:
    plain = {"name": "digits", "val_size": 300}
    new = {**plain, "source": None, "config": None, "size": [], "stream": True}
    assert identity.run_id(small(tmp_path, 0, data=new)) == identity.run_id(
        small(tmp_path, 0, data=plain)
    )
    counted = identity.identity(small(tmp_path, 0, data=plain))["data"]
    assert not {"source", "config", "size"} & counted.keys()


def test_arrays_of_another_content_are_never_taken(tmp_path: Path) -> None:
    first, second = (prepared.draw({"train": 30, "test": 9}, seed=seed) for seed in (0, 1))
    folder = prepared.tfds_set(tmp_path / "a", first)
    assert rows(load(of_tfds(tmp_path / "a")), "test") == went_in(*first["test"])
    for path in prepared.tfds_set(tmp_path / "b", second).iterdir():
        path.replace(folder / path.name)
    data_folders.digest.cache_clear()
    assert rows(load(of_tfds(tmp_path / "a")), "test") == went_in(*second["test"])


# The hub


def test_folders_that_datasets_cant_read_are_refused(tmp_path: Path) -> None:
    gone = of_hf(tmp_path / "gone")
    assert refused(gone).startswith(f"data.name={tmp_path / 'gone'}: no such folder in ")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "train.csv").write_text("a,b\n1,2\n")
    assert "texts: has no image; " in refused(of_hf(tmp_path / "texts"))
    (tmp_path / "bare" / "train").mkdir(parents=True)
    (tmp_path / "bare" / "train" / "x.unknown").write_text("?")
    assert "bare: can't be read (" in refused(of_hf(tmp_path / "bare"))
    folder = prepared.image_folder(tmp_path / "mine", prepared.draw({"train": 30}))
    (folder / "train" / "lizard").mkdir()
    assert refused(of_hf(folder)) == (
        f"data=hf data.name={folder}: train/lizard is empty, a class without images; remove it, "
        "or put some there"
    )


def test_a_folder_may_have_several_configs(tmp_path: Path) -> None:
    splits = {name: prepared.draw({"train": 30}, seed=i) for i, name in enumerate("ab")}
    for name, images in splits.items():
        prepared.image_folder(tmp_path / "mine" / name, images)
    lines = [f"- config_name: {name}\n  data_dir: {name}" for name in splits]
    (tmp_path / "mine" / "README.md").write_text("\n".join(["---", "configs:", *lines, "---", ""]))
    for name, images in splits.items():
        data = load(of_hf(tmp_path / "mine", config=name))
        assert rows(data, "train", "val", "test") == went_in(*images["train"])
    said = refused(of_hf(tmp_path / "mine"))
    assert "can't be read (ValueError: Config name is missing." in said


def relabelled(table: Any, labels: list[int | None], features: Any = None) -> Any:
    bare = table.remove_columns("label").add_column("label", labels)
    return bare.cast(features or table.features)


def test_examples_without_a_label_are_refused(tmp_path: Path) -> None:
    tables = prepared.hf_tables(prepared.draw({"train": 30, "test": 9}))
    tables["test"] = relabelled(tables["test"], [0, None, *[1] * 7])
    tables.save_to_disk(tmp_path / "mine")
    assert "test record 1 has the label None; must be from 0 to 2" in refused(
        of_hf(tmp_path / "mine")
    )


@pytest.mark.parametrize("missing", [-1, None])
def test_a_split_without_labels_is_not_read(missing: int | None, tmp_path: Path) -> None:
    """As the test sets of competitions: one is taken from training instead."""
    splits = prepared.draw({"train": 30, "test": 9})
    tables = prepared.hf_tables(splits)
    tables["test"] = relabelled(tables["test"], [missing] * 9)
    tables.save_to_disk(tmp_path / "mine")
    data = load(of_hf(tmp_path / "mine", test_size=6))
    assert len(data.test_y) == 6
    assert rows(data, "train", "val", "test") == went_in(*splits["train"])


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_every_name_of_the_validation_split(name: str, tmp_path: Path) -> None:
    splits = prepared.draw({"train": 30, name: 7, "test": 9})
    prepared.hf_tables(splits).save_to_disk(tmp_path / "mine")
    assert rows(load(of_hf(tmp_path / "mine")), "val") == went_in(*splits[name])


def test_splits_with_other_classes_are_refused(tmp_path: Path) -> None:
    """Joined from two folders of which one lacks a class: its third class is the other's second."""
    tables = prepared.hf_tables(prepared.draw({"train": 30, "test": 9}))
    fewer = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["rock", "scissors"])
    )
    tables["test"] = relabelled(tables["test"], [0, 1, 0] * 3, fewer)
    for split, table in tables.items():
        table.save_to_disk(tmp_path / "mine" / split)
    (tmp_path / "mine" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    said = refused(of_hf(tmp_path / "mine"))
    assert "the classes of its split test are rock, scissors, those of train rock, paper" in said


def test_what_tools_leave_in_a_folder_makes_no_difference(tmp_path: Path) -> None:
    """An empty folder of git's or Jupyter's is no class, and a cache of `datasets` no content."""
    tables = prepared.hf_tables(prepared.draw({"train": 30}))
    tables.save_to_disk(tmp_path / "mine")
    before = data_folders.digest(tmp_path / "mine")
    (tmp_path / "mine" / "train" / "cache-1234.arrow").write_bytes(b"any")
    data_folders.digest.cache_clear()
    assert data_folders.digest(tmp_path / "mine") == before
    for index, image in enumerate(tables["train"]["image"]):
        file = tmp_path / "images" / "train" / "rp"[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
    (tmp_path / "images" / ".git" / "refs" / "tags").mkdir(parents=True)
    (tmp_path / "images" / "train" / ".ipynb_checkpoints").mkdir()
    assert load(of_hf(tmp_path / "images")).labels == ("p", "r")


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, str]]]:
    """A hub that refuses everything, with headers that a test may give."""
    headers: dict[str, str] = {}

    class Refusal(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if headers else 403)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_address[1]}", headers
        web.shutdown()


def ask_hub(tmp_path: Path, name: str, **environ: str) -> str:
    """The error of a process of its own: the hub's client reads its settings once."""
    code = (
        "from actsweep.config.schema import DataConfig\n"
        "from actsweep.data import load\n"
        f"load(DataConfig(source='hf', name={name!r}))\n"
    )
    kept = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "HF_HOME": str(tmp_path / "hf"), **environ},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    (line,) = [line for line in done.stderr.splitlines() if "UserError: " in line]
    return line.partition("UserError: ")[2]


def test_a_hub_that_refuses_is_one_line(hub: Any, tmp_path: Path) -> None:
    url, headers = hub
    said = ask_hub(tmp_path, "someone/cats", HF_ENDPOINT=url)
    assert said.startswith("data=hf data.name=someone/cats: ")
    assert "from the hub" in said or "the hub can't be reached" in said
    headers["X-Error-Code"] = "RepoNotFound"
    said = ask_hub(tmp_path, "someone/cats", HF_ENDPOINT=url)
    assert said.startswith("data=hf data.name=someone/cats: can't be had from the hub (")
    assert "someone/cats" in said.partition("hub (")[2]


def test_without_a_network_it_is_one_line(tmp_path: Path) -> None:
    said = ask_hub(tmp_path, "cats", HF_HUB_OFFLINE="1")
    assert said.startswith("data=hf data.name=cats: the hub can't be reached (")
    assert said.endswith("type data.name=./<a folder>, or run it once where there is a network")


def test_a_hub_that_isnt_there_is_one_line(tmp_path: Path) -> None:
    said = ask_hub(tmp_path, "someone/cats", HF_ENDPOINT="http://127.0.0.1:9")
    assert said.startswith("data=hf data.name=someone/cats: the hub can't be reached (")


def test_a_set_of_the_hub_and_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is a folder here; what it gives lies in the cache of `datasets`, as there."""
    asked, real = [], datasets.load_dataset
    splits = [prepared.draw({"train": 30, "test": 9}, seed=seed) for seed in (0, 1)]
    for number, images in enumerate(splits):
        as_parquet(tmp_path / str(number), images)

    def hub(name: str, config: str | None, revision: str | None) -> Any:
        asked.append((name, config, revision))
        return real(str(tmp_path / str(int(revision == "a1b2c3d")) / "mine"))

    monkeypatch.setattr(datasets, "load_dataset", hub)
    about: dict[str, Any] = {"source": "hf", "val_size": 8, "dir": str(tmp_path / "decoded")}
    lines: list[str] = []
    for name, images in (("user/set", splits[0]), ("user/set@a1b2c3d", splits[1])):
        for _ in range(2):
            data = load(DataConfig(name=name, config="small", **about), lines.append)
            assert data.name == name
            assert rows(data, "test") == went_in(*images["test"])
    assert asked == [("user/set", "small", None)] * 2 + [("user/set", "small", "a1b2c3d")] * 2
    assert sum("decoding the images" in line for line in lines) == 2
    runs = [small(tmp_path, 0, data={**about, "name": name}) for name in ("a/b", "a/b@1", "a/c")]
    assert len({*map(identity.run_id, runs)}) == 3


def test_without_datasets_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert refused(of_hf(tmp_path)).endswith('type pip install "actsweep[hf]"')


def test_datasets_is_imported_only_where_it_is_used() -> None:
    code = (
        "import sys, actsweep, actsweep.data, actsweep.data.image_sets, actsweep.train.pack\n"
        "from actsweep.cli import main\n"
        "assert 'datasets' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_jax_stays_as_strict_as_it_was(tmp_path: Path) -> None:
    load(as_saved(tmp_path, prepared.draw({"train": 30})))
    assert jax.config.jax_numpy_dtype_promotion == "strict"
    assert jax.config.jax_numpy_rank_promotion == "raise"
    assert not jax.config.jax_enable_x64


# What is typed


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            {"source": "tfd", "name": "x"},
            "data.source=tfd: no such name; did you mean data.source=",
        ),
        ({"source": "tfds", "name": ""}, "data.name='': must be a set for data=tfds"),
        ({"source": "hf", "name": ""}, "type for example data.name=./my_images"),
        ({"name": "tfds"}, "data=tfds: no such name"),
        ({"source": "tfds", "name": "x", "config": "y"}, "type for example data.name=x/y"),
        ({"source": "hf", "name": "x", "task": "regression"}, "must be auto for data=hf"),
        ({"source": "hf", "name": "x", "size": [8]}, "data.size=[8]: must be [height,width]"),
        ({"source": "hf", "name": "x", "size": [8, 8, 2]}, "with 1 or 3 channels"),
        ({"source": "hf", "name": "x", "size": [8, 0]}, "must be [height,width]"),
        ({"source": "hf", "name": "x", "val_size": 1.5}, "data.val_size=1.5: must be a number of"),
        ({"source": "hf", "name": "x", "stream": "disc"}, "must be false, true or disk"),
        ({"name": "digits", "stream": "disk"}, "must be false or true for data=digits"),
        ({"name": "digits", "size": [8, 8]}, "data.size=[8, 8]: is an option of data=tfds and"),
        ({"name": "digits", "config": "x"}, "data.config=x: is an option of data=tfds and"),
        ({"source": "hf", "name": "x", "_target_": "a.b"}, "data.source=hf: must be null with"),
    ],
)
def test_what_cant_be_asked_for_is_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as raised:
        resolve.resolve({"act": {"name": "relu"}, "data": data})
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_sweep_over_sets_is_refused_whole(tmp_path: Path) -> None:
    """Before anything is written."""
    prepared.tfds_set(tmp_path / "sets", prepared.draw({"train": 90, "test": 9}))
    words = ["-m", "data=tfds", "data.name=rock_paper_scissors,cats", "data.dir=sets"]
    code, out, err = ask(tmp_path, "-m", "actsweep", "train", *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: data.name=cats: no such set in {tmp_path}/sets; it holds rock_")
    assert len(err.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"sets"}


def test_a_named_set_is_trained_on(tmp_path: Path) -> None:
    prepared.tfds_set(tmp_path, prepared.draw({"train": 90, "test": 9}))
    data = {"source": "tfds", "name": "rock_paper_scissors", "dir": str(tmp_path), "val_size": 0.1}
    trainer = {"epochs": 1, "batch_size": 16, "probe_examples": 16}
    run = small(tmp_path, 0, data={**data, "augment": "crop_flip"}, trainer=trainer)
    (result,) = run_pack([run], SweepContext("sweep"))
    assert result["state"] == "complete"
