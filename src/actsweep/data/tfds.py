"""TFDS without TensorFlow: build an image set from its published files, and read one back."""

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from actsweep.data.images import IDX_FILES, IDX_NAMES, IMAGES, SVHN_FILES
from actsweep.data.originals import BadFile, read_cifar, read_idx, read_svhn, read_tar

SPLITS = ("train", "test")
READ_AT_ONCE = 1_000

Record = tuple[int, dict[str, Any]]


def urls(name: str) -> dict[str, str]:
    """Return each file's address by its name, as TFDS registers them."""
    import tensorflow_datasets as tfds

    base = tfds.builder_cls(IMAGES[name].builder)
    if IMAGES[name].files == IDX_NAMES:
        return {file: base.URL + file for file in IDX_NAMES}
    known = {info.filename: url for url, info in (base.url_infos or {}).items()}
    return {file: known[file] for file in IMAGES[name].files}


def build(name: str, files: Path, data_dir: Path) -> Path:
    """Prepare an image set in TFDS's own format from the files in a folder.

    TFDS hashes every file and compares it with the sha256 that it registers.

    Args:
        name: a key of `IMAGES`.
        files: holds the set's files.
        data_dir: a TFDS folder to write into.

    Returns:
        The prepared folder, which `tfds.data_source` reads.

    Raises:
        BadFile: a file is missing, has another checksum, or can't be read.
    """
    for file in IMAGES[name].files:
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
        `train_images`, `test_images`: uint8 `[n, height, width, channels]`; `train_labels`,
        `test_labels`: int32 `[n]`.

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
            for split in SPLITS:
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

    def split_generators(self: Any, manager: Any) -> dict[str, Iterator[Record]]:
        paths = {file: Path(path) for file, path in manager.download(urls(name)).items()}
        return _examples(name)(self, paths)

    base = tfds.builder_cls(IMAGES[name].builder)
    body = {
        "name": IMAGES[name].builder,
        "url_infos": base.url_infos,
        "_split_generators": split_generators,
        "__module__": __name__,
    }
    with tfds.core.registered.skip_registration():
        return type(base.__name__, (base,), body)


def _examples(name: str) -> Callable[[Any, dict[str, Path]], dict[str, Iterator[Record]]]:
    """Return what makes the records of each split from a builder and the files by name."""
    if IMAGES[name].files == IDX_NAMES:
        return _idx
    return _svhn if name == "svhn" else _cifar


def _idx(builder: Any, paths: dict[str, Path]) -> dict[str, Iterator[Record]]:
    from PIL import Image

    def generate(images: Path, labels: Path) -> Iterator[Record]:
        x, y = read_idx(images), read_idx(labels)
        if x.ndim != 3 or y.shape != x.shape[:1]:
            raise BadFile(f"{images}: shape {x.shape}, but {labels.name} has {y.shape}")
        for index, (image, label) in enumerate(zip(x, y, strict=True)):
            yield index, {"image": Image.fromarray(image), "label": int(label)}

    return {split: generate(*(paths[file] for file in pair)) for split, pair in IDX_FILES.items()}


def _cifar(builder: Any, paths: dict[str, Path]) -> dict[str, Iterator[Record]]:
    from PIL import Image

    (path,), info = paths.values(), builder._cifar_info
    batches = {"train": info.train_files, "test": info.test_files}
    inside = (*info.label_files, *info.train_files, *info.test_files)
    files = read_tar(path, [info.prefix + file for file in inside])
    for key, file in zip(info.label_keys, info.label_files, strict=True):
        names, n = (
            files[info.prefix + file].decode().split(),
            builder.info.features[key].num_classes,
        )
        if len(names) != n:
            many = f"{len(names)} name{'s' * (len(names) != 1)}"
            raise BadFile(f"{path}: {info.prefix}{file}: {many}, must be {n}")
        builder.info.features[key].names = names
    classes = [builder.info.features[key].num_classes for key in info.label_keys]

    def generate(split: str) -> Iterator[Record]:
        index = 0
        for file in batches[split]:
            where = f"{path}: {info.prefix}{file}"
            for image, labels in zip(
                *read_cifar(files[info.prefix + file], where, classes), strict=True
            ):
                record = dict(zip(info.label_keys, labels.tolist(), strict=True))
                record |= {"id": f"{split}_{index:05d}", "image": Image.fromarray(image)}
                yield index, record
                index += 1

    return {split: generate(split) for split in SPLITS}


def _svhn(builder: Any, paths: dict[str, Path]) -> dict[str, Iterator[Record]]:
    from PIL import Image

    def generate(split: str, path: Path) -> Iterator[Record]:
        for index, (image, label) in enumerate(zip(*read_svhn(path), strict=True)):
            picture = Image.fromarray(np.ascontiguousarray(image))
            yield index, {"image": picture, "label": int(label), "id": f"{split}_{index:06d}"}

    return {split: generate(split, paths[file]) for split, file in SVHN_FILES.items()}


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
