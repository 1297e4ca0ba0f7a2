"""Limits and defaults of fitting and refining: which images are too long, which radius, which scale of pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from secondlens.analysis.heatmaps import fit_image, refine
from secondlens.errors import ImageError
from secondlens.lens import LensModel, load_model

SIDE = 64


@pytest.fixture
def vit(model_folders: dict[str, Path]) -> LensModel:
    """A ViT of 64 x 64 pixels in patches of 16."""
    return load_model(f"hf:{model_folders['vit-l4-h4-p16-gelu']}")


def image_of(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("fit", ["aspect", "windows"])
@pytest.mark.parametrize("tall", [False, True])
def test_an_image_may_have_sixteen_native_areas_and_no_more(vit: LensModel, fit: str, tall: bool) -> None:
    sides = (SIDE, 16 * SIDE) if tall else (16 * SIDE, SIDE)
    fitted = fit_image(vit, image_of(*sides), fit)
    assert fitted.size == sides[::-1]
    # One patch more.
    longer = tuple(side + 16 if side > SIDE else side for side in sides)
    with pytest.raises(ImageError, match="too long"):
        fit_image(vit, image_of(*longer), fit)


def test_pixels_are_scaled_to_one_where_the_settings_do_not_say(vit: LensModel) -> None:
    image = image_of(SIDE, SIDE)
    expected = fit_image(vit, image).pixels
    del vit.preprocessing.settings["rescale_factor"]
    torch.testing.assert_close(fit_image(vit, image).pixels, expected)
    # An image that is one grey level: (128 / 255 - mean) / std.
    mean, std = (torch.tensor(vit.preprocessing.settings[name]) for name in ("image_mean", "image_std"))
    grey = fit_image(vit, Image.new("RGB", (SIDE, SIDE), (128, 128, 128))).pixels[0, :, 0, 0]
    torch.testing.assert_close(grey, (128 / 255 - mean) / std)


@pytest.mark.parametrize(("height", "width", "radius"), [(64, 96, 4), (160, 128, 8), (10, 40, 1)])
def test_the_filters_radius_is_a_sixteenth_of_the_shorter_side(height: int, width: int, radius: int) -> None:
    pytest.importorskip("kornia")
    generator = torch.Generator().manual_seed(0)
    image, maps = torch.rand(3, height, width, generator=generator), torch.rand(2, height, width, generator=generator)
    found = refine(maps, image)
    assert torch.equal(found, refine(maps, image, radius=radius))
    for other in (radius - 1, radius + 1):
        assert other == 0 or not torch.allclose(found, refine(maps, image, radius=other), atol=1e-4)
