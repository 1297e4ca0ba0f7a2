"""Segmentation of images by texts, written to files: an overlay, the mask, heat maps as pictures and as arrays."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from secondlens.applications.heatmaps.heatmap import HeatMap
from secondlens.applications.heatmaps.pictures import greyscale, heat_overlay, indexed, mask_overlay, side_by_side
from secondlens.applications.heatmaps.postprocess import THRESHOLD
from secondlens.disk.files import check_file, disk_errors, write_bytes
from secondlens.errors import SecondLensError


@dataclass(frozen=True)
class Segmentation:
    """One image's files, and for each text its score, the area of its own mask as a share of the image, and `wins`, the
    share that it wins against the other texts and the background.
    """

    image: str
    files: dict[str, Any]
    texts: list[dict[str, Any]]

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {"image": self.image, "files": self.files, "texts": self.texts}


def write_segmentation(
    image: Image.Image, name: str, found: HeatMap, out: Path, threshold: float = THRESHOLD
) -> Segmentation:
    """Write `out` (the overlay) and beside it the mask, one heat map a text, and the arrays.

    OUT.png: heat maps over the image, and the classes where there are several texts. OUT.mask.png: palette picture,
    0 background, 1 the first text and so on. OUT.heat-1.png: grey, 0 to 1 as 0 to 255. OUT.npz: `heat` [text, height,
    width] (normalised), `raw`, `classes` (-1 background), `texts`, `scores`.

    Raises `SecondLensError` for a threshold outside [0, 1), `OutputError` for a name that does not end in .png.
    """
    if not 0 <= threshold < 1:
        raise SecondLensError(f"expected a threshold from 0 to below 1, got {threshold}")
    check_file(out, ".png")
    masks, classes = found.classes(threshold)
    overlays = [heat_overlay(image, heat, text) for heat, text in zip(found.normalised, found.texts, strict=True)]
    overlays.append(mask_overlay(image, classes, found.texts))
    stem = out.with_suffix("")
    heats = [stem.with_name(f"{stem.name}.heat-{row + 1}.png") for row in range(len(found.texts))]
    mask, arrays = stem.with_name(f"{stem.name}.mask.png"), stem.with_name(f"{stem.name}.npz")
    with disk_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        for path, heat in zip(heats, found.normalised, strict=True):
            _write_png(path, greyscale(heat))
        _write_png(mask, indexed(classes))
        stream = io.BytesIO()
        np.savez_compressed(
            stream,
            heat=found.normalised.numpy(),
            raw=found.maps.numpy(),
            classes=classes.numpy().astype(np.int16),
            texts=np.array(found.texts),
            scores=found.scores.numpy(),
        )
        write_bytes(arrays, stream.getvalue())
        _write_png(out, side_by_side(overlays))
    files = {"overlay": str(out), "mask": str(mask), "heat": [str(path) for path in heats], "arrays": str(arrays)}
    rows = [
        {
            "text": text,
            "score": float(found.scores[row]),
            "area": float(masks[row].float().mean()),
            "wins": float((classes == row).float().mean()),
        }
        for row, text in enumerate(found.texts)
    ]
    return Segmentation(name, files, rows)


def _write_png(path: Path, picture: Image.Image) -> None:
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    write_bytes(path, stream.getvalue())
