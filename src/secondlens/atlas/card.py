"""One neuron's card: everything an atlas knows about it, as plain data, and its top images as a picture."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from secondlens.atlas.store import Atlas
from secondlens.disk.files import make_folder, write_whole
from secondlens.errors import AtlasError

CELL, GAP, CAPTION = 128, 6, 14
COLUMNS = 5


def neuron_card(atlas: Atlas, layer: int, neuron: int) -> dict[str, Any]:
    """JSON-able: layer, neuron, figures, spectrum, paths with their fractions, all top images.

    `texts` is empty: descriptions know of the atlas, not the other way round.

    Raises `AtlasError` for a layer or neuron that is not in the atlas.
    """
    opened = atlas.layer(layer)
    opened.require_neuron(neuron)
    paths = zip(opened.paths, opened.path_fractions[neuron].tolist(), strict=True)
    images = zip(
        opened.top_images[neuron],
        opened.top_norms[neuron].tolist(),
        opened.top_projections[neuron].tolist(),
        strict=True,
    )
    return {
        "layer": layer,
        "neuron": neuron,
        "explained_variance": float(opened.explained_variance[neuron]),
        "participation": float(opened.participation[neuron]),
        "threshold": float(opened.thresholds[neuron]),
        "selectivity": float(opened.selectivity[neuron]),
        "top_fraction": float(opened.top_fraction[neuron]),
        "root_mean_square": float(opened.variance[neuron].sqrt()),
        "spectrum": opened.spectrum[neuron].tolist(),
        "paths": [{"readout": path.reader, "head": path.head, "fraction": share} for path, share in paths],
        "texts": [],
        "top_images": [{"id": image, "norm": norm, "projection": x} for image, norm, x in images],
    }


def contact_sheet(atlas: Atlas, images: Sequence[dict[str, Any]], path: Path) -> None:
    """A PNG of top images with their norms, from the atlas's thumbnails; raises `AtlasError` where it kept none."""
    thumbnails = atlas.thumbnails([image["id"] for image in images])
    if not thumbnails:
        raise AtlasError(
            f"{atlas.folder} has no thumbnails (it was surveyed with --no-thumbnails); survey it with them"
        )
    across, down = CELL + GAP, CELL + CAPTION + GAP
    sheet = Image.new("RGB", (COLUMNS * across + GAP, -(-len(images) // COLUMNS) * down + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for place, image in enumerate(images):
        left, upper = GAP + place % COLUMNS * across, GAP + place // COLUMNS * down
        picture = ImageOps.contain(Image.open(io.BytesIO(thumbnails[image["id"]])), (CELL, CELL))
        sheet.paste(picture, (left + (CELL - picture.width) // 2, upper + (CELL - picture.height) // 2))
        pen.text((left, upper + CELL), f"{image['norm']:.4f}", fill="black")
    make_folder(path.parent)
    write_whole(path, lambda temporary: sheet.save(temporary, "PNG"))
