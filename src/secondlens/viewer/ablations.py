"""An ablation study on the overview page: the accuracies in `ablations.json` of `secondlens ablate --out`."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from secondlens.viewer.reading import reading


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
