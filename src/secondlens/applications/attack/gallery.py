"""Pictures of the report: those that fooled the model most, with the map of what did it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from secondlens.applications.attack.folder import AttackFolder
from secondlens.applications.attack.maps import attribution_map, overlay
from secondlens.applications.attack.pictures.base import Made, Order, save_marked
from secondlens.applications.attack.settings import OURS
from secondlens.applications.audit.classes import ClassPair
from secondlens.data.decode import decode
from secondlens.lens.model import LensModel
from secondlens.lens.paths import Convention

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
