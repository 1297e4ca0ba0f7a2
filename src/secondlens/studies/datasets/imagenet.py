"""ImageNet and data sets of the same classes: pictures with a WNID each, from any of the usual layouts.

training      train/n01440764/*.JPEG, or ILSVRC2012_img_train.tar (a tar of one tar a class)
validation    val/n01440764/*.JPEG; or ILSVRC2012_val_00000001.JPEG ... in one folder, or ILSVRC2012_img_val.tar, with
              the devkit or Kaggle's LOC_val_solution.csv beside or above them
ImageNet-R    imagenet-r/n01443537/*.jpg, and any other folder with a sub-folder a WNID

A root that holds train and val, or the tars, does too, and Kaggle's ILSVRC/Data/CLS-LOC below it. Pictures are put in
the order of class and file name, so that "every 250th" is the same one in every layout.
"""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from secondlens.errors import ImageError
from secondlens.images.sources import FolderSource, ImageSource, NestedTarSource, TarSource, subset
from secondlens.studies.datasets.wnids import WNID, Devkit, find_devkit

Split = Literal["train", "val"]
ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
SOLUTION = "LOC_val_solution.csv"
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})")


@dataclass(frozen=True)
class WnidImages:
    """Pictures and the WNID of each."""

    source: ImageSource
    wnids: tuple[str, ...]


def open_wnid_images(path: Path, split: Split) -> WnidImages | None:
    """The pictures of a path in one of the layouts; None where it has none of them.

    Raises `ImageError` for one that lacks a part, such as validation images without their classes.
    """
    place = _place(path, split)
    if place.is_file():
        if place.name == ARCHIVES["train"]:
            return _by_folder(NestedTarSource(place))
        if place.name == ARCHIVES["val"]:
            return _validation(TarSource((place,)), place.parent)
        return None
    if not place.is_dir():
        return None
    folders = [entry.name for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    if folders and all(WNID.fullmatch(name) for name in folders):
        return _by_folder(FolderSource(place))
    if not folders and any(_VALIDATION.match(entry.name) for entry in place.iterdir()):
        return _validation(FolderSource(place), place)
    return None


def _place(path: Path, split: Split) -> Path:
    """The folder or archive of a split: what the path names, or what lies below a root."""
    for root in (path, path / "Data" / "CLS-LOC", path / "ILSVRC" / "Data" / "CLS-LOC"):
        if (root / split).is_dir():
            return root / split
        if (root / ARCHIVES[split]).is_file():
            return root / ARCHIVES[split]
    return path


def _by_folder(source: ImageSource) -> WnidImages:
    """Classes from the first part of the ids, which are sorted."""
    wnids = tuple(identifier.partition("/")[0] for identifier in source.ids)
    wrong = next((row for row, wnid in enumerate(wnids) if not WNID.fullmatch(wnid)), None)
    if wrong is not None:
        raise ImageError(f"expected every picture in a folder named by a WNID, got {source.ids[wrong]}; move it away")
    return WnidImages(source, wnids)


def _validation(source: ImageSource, folder: Path) -> WnidImages:
    truth = _ground_truth(folder)
    wnids = []
    for identifier in source.ids:
        name = identifier.rpartition("/")[2]
        stem = name.partition(".")[0]
        if stem not in truth:
            raise ImageError(f"{name} has no class in the ground truth, which has {len(truth)} images")
        wnids.append(truth[stem])
    order = sorted(range(len(wnids)), key=lambda row: (wnids[row], source.ids[row]))
    ordered = subset(source, order, "sorted by class")
    return WnidImages(ordered, tuple(wnids[row] for row in order))


def _ground_truth(folder: Path) -> dict[str, str]:
    """Name of a validation image, without its extension, to its WNID."""
    places = [folder, *list(folder.resolve().parents)[:4]]
    for place in places:
        if (place / SOLUTION).is_file():
            rows = csv.DictReader(io.StringIO((place / SOLUTION).read_text(encoding="utf-8-sig")))
            return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
        # A data folder of any name may be an ancestor: only a devkit by its own name counts.
        if find_devkit(place) is not None:
            wnids = Devkit(place).validation()
            return {f"ILSVRC2012_val_{number:08d}": wnid for number, wnid in enumerate(wnids, start=1)}
    raise ImageError(
        f"the validation images of {folder} come without their classes; put ILSVRC2012_devkit_t12.tar.gz, or it "
        f"unpacked, or Kaggle's {SOLUTION}, beside them, or sort them into a folder a WNID"
    )
