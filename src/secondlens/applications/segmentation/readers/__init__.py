"""Data sets of images with masks, each read the same way: one file a format."""

from secondlens.applications.segmentation.readers.base import Masked, MaskedImages, UnusableMask
from secondlens.applications.segmentation.readers.coco import read_coco
from secondlens.applications.segmentation.readers.imagenet import read_imagenet_segmentation
from secondlens.applications.segmentation.readers.opening import DATASETS, open_masked
from secondlens.applications.segmentation.readers.table import read_pairs
from secondlens.applications.segmentation.readers.voc import read_voc

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
