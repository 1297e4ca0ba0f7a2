"""Sources: finite, ordered, randomly accessible sets of images, whatever they are stored in."""

import csv
import glob
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from secondlens.errors import ImageError, MissingExtra
from secondlens.images.decode import EXTENSIONS, UnreadableImage


@runtime_checkable
class ImageSource(Protocol):
    """A set of images. `ids` are unique; `description` (JSON) says where they can be found again."""

    ids: Sequence[str]
    description: dict[str, Any]

    def read(self, index: int) -> bytes | Path | Image.Image:
        """What `decode` takes, of the image at `index`; raises `UnreadableImage` where there is nothing."""
        ...


@dataclass
class FileSource:
    """Images in files of their own."""

    ids: list[str]
    files: list[Path]
    description: dict[str, Any]

    def read(self, index: int) -> Path:
        """The file's path."""
        return self.files[index]


@dataclass
class TarSource:
    """Images in uncompressed tar shards (WebDataset), one a key; indexed once, then read by offset."""

    ids: list[str]
    places: list[tuple[Path, int, int]]
    description: dict[str, Any]

    def read(self, index: int) -> bytes:
        """The member's bytes."""
        path, offset, size = self.places[index]
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise UnreadableImage(f"unreadable file: {path.name}: {error.strerror}") from error


@dataclass
class DatasetSource:
    """A map-style dataset: Hugging Face `datasets.Dataset`, or anything with `__len__` and `__getitem__`."""

    ids: list[str]
    dataset: Any
    column: str | None
    description: dict[str, Any] = field(default_factory=lambda: {"kind": "dataset"})

    def read(self, index: int) -> bytes | Path | Image.Image:
        """A row's image."""
        row = self.dataset[index]
        if self.column is not None:
            row = row[self.column]
            if isinstance(row, dict) and row.get("bytes"):
                return row["bytes"]
            if isinstance(row, dict):
                return Path(row["path"])
        if isinstance(row, dict):
            row = row.get("image")
        if isinstance(row, tuple | list):
            row = row[0]
        if isinstance(row, str):
            row = Path(row)
        if not isinstance(row, bytes | Path | Image.Image):
            raise UnreadableImage(f"not an image: the dataset gave a {type(row).__name__}")
        return row


def open_source(images: Any) -> ImageSource:
    """A source from what a person has.

    A folder (searched in depth), a list of files, a `.csv` with a column `file` (relative to the CSV) or a `.txt` with
    a path a line, tar shards (`shards/{000..012}.tar`, globs), `datasets:FOLDER` or `datasets:FOLDER:SPLIT` (saved
    with `save_to_disk`), a map-style dataset, or a source.

    Raises `ImageError` for a path that is missing, a source without images, duplicate ids, an unknown kind.
    """
    if isinstance(images, ImageSource):
        return _checked(images)
    if isinstance(images, str) and images.startswith("datasets:"):
        return _checked(_saved_dataset(images))
    if isinstance(images, str | Path):
        return _checked(_from_path(str(images)))
    if isinstance(images, list | tuple):
        files = [Path(image) for image in images]
        return _checked(FileSource([file.as_posix() for file in files], files, {"kind": "files"}))
    if hasattr(images, "__getitem__") and hasattr(images, "__len__"):
        return _checked(_from_dataset(images))
    raise ImageError(
        f"expected a folder, a list of files, a CSV, tar shards or a map-style dataset, got a {type(images).__name__}"
        + ("; a streaming dataset has no order to resume from: save it as shards first" if hasattr(images, "__iter__") else "")
    )


def _from_path(text: str) -> ImageSource:
    path = Path(text)
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() in (".csv", ".txt") and path.is_file():
        return _listed(path)
    if ".tar" in path.suffixes or text.endswith((".tgz",)):
        return _tar_source(text)
    if path.is_file():
        raise ImageError(f"expected a folder, a .csv, a .txt or a .tar, got the file {path}; put it into a folder")
    raise ImageError(f"no such folder or file: {path}")


def _folder(folder: Path) -> FileSource:
    # rglob does not follow links to folders, so there are no loops.
    found = [file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS]
    relative = sorted(file.relative_to(folder).as_posix() for file in found)
    ids = [name for name in relative if not any(part.startswith(".") for part in name.split("/"))]
    if not ids:
        raise ImageError(f"no images in {folder}: looked for files ending in {', '.join(EXTENSIONS)}, in depth")
    return FileSource(ids, [folder / name for name in ids], {"kind": "folder", "path": str(folder.resolve())})


def _listed(path: Path) -> FileSource:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImageError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(text.splitlines())
        if "file" not in (reader.fieldnames or ()):
            raise ImageError(f"expected a column 'file' in {path}, got the columns {', '.join(reader.fieldnames or ())}")
        names = [row["file"] for row in reader if row["file"]]
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    return FileSource(names, [path.parent / name for name in names], {"kind": "list", "path": str(path.resolve())})


def _tar_source(pattern: str) -> TarSource:
    shards = [Path(name) for part in _expand_braces(pattern) for name in sorted(glob.glob(part)) or [part]]
    ids: list[str] = []
    places: list[tuple[Path, int, int]] = []
    for shard in shards:
        if not shard.is_file():
            raise ImageError(f"no such shard: {shard} (from {pattern!r})")
        keys: set[str] = set()
        try:
            # "r:" refuses compressed tars, in which no offset means anything.
            with tarfile.open(shard, "r:") as tar:
                for member in tar:
                    name = Path(member.name)
                    key = member.name[: len(member.name) - len("".join(name.suffixes))]
                    if member.isfile() and name.suffix.lower() in EXTENSIONS and key not in keys:
                        keys.add(key)
                        ids.append(f"{shard.name}/{member.name}")
                        places.append((shard, member.offset_data, member.size))
        except tarfile.ReadError as error:
            raise ImageError(f"{shard} is truncated, compressed or no tar file ({error}); shards must be plain .tar") from error
    return TarSource(ids, places, {"kind": "tar", "path": pattern})


def _expand_braces(pattern: str) -> Iterator[str]:
    """`{000..012}` and `{a,b}`, as a shell and WebDataset do."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        yield pattern
        return
    inner = match[1]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", inner)
    parts = (
        [str(number).zfill(len(span[1])) for number in range(int(span[1]), int(span[2]) + 1)] if span else inner.split(",")
    )
    for part in parts:
        yield from _expand_braces(pattern[: match.start()] + part + pattern[match.end() :])


def _saved_dataset(reference: str) -> DatasetSource:
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError as error:
        raise MissingExtra("datasets", "datasets", f"reading {reference}") from error
    folder, _, split = reference.removeprefix("datasets:").partition(":")
    try:
        dataset = load_from_disk(folder)
    except Exception as error:
        raise ImageError(f"cannot read the dataset {folder}: {error}; expected a folder made by save_to_disk") from error
    if isinstance(dataset, DatasetDict):
        if split not in dataset:
            raise ImageError(f"expected datasets:{folder}:SPLIT with SPLIT one of {', '.join(dataset)}, got {split!r}")
        dataset = dataset[split]
    source = _from_dataset(dataset)
    source.description = {"kind": "dataset", "path": str(Path(folder).resolve()), "split": split}
    return source


def _from_dataset(dataset: Any) -> DatasetSource:
    width = len(str(max(len(dataset) - 1, 0)))
    ids = [str(row).zfill(width) for row in range(len(dataset))]
    features = getattr(dataset, "features", None)
    if features is None:
        return DatasetSource(ids, dataset, None)
    columns = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    if not columns:
        raise ImageError(f"expected a dataset with an image column, got the columns {', '.join(features)}")
    # Undecoded, so that unreadable images are ours to count.
    feature = type(features[columns[0]])(decode=False)
    return DatasetSource(ids, dataset.cast_column(columns[0], feature), columns[0])


def _checked(source: ImageSource) -> ImageSource:
    if not len(source.ids):
        raise ImageError(f"expected at least one image, got an empty source ({source.description})")
    repeated = [name for name, count in Counter(source.ids).items() if count > 1]
    if repeated:
        raise ImageError(
            f"{len(repeated)} image ids occur more than once (first: {', '.join(map(repr, repeated[:3]))}); "
            "every image may be listed once"
        )
    return source
