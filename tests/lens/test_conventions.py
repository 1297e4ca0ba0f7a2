"""A convention that does not exist is refused wherever one is given: to take the other would change every number."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

import secondlens as sl
from builders import pixels
from secondlens.analysis.heatmaps.writes import Writes
from secondlens.lens import LensModel
from secondlens.lens.layer import LayerStatistics
from secondlens.lens.paths import write_maps
from secondlens.lens.second_order import write_projections

GIVEN: dict[str, Callable[[LensModel, Path], object]] = {
    "effects": lambda clip, _: sl.second_order_effects(clip, pixels(1, 64), 0, convention="centered"),
    "patches": lambda clip, _: sl.patch_contributions(
        clip, pixels(1, 64), 0, torch.ones(1, clip.embed_dim), convention="centered"
    ),
    "projections": lambda clip, _: write_projections(clip.tower, 0, torch.ones(1, clip.embed_dim), "centered"),
    "maps": lambda clip, _: write_maps(clip.tower, 0, "centered"),
    "statistics": lambda clip, _: LayerStatistics(clip.tower, 0, 4, convention="centered"),
    "heat maps": lambda clip, _: Writes(clip, [0], convention="centered"),
    "survey": lambda clip, folder: sl.survey(clip, folder, folder / "atlas", layers=[0], convention="centered"),
}


@pytest.mark.parametrize("where", GIVEN)
def test_an_unknown_convention_is_refused(clip: LensModel, pictures: Path, where: str) -> None:
    # Where the tests run with checked types, the type says so first.
    with pytest.raises((sl.SecondLensError, TypeCheckError), match="'centred'"):
        GIVEN[where](clip, pictures)
