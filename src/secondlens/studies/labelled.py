"""Labelled images: a CSV with `file` and `label` or `name`, or a folder with a sub-folder a class."""

import csv
import io
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


def open_labelled(images: str | Path, model: LensModel) -> LabelledImages:
    """Images with labels, for a model.

    For a classifier, `label` may be the number of one of its classes, and a name one of its labels or their synonyms.
    Else the classes are the names that occur, in the order of their numbers where there are such, else by name.

    Raises `ImageError` for a table without labels, a class that a classifier does not know, or one class only.
    """
    path = Path(images)
    source = open_source(path)
    if path.is_dir():
        names: list[str] = [str(identifier).rpartition("/")[0] for identifier in source.ids]
        numbers: list[int | None] = [None] * len(names)
    else:
        names, numbers = _columns(path)
    if model.classifier is not None:
        classes = list(model.classifier.labels)
        return LabelledImages(source, classes, torch.tensor(_rows(names, numbers, model, path)))
    if not all(names):
        raise ImageError(f"expected a name of the class of every image; {path} lacks some: add a column 'name'")
    by_number = {name: number for name, number in zip(names, numbers, strict=True) if number is not None}
    known = sorted(set(names), key=lambda name: (by_number.get(name, 0), name))
    if len(known) < 2:
        raise ImageError(f"expected images of two classes or more, {path} has {len(known)}")
    row = {name: index for index, name in enumerate(known)}
    return LabelledImages(source, known, torch.tensor([row[name] for name in names]))


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


def _rows(names: list[str], numbers: list[int | None], model: LensModel, path: Path) -> list[int]:
    assert model.classifier is not None
    classes = model.classifier.labels
    texts = model.text_encoder
    known = texts.rows if isinstance(texts, LabelTexts) else {label: row for row, label in enumerate(classes)}
    rows = []
    for name, number in zip(names, numbers, strict=True):
        if number is not None:
            if number >= len(classes):
                raise ImageError(
                    f"{path} has the label {number}; {model.reference} has classes 0 to {len(classes) - 1}"
                )
            rows.append(number)
        elif name.lower() in known:
            rows.append(known[name.lower()])
        else:
            hint = closest(name.lower(), known).split(";")[0]
            raise ImageError(f"{path} has the class {name!r}, which {model.reference} does not know{hint}")
    return rows
