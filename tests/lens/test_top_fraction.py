"""The share of all effects' energy that the top images hold, as a survey stores it, against all effects at once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import secondlens as sl
from secondlens.lens import LensModel


def write_images(folder: Path, is_sorted: bool) -> None:
    """Sixty images: alike, or thirty dark coarse ones and then thirty bright fine ones."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(60):
        shape, high = ((2, 2, 3), 60) if is_sorted and number < 30 else ((8, 8, 3), 256)
        coarse = Image.fromarray(rng.integers(0, high, shape, dtype=np.uint8))
        coarse.resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{number:02d}.png")


# Sorted images are those of which one pass does not certify every neuron's top: some rows come from a second pass,
# with the second moment that was handed to it.
@pytest.mark.parametrize("is_sorted", [False, True])
@pytest.mark.parametrize("top", [1, 12])
def test_it_is_that_of_the_dense_effects(clip: LensModel, tmp_path: Path, is_sorted: bool, top: int) -> None:
    write_images(tmp_path / "images", is_sorted)
    atlas = sl.survey(clip, tmp_path / "images", tmp_path / "atlas", layers=[0], top=top, batch_size=8)
    images = [Image.open(path).convert("RGB") for path in sorted((tmp_path / "images").iterdir())]
    effects = sl.second_order_effects(clip, clip.preprocess(images), 0).dense().double()
    energy = (effects - effects.mean(dim=0)).square().sum(dim=2)
    layer = atlas.layer(0)
    expected = energy.topk(top, dim=0).values.sum(dim=0) / energy.sum(dim=0)
    torch.testing.assert_close(layer.top_fraction.double(), expected, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(layer.variance.double(), energy.mean(dim=0), rtol=1e-5, atol=1e-10)


def test_it_is_one_where_all_images_are_kept(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    atlas = sl.survey(clip, pictures, tmp_path / "atlas", layers=[1], top=40, batch_size=16)
    share = atlas.layer(1).top_fraction
    torch.testing.assert_close(share, torch.ones_like(share), rtol=1e-6, atol=0)
    assert float(share.max()) <= 1
