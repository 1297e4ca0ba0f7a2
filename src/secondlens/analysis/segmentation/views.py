"""Maps averaged over mirrored and shifted views of an image: the same offer to every method.

A patch grid samples the image at one phase only. A view moves the picture by part of a patch (the border is repeated)
or mirrors it; the map, on pixels, is moved back; the raw maps of all views are averaged. The target stays that of the
unchanged image.

Masks are brought to the resolution at which maps are scored.

The harnesses resize image and mask to the model's square, the mask by its nearest pixel. A model's own preprocessing
may crop, and then map and mask don't cover the same pixels (the paper's released code crops the image and squeezes
the mask). So the image is squeezed too, by `heatmaps.fit_images`, and only normalised as the model does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from secondlens.analysis.heatmaps import HeatMapMethod, SharedPass
from secondlens.analysis.heatmaps.postprocess import upsample
from secondlens.data.masks import Masked
from secondlens.errors import SecondLensError
from secondlens.lens.model import LensModel


@dataclass(frozen=True)
class View:
    """down, right: pixels by which the picture is moved. mirrored: left and right swapped before."""

    down: int = 0
    right: int = 0
    mirrored: bool = False

    def apply(self, pixels: Float[Tensor, "image 3 height width"]) -> Float[Tensor, "image 3 height width"]:
        """The view of pictures."""
        return _moved(pixels.flip(-1) if self.mirrored else pixels, self.down, self.right)

    def undo(self, maps: Float[Tensor, "image target y x"]) -> Float[Tensor, "image target y x"]:
        """Maps of the view, back on the unchanged pictures."""
        back = _moved(maps, -self.down, -self.right)
        return back.flip(-1) if self.mirrored else back


def views_of(count: int, patch: int) -> list[View]:
    """1: the picture alone. 2: and its mirror image. 8: both, each also moved by half a patch down, right and both.

    Raises `SecondLensError` for another number.
    """
    half = patch // 2
    if count == 1:
        return [View()]
    if count == 2:
        return [View(), View(mirrored=True)]
    if count == 8:
        return [View(down, right, side) for side in (False, True) for down in (0, half) for right in (0, half)]
    raise SecondLensError(f"expected 1, 2 or 8 views, got {count}")


def pixel_maps(
    model: LensModel,
    methods: Sequence[HeatMapMethod],
    shared: SharedPass,
    targets: Float[Tensor, "image target embed"],
    views: Sequence[View],
) -> dict[str, Float[Tensor, "image target y x"]]:
    """Raw maps of every method on the pixels of the model's square, averaged over views, the first being `View()`.

    shared: the pass of the unchanged pictures, which has been made already for their targets.
    """
    height, width = shared.pixels.shape[-2:]
    sums: dict[str, Tensor] = {}
    for view in views:
        passed = shared if view == View() else SharedPass.of(model, view.apply(shared.pixels), methods)
        for method in methods:
            maps = view.undo(upsample(method.maps(passed, targets).detach().float(), (height, width))) / len(views)
            sums[method.name] = sums[method.name] + maps if method.name in sums else maps
    return sums


def _moved(pixels: Float[Tensor, "*lead y x"], down: int, right: int) -> Float[Tensor, "*lead y x"]:
    height, width = pixels.shape[-2:]
    rows = (torch.arange(height, device=pixels.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=pixels.device) - right).clamp(0, width - 1)
    return pixels[..., rows, :][..., columns]


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
