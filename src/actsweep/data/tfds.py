"""TFDS without TensorFlow: build an image set from its four IDX files, and read one back."""

import contextlib
import gzip
import io
import json
import logging
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from actsweep.data.images import IMAGES

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
READ_AT_ONCE = 1_000
FILE_NAMES = tuple(name for pair in FILES.values() for name in pair)


class BadFile(Exception):
    """A file that isn't what TFDS registered, or can't be decoded. Its message is one line."""


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of bytes, as LeCun describes the format.

    Args:
        path: a `.gz` file.

    Returns:
        uint8 `[n, height, width]` or `[n]`.

    Raises:
        BadFile: not gzip, truncated, or not IDX of unsigned bytes.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise BadFile(f"{path}: not a whole gzip file ({error})") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise BadFile(f"{path}: not an IDX file of unsigned bytes")
    shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if values.size != math.prod(shape):
        raise BadFile(f"{path}: {values.size} bytes of data, its header says {shape}")
    return values.reshape(shape)


def urls(name: str) -> dict[str, str]:
    """Return each file's address by its name, as TFDS registers them."""
    import tensorflow_datasets as tfds

    base = getattr(tfds.image_classification, IMAGES[name].builder).URL
    return {file: base + file for file in FILE_NAMES}


def build(name: str, files: Path, data_dir: Path) -> Path:
    """Prepare an image set in TFDS's own format from the files in a folder.

    TFDS hashes every file and compares it with the sha256 that it registers.

    Args:
        name: a key of `IMAGES`.
        files: holds the four `.gz` files.
        data_dir: a TFDS folder to write into.

    Returns:
        `data_dir/name/version`, which `tfds.data_source(name, data_dir=data_dir)` reads.

    Raises:
        BadFile: a file is missing, has another checksum, or isn't IDX.
    """
    for file in FILE_NAMES:
        if not (files / file).is_file():
            raise BadFile(f"{files / file}: missing")
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    config = tfds.download.DownloadConfig(
        manual_dir=files, force_checksums_validation=True, try_download_gcs=False
    )
    with _quiet(), contextlib.redirect_stdout(io.StringIO()):
        builder = _builder_class(name)(data_dir=data_dir, file_format="array_record")
        try:
            builder.download_and_prepare(
                download_dir=data_dir / "downloads", download_config=config
            )
        except NonMatchingChecksumError as error:
            raise BadFile(str(error).splitlines()[0]) from error
    return Path(builder.data_dir)


def decode(folder: Path) -> dict[str, np.ndarray]:
    """Read every example of a prepared folder, in TFDS's order.

    Args:
        folder: `data_dir/name/version`.

    Returns:
        `train_images`, `test_images`: uint8 `[n, 28, 28, 1]`; `train_labels`, `test_labels`: int32
        `[n]`.

    Raises:
        BadFile: the folder isn't array_record, or a record is damaged.
    """
    import tensorflow_datasets as tfds

    kind = _file_format(folder)
    if kind != "array_record":
        raise BadFile(f"{folder}: in the format {kind}; only array_record is read here")
    arrays = {}
    try:
        with _quiet():
            builder = tfds.builder_from_directory(folder)
            classes = builder.info.features["label"].num_classes
            for split in FILES:
                images, labels = _decode_split(builder, split)
                arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, labels
                if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
                    raise BadFile(f"{folder}: labels of {split} are not in 0..{classes - 1}")
    except BadFile:
        raise
    except Exception as error:
        cause = (str(error).splitlines() or [""])[0][:200]
        raise BadFile(f"{folder}: can't be decoded ({type(error).__name__}: {cause})") from error
    return arrays


def _decode_split(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds
    from PIL import Image

    source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    n, shape = builder.info.splits[split].num_examples, builder.info.features["image"].shape
    if len(source) != n:
        raise BadFile(f"{builder.data_dir}: {len(source)} records of {split}, should be {n}")
    images, labels = np.empty((n, *shape), np.uint8), np.empty(n, np.int32)
    for start in range(0, n, READ_AT_ONCE):
        rows = range(start, min(start + READ_AT_ONCE, n))
        for i, record in zip(rows, source.__getitems__(rows), strict=True):
            with Image.open(io.BytesIO(record["image"])) as image:
                images[i], labels[i] = np.asarray(image).reshape(shape), record["label"]
    return images, labels


def _file_format(folder: Path) -> str:
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
        return str(info.get("fileFormat", "tfrecord"))
    except (OSError, ValueError, AttributeError) as error:
        raise BadFile(f"{folder / 'dataset_info.json'}: can't be read ({error})") from error


def _builder_class(name: str) -> Any:
    """Return the catalogue's builder, with what needs TensorFlow in it written without."""
    import tensorflow_datasets as tfds
    from PIL import Image

    def split_generators(self: Any, manager: Any) -> dict[str, Any]:
        paths = manager.download({file: self.URL + file for file in FILE_NAMES})
        return {
            split: self._generate_examples(Path(paths[images]), Path(paths[labels]))
            for split, (images, labels) in FILES.items()
        }

    def generate(self: Any, images: Path, labels: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        x, y = read_idx(images), read_idx(labels)
        if x.ndim != 3 or y.shape != x.shape[:1]:
            raise BadFile(f"{images}: shape {x.shape}, but {labels.name} has {y.shape}")
        for index, (image, label) in enumerate(zip(x, y, strict=True)):
            yield index, {"image": Image.fromarray(image), "label": int(label)}

    base = getattr(tfds.image_classification, IMAGES[name].builder)
    body = {
        "name": name,
        "_split_generators": split_generators,
        "_generate_examples": generate,
        "__module__": __name__,
    }
    with tfds.core.registered.skip_registration():
        return type(base.__name__, (base,), body)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep TFDS from printing to stdout, drawing progress bars and logging advice."""
    import tensorflow_datasets as tfds

    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    tfds.display_progress_bar(False)
    try:
        yield
    finally:
        tfds.display_progress_bar(True)
        absl.setLevel(level)
