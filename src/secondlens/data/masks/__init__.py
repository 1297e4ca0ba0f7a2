"""Data sets of images with masks, each read the same way: one file a format."""

from secondlens.data.masks.base import Masked, MaskedImages, UnusableMask
from secondlens.data.masks.coco import read_coco
from secondlens.data.masks.imagenet import read_imagenet_segmentation
from secondlens.data.masks.opening import DATASETS, open_masked
from secondlens.data.masks.table import read_pairs
from secondlens.data.masks.voc import read_voc

__all__ = [
    "DATASETS",
    "Masked",
    "MaskedImages",
    "UnusableMask",
    "open_masked",
    "read_coco",
    "read_imagenet_segmentation",
    "read_pairs",
    "read_voc",
]
