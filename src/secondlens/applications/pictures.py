"""What the pictures of applications share."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from secondlens.lens.model import LensModel

DIVERGING = "PuOr_r"
"""A diverging map that colour-blind readers can tell apart: orange speaks for, purple against."""


def patch_grid(
    tokens: Float[Tensor, " token"], model: LensModel, pixels: Float[Tensor, "image 3 height width"]
) -> Float[Tensor, "row column"]:
    """The patches of a row of tokens, without the class token, as they lie in the image."""
    side = model.tower.patch
    height, width = pixels.shape[2] // side, pixels.shape[3] // side
    return tokens[model.tower.prefix_tokens :].view(height, width)


def seen_picture(pixels: Float[Tensor, "image 3 height width"]) -> np.ndarray:
    """The first image as the model sees it, [height, width, 3] from 0 to 1: each channel stretched to its range."""
    image = pixels[0].float().cpu()
    low, high = image.amin(dim=(1, 2), keepdim=True), image.amax(dim=(1, 2), keepdim=True)
    return ((image - low) / (high - low).clamp(min=1e-6)).permute(1, 2, 0).numpy()
