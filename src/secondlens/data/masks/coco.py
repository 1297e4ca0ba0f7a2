"""COCO: an instances JSON (images, annotations, categories) and the folder of its images.

Polygons and run lengths become masks through pycocotools, the format's own library; crowd regions are void, as in
COCO's own evaluation.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from secondlens.data.masks.base import Masked, MaskedImages, UnusableMask, masked, read_image
from secondlens.errors import ImageError, MissingExtra, closest


def read_coco(root: str | Path, split: str = "val2017", by_class: bool = False) -> MaskedImages:
    """Images of a split that have an annotation.

    root: the folder with annotations/instances_SPLIT.json and SPLIT/ (or images/SPLIT/). by_class: one item an image
    and category, its foreground that category; else one an image, its foreground every object.

    Raises `ImageError` for a folder without these or a JSON of another kind, `MissingExtra` without pycocotools.
    """
    root = Path(root)
    path = root / "annotations" / f"instances_{split}.json"
    if not path.is_file():
        splits = [file.stem.removeprefix("instances_") for file in (root / "annotations").glob("instances_*.json")]
        raise ImageError(f"{root} has no annotations/instances_{split}.json{closest(split, splits)}")
    folder = next((found for found in (root / split, root / "images" / split) if found.is_dir()), root)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = {image["id"]: image for image in content["images"]}
        categories = {category["id"]: category["name"] for category in content["categories"]}
        grouped: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            grouped[annotation["image_id"]].append(annotation)
        items: list[tuple[int, int | None]] = []
        for key in sorted(images):
            if by_class:
                present = {found["category_id"] for found in grouped[key] if not found.get("iscrowd")}
                items += [(key, category) for category in sorted(present)]
            elif grouped[key]:
                items.append((key, None))
        names = tuple(None if category is None else categories[category] for _, category in items)
        files = {key: str(image["file_name"]) for key, image in images.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"expected COCO's instances JSON in {path}: {type(error).__name__} {error}") from error
    named = list(zip(items, names, strict=True))
    library = _library()

    def read(index: int) -> Masked:
        key, category = items[index]
        size = images[key]["height"], images[key]["width"]
        mask, void = np.zeros(size, bool), np.zeros(size, bool)
        for annotation in grouped[key]:
            if category is None or annotation["category_id"] == category:
                into = void if annotation.get("iscrowd") else mask
                into |= _mask(library, annotation["segmentation"], *size)
        return masked(read_image(folder / files[key]), mask, ~void | mask)

    return MaskedImages(
        ids=tuple(files[key] if name is None else f"{files[key]}/{name}" for (key, _), name in named),
        names=names,
        read=read,
        description={"kind": "coco", "location": str(root.resolve()), "split": split, "by_class": by_class},
    )


def _library() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingExtra("pycocotools", "coco", "reading COCO's masks") from error
    return mask


def _mask(library: Any, segmentation: Any, height: int, width: int) -> Bool[np.ndarray, "y x"]:
    """One annotation's pixels: a list of polygons, an uncompressed run length, or a compressed one."""
    try:
        if isinstance(segmentation, list):
            encoded = library.merge(library.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], list):
            encoded = library.frPyObjects(segmentation, height, width)
        else:
            encoded = segmentation
        decoded = np.asarray(library.decode(encoded)).astype(bool)
    except Exception as error:
        raise UnusableMask(f"an annotation that pycocotools cannot read: {error}") from error
    if decoded.shape != (height, width):
        raise UnusableMask(f"an annotation of {decoded.shape[1]} x {decoded.shape[0]} in an image {width} x {height}")
    return decoded
