"""Pascal VOC: JPEGImages, SegmentationClass and ImageSets/Segmentation/SPLIT.txt.

A mask's palette index is the class, 0 the background, 255 void (borders, difficult objects).
"""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from secondlens.data.masks.base import (
    Masked,
    MaskedImages,
    UnusableMask,
    masked,
    read_image,
    read_labels,
)
from secondlens.errors import ImageError, closest

VOID = 255
# fmt: off
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on


def read_voc(root: str | Path, split: str = "val", by_class: bool = False) -> MaskedImages:
    """Images of a split.

    root: the folder with JPEGImages, or one above it (VOCdevkit, VOC2012). by_class: one item an image and class that
    is in it, its foreground that class, other classes background; else one an image, its foreground every object.

    Raises `ImageError` for a folder without these parts, an unknown split.
    """
    base = _base(Path(root))
    lists = base / "ImageSets" / "Segmentation"
    listed = lists / f"{split}.txt"
    if not listed.is_file():
        splits = [path.stem for path in lists.glob("*.txt")]
        raise ImageError(f"{base} has no split {split!r}{closest(split, splits)}")
    names = listed.read_text(encoding="utf-8").split()
    items: list[tuple[str, int | None]] = [(name, None) for name in names]
    if by_class:
        items = [(name, row) for name in names for row in _classes(base, name)]

    def read(index: int) -> Masked:
        name, row = items[index]
        labels = _labels(base, name)
        foreground = (labels > 0) if row is None else labels == row
        return masked(read_image(base / "JPEGImages" / f"{name}.jpg"), foreground & (labels != VOID), labels != VOID)

    return MaskedImages(
        ids=tuple(name if row is None else f"{name}/{CLASSES[row - 1]}" for name, row in items),
        names=tuple(None if row is None else CLASSES[row - 1] for _, row in items),
        read=read,
        description={"kind": "voc", "location": str(base.resolve()), "split": split, "by_class": by_class},
    )


def _base(root: Path) -> Path:
    for folder in (root, *sorted(root.glob("VOC2*")), *sorted(root.glob("VOCdevkit/VOC2*"))):
        if all((folder / part).is_dir() for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")):
            return folder
    raise ImageError(f"expected JPEGImages, SegmentationClass and ImageSets/Segmentation in {root}")


def _labels(base: Path, name: str) -> Shaped[np.ndarray, "y x"]:
    labels = read_labels(base / "SegmentationClass" / f"{name}.png")
    unknown = set(np.unique(labels).tolist()) - {*range(len(CLASSES) + 1), VOID}
    if unknown:
        raise UnusableMask(f"the mask of {name} has the label {min(unknown)}; expected 0 to {len(CLASSES)} or {VOID}")
    return labels


def _classes(base: Path, name: str) -> list[int | None]:
    """Classes in an image; an unusable mask gives one item without a class, whose reading says why it is left out."""
    try:
        return [row for row in np.unique(_labels(base, name)).tolist() if row not in (0, VOID)]
    except UnusableMask:
        return [None]
