"""CIFAR-10 and CIFAR-100 in their binary version: fixed-size records of label bytes and 32 x 32 pixels.

A record is 1 label byte (CIFAR-10) or a coarse and a fine one (CIFAR-100), then 1,024 bytes each of red, green and
blue, row by row. The Python version holds pickles, which can run code when they are opened: it is refused.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from secondlens.data.sources.base import check_ids
from secondlens.errors import ImageError

SIDE = 32
PIXELS = 3 * SIDE * SIDE
Split = Literal["train", "test"]


@dataclass(frozen=True)
class _Layout:
    """labels: label bytes a record, the last one counting. names: file of class names, one a line."""

    title: str
    folder: str
    labels: int
    names: str
    files: dict[str, tuple[str, ...]]


LAYOUTS = (
    _Layout(
        "CIFAR-10",
        "cifar-10-batches-bin",
        1,
        "batches.meta.txt",
        {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)},
    ),
    _Layout(
        "CIFAR-100",
        "cifar-100-binary",
        2,
        "fine_label_names.txt",
        {"train": ("train.bin",), "test": ("test.bin",)},
    ),
)
_PICKLES = ("cifar-10-batches-py", "cifar-100-python", "batches.meta", "data_batch_1", "test_batch")


@dataclass(frozen=True)
class CifarSource:
    """The pictures of one split; the ids are `file.bin/number`. classes: names; labels: rows of them, one a picture.

    Raises `ImageError` where a file is missing, has another length than whole records, or has a label beyond the names.
    """

    folder: Path
    split: Split
    ids: tuple[str, ...] = field(init=False, repr=False)
    classes: tuple[str, ...] = field(init=False, repr=False)
    labels: tuple[int, ...] = field(init=False, repr=False)
    _places: tuple[tuple[str, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = cifar_folder(self.folder)
        if found is None:
            raise ImageError(f"expected the binary version of CIFAR-10 or CIFAR-100, {self.folder} holds neither")
        folder, layout = found
        size = layout.labels + PIXELS
        names = folder / layout.names
        if not names.is_file():
            raise ImageError(f"expected {layout.title}'s class names in {names}, which is missing; unpack it again")
        classes = tuple(line.strip() for line in names.read_text(encoding="utf-8").splitlines() if line.strip())
        places: list[tuple[str, int]] = []
        labels: list[int] = []
        for name in layout.files[self.split]:
            path = folder / name
            if not path.is_file():
                raise ImageError(f"expected {path} of {layout.title}, it is missing; unpack the archive again")
            data = np.fromfile(path, dtype=np.uint8)
            if len(data) == 0 or len(data) % size:
                raise ImageError(
                    f"expected records of {size} bytes in {path}, it has {len(data)} bytes; it is truncated or another "
                    "version: unpack the binary version again"
                )
            places += [(name, number * size + layout.labels) for number in range(len(data) // size)]
            labels += data.reshape(-1, size)[:, layout.labels - 1].tolist()
        if max(labels) >= len(classes):
            raise ImageError(f"{folder} has the label {max(labels)}, but {names.name} has {len(classes)} names")
        ids = tuple(f"{name}/{offset // size:05d}" for name, offset in places)
        check_ids(ids, str(folder))
        for name, value in (("folder", folder), ("ids", ids), ("classes", classes)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "labels", tuple(labels))
        object.__setattr__(self, "_places", tuple(places))

    @property
    def description(self) -> dict[str, Any]:
        """`kind` "cifar"; `location`, the absolute path of the folder; `split`."""
        return {"kind": "cifar", "location": str(self.folder.resolve()), "split": self.split}

    def read(self, index: int) -> Image.Image:
        """The picture at `index`."""
        name, offset = self._places[index]
        with (self.folder / name).open("rb") as stream:
            stream.seek(offset)
            data = np.frombuffer(stream.read(PIXELS), dtype=np.uint8)
        return Image.fromarray(np.ascontiguousarray(data.reshape(3, SIDE, SIDE).transpose(1, 2, 0)))

    def path(self, index: int) -> None:
        """None: a picture is a record of a file."""
        return


def cifar_folder(folder: Path) -> tuple[Path, Any] | None:
    """The folder with the files, itself or the usual one below it, and their layout; None where there are none.

    Raises `ImageError` for the Python version.
    """
    for layout in LAYOUTS:
        for place in (folder, folder / layout.folder):
            if any((place / name).is_file() for names in layout.files.values() for name in names):
                return place, layout
    if folder.name in _PICKLES[:2] or any((folder / name).exists() for name in _PICKLES):
        raise ImageError(
            f"{folder} holds the Python version of CIFAR, whose files are pickles and can run code when opened; "
            "download the binary version (cifar-10-binary.tar.gz or cifar-100-binary.tar.gz) and unpack it"
        )
    return None
