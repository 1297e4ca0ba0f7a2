"""A CSV with the columns `image`, `mask` and, if it has them, `name`; paths are relative to the CSV."""

import csv
import io
from collections import Counter
from pathlib import Path

from secondlens.data.masks.base import (
    Masked,
    MaskedImages,
    binary,
    masked,
    read_image,
    read_labels,
)
from secondlens.errors import ImageError


def read_pairs(path: str | Path, void: int | None = None) -> MaskedImages:
    """Images and masks of a table. void: a value of the masks that counts nowhere.

    An image may come several times, with the mask of another thing each: what is asked for then is one of them.

    Raises `ImageError` for a file that is no such table, and a row without an image or a mask.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"expected a CSV with the columns image and mask, cannot read {path}: {error}") from error
    rows = list(csv.DictReader(io.StringIO(text)))
    columns = list(rows[0]) if rows else text.partition("\n")[0].split(",")
    if not {"image", "mask"} <= set(columns):
        raise ImageError(
            f"expected a CSV with the columns image, mask and perhaps name; {path} has "
            f"{', '.join(str(column).strip() for column in columns) or 'none'}"
        )
    for number, row in enumerate(rows, 2):
        if not row["image"] or not row["mask"]:
            raise ImageError(f"expected an image and a mask in every row; line {number} of {path} lacks one")
    base = path.resolve().parent
    times = Counter(row["image"] for row in rows)

    def read(index: int) -> Masked:
        row = rows[index]
        image = read_image(base / row["image"])
        return masked(image, *binary(read_labels(base / row["mask"]), void))

    return MaskedImages(
        ids=tuple(row["image"] if times[row["image"]] == 1 else f"{row['image']} {row['mask']}" for row in rows),
        names=tuple((row.get("name") or "").strip() or None for row in rows),
        read=read,
        description={"kind": "pairs", "location": str(path.resolve()), "void": void},
    )
