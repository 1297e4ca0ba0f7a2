"""Whole images for a model, without its crop, and maps back on the pixels of the mask.

The harnesses resize image and mask to the model's square, the mask by its nearest pixel. A model's own preprocessing
may crop, and then map and mask don't cover the same pixels (the paper's released code crops the image and squeezes
the mask). So an image is squeezed to the model's size here and only normalised as the model does: the
normalisation is affine a channel, and two plain images, black and white, tell it whatever the family.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from secondlens.applications.segmentation.readers import Masked
from secondlens.errors import ModelError
from secondlens.models.model import LensModel

Size = Literal["model", "image"]


class Fitter:
    """Images to pixels of the model's size."""

    def __init__(self, model: LensModel) -> None:
        height, width = model.tower.image_size
        self.size = (width, height)
        plain = [Image.new("RGB", self.size, (value,) * 3) for value in (0, 255, 128)]
        black, white, grey = (model.preprocess([image])[0].flatten(1) for image in plain)
        self.offset, self.gain = black[:, :1], (white - black)[:, :1]
        expected = self.offset + self.gain * 128 / 255
        # Rounding in float32, a few units in the last place of numbers below 10.
        if not torch.allclose(grey, expected.expand_as(grey), atol=1e-4):
            raise ModelError(
                f"the preprocessing of {model.reference} is more than a resize and an affine normalisation; "
                "maps cannot be laid over its images"
            )

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        """One image, squeezed and normalised."""
        squeezed = image.resize(self.size, Image.Resampling.BICUBIC)
        values = torch.from_numpy(np.array(squeezed)).permute(2, 0, 1).float() / 255
        return values * self.gain[..., None] + self.offset[..., None]


def fit_mask(
    masked: Masked, model_size: tuple[int, int], size: str
) -> tuple[Bool[np.ndarray, "y x"], Bool[np.ndarray, "y x"]]:
    """Foreground and valid pixels at the evaluation's resolution, a `Size`; model_size: (width, height)."""
    if size == "image":
        return masked.mask, masked.valid
    mask, valid = (
        np.asarray(Image.fromarray(part.astype(np.uint8)).resize(model_size, Image.Resampling.NEAREST)).astype(bool)
        for part in (masked.mask, masked.valid)
    )
    return mask, valid


def upsample(maps: Float[Tensor, "*lead row column"], height: int, width: int) -> Float[Tensor, "*lead y x"]:
    """Bilinear, pixel centres aligned, as the harnesses do."""
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    grown = torch.nn.functional.interpolate(flat, (height, width), mode="bilinear", align_corners=False)
    return grown.reshape(*maps.shape[:-2], height, width)
