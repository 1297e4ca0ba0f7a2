"""Pictures of a data set in memory: Hugging Face `datasets`, or any object with a length and items."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from secondlens.data.decode import UnreadableImage
from secondlens.data.sources.base import check_ids
from secondlens.errors import ImageError, MissingExtra

SAVED = "datasets:"
"""What a reference to a data set saved with `save_to_disk` starts with: `datasets:FOLDER[:split]`."""


@dataclass(frozen=True)
class DatasetSource:
    """The rows of a map-style data set; the ids are the row numbers, padded with zeros to one length.

    `rows[index]` is a PIL image, a tuple or list that starts with one, a dict with one under "image", or a
    row of a Hugging Face data set whose picture is not yet decoded. Raises `ImageError` for an empty set.
    """

    rows: Any
    column: str = "image"
    location: str | None = None
    ids: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        count = len(self.rows)
        digits = len(str(count - 1))
        object.__setattr__(self, "ids", tuple(f"{number:0{digits}d}" for number in range(count)))
        check_ids(self.ids, "the data set")

    @classmethod
    def of(cls, dataset: Any, location: str | None = None) -> "DatasetSource":
        """The pictures of any map-style data set.

        Of a Hugging Face one, the column with an Image feature (the one named "image" if there are several),
        without its formats and transforms. Raises `ImageError` for a streaming data set, for a dict of splits
        and where there is no such column.
        """
        if isinstance(dataset, Mapping):
            raise ImageError(
                f"expected one data set, came a dict with the keys {', '.join(map(repr, dataset))}; "
                "choose one: data[KEY]"
            )
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise ImageError(
                f"expected a data set with a length and items, came {type(dataset).__name__}, which "
                "can only be read from its start; load it without streaming=True, or write it as .tar shards"
            )
        library = sys.modules.get("datasets")
        if library is None or not isinstance(dataset, library.Dataset):
            return cls(dataset, location=location)
        column = _image_column(dataset, library)
        undecoded = dataset.with_format(None).select_columns([column])
        return cls(undecoded.cast_column(column, library.Image(decode=False)), column, location)

    @classmethod
    def from_disk(cls, reference: str) -> "DatasetSource":
        """The pictures of `datasets:FOLDER[:split]`, a Hugging Face data set saved with `save_to_disk`.

        Raises `ImageError` if the folder holds none or the split is missing, unknown or not needed, and
        `MissingExtra` without the library `datasets`.
        """
        folder, split = reference.removeprefix(SAVED), ""
        if not Path(folder).is_dir() and ":" in folder:
            folder, _, split = folder.rpartition(":")
        try:
            import datasets
        except ImportError as error:
            raise MissingExtra("datasets", "datasets", f"reading {reference}") from error
        try:
            saved = datasets.load_from_disk(folder)
        except (OSError, ValueError) as error:
            raise ImageError(f"expected a data set saved with save_to_disk, cannot load {folder}: {error}") from error
        splits = sorted(saved) if isinstance(saved, Mapping) else []
        if not splits and split:
            raise ImageError(f"expected no split, {folder} is a data set without splits; leave out :{split}")
        if len(splits) == 1 and not split:
            split = splits[0]
        if splits and split not in splits:
            raise ImageError(
                f"expected {SAVED}{folder}:SPLIT, came {f'the split {split!r}' if split else 'no split'}; "
                f"splits of this data set: {', '.join(splits)}"
            )
        location = f"{SAVED}{Path(folder).resolve()}{f':{split}' if split else ''}"
        return cls.of(saved[split] if splits else saved, location)

    @property
    def description(self) -> dict[str, Any]:
        """`kind` "dataset"; `location`, a `datasets:` reference or None; `type` and `rows` to know it by."""
        kind = f"{type(self.rows).__module__}.{type(self.rows).__qualname__}"
        return {"kind": "dataset", "location": self.location, "type": kind, "rows": len(self.ids)}

    def read(self, index: int) -> bytes | Path | Image.Image:
        """The picture of row `index`; `ImageError` if the row holds something else than a picture."""
        try:
            row = self.rows[index]
        # What a data set that decodes by itself throws at a damaged picture.
        except (OSError, ValueError, SyntaxError) as error:
            raise UnreadableImage(f"damaged: {' '.join(str(error).split())[:120]}") from error
        if isinstance(row, Mapping):
            row = row.get(self.column)
        elif isinstance(row, tuple | list) and row:
            row = row[0]
        if isinstance(row, Mapping) and {"bytes", "path"} <= row.keys():
            row = row["bytes"] if row["bytes"] is not None else row["path"] and Path(row["path"])
        if row is None:
            raise UnreadableImage("no picture: the row is empty")
        if not isinstance(row, bytes | Path | Image.Image):
            raise ImageError(
                f"expected a PIL image in row {index}, came {type(row).__name__}; give the data set without "
                "the transform that makes tensors, and with the picture first or under the key 'image'"
            )
        return row

    def path(self, index: int) -> None:
        """None: rows are not files, even where a data set remembers the files it was made from."""
        return


def _image_column(dataset: Any, library: Any) -> str:
    columns = [name for name, feature in dataset.features.items() if isinstance(feature, library.Image)]
    if len(columns) == 1 or "image" in columns:
        return columns[0] if len(columns) == 1 else "image"
    raise ImageError(
        f"expected one column of pictures, the data set has {len(columns)} with an Image feature among "
        f"{dataset.column_names}; cast one with dataset.cast_column(NAME, datasets.Image()) or select one"
    )
