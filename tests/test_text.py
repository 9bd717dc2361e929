"""Texts as tokens, the next of which is learned: what is read, how it is split, what is trained."""

import dataclasses
import math
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from test_resume import Cut, what_is_left
from test_run import LIGHT, make, run_pack

from actsweep import load_run
from actsweep.config import identity
from actsweep.config.schema import DataConfig, RunConfig
from actsweep.data import Dataset, load
from actsweep.data.dataset import chance, validate
from actsweep.runs.members import make_member
from actsweep.train.types import SweepContext
from actsweep.utils import pydocs
from actsweep.utils.errors import UserError

BIGRAM = {"name": "bigram", "_target_": "bigram.Bigram"}
STEPS = {"epochs": 2, "batch_size": 128, "probe_examples": 16, "chunk_steps": 7, "save_every_s": 0}
POEM = "Ein Mops kam in die Küche und stahl dem Koch ein Ei. " * 40


def text(path: Path | str, **changes: Any) -> DataConfig:
    plain: dict[str, Any] = {
        "name": "text",
        "path": str(path),
        "val_size": 0.1,
        "test_size": 0.1,
        "length": 8,
    }
    return DataConfig(**{**plain, **changes})


def poem(folder: Path, content: str = POEM) -> Path:
    file = folder / "poem.txt"
    file.write_bytes(content.encode())
    return file


def short(outputs: Path, seed: int, **changes: Any) -> RunConfig:
    """A run of seconds on the first windows of Python's reference."""
    data = {"name": "pydocs", "val_size": 40, "test_size": 0.5, "length": 127}
    plain: dict[str, Any] = {"model": BIGRAM, "trainer": STEPS, "data": data}
    plain["callbacks"] = {**LIGHT, "histograms": {}}
    return make(outputs, seed=seed, **{**plain, "optim": {"lr": 0.5}, **changes})


def test_windows_are_the_text_in_order_each_with_the_next_token(tmp_path: Path) -> None:
    data = load(text(poem(tmp_path)))
    letters = sorted(set(POEM))
    assert data.labels == tuple(letters)
    assert (data.vocabulary, data.classes, data.task) == (len(letters), None, "next_token")
    n = len(POEM)
    test, val = round(0.1 * n), round(0.1 * n)
    edges = {"train": (0, n - test - val), "val": (n - test - val, n - test), "test": (n - test, n)}
    for split, (begin, end) in edges.items():
        x, y = getattr(data, f"{split}_x"), getattr(data, f"{split}_y")
        assert x.dtype == y.dtype == np.uint8
        part = POEM[begin:end]
        starts = range(0, len(part) - 8, 9)
        assert len(x) == len(starts)
        for start, window, following in zip(starts, x, y, strict=True):
            assert "".join(letters[token] for token in window) == part[start : start + 8]
            assert "".join(letters[token] for token in following) == part[start + 1 : start + 9]


def test_bytes_are_tokens_too(tmp_path: Path) -> None:
    data = load(text(poem(tmp_path), level="byte", val_size=3, test_size=2))
    assert (data.vocabulary, len(data.val_x), len(data.test_x)) == (256, 3, 2)
    read = np.concatenate([data.train_x, data.train_y[:, -1:]], axis=1).astype(np.uint8).tobytes()
    assert POEM.encode().startswith(read)
    assert data.labels[ord("E")] == "E"


def test_many_characters_take_wider_numbers(tmp_path: Path) -> None:
    every = "".join(map(chr, range(0x4E00, 0x4E00 + 600))) * 4
    data = load(text(poem(tmp_path, "\ufeff" + every)))
    assert (data.train_x.dtype, data.vocabulary) == (np.uint16, 600)
    assert chr(0x4E00) == data.labels[0]


def test_pydocs_are_the_topics_of_this_python_and_count_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load(DataConfig(name="pydocs", val_size=0.1, test_size=0.1, length=16))
    whole = "\n".join(topics[name] for name in sorted(topics))
    assert set(data.labels) == set(whole)
    first = "".join(data.labels[token] for token in data.train_x[0])
    assert first == whole[:16]
    before = make_member(short(tmp_path, 0)).run_id
    monkeypatch.setattr(pydocs, "digest", lambda: "another")
    assert make_member(short(tmp_path, 0)).run_id != before
    assert "files" not in identity.identity(make(tmp_path))


def test_a_text_counts_by_its_content(tmp_path: Path) -> None:
    file, ids = poem(tmp_path), []
    for content in (POEM, POEM[::-1]):
        file.write_text(content)
        data = dataclasses.asdict(text(file))
        ids.append(make_member(short(tmp_path, 0, data=data)).run_id)
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"path": None}, "data=text: needs a file; type data.path=book.txt"),
        ({"path": "nowhere.txt"}, "data.path=nowhere.txt: no such file in"),
        ({"length": 100_000}, "data.length=100000: must be smaller: of 2120 tokens"),
        ({"length": 300}, "the val split has fewer than 301; type for example data.length=105"),
        ({"test_size": 0.001}, "the test split has fewer than 9"),
        ({"val_size": 400}, "the train split has fewer than 9"),
    ],
)
def test_what_can_not_be_read_is_one_line(
    changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as raised:
        load(dataclasses.replace(text(poem(tmp_path)), **changes))
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_byte_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    file = tmp_path / "old.txt"
    file.write_bytes(POEM.encode("latin-1"))
    with pytest.raises(UserError, match=f"byte {POEM.index('ü')} is 0xfc .* data.level=byte"):
        load(text(file))
    assert load(text(file, level="byte")).vocabulary == 256


def test_what_no_text_can_be_is_refused_at_once(tmp_path: Path) -> None:
    for changes, line in [
        ({"data": {"name": "pydocs", "level": "word"}}, "data.level=word: no such name"),
        ({"data": {"name": "pydocs", "length": 0}}, "data.length=0: must be a number of at least"),
        ({"model": {"name": "mlp"}}, "model=mlp: takes numbers, and data=pydocs has tokens"),
        ({"loss": {"name": "hinge"}}, "loss.name=hinge: no such name"),
        ({"loss": {"label_smoothing": 1.0}}, "loss.label_smoothing=1.0: must be in [0, 1)"),
    ]:
        with pytest.raises(UserError) as raised:
            short(tmp_path, 0, **changes)  # type: ignore[arg-type]
        assert line in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"model": {"name": "flat", "_target_": "bigram.Flat"}}, r"logits \[batch, length, vocab"),
        ({"loss": {"name": "cross_entropy"}}, "must be next_token, since these data are for next"),
    ],
)
def test_what_does_not_fit_the_text_is_one_line(
    changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=line):
        run_pack([short(tmp_path, 0, **changes)], SweepContext("sweep"))


def test_a_data_set_of_tokens_is_checked(tmp_path: Path) -> None:
    data = load(text(poem(tmp_path)))
    for changes, line in [
        ({"train_x": data.train_x.astype(np.float32)}, "train_x of float32; must be a numpy array"),
        ({"train_x": data.train_x + np.uint8(200)}, "train_x from"),
        ({"val_y": data.val_y[:, :-1]}, "must be tokens [n, 8], as train_x"),
        ({"vocabulary": 1}, "vocabulary=1"),
        ({"labels": ("a",)}, "1 labels"),
    ]:
        with pytest.raises(UserError) as raised:
            validate(dataclasses.replace(data, **changes))  # type: ignore[arg-type]
        assert line in str(raised.value)


def test_tokens_may_also_be_classified(tmp_path: Path) -> None:
    data = load(text(poem(tmp_path)))
    labels = {f"{s}_y": np.arange(len(getattr(data, f"{s}_y")), dtype=np.int32) % 2 for s in SPLITS}
    assert validate(dataclasses.replace(data, classes=2, labels=(), **labels)).task == (
        "classification"
    )


SPLITS = ("train", "val", "test")


def test_chance_is_the_entropy_of_the_test_tokens(tmp_path: Path) -> None:
    data = load(text(poem(tmp_path)))
    letters, entropy = data.test_y.ravel().tolist(), 0.0
    for letter in set(letters):
        share = letters.count(letter) / len(letters)
        entropy -= share * math.log(share)
    assert chance(data) == pytest.approx(entropy)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> list[RunConfig]:
    outputs = tmp_path_factory.mktemp("packed")
    runs = [short(outputs, seed) for seed in (0, 1)]
    run_pack(runs, SweepContext("sweep"))
    return runs


def losses(logits: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The mean loss in nats per token, and the share of tokens that is predicted, by a loop."""
    total, right = 0.0, 0
    for example, labels in zip(logits.astype(np.float64), y, strict=True):
        for token, label in zip(example, labels, strict=True):
            total += np.log(np.sum(np.exp(token - token.max()))) + token.max() - token[label]
            right += int(np.argmax(token)) == int(label)
    return total / y.size, right / y.size


def test_the_next_token_is_learned_and_scored(packed: list[RunConfig]) -> None:
    run = load_run(make_member(packed[0]).dir.path)
    data: Dataset = run.dataset()
    few = slice(0, 40)
    metrics, summary = run.metrics(), run.summary
    loss, right = losses(np.asarray(run.logits(data.val_x[few])), data.val_y[few])
    assert summary["best_val_loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["val/accuracy"][-1] == pytest.approx(right, abs=1e-6)
    known = np.isfinite(metrics["val/loss"])
    np.testing.assert_allclose(
        metrics["val/perplexity"][known], np.exp(metrics["val/loss"][known]), rtol=1e-6
    )
    assert summary["test_perplexity"] == pytest.approx(math.exp(summary["test_loss"]), rel=1e-6)
    first, last = metrics["val/loss"][0], summary["best_val_loss"]
    assert first > math.log(data.outputs) - 0.1
    assert last < first - 0.5
    assert summary["task"] == "next_token"
    for name in ("grad_norm/embed", "grad_norm/up", "grad_norm/head"):
        assert np.isfinite(metrics[name]).all()
    assert np.isfinite(metrics["dead_frac/act"][known]).all()


def test_only_tokens_are_taken(packed: list[RunConfig]) -> None:
    run = load_run(make_member(packed[0]).dir.path)
    x = run.dataset().test_x[:2]
    for wrong in (x.astype(np.float32), np.full_like(x, 255)):
        with pytest.raises(UserError, match="takes tokens, whole numbers from 0 to"):
            run.logits(wrong)


def test_alone_and_in_a_pack_a_member_is_the_same(packed: list[RunConfig], tmp_path: Path) -> None:
    alone = short(tmp_path, 1)
    run_pack([alone], SweepContext("sweep"))
    assert what_is_left(alone) == what_is_left(packed[1])


def test_a_stream_gives_the_same(packed: list[RunConfig], tmp_path: Path) -> None:
    data = {**dataclasses.asdict(packed[0].data), "stream": True}
    streamed = [short(tmp_path, seed, data=data) for seed in (0, 1)]
    run_pack(streamed, SweepContext("sweep"))
    for one, other in zip(streamed, packed, strict=True):
        ours, theirs = (load_run(make_member(run).dir.path).metrics() for run in (one, other))
        np.testing.assert_allclose(ours["val/loss"], theirs["val/loss"], rtol=1e-5)


def test_cut_short_it_ends_with_the_same_bytes(packed: list[RunConfig], tmp_path: Path) -> None:
    runs = [short(tmp_path, seed) for seed in (0, 1)]
    with pytest.MonkeyPatch.context() as patch:
        Cut(2, saves=False).apply(patch)
        with pytest.raises(KeyboardInterrupt):
            run_pack(runs, SweepContext("sweep"))
    run_pack(runs, SweepContext("sweep"))
    assert [what_is_left(run) for run in runs] == [what_is_left(run) for run in packed]


def test_vmap_is_the_same_to_rounding(packed: list[RunConfig], tmp_path: Path) -> None:
    runs = [short(tmp_path, seed, pack={"batching": "vmap"}) for seed in (0, 1)]
    run_pack(runs, SweepContext("sweep"))
    for one, other in zip(runs, packed, strict=True):
        ours, theirs = (load_run(make_member(run).dir.path).metrics() for run in (one, other))
        np.testing.assert_allclose(ours["val/loss"], theirs["val/loss"], rtol=1e-4)
