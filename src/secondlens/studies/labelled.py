"""Labelled images: a CSV with `file` and `label` or `name`, or a folder with a sub-folder a class."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from secondlens.errors import ImageError, closest
from secondlens.images.sources import ImageSource, open_source
from secondlens.models.hf_vit import LabelTexts
from secondlens.models.model import LensModel


@dataclass(frozen=True)
class LabelledImages:
    """Images and the class of each. classes: names; a classifier's own, in its order. labels: rows of `classes`."""

    source: ImageSource
    classes: list[str]
    labels: Int[Tensor, " image"]


def open_labelled(images: str | Path, model: LensModel, classes: Sequence[str] | None = None) -> LabelledImages:
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
    if model.classifier is not None:
        if classes is not None:
            raise ImageError(f"{model.reference} is a classifier with classes of its own; leave the class names out")
        labels = list(model.classifier.labels)
        texts = model.text_encoder
        known = texts.rows if isinstance(texts, LabelTexts) else {label: row for row, label in enumerate(labels)}
        return LabelledImages(source, labels, _rows(names, numbers, labels, known, path, model.reference))
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
