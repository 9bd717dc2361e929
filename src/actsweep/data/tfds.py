"""TFDS without TensorFlow: build an image set from its published files, and read one back."""

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from actsweep.data.decoding import (
    IMAGE_SPLITS,
    EncodedExample,
    EncodedSet,
    ImageSplit,
    check_splits,
    chosen_feature,
)
from actsweep.data.images import IDX_FILES, IDX_NAMES, IMAGES, SVHN_FILES
from actsweep.data.originals import BadFile, read_cifar, read_idx, read_svhn, read_tar
from actsweep.utils.errors import first_line

SPLITS = ("train", "test")

Generated = tuple[int, dict[str, Any]]


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


def encoded(
    folder: Path, records: dict[str, str], label: str | None, size: tuple[int, ...] = ()
) -> EncodedSet:
    """Open a prepared folder of any image classification set.

    Args:
        folder: `data_dir/name/version`.
        records: what its content is known by.
        label: the feature to learn; None for the only one that is a class.
        size: of the decoded images, as for `EncodedSet`.

    Raises:
        BadFile: the folder isn't array_record, or is no such set.
        UserError: there is no label of that name, or none was chosen of several.
    """
    import tensorflow_datasets as tfds

    kind = _file_format(folder)
    if kind != "array_record":
        raise BadFile(f"{folder}: in the format {kind}; only array_record is read here")
    try:
        with _quiet():
            builder = tfds.builder_from_directory(folder)
            splits, features = dict(builder.info.splits), dict(builder.info.features or {})
    except Exception as error:
        raise BadFile(f"{folder}: can't be decoded ({first_line(error)[:200]})") from error
    kinds = {
        kind: sorted(key for key, feature in features.items() if type(feature) is kind)
        for kind in (tfds.features.Image, tfds.features.ClassLabel)
    }
    picture = chosen_feature(folder, "image", kinds[tfds.features.Image])
    label = chosen_feature(folder, "label of a class", kinds[tfds.features.ClassLabel], label)
    if features[picture].np_dtype != np.uint8:
        kind = np.dtype(features[picture].np_dtype)
        raise BadFile(f"{folder}: images of {kind}; only those of 8 bits a channel are read")
    check_splits(folder, splits)
    return EncodedSet(
        where=str(folder),
        folder=folder,
        records=records,
        classes=tuple(features[label].names),
        splits={
            name: _split(builder, name, picture, label) for name in IMAGE_SPLITS if name in splits
        },
        size=size,
        channels=features[picture].shape[-1],
    )


def _split(builder: Any, name: str, picture: str, label: str) -> ImageSplit:
    import tensorflow_datasets as tfds

    with _quiet():
        source = builder.as_data_source(name, decoders={picture: tfds.decode.SkipDecoding()})
    n = builder.info.splits[name].num_examples
    if len(source) != n:
        raise BadFile(f"{builder.data_dir}: {len(source)} records of {name}, should be {n}")

    def read(ids: range) -> list[EncodedExample]:
        return [EncodedExample(row[picture], int(row[label])) for row in source.__getitems__(ids)]

    return ImageSplit(n, read)


def _file_format(folder: Path) -> str:
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
        return str(info.get("fileFormat", "tfrecord"))
    except (OSError, ValueError, AttributeError) as error:
        raise BadFile(f"{folder / 'dataset_info.json'}: can't be read ({error})") from error


def _builder_class(name: str) -> Any:
    """Return the catalogue's builder, with what needs TensorFlow in it written without."""
    import tensorflow_datasets as tfds

    def split_generators(self: Any, manager: Any) -> dict[str, Iterator[Generated]]:
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


def _examples(name: str) -> Callable[[Any, dict[str, Path]], dict[str, Iterator[Generated]]]:
    """Return what makes the records of each split from a builder and the files by name."""
    if IMAGES[name].files == IDX_NAMES:
        return _idx
    return _svhn if name == "svhn" else _cifar


def _idx(builder: Any, paths: dict[str, Path]) -> dict[str, Iterator[Generated]]:
    from PIL import Image

    def generate(images: Path, labels: Path) -> Iterator[Generated]:
        x, y = read_idx(images), read_idx(labels)
        if x.ndim != 3 or y.shape != x.shape[:1]:
            raise BadFile(f"{images}: shape {x.shape}, but {labels.name} has {y.shape}")
        for index, (image, label) in enumerate(zip(x, y, strict=True)):
            yield index, {"image": Image.fromarray(image), "label": int(label)}

    return {split: generate(*(paths[file] for file in pair)) for split, pair in IDX_FILES.items()}


def _cifar(builder: Any, paths: dict[str, Path]) -> dict[str, Iterator[Generated]]:
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

    def generate(split: str) -> Iterator[Generated]:
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


def _svhn(builder: Any, paths: dict[str, Path]) -> dict[str, Iterator[Generated]]:
    from PIL import Image

    def generate(split: str, path: Path) -> Iterator[Generated]:
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
