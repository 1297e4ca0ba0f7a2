"""Which reader reads what."""

from pathlib import Path

from secondlens.data.masks.base import MaskedImages
from secondlens.data.masks.coco import read_coco
from secondlens.data.masks.imagenet import read_imagenet_segmentation
from secondlens.data.masks.table import read_pairs
from secondlens.data.masks.voc import read_voc
from secondlens.errors import ImageError, closest

DATASETS = ("imagenet-segmentation", "voc", "coco")


def open_masked(
    pairs: str | Path | None = None,
    dataset: str | None = None,
    root: str | Path | None = None,
    split: str | None = None,
    by_class: bool = False,
    void: int | None = None,
) -> MaskedImages:
    """A table of pairs, or a data set of a known kind under `root`; by_class where the target is each one's name.

    Raises `ImageError` for both or neither, an unknown kind, and whatever its reader finds wrong.
    """
    if (pairs is None) == (dataset is None):
        raise ImageError("expected either a table of images and masks (--pairs) or a data set (--dataset and --root)")
    if pairs is not None:
        return read_pairs(pairs, void)
    if dataset not in DATASETS:
        raise ImageError(f"unknown data set {dataset!r}{closest(str(dataset), DATASETS)}")
    if root is None:
        raise ImageError(f"expected the folder of the data set {dataset} (--root)")
    if dataset == "voc":
        return read_voc(root, split or "val", by_class)
    if dataset == "coco":
        return read_coco(root, split or "val2017", by_class)
    return read_imagenet_segmentation(root)
