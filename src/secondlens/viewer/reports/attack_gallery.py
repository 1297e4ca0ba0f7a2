"""Pictures of an attack and where in them the cue's neurons write: what a report shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from secondlens.analysis.attack.folder import AttackFolder
from secondlens.analysis.attack.image_makers import Made, Order, save_marked
from secondlens.analysis.attack.settings import OURS
from secondlens.analysis.audit.classes import ClassPair
from secondlens.data.decode import decode
from secondlens.lens.model import LensModel
from secondlens.lens.paths import Convention
from secondlens.lens.second_order import patch_contributions

# Okabe and Ito's vermilion and blue: to the predicted class, and to the shown one.
TO_PREDICTED, TO_SHOWN = np.array([213, 94, 0]), np.array([0, 114, 178])
STRENGTH = 0.75


@torch.no_grad()
def attribution_map(
    model: LensModel,
    picture: Image.Image,
    vector: Float[Tensor, " embed"],
    layers: list[int],
    convention: Convention = "centred",
) -> Float[Tensor, "row column"]:
    """Each patch's contribution, through the neurons of some layers, to <z/|z|, v/|v|>; the class token's is left out.

    Positive where a patch speaks for the predicted class. Sums over layers are exact: see `lens.second_order`.
    """
    direction = torch.nn.functional.normalize(vector, dim=0)[None].to(model.device)
    pixels = model.preprocess([picture])
    total = sum(patch_contributions(model, pixels, layer, direction, convention)[0, 0] for layer in layers)
    assert isinstance(total, Tensor)
    height, width = (side // model.tower.patch for side in model.tower.image_size)
    return total[-height * width :].reshape(height, width).float().cpu()


def overlay(picture: Image.Image, values: Float[Tensor, "row column"]) -> Image.Image:
    """The picture in grey, tinted by the map: vermilion to the predicted class, blue to the shown one."""
    array = values.numpy()
    scale = float(np.abs(array).max()) or 1.0
    small = Image.fromarray((array / scale).astype(np.float32))
    wide = np.asarray(small.resize(picture.size, Image.Resampling.BICUBIC)).clip(-1, 1)[..., None]
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float32)
    tint = np.where(wide > 0, TO_PREDICTED, TO_SHOWN)
    alpha = STRENGTH * np.abs(wide)
    return Image.fromarray((grey * (1 - alpha) + tint * alpha).astype(np.uint8))


SHOWN = 4
"""Pictures a pair and method."""
SIDE = 224


@dataclass(frozen=True)
class Exhibit:
    """A picture of the gallery. picture, heat: file names in the report's folder."""

    row: Mapping[str, Any]
    picture: str
    heat: str


def make_gallery(
    folder: AttackFolder,
    rows: Sequence[Mapping[str, Any]],
    model: LensModel,
    pairs: Sequence[ClassPair],
    layers: list[int],
    maker: str,
    convention: Convention = "centred",
) -> list[Exhibit]:
    """For every pair and method of ours, the valid pictures that fooled the model by the largest margin.

    At most one a caption first, so that they differ. The files are written to report/gallery/.
    """
    place = folder.report / "gallery"
    place.mkdir(parents=True, exist_ok=True)
    exhibits = []
    for pair in pairs:
        for method in dict.fromkeys(row["method"] for row in rows if row["method"] in OURS):
            mine = [
                row
                for row in rows
                if (row["source_class"], row["target_class"], row["method"])
                == (pair.source_class, pair.target_class, method)
                and row["valid"] is True
                and row["fooled"]
            ]
            picked = _varied(sorted(mine, key=lambda row: -row["margin"]))[:SHOWN]
            exhibits += [_exhibit(folder, row, model, pair, layers, maker, convention) for row in picked]
    return exhibits


def _varied(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        first.setdefault(row["prompt"], row)
    picked = {row["name"] for row in first.values()}
    return [*first.values(), *(row for row in rows if row["name"] not in picked)]


def _exhibit(
    folder: AttackFolder,
    row: Mapping[str, Any],
    model: LensModel,
    pair: ClassPair,
    layers: list[int],
    maker: str,
    convention: Convention,
) -> Exhibit:
    picture = decode(folder.images / f"{row['name']}.png")
    heat = attribution_map(model, picture, pair.vector, layers, convention)
    larger = Image.Resampling.NEAREST if picture.width < SIDE else Image.Resampling.LANCZOS
    shown = picture.resize((SIDE, round(SIDE * picture.height / picture.width)), larger)
    name = row["name"].replace("/", "-")
    for image, file in ((shown, f"{name}.png"), (overlay(shown, heat), f"{name}-map.png")):
        order = Order(row["prompt"], int(row["seed"]), name)
        save_marked(Made(image), folder.report / "gallery" / file, order, maker, drawn=maker == "world:")
    return Exhibit(row, f"gallery/{name}.png", f"gallery/{name}-map.png")
