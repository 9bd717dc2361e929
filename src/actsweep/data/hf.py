"""Image sets of the Hugging Face hub, or of a folder, opened by the package `datasets`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actsweep.config import data_folders
from actsweep.config.schema import DataConfig
from actsweep.data import cache
from actsweep.data.decoding import (
    EncodedExample,
    EncodedSet,
    ImageSplit,
    check_splits,
    chosen_feature,
)
from actsweep.data.originals import BadFile
from actsweep.utils.errors import UserError, first_line

SPLIT_NAMES = {
    "train": "train",
    "test": "test",
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}
"""The splits that are read, and what they are to us."""
UNREACHABLE = "LocalEntryNotFoundError"
"""What the hub's client raises, and `datasets` quotes, where neither hub nor cache has a file."""


def encoded(cfg: DataConfig) -> EncodedSet:
    """Open the set `data.name` with the configuration `data.config`.

    It is a folder (as `is_path` tells): one that `save_to_disk` wrote, one of images in
    `<split>/<class>/`, or one of Parquet files. Or a set of the hub, with `@` and a revision if one
    is to stay.

    Raises:
        BadFile: it is no image classification set.
        UserError: `datasets` isn't installed, or the set can't be had.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f'data=hf: needs the package datasets ({error}); type pip install "actsweep[hf]"'
        ) from error
    with _quiet(datasets):
        tables = _tables(datasets, cfg)
    check_splits(cfg.name, tables)
    features = tables["train"].features
    kinds = {
        kind: [key for key, feature in features.items() if isinstance(feature, kind)]
        for kind in (datasets.Image, datasets.ClassLabel)
    }
    picture = chosen_feature(cfg.name, "image", kinds[datasets.Image])
    label = chosen_feature(cfg.name, "label of a class", kinds[datasets.ClassLabel], cfg.target)
    names = {
        SPLIT_NAMES[name]: name
        for name, table in tables.items()
        if name in SPLIT_NAMES and (name == "train" or _has_labels(table, label))
    }
    for name in names.values():
        own = tables[name].features.get(label)
        if own != features[label]:
            raise BadFile(
                f"{cfg.name}: the classes of its split {name} are {_names(own)}, those of train "
                f"{_names(features[label])}; cast both to one ClassLabel"
            )
    records = _records(cfg, tables)
    key = cache.digest_of(repr(sorted(records.items())))
    title = Path(cfg.name).name.replace("@", "-")
    return EncodedSet(
        where=cfg.name,
        folder=data_folders.data_root(cfg.dir) / "actsweep-hf" / f"{title}-{key}",
        records=records,
        classes=tuple(features[label].names),
        splits={
            ours: _split(datasets, tables[name], picture, label) for ours, name in names.items()
        },
        size=tuple(cfg.size),
    )


def _has_labels(table: Any, label: str) -> bool:
    """Return whether some example has a label: those of competitions are all -1, or missing."""
    return label not in table.features or any(y not in (None, -1) for y in table[label])


def _names(feature: Any) -> str:
    return ", ".join(getattr(feature, "names", None) or ["none"])


def _tables(datasets: Any, cfg: DataConfig) -> dict[str, Any]:
    """Return the tables of the splits, by name."""
    folder = data_folders.folder_of(cfg)
    if folder is not None:
        return _local(datasets, folder, cfg)
    name, _, revision = cfg.name.partition("@")
    try:
        return dict(datasets.load_dataset(name, cfg.config, revision=revision or None))
    except Exception as error:  # the hub's client raises of its own, and whatever a set contains
        unreachable = isinstance(error, ConnectionError) or UNREACHABLE in str(error)
        what = "the hub can't be reached" if unreachable else "can't be had from the hub"
        fix = "or run it once where there is a network" if unreachable else "or another data.name"
        raise UserError(
            f"data=hf data.name={cfg.name}: {what} ({first_line(error)[:200]}); type "
            f"data.name=./<a folder>, {fix}"
        ) from error


def _local(datasets: Any, folder: Path, cfg: DataConfig) -> dict[str, Any]:
    where = f"data=hf data.name={cfg.name}"
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            found = datasets.load_from_disk(str(folder))
        else:
            _refuse_empty_class(folder, where)
            found = datasets.load_dataset(str(folder), cfg.config)
    except UserError:
        raise
    except Exception as error:  # Arrow's and Parquet's own
        raise UserError(
            f"{where}: can't be read ({first_line(error)[:200]}); it must be a folder of "
            "save_to_disk, of images in <split>/<class>/, or of Parquet files"
        ) from error
    return dict(found) if isinstance(found, dict) else {"train": found}


def _refuse_empty_class(folder: Path, where: str) -> None:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_dir() and not any(path.iterdir()):
            raise UserError(
                f"{where}: {path.relative_to(folder)} is empty, a class without images; remove it, "
                "or put some there"
            )


def _records(cfg: DataConfig, tables: dict[str, Any]) -> dict[str, str]:
    """Return what the content is known by: of a set of the hub, the files that it was put into."""
    folder = data_folders.folder_of(cfg)
    if folder is not None:
        return {"content": data_folders.digest(folder)}
    paths = [Path(file["filename"]) for table in tables.values() for file in table.cache_files]
    files = {str(path): f"{path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths}
    return {"name": f"{cfg.name} {cfg.config}", **files}


def _split(datasets: Any, table: Any, picture: str, label: str) -> ImageSplit:
    columns = table.select_columns([picture, label])
    columns = columns.cast_column(picture, datasets.Image(decode=False))

    def read(ids: range) -> list[EncodedExample]:
        rows = columns[ids.start : ids.stop]
        return [_example(*pair) for pair in zip(rows[picture], rows[label], strict=True)]

    return ImageSplit(len(columns), read)


def _example(image: dict[str, Any] | None, label: int | None) -> EncodedExample:
    if image is None:
        raise BadFile("has no image")
    raw, path = image["bytes"], image["path"] or ""
    return EncodedExample(raw if raw is not None else Path(path).read_bytes(), label, path)


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Keep `datasets` from drawing progress bars."""
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
