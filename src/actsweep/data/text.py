"""Texts as tokens: a file of one's own, or the reference that comes with Python."""

from pathlib import Path
from typing import Any

import numpy as np

from actsweep.config.schema import DataConfig
from actsweep.data.dataset import SPLITS, Dataset
from actsweep.utils import pydocs
from actsweep.utils.errors import UserError, bad_value


def from_file(cfg: DataConfig) -> Dataset:
    """Read a file of text, of which the next character, or byte, is to be learned.

    Raises:
        UserError: the file is missing, isn't UTF-8, or is too short.
    """
    if not cfg.path:
        raise UserError("data=text: needs a file; type data.path=book.txt")
    path = Path(cfg.path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"data.path={cfg.path}: no such file in {Path.cwd()}") from error
    except OSError as error:
        raise UserError(f"data.path={cfg.path}: can't be read ({error.strerror})") from error
    if cfg.level == "byte":
        return _next_tokens(path.stem, *_bytes(raw), cfg)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"data.path={cfg.path}: isn't UTF-8: byte {error.start} is 0x{raw[error.start]:02x} "
            f"({error.reason}); save it as UTF-8, or type data.level=byte"
        ) from error
    return _next_tokens(path.stem, *_characters(text.removeprefix("\ufeff")), cfg)


def from_pydocs(cfg: DataConfig) -> Dataset:
    """Return Python's own reference (`utils.pydocs`) as tokens: needs no files."""
    text = pydocs.text()
    tokens = _bytes(text.encode()) if cfg.level == "byte" else _characters(text)
    return _next_tokens("pydocs", *tokens, cfg)


def _bytes(raw: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    names = tuple(chr(i) if 32 <= i < 127 else f"\\x{i:02x}" for i in range(256))
    return np.frombuffer(raw, np.uint8), names


def _characters(text: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a text as tokens, and the characters that they stand for, in sorted order."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    known, tokens = np.unique(codes, return_inverse=True)
    dtype = np.uint8 if len(known) <= 2**8 else np.uint16 if len(known) <= 2**16 else np.int32
    return tokens.astype(dtype), tuple(map(chr, known.tolist()))


def _next_tokens(
    name: str, tokens: np.ndarray, vocabulary: tuple[str, ...], cfg: DataConfig
) -> Dataset:
    """Return a data set of windows: x are all tokens of a window but its last, y all but its first.

    The windows don't overlap. The text's beginning is for training, the next part for validation,
    its end for the test, so that no test example is a neighbour of training examples.

    Raises:
        UserError: a part is shorter than a window.
    """
    window = cfg.length + 1
    n_test, n_val = (_tokens(size, len(tokens), window) for size in (cfg.test_size, cfg.val_size))
    n_train = len(tokens) - n_val - n_test
    arrays: list[Any] = []
    edges = np.cumsum([0, max(0, n_train), n_val, n_test])
    for split, begin, end in zip(SPLITS, edges[:-1], edges[1:], strict=True):
        part = tokens[begin:end]
        if len(part) < window or n_train < window:
            raise _too_short(cfg, split if n_train >= window else "train", len(tokens))
        windows = part[: len(part) // window * window].reshape(-1, window)
        arrays += [windows[:, :-1].copy(), windows[:, 1:].copy()]
    if len(vocabulary) < 2:
        raise UserError(f"data={cfg.name}: is one character, repeated: there is nothing to learn")
    count = len(vocabulary)
    about: Any = {"classes": None, "labels": vocabulary, "vocabulary": count}
    return Dataset(name, *arrays, **about)


def _tokens(size: float, n: int, window: int) -> int:
    """Return how many of n tokens a split has: a share of all, or a number of examples."""
    return round(size * n) if size < 1 else int(size) * window


def _too_short(cfg: DataConfig, split: str, n: int) -> UserError:
    """Return the error for a split that has no example."""
    allowed = (
        f"smaller: of {n} tokens, with data.val_size={cfg.val_size} and "
        f"data.test_size={cfg.test_size}, the {split} split has fewer than {cfg.length + 1}"
    )
    fix = f"data.length={max(1, min(cfg.length, n // 20) - 1)}"
    return bad_value("data.length", cfg.length, allowed, fix)
