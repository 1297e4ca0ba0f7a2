"""Images of any size and aspect to what a tower takes, and where each piece lies on the image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from secondlens.errors import ImageError, SecondLensError, closest
from secondlens.lens.model import LensModel

Fit = Literal["squash", "aspect", "windows"]
"""squash: the whole image at the model's own size, as the paper's code does. aspect: the image's own aspect, with
interpolated position embeddings. windows: pieces of the model's own size that overlap.
"""


@dataclass(frozen=True)
class Fitted:
    """One image as the model shall see it.

    pixels: one piece, or overlapping windows. size: (height, width) of the resized image. corners: (top, left) of each
    piece in it.
    """

    pixels: Float[Tensor, "piece 3 height width"]
    size: tuple[int, int]
    corners: tuple[tuple[int, int], ...]


def check_fit(fit: str) -> None:
    """Raise for a name that is no fit."""
    if fit not in get_args(Fit):
        raise SecondLensError(f"unknown fit {fit!r}{closest(fit, get_args(Fit))}")


def fit_images(model: LensModel, images: Sequence[Image.Image]) -> Float[Tensor, "image 3 height width"]:
    """Whole images squashed to the model's own size, as one batch."""
    return torch.cat([fit_image(model, image).pixels for image in images])


def fit_image(model: LensModel, image: Image.Image, fit: Fit = "squash", overlap: float = 0.5) -> Fitted:
    """One RGB image, resized and normalised by the model's configuration but never cropped.

    overlap: of neighbouring windows, as a share of their side.

    Raises `SecondLensError` for an unknown fit or overlap, for "aspect" where the tower takes one size only;
    `ImageError` for an image so long that it would be thousands of patches.
    """
    check_fit(fit)
    tower, patch = model.tower, model.tower.patch
    native = tower.image_size
    if fit == "squash":
        return Fitted(to_pixels(model, image, native)[None], native, ((0, 0),))
    scale = max(native[0] / image.height, native[1] / image.width)
    if fit == "aspect":
        if not tower.any_size:
            raise SecondLensError(
                f"{model.reference} takes images of {native[0]} x {native[1]} pixels only; use windows or squash"
            )
        size = _multiples(image, scale, patch)
        _check_size(size, native)
        return Fitted(to_pixels(model, image, size)[None], size, ((0, 0),))
    if not 0 <= overlap < 1:
        raise SecondLensError(f"expected an overlap from 0 to below 1, got {overlap}")
    size = (max(native[0], round(image.height * scale)), max(native[1], round(image.width * scale)))
    _check_size(size, native)
    pixels = to_pixels(model, image, size)
    corners = tuple(
        (top, left) for top in _starts(size[0], native[0], overlap) for left in _starts(size[1], native[1], overlap)
    )
    pieces = [pixels[:, top : top + native[0], left : left + native[1]] for top, left in corners]
    return Fitted(torch.stack(pieces), size, corners)


def to_pixels(model: LensModel, image: Image.Image, size: tuple[int, int]) -> Float[Tensor, "3 height width"]:
    """Resized to (height, width), scaled and normalised as the model's preprocessing does after its own resizing."""
    settings = model.preprocessing.settings
    resampling = Image.Resampling(settings.get("resample", Image.Resampling.BICUBIC))
    resized = image.convert("RGB").resize((size[1], size[0]), resampling)
    pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32).copy()).permute(2, 0, 1)
    if settings.get("do_rescale", True):
        pixels = pixels * settings.get("rescale_factor", 1 / 255)
    if settings.get("do_normalize", True):
        mean, std = (torch.tensor(settings[name]).view(3, 1, 1) for name in ("image_mean", "image_std"))
        pixels = (pixels - mean) / std
    return pixels


def assemble(fitted: Fitted, maps: Float[Tensor, "piece target height width"]) -> Float[Tensor, "target rows columns"]:
    """Maps of the pieces on the resized image; where pieces overlap, their mean, nearer centres weighing more."""
    if len(maps) == 1:
        return maps[0]
    height, width = maps.shape[-2:]
    # A tent: a window knows less about what lies at its rim.
    tent = torch.outer(_tent(height), _tent(width)).to(maps)
    total = maps.new_zeros(maps.shape[1], *fitted.size)
    weights = maps.new_zeros(*fitted.size)
    for (top, left), piece in zip(fitted.corners, maps, strict=True):
        total[:, top : top + height, left : left + width] += piece * tent
        weights[top : top + height, left : left + width] += tent
    return total / weights


def _tent(length: int) -> Tensor:
    places = torch.arange(length, dtype=torch.float64) + 0.5
    return torch.minimum(places, length - places)


def _starts(length: int, window: int, overlap: float) -> list[int]:
    """Evenly spaced starts that cover `length`, with at least the overlap asked for."""
    steps = math.ceil((length - window) / max(1.0, window * (1 - overlap)))
    return [round(step * (length - window) / steps) for step in range(steps + 1)] if steps else [0]


def _multiples(image: Image.Image, scale: float, patch: int) -> tuple[int, int]:
    return (
        max(1, round(image.height * scale / patch)) * patch,
        max(1, round(image.width * scale / patch)) * patch,
    )


def _check_size(size: tuple[int, int], native: tuple[int, int]) -> None:
    # Sixteen native images of area: attention matrices of 256 times the native size.
    if size[0] * size[1] > 16 * native[0] * native[1]:
        raise ImageError(
            f"the image is too long: at the model's resolution it would be {size[0]} x {size[1]} pixels; "
            "crop it, or use squash"
        )
