"""Masks at the resolution at which maps are scored.

The harnesses resize image and mask to the model's square, the mask by its nearest pixel. A model's own preprocessing
may crop, and then map and mask don't cover the same pixels (the paper's released code crops the image and squeezes
the mask). So the image is squeezed too, by `heatmaps.fit_images`, and only normalised as the model does.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool
from PIL import Image

from secondlens.data.masks import Masked

Size = Literal["model", "image"]


def fit_mask(
    masked: Masked, model_size: tuple[int, int], size: str
) -> tuple[Bool[np.ndarray, "y x"], Bool[np.ndarray, "y x"]]:
    """Foreground and valid pixels at the evaluation's resolution, a `Size`; model_size: (height, width)."""
    if size == "image":
        return masked.mask, masked.valid
    mask, valid = (
        np.asarray(Image.fromarray(part.astype(np.uint8)).resize(model_size[::-1], Image.Resampling.NEAREST)) > 0
        for part in (masked.mask, masked.valid)
    )
    return mask, valid
