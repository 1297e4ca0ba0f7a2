"""Heat maps and masks as pictures over their image, and the files that `segment` writes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from secondlens.analysis.heatmaps.heatmap import HeatMap
from secondlens.analysis.heatmaps.postprocess import THRESHOLD
from secondlens.disk.files import check_file, disk_errors, write_bytes
from secondlens.errors import SecondLensError

# Stops of matplotlib's inferno, which is even in lightness and safe for colour-blind readers.
_STOPS = np.array(
    [
        (0, 0, 4),
        (40, 11, 84),
        (101, 21, 110),
        (159, 42, 99),
        (212, 72, 66),
        (245, 125, 21),
        (250, 193, 39),
        (252, 255, 164),
    ],
    dtype=np.float32,
)
# Okabe and Ito's palette: told apart by colour-blind readers.
PALETTE = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66))
TITLE = 22


def colours(heat: Float[Tensor, "height width"]) -> np.ndarray:
    """[height, width, 3] of values in [0, 1]."""
    places = heat.clamp(0, 1).numpy() * (len(_STOPS) - 1)
    channels = [np.interp(places, np.arange(len(_STOPS)), _STOPS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1)


def heat_overlay(
    image: Image.Image, heat: Float[Tensor, "height width"], title: str, strength: float = 0.6
) -> Image.Image:
    """A heat map over the image in grey, under its title."""
    base = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32)
    mixed = base * (1 - strength) + colours(heat) * strength
    return _titled(Image.fromarray(mixed.round().astype(np.uint8)), title)


def mask_overlay(image: Image.Image, classes: Tensor, texts: Sequence[str], strength: float = 0.55) -> Image.Image:
    """Classes [height, width] in colour over the image in grey; background (-1) stays grey. The title is the legend."""
    base = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32)
    paint = np.array([colour_of(row) for row in range(len(texts))], dtype=np.float32)
    found = classes.numpy()
    mixed = np.where((found >= 0)[..., None], base * (1 - strength) + paint[found] * strength, base)
    return _titled(Image.fromarray(mixed.round().astype(np.uint8)), "", list(texts))


def colour_of(row: int) -> tuple[int, int, int]:
    """A text's colour; they repeat after seven."""
    return PALETTE[row % len(PALETTE)]


def side_by_side(pictures: Sequence[Image.Image], columns: int = 4) -> Image.Image:
    """Pictures of one size in rows."""
    columns = min(columns, len(pictures))
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (width * columns, height * rows), "white")
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (place % columns * width, place // columns * height))
    return sheet


def _titled(picture: Image.Image, title: str, legend: Sequence[str] = ()) -> Image.Image:
    sheet = Image.new("RGB", (picture.width, picture.height + TITLE), "white")
    sheet.paste(picture, (0, TITLE))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    left = 4.0
    for row, text in enumerate(legend):
        draw.rectangle((left, 6, left + 10, 16), fill=colour_of(row))
        draw.text((left + 14, 3), text, fill="black", font=font)
        left += 24 + draw.textlength(text, font=font)
    draw.text((4, 3), title, fill="black", font=font)
    return sheet


def greyscale(heat: Float[Tensor, "height width"]) -> Image.Image:
    """Values in [0, 1] as an 8-bit grey picture."""
    return Image.fromarray((heat.clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def indexed(classes: Tensor) -> Image.Image:
    """Classes [height, width] as a palette picture: 0 background, row + 1 each text."""
    picture = Image.fromarray((classes + 1).to(torch.uint8).numpy(), mode="P")
    picture.putpalette([0, 0, 0, *(value for row in range(255) for value in colour_of(row))])
    return picture


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
