"""What other commands found, read from their files: ablation studies and attacks.

Read from the folder that an attack's report fills: `summary.json` with `judge`, `binary.pairs` and `gallery` (`name`,
`image`, `map`), and `predictions.parquet`, a row a picture, for captions. Pictures are copied as they are.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, model_validator

from secondlens.errors import AtlasError


@contextmanager
def reading(what: str, place: Path, instead: str) -> Iterator[None]:
    """Reads a file within; one that is missing, damaged or of another shape raises `AtlasError`.

    what: is read, e.g. "an audit". place: the file or folder. instead: what to give.
    """
    try:
        yield
    # Pydantic's and pyarrow's own errors are kinds of these.
    except (OSError, ValueError, KeyError) as error:
        raise AtlasError(f"cannot read {what} from {place}: {' '.join(str(error).split())[:200]}; {instead}") from error


class LayerAccuracies(BaseModel):
    """Accuracies of a layer by variant, from 0 to 1; of those with an interval, which is what the chart shows."""

    model_config = ConfigDict(extra="allow")

    layer: int
    intervals: dict[str, tuple[float, float]]

    @model_validator(mode="after")
    def _has_what_it_names(self) -> "LayerAccuracies":
        missing = [name for name in self.intervals if not isinstance((self.model_extra or {}).get(name), float | int)]
        if missing:
            raise ValueError(f"layer {self.layer} has an interval but no accuracy for {missing[0]!r}")
        return self


class Ablations(BaseModel):
    """What is used of the file."""

    images: int
    layers: list[LayerAccuracies]


def read_ablations(path: Path) -> dict[str, Any]:
    """JSON-able: images, and of each layer its number and `values`, variant to (accuracy, low, high).

    Raises `AtlasError` for a file that is missing or is not such a study.
    """
    with reading("an ablation study", path, "give ablations.json as 'secondlens ablate --out' writes it"):
        found = Ablations.model_validate(json.loads(path.read_text(encoding="utf-8")))
    return {
        "images": found.images,
        "layers": [
            {
                "layer": each.layer,
                "values": {
                    name: [float((each.model_extra or {})[name]), low, high]
                    for name, (low, high) in each.intervals.items()
                },
            }
            for each in found.layers
        ],
    }


CAPTION = ("source_class", "target_class", "method", "prompt", "cues", "prediction", "margin")


class _Rate(BaseModel):
    source_class: str
    target_class: str
    method: str
    success: float
    low: float | None
    high: float | None
    images: int


class _Binary(BaseModel):
    pairs: list[_Rate]


class _Exhibit(BaseModel):
    name: str
    image: str
    map: str


class _Summary(BaseModel):
    judge: str
    binary: _Binary
    gallery: list[_Exhibit]


def read_attack(folder: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """Facts for `site.json`, and the files of the site by name. folder: the attack's, or that of its report.

    Raises `AtlasError` where there is no such report, or where it names a picture outside its folder.
    """
    report = folder / "report" if (folder / "report").is_dir() else folder
    with reading("an attack's report", report, "give the folder that the attack wrote, once its report is there"):
        found = _Summary.model_validate(json.loads((report / "summary.json").read_text(encoding="utf-8")))
        rows = {row["name"]: row for row in pq.read_table(report / "predictions.parquet").to_pylist()}
    files: dict[str, Path] = {}
    gallery = []
    for number, each in enumerate(found.gallery):
        names = {"image": f"data/attack/{number:03d}.png", "map": f"data/attack/{number:03d}-map.png"}
        files[names["image"]] = _inside(report, each.image)
        files[names["map"]] = _inside(report, each.map)
        row = rows.get(each.name, {})
        gallery.append({**names, "name": each.name, **{name: row.get(name) for name in CAPTION}})
    facts = {"judge": found.judge, "rates": [rate.model_dump() for rate in found.binary.pairs], "gallery": gallery}
    return facts, files


def _inside(report: Path, name: str) -> Path:
    path = (report / name).resolve()
    if not path.is_relative_to(report.resolve()) or path.suffix != ".png" or not path.is_file():
        raise AtlasError(f"{report / 'summary.json'} names {name!r}, which is no PNG file of that folder")
    return path
