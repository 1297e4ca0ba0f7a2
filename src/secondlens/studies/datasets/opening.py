"""From a path in any known layout to images for a survey, or to labelled images for a model."""

from collections.abc import Sequence
from pathlib import Path

import torch

from secondlens.errors import ImageError
from secondlens.images.sources import CifarSource, ImageSource, every, open_source, subset
from secondlens.images.sources.cifar import cifar_folder
from secondlens.models.hf_vit import LabelTexts
from secondlens.models.model import LensModel
from secondlens.pools.texts import read_texts
from secondlens.studies.datasets.imagenet import WnidImages, open_wnid_images
from secondlens.studies.datasets.wnids import OPENCLIP, ClassTable, find_devkit, read_class_table
from secondlens.studies.labelled import LabelledImages, open_labelled


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
    path: str | Path, model: LensModel, classes: str | Path | None = None, step: int | None = None
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
        if classes is not None and str(classes) != OPENCLIP and model.classifier is None:
            names = read_texts(classes)
        images = open_labelled(place, model, names)
    if step is None:
        return images
    kept = every(len(images.source.ids), step)
    return LabelledImages(subset(images.source, kept, f"every {step}th"), images.classes, images.labels[kept])


def _of_wnids(found: WnidImages, model: LensModel, classes: str | Path | None, path: Path) -> LabelledImages:
    table = None if classes is None else read_class_table(classes)
    if model.classifier is not None:
        labels = list(model.classifier.labels)
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


def _of_cifar(source: CifarSource, model: LensModel) -> LabelledImages:
    if model.classifier is None:
        names = [name.replace("_", " ") for name in source.classes]
        return LabelledImages(source, names, torch.tensor(source.labels))
    labels = list(model.classifier.labels)
    texts = model.text_encoder
    known = texts.rows if isinstance(texts, LabelTexts) else {label.lower(): row for row, label in enumerate(labels)}
    unknown = [name for name in source.classes if name.replace("_", " ").lower() not in known]
    if unknown:
        raise ImageError(f"{model.reference} is a classifier without CIFAR's class {unknown[0]!r}; give a CLIP")
    rows = torch.tensor([known[name.replace("_", " ").lower()] for name in source.classes])
    return LabelledImages(source, labels, rows[torch.tensor(source.labels)])
