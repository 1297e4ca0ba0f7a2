"""Labelled images: a CSV with `file` and `label` or `name`, a folder with one sub-folder per class, ImageNet, CIFAR."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from secondlens.data.imagenet import OPENCLIP, ClassTable, WnidImages, find_devkit, open_wnid_images, read_class_table
from secondlens.data.sources import CifarSource, ImageSource, every, open_source, subset
from secondlens.data.sources.cifar import cifar_folder
from secondlens.data.texts import read_texts
from secondlens.errors import ImageError, closest


@dataclass(frozen=True)
class ClassNames:
    """A classifier's classes. names: in their order. rows: from every name and synonym, lower-case, to its class."""

    names: list[str]
    rows: dict[str, int]


@runtime_checkable
class HasClasses(Protocol):
    """What is asked of a model that labelled images are opened for."""

    reference: str

    @property
    def class_names(self) -> ClassNames | None:
        """A classifier's classes; None for a model that takes any."""
        ...


@dataclass(frozen=True)
class LabelledImages:
    """Images and the class of each. classes: names; a classifier's own, in its order. labels: rows of `classes`."""

    source: ImageSource
    classes: list[str]
    labels: Int[Tensor, " image"]


def open_labelled(images: str | Path, model: HasClasses, classes: Sequence[str] | None = None) -> LabelledImages:
    """Images with labels, for a model.

    For a classifier, `label` may be the number of one of its classes, and a name one of its labels or their synonyms.
    Else the classes are those given, of which `label` is the number from 0 and `name` the name; by default the names
    that occur, in the order of their numbers where there are such, else by name.

    Raises `ImageError` for a table without labels, a class that is not known, numbers that do not go with the names,
    class names given twice or to a classifier, or one class only.
    """
    path = Path(images)
    source = open_source(path)
    if path.is_dir():
        names: list[str] = [str(identifier).rpartition("/")[0] for identifier in source.ids]
        numbers: list[int | None] = [None] * len(names)
    else:
        names, numbers = _columns(path)
    if model.class_names is not None:
        if classes is not None:
            raise ImageError(f"{model.reference} is a classifier with classes of its own; leave the class names out")
        labels = model.class_names.names
        return LabelledImages(
            source, labels, _rows(names, numbers, labels, model.class_names.rows, path, model.reference)
        )
    if classes is not None:
        labels = [name.strip() for name in classes]
        if len(set(labels)) < max(2, len(labels)):
            raise ImageError(f"expected the names of two classes or more, each once, got {len(labels)}")
        known = {name.lower(): row for row, name in reversed(list(enumerate(labels)))}
        return LabelledImages(source, labels, _rows(names, numbers, labels, known, path, "the list of class names"))
    if not all(names):
        raise ImageError(f"expected a name of the class of every image; {path} lacks some: add a column 'name'")
    by_number = {name: number for name, number in zip(names, numbers, strict=True) if number is not None}
    found = sorted(set(names), key=lambda name: (by_number.get(name, 0), name))
    if len(found) < 2:
        raise ImageError(f"expected images of two classes or more, {path} has {len(found)}")
    row = {name: index for index, name in enumerate(found)}
    return LabelledImages(source, found, torch.tensor([row[name] for name in names]))


def _columns(path: Path) -> tuple[list[str], list[int | None]]:
    """Names ("" where there is none) and numbers (None) of the classes of a table's images."""
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    columns = list(rows[0]) if rows else []
    if path.suffix.lower() != ".csv" or not {"label", "name"} & set(columns):
        raise ImageError(
            f"expected labelled images: a CSV with the columns file and label or name, or a folder with a sub-folder a "
            f"class; {path} has the columns {', '.join(columns) or 'none'}"
        )
    labels = [(row.get("label") or "").strip() for row in rows]
    numbers = [int(label) if label.isdigit() else None for label in labels]
    names = [
        (row.get("name") or "").strip() or ("" if label.isdigit() else label)
        for row, label in zip(rows, labels, strict=True)
    ]
    return names, numbers


def _rows(
    names: list[str], numbers: list[int | None], classes: list[str], known: dict[str, int], path: Path, owner: str
) -> Int[Tensor, " image"]:
    """The class of each image: its number where it has one, else that of its name."""
    rows, checked, wrong = [], 0, []
    for name, number in zip(names, numbers, strict=True):
        named = known.get(name.lower())
        if number is None:
            if named is None:
                hint = closest(name.lower(), known).split(";")[0]
                raise ImageError(f"{path} has the class {name!r}, which {owner} does not know{hint}")
            rows.append(named)
            continue
        if number >= len(classes):
            raise ImageError(f"{path} has the label {number}; {owner} has classes 0 to {len(classes) - 1}")
        rows.append(number)
        if named is not None:
            checked += 1
            if named != number:
                wrong.append((name, number))
    # A few differ where two classes share a name ("crane"); most, where labels count from 1 or from another list.
    if 2 * len(wrong) > checked:
        name, number = wrong[0]
        raise ImageError(
            f"{path}: labels do not go with the class names for {len(wrong)} of {checked} images (first: label "
            f"{number} is {classes[number]!r}, the name is {name!r}); expected numbers from 0 in the classes' order"
        )
    return torch.tensor(rows)


def classes_without_images(images: LabelledImages) -> list[str]:
    """Classes that no image has."""
    present = set(images.labels.tolist())
    return [name for row, name in enumerate(images.classes) if row not in present]


def open_survey(path: str | Path, step: int | None = None) -> ImageSource:
    """The images of a path: training images of ImageNet or CIFAR in any layout, else all that `open_source` takes.

    step: take only every step-th, of the images in the order of class and file name.
    """
    place = Path(path)
    found = open_wnid_images(place, "train")
    if found is not None:
        source = found.source
    elif place.is_dir() and cifar_folder(place) is not None:
        source = CifarSource(place, "train")
    else:
        source = open_source(str(path))
    return source if step is None else subset(source, every(len(source.ids), step), f"every {step}th")


def open_evaluation(
    path: str | Path, model: HasClasses, classes: str | Path | None = None, step: int | None = None
) -> LabelledImages:
    """Labelled images of a path, for a model.

    Validation images of ImageNet in any layout, other folders of WNIDs, CIFAR's test images, or all that
    `open_labelled` takes. classes: a table of WNIDs and names ("openai-imagenet": open_clip's) for images with WNIDs; a
    list of names, one a line, for others. A classifier has its own classes, of which WNIDs are the sorted order.
    step: take only every step-th.

    Raises `ImageError` for what cannot be used, `MissingExtra` for open_clip's names without it.
    """
    place = Path(path)
    found = open_wnid_images(place, "val")
    if found is not None:
        images = _of_wnids(found, model, classes, place)
    elif place.is_dir() and cifar_folder(place) is not None:
        images = _of_cifar(CifarSource(place, "test"), model)
    else:
        names: Sequence[str] | None = None
        if classes is not None and str(classes) != OPENCLIP and model.class_names is None:
            names = read_texts(classes)
        images = open_labelled(place, model, names)
    if step is None:
        return images
    kept = every(len(images.source.ids), step)
    return LabelledImages(subset(images.source, kept, f"every {step}th"), images.classes, images.labels[kept])


def _of_wnids(found: WnidImages, model: HasClasses, classes: str | Path | None, path: Path) -> LabelledImages:
    table = None if classes is None else read_class_table(classes)
    if model.class_names is not None:
        labels = model.class_names.names
        wnids = sorted(table.wnids if table is not None else set(found.wnids))
        if len(wnids) != len(labels):
            raise ImageError(
                f"{model.reference} has {len(labels)} classes, {table.origin if table else path} has {len(wnids)} "
                "WNIDs: their order is not known; give a table of the WNIDs of all the model's classes"
            )
        numbers = ClassTable(tuple(wnids), tuple(labels), model.reference).rows(found.wnids)
        return LabelledImages(found.source, labels, torch.tensor(numbers))
    if table is None:
        devkit = next((p for p in (path, path.parent) if find_devkit(p) is not None), None)
        if devkit is None:
            raise ImageError(
                f"{path} has WNIDs for class names; give a table of names (lines such as 'n01440764 tench'), the "
                f"ImageNet devkit, or {OPENCLIP!r} for open_clip's"
            )
        table = read_class_table(devkit)
    return LabelledImages(found.source, list(table.names), torch.tensor(table.rows(found.wnids)))


def _of_cifar(source: CifarSource, model: HasClasses) -> LabelledImages:
    if model.class_names is None:
        names = [name.replace("_", " ") for name in source.classes]
        return LabelledImages(source, names, torch.tensor(source.labels))
    labels, known = model.class_names.names, model.class_names.rows
    unknown = [name for name in source.classes if name.replace("_", " ").lower() not in known]
    if unknown:
        raise ImageError(f"{model.reference} is a classifier without CIFAR's class {unknown[0]!r}; give a CLIP")
    rows = torch.tensor([known[name.replace("_", " ").lower()] for name in source.classes])
    return LabelledImages(source, labels, rows[torch.tensor(source.labels)])
