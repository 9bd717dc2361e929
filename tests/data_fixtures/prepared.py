"""Small image classification sets on disk: as TFDS itself writes them, and as `datasets` reads."""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from actsweep.data import tfds as our_tfds

Splits = Mapping[str, tuple[np.ndarray, np.ndarray]]
CLASSES = ("rock", "paper", "scissors")


def draw(
    n: Mapping[str, int], shape: tuple[int, ...] = (8, 6, 3), seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random images and labels of each split: uint8 [n, *shape], int [n]."""
    rng = np.random.default_rng(seed)
    return {
        split: (rng.integers(0, 256, (k, *shape), dtype=np.uint8), np.arange(k) % len(CLASSES))
        for split, k in n.items()
    }


def picture(image: np.ndarray) -> Image.Image:
    """An array [height, width, channels] as Pillow's image."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def tfds_set(
    root: Path,
    splits: Splits,
    name: str = "rock_paper_scissors",
    config: str | None = None,
    version: str = "1.0.0",
    features: Mapping[str, Any] | None = None,
    file_format: str = "array_record",
) -> Path:
    """A set that TFDS's own writer has prepared; its builder is unknown to whoever reads it.

    Images are arrays, or files in bytes. Features that aren't images get the label.
    """
    import tensorflow_datasets as tfds

    known = features or {
        "image": tfds.features.Image(shape=next(iter(splits.values()))[0].shape[1:]),
        "label": tfds.features.ClassLabel(names=CLASSES),
    }

    def info(self: Any) -> Any:
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(known))

    def value(feature: Any, image: Any, label: int) -> Any:
        if not isinstance(feature, tfds.features.Image):
            return label
        return io.BytesIO(image) if isinstance(image, bytes) else picture(image)

    def examples(images: Sequence[Any], labels: np.ndarray) -> Iterator[tuple[int, Any]]:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {key: value(known[key], image, int(label)) for key in known}

    body = {
        "name": name,
        "VERSION": tfds.core.Version(version),
        "BUILDER_CONFIGS": [tfds.core.BuilderConfig(name=config)] if config else [],
        "_info": info,
        "_split_generators": lambda self, manager: {s: examples(*p) for s, p in splits.items()},
        "_generate_examples": lambda self: iter(()),
        "__module__": __name__,
    }
    with tfds.core.registered.skip_registration():
        kind = type("Builder", (tfds.core.GeneratorBasedBuilder,), body)
    with our_tfds._quiet(), contextlib.redirect_stdout(io.StringIO()):
        builder = kind(data_dir=root, file_format=file_format)
        builder.download_and_prepare()
    return Path(builder.data_dir)


def image_folder(folder: Path, splits: Splits) -> Path:
    """The images of each split as PNG in `<split>/<class>/`."""
    for split, (images, labels) in splits.items():
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / split / CLASSES[label] / f"{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(image).save(path)
    return folder


def hf_tables(splits: Splits) -> Any:
    """A `DatasetDict` of the splits, as a user makes it."""
    import datasets

    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=list(CLASSES))
    )
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {"image": list(map(picture, images)), "label": labels.tolist()},
                features=features,
            )
            for split, (images, labels) in splits.items()
        }
    )
