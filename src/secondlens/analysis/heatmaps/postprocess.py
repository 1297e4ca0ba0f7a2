"""From raw maps on the patch grid to [0, 1] on the image: min-max, bilinear, and edges if asked for."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondlens.errors import MissingExtra

THRESHOLD = 0.5
"""Above it a pixel belongs to the text (the paper's)."""


def normalise(maps: Float[Tensor, "*lead row column"]) -> Float[Tensor, "*lead row column"]:
    """(H - min H) / (max H - min H), each map by itself; zero where a map is constant."""
    low = maps.amin(dim=(-2, -1), keepdim=True)
    spread = maps.amax(dim=(-2, -1), keepdim=True) - low
    return torch.where(spread > 0, (maps - low) / torch.where(spread > 0, spread, 1), 0)


def upsample(maps: Float[Tensor, "*lead row column"], size: tuple[int, int]) -> Float[Tensor, "*lead height width"]:
    """Bilinear to (height, width), pixel centres aligned as in the paper's code (`align_corners=False`)."""
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    resized = torch.nn.functional.interpolate(flat, size=size, mode="bilinear", align_corners=False)
    return resized.reshape(*maps.shape[:-2], *size)


def refine(
    maps: Float[Tensor, "target height width"],
    image: Float[Tensor, "3 height width"],
    radius: int | None = None,
    epsilon: float = 1e-3,
) -> Float[Tensor, "target height width"]:
    """Maps drawn to the edges of the image, by the guided filter (He et al. 2010; kornia's).

    image: RGB in [0, 1]. radius: of the filter's window in pixels; default: a sixteenth of the shorter side.
    epsilon: variance in the image below which there is no edge.

    Raises `MissingExtra` without kornia.
    """
    try:
        from kornia.filters import guided_blur
    except ImportError as error:
        raise MissingExtra("kornia", "refine", "edge-aware refinement") from error
    height, width = maps.shape[-2:]
    radius = max(1, min(height, width) // 16) if radius is None else radius
    size = 2 * min(radius, (min(height, width) - 1) // 2) + 1
    # A subsampled filter is as good for a map that was upsampled anyway, and an order of magnitude faster.
    coarse = max(1, size // 8)
    blur: Any = guided_blur
    guide = image[None].expand(len(maps), -1, -1, -1).to(maps)
    return blur(guide, maps[:, None], size, epsilon, border_type="replicate", subsample=coarse)[:, 0]


def segment(
    maps: Float[Tensor, "target height width"],
    threshold: float = THRESHOLD,
    strength: Float[Tensor, "target height width"] | None = None,
) -> tuple[Bool[Tensor, "target height width"], Tensor]:
    """Masks of each text by itself (H > threshold), and classes [height, width]: -1 background, else the text's row.

    maps: normalised, each by itself. A pixel's class is the text with the largest `strength` there (default: `maps`),
    background where that text's own mask has no pixel. Give raw maps as `strength` where texts can be compared in them:
    after min-max a text that is not in the image looks as strong as one that is.
    """
    masks = maps > threshold
    classes = (maps if strength is None else strength).argmax(dim=0)
    return masks, torch.where(masks.gather(0, classes[None])[0], classes, -1)
