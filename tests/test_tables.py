"""Tables of one's own: what is read, how it is split and scaled, what is refused and how."""

import dataclasses
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_fixtures import prepared
from sklearn.preprocessing import StandardScaler
from test_app import ROOT
from test_going_on import ask

from actsweep.config import identity, resolve
from actsweep.config.schema import DATASETS, DataConfig
from actsweep.data import Dataset, load
from actsweep.utils.errors import UserError

HEAD = "height,width,kind"
GOOD = [f"{i},{i * i % 7},{'ab'[i % 2]}" for i in range(20)]


def write(folder: Path, *rows: str, name: str = "my.csv") -> str:
    (folder / name).write_text("\n".join(rows) + "\n")
    return str(folder / name)


def table(path: str, **changes: Any) -> DataConfig:
    plain: dict[str, Any] = {"name": "csv", "path": path, "val_size": 0.2, "test_size": 0.2}
    return DataConfig(**{**plain, **changes})


def whole(data: Dataset, what: str) -> np.ndarray:
    return np.concatenate([getattr(data, f"{split}_{what}") for split in ("train", "val", "test")])


def test_a_csv_is_read_split_and_scaled(tmp_path: Path) -> None:
    data = load(table(write(tmp_path, HEAD, *GOOD), target="kind"))
    assert [len(data.train_x), len(data.val_x), len(data.test_x)] == [12, 4, 4]
    assert (data.classes, data.labels, data.name) == (2, ("a", "b"), "my")
    raw = load(table(write(tmp_path, HEAD, *GOOD), target="kind", standardize=False))
    rows = sorted(map(tuple, np.c_[whole(raw, "x"), whole(raw, "y")].tolist()))
    assert rows == [(float(i), float(i * i % 7), i % 2) for i in range(20)]
    scaler = StandardScaler().fit(raw.train_x)
    for split in ("train", "val", "test"):
        expected = scaler.transform(getattr(raw, f"{split}_x"))
        np.testing.assert_allclose(getattr(data, f"{split}_x"), expected, rtol=1e-5, atol=1e-6)


def test_the_split_is_the_same_for_every_seed_and_another_by_split_seed(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD, *GOOD)
    one, again, other = (load(table(path, split_seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.train_x, again.train_x)
    assert not np.array_equal(one.train_x, other.train_x)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_quotes_and_a_byte_order_mark(delimiter: str, tmp_path: Path) -> None:
    rows = ["\ufeff" + HEAD.replace(",", delimiter), *(r.replace(",", delimiter) for r in GOOD)]
    rows[1] = delimiter.join(["0", "0", f'"a{delimiter}1"'])
    data = load(table(write(tmp_path, *rows), stratify=True))
    assert set(data.labels) <= {f"a{delimiter}1", "a", "b"}


def test_stratified_splits_have_the_shares_of_the_classes(tmp_path: Path) -> None:
    rows = [f"{i},0,{'rare' if i % 10 == 0 else 'often'}" for i in range(200)]
    data = load(table(write(tmp_path, HEAD, *rows), stratify=True))
    shares = [np.mean(getattr(data, f"{split}_y") == 1) for split in ("train", "val", "test")]
    assert shares == pytest.approx([0.1, 0.1, 0.1], abs=0.026)
    assert np.bincount(whole(data, "y")).tolist() == [180, 20]


def test_columns_and_a_number_as_target(tmp_path: Path) -> None:
    rows = [f"{i},{i % 7},x,{i / 3:.3f}" for i in range(30)]
    path = write(tmp_path, "a,b,note,y", *rows)
    data = load(table(path, target="y", columns=["b"], standardize=False))
    assert (data.classes, data.train_x.shape, data.train_y.shape) == (None, (18, 1), (18, 1))
    scaled = load(table(path, target="y", columns=["b"]))
    assert abs(scaled.train_y.mean()) < 1e-6
    assert scaled.train_y.std() == pytest.approx(1, abs=1e-6)
    forced = load(table(path, target="b", columns=["a"], task="regression"))
    assert forced.classes is None
    assert load(table(path, target="b", columns=["a"])).classes == 7


def test_an_npz_of_images_stays_as_it_is(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1), dtype=np.uint8)
    y = np.arange(50) % 3
    np.savez(tmp_path / "my.npz", x=x, y=y)
    data = load(table(str(tmp_path / "my.npz"), name="npz"))
    assert (data.train_x.dtype, data.classes, data.scale) == (np.uint8, 3, 2 / 255)
    assert sorted(map(bytes, whole(data, "x"))) == sorted(map(bytes, x))


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([HEAD], {}, "has no examples; it needs a row of names, then data"),
        ([HEAD, "1,2,a", "1,b,a"], {}, r"row 3, column width: is 'b', which is no finite number; "),
        ([HEAD, "1,2,a", "1,,a"], {}, r"row 3, column width: is empty, which is no finite number"),
        ([HEAD, "1,nan,a"], {}, r"row 2, column width: is 'nan', which is no finite number"),
        ([HEAD, "1,2,a", "1,2"], {}, r"row 3: has 2 cells, the first row 3"),
        ([HEAD, "1,2,a", "1,2,"], {}, r"row 3, column kind: is empty; fill it, or drop the row"),
        ([HEAD, '1,2,"a'], {}, r"my.csv, row 2: unexpected end of data; mend the file"),
        (["a,a,b", "1,2,3"], {}, r"has two columns 'a'; rename one"),
        (
            [HEAD, *GOOD],
            {"target": "kin"},
            r"data.target=kin: no such name; did you mean data",
        ),
        ([HEAD, *GOOD], {"columns": ["kind"]}, r"data.columns=kind: no such name"),
        (
            [HEAD, *GOOD],
            {"val_size": 18},
            r"data.val_size=18: must be smaller: beside data.",
        ),
        (
            [HEAD, *GOOD],
            {"task": "regression"},
            r"data.task=regression: the target is text",
        ),
        ([HEAD, *["1,2,a"] * 9], {}, r"data.target: is a everywhere: there is nothing to learn"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(
    rows: list[str], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, *rows)
    with pytest.raises(UserError, match=message) as error:
        load(table(path, **changes))
    assert "\n" not in str(error.value)


def test_a_class_that_training_lacks_is_named(tmp_path: Path) -> None:
    path, told = write(tmp_path, HEAD, *["1,2,a"] * 9, "1,2,b"), []
    for seed in range(8):  # in some of them the only b isn't in training
        try:
            load(table(path, split_seed=seed))
        except UserError as error:
            told.append(str(error))
    assert 0 < len(told) < 8
    assert all("no example of class 'b' is left for training; type data.s" in t for t in told)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((4, 2))}, r"has no array 'y', but: x; save it by np.savez"),
        ({"x": np.ones((4, 2)), "y": np.ones(3)}, r"x has 4 examples, y has 3"),
        ({"x": np.full((9, 2), np.nan), "y": np.arange(9)}, r"example 0 of x isn't finite"),
        ({"x": np.array([["a"]] * 9), "y": np.arange(9)}, r"x is <U1 of shape \[9, 1\]"),
    ],
)
def test_what_is_wrong_with_an_npz(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "my.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        load(table(str(tmp_path / "my.npz"), name="npz"))


def test_a_file_that_is_missing_or_no_npz(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.path=nowhere.csv: no such file in "):
        load(table("nowhere.csv"))
    with pytest.raises(UserError, match=r"can't be read as NPZ"):
        load(table(write(tmp_path, "x"), name="npz"))
    with pytest.raises(UserError, match=r"data=csv: needs a file; type data.path=my.csv"):
        load(DataConfig(name="csv"))


def test_the_file_counts_towards_the_id_by_its_content(tmp_path: Path) -> None:
    ids = []
    for rows in (GOOD, GOOD[:-1], GOOD):
        path = write(tmp_path, HEAD, *rows)
        data = {"name": "csv", "path": path, "val_size": 0.2}
        ids.append(identity.run_id(resolve.resolve({"act": {"name": "relu"}, "data": data})))
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_fast")
def test_a_csv_is_learned(tmp_path: Path) -> None:
    """As those that come with scikit-learn are, in test_data_defaults.py."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, 300)
    rows = [f"{2 * k + rng.normal():.3f},{rng.normal():.3f},{'ab'[k]}" for k in kinds]
    words = ("data=csv", f"data.path={write(tmp_path, HEAD, *rows)}", "data.target=kind")
    outputs = f"paths.outputs={tmp_path / 'outputs'}"
    code, out, err = ask(ROOT, "train.py", *words, "logger=disabled", "callbacks=none", outputs)
    assert code == 0, err
    assert float(re.findall(r"^relu +1 +([\d.]+)", out, re.M)[0]) > 70


PAGE = (ROOT / "docs" / "data.md").read_text()


def test_the_page_names_every_data_set_and_every_key() -> None:
    assert {*re.findall(r"^\| `data=(\w+)`", PAGE, re.M)} == {*DATASETS}
    keys = {field.name for field in dataclasses.fields(DataConfig)} - {"name", "_target_"}
    assert {*re.findall(r"^\| `data\.(\w+)`", PAGE, re.M)} == keys


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_fast")
def test_the_page_s_commands_train(tmp_path: Path) -> None:
    """A CSV and an NPZ of one's own, in one line each."""
    rows = [f"{i / 3:.2f},{i},{'ab'[i % 2]}" for i in range(60)]
    write(tmp_path, HEAD, *rows, name="penguins.csv")
    x = np.random.default_rng(0).integers(0, 256, (80, 28, 28, 1), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", x=x, y=np.arange(80) % 3)
    images = prepared.draw({"train": 400, "test": 9}, (16, 16, 3))
    prepared.tfds_set(tmp_path / "sets", images)
    prepared.image_folder(tmp_path / "my_images", images)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "train.py", tmp_path)
    (block,) = re.findall(r"<!-- run -->\n```bash\n(.*?)```", PAGE, re.S)
    for line in block.strip().splitlines():
        words = shlex.split(line, comments=True)
        assert words[:2] == ["python", "train.py"]
        small = ("logger=disabled", "trainer.epochs=2", "callbacks=none")
        code, _, err = ask(tmp_path, *words[1:], *small)
        assert code == 0, err
