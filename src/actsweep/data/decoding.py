"""Encoded images of a set on disk, decoded a chunk at a time into the arrays of its cache."""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from actsweep.data import cache
from actsweep.data.originals import BadFile
from actsweep.utils.errors import UserError, first_line, unknown_name
from actsweep.utils.progress import slow

IMAGE_SPLITS = ("train", "validation", "test")
MOST, MOST_BYTES = 256, 16 << 20
"""The images of a chunk, and its bytes once they are decoded."""
THREADS = 4
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's names of 8-bit images by their channels."""
OTHER_MODES = {"1": 1, "P": 3, "CMYK": 3, "YCbCr": 3, "PA": 4, "LA": 4}
"""The channels that images of other modes are given."""


class EncodedExample(NamedTuple):
    """An encoded image, its label, and the file that it comes from, where there is one."""

    image: bytes
    label: int | None
    file: str = ""


class ImageSplit(NamedTuple):
    """The number of a split's examples, and what reads those of a range of numbers."""

    n: int
    read: Callable[[range], Sequence[EncodedExample]]


@dataclass(frozen=True)
class EncodedSet:
    """An image classification set whose images are still encoded.

    Attributes:
        where: its folder, or the override that chose it; errors begin with it.
        folder: in it, or in the user's cache, its decoded arrays are kept.
        records: what its content is known by; arrays that were decoded from another aren't used.
        classes: names of the classes.
        splits: `train`, and perhaps `validation` and `test`.
        size: height and width of the decoded images, perhaps channels; empty to leave them.
        channels: of the decoded images, unless `size` says; None for those that they have.
    """

    where: str
    folder: Path
    records: dict[str, str]
    classes: tuple[str, ...]
    splits: Mapping[str, ImageSplit]
    size: tuple[int, ...] = ()
    channels: int | None = None


def arrays(
    images: EncodedSet, log: cache.Log, variant: str = "", *, mapped: bool = False
) -> dict[str, np.ndarray]:
    """Return the arrays of a set, decoded first if there is no cache of them; needs `cache.lock`.

    Args:
        images: the set.
        log: takes a line about each slow step.
        variant: tells caches in one folder apart.
        mapped: whether the arrays are memory-mapped files, of which the host holds what it reads.

    Returns:
        `<split>_images`: uint8 `[n, height, width, channels]`, and `<split>_labels`: int32 `[n]`.

    Raises:
        BadFile: a record is damaged, or has no label or a shape of its own; names it.
        UserError: the arrays are to be mapped, and their files can't be written.
    """
    kept = cache.read(images.folder, images.records, lambda line: None, variant, mapped=mapped)
    if kept is not None:
        return kept
    log(f"{images.folder}: decoding the images; this happens once")
    decoder = Decoder(images)
    with slow(f"{images.folder}: decoding the images", log):
        written = cache.write(images.folder, images.records, decoder.splits, log, variant)
    if written:
        kept = cache.read(images.folder, images.records, log, variant, mapped=mapped)
        assert kept is not None
        return kept
    if mapped:
        raise UserError(
            f"data.stream=disk: the decoded images can be written neither to {images.folder} nor "
            "to the user's cache; type for example data.stream=true"
        )
    decoded: dict[str, np.ndarray] = {}
    for name, (_, chunks) in decoder.splits().items():
        pixels, labels = zip(*chunks, strict=True)
        decoded |= {f"{name}_images": np.concatenate(pixels)}
        decoded |= {f"{name}_labels": np.concatenate(labels)}
    return decoded


def chosen_feature(
    where: object, kind: str, features: Sequence[str], target: str | None = None
) -> str:
    """Return the feature of a set that is its image, or its label.

    Args:
        where: the set, for the message.
        kind: what is looked for, for the message.
        features: those of that kind.
        target: `data.target`, where it may choose one.

    Raises:
        BadFile: there is none, or several of which none may be chosen.
        UserError: the target isn't one of them, or there are several and no target.
    """
    if target is not None and features:
        if target not in features:
            raise unknown_name("data.target", target, features)
        return target
    if len(features) == 1:
        return features[0]
    if not features:
        raise BadFile(f"{where}: has no {kind}; an image classification set has an image and one")
    if kind == "image":
        raise BadFile(f"{where}: has {len(features)} images an example ({', '.join(features)})")
    raise UserError(
        f"{where}: has several labels; type for example data.target={features[0]}. "
        f"Known: {', '.join(features)}"
    )


def check_splits(where: object, names: Iterable[str]) -> None:
    """Refuse a set without a training split."""
    if "train" not in names:
        raise BadFile(f"{where}: has no split train, but {', '.join(names) or 'none'}")


class Decoder:
    """What decodes the images of a set, all of which must have the shape of its first one."""

    def __init__(self, images: EncodedSet) -> None:
        self.images = images
        self.shape: tuple[int, ...] = ()
        self.first = ""

    def splits(self) -> dict[str, tuple[int, cache.Chunks]]:
        """Return the number of examples of each split, and its `chunks`."""
        return {name: (split.n, self.chunks(name)) for name, split in self.images.splits.items()}

    def chunks(self, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images, uint8 `[k, height, width, channels]`, and labels, int32 `[k]`, in order.

        Raises:
            BadFile: see `arrays`.
        """
        n = self.images.splits[name].n
        if n == 0:
            raise BadFile(f"{self.images.where}: {name} has no examples")
        with ThreadPoolExecutor(THREADS) as threads:
            end = 0
            while end < n:
                ids = range(end, min(end + self._at_once(), n))
                end = ids.stop
                records = self._read(name, ids)
                titles = [self._title(name, *pair) for pair in zip(ids, records, strict=True)]
                labels = [self._label(*pair) for pair in zip(titles, records, strict=True)]
                pixels = list(threads.map(self._pixels, titles, records))
                for title, image in zip(titles, pixels, strict=True):
                    self._check_shape(title, image.shape)
                yield np.stack(pixels), np.array(labels, np.int32)

    def _at_once(self) -> int:
        size = math.prod(self.shape) if self.shape else MOST_BYTES // THREADS
        return min(MOST, max(1, MOST_BYTES // size))

    def _read(self, name: str, ids: range) -> Sequence[EncodedExample]:
        read = self.images.splits[name].read
        try:
            return read(ids)
        except Exception:
            records: list[EncodedExample] = []
            for i in ids:
                try:
                    records += read(range(i, i + 1))
                except Exception as error:
                    raise self._damaged(f"{name} record {i}", error) from error
            return records

    def _title(self, name: str, i: int, record: EncodedExample) -> str:
        return f"{name} record {i}" + (f" ({record.file})" if record.file else "")

    def _label(self, title: str, record: EncodedExample) -> int:
        most = len(self.images.classes) - 1
        if record.label is None or not 0 <= record.label <= most:
            given = f"{title} has the label {record.label}"
            raise BadFile(f"{self.images.where}: {given}; must be from 0 to {most}")
        return record.label

    def _pixels(self, title: str, record: EncodedExample) -> np.ndarray:
        from PIL import Image, ImageOps

        size = self.images.size
        channels = size[2] if len(size) == 3 else self.images.channels
        try:
            with Image.open(io.BytesIO(record.image)) as encoded:
                encoded.load()
                image: Any = ImageOps.exif_transpose(encoded)
        except Exception as error:  # Pillow raises whatever its parsers stumble over
            raise self._damaged(title, error) from error
        if image.mode not in (*MODES.values(), *OTHER_MODES):
            raise BadFile(
                f"{self.images.where}: {title} is an image of mode {image.mode}; only those of 8 "
                "bits a channel are read"
            )
        mode = MODES[channels or OTHER_MODES.get(image.mode) or len(image.getbands())]
        image = image if image.mode == mode else image.convert(mode)
        if size and image.size != (size[1], size[0]):
            image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.atleast_3d(np.asarray(image))

    def _check_shape(self, title: str, shape: tuple[int, ...]) -> None:
        if not self.shape:
            self.shape, self.first = shape, title
        if shape != self.shape:
            height, width, channels = self.shape
            size = [height, width] if channels == shape[-1] else [height, width, 3]
            raise BadFile(
                f"{self.images.where}: {title} has the shape {list(shape)}, {self.first} "
                f"{list(self.shape)}; they must have one: type for example "
                f"'data.size={size}'"
            )

    def _damaged(self, title: str, error: Exception) -> BadFile:
        return BadFile(f"{self.images.where}: {title} is damaged ({first_line(error)[:200]})")
