"""Pictures of what explains one image: an attribution's parts, an image's concepts, patch by patch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.analysis.attribution import Attribution, Part
from secondlens.analysis.concepts.find import ImageConcepts
from secondlens.lens.model import LensModel
from secondlens.viewer.plots import new_figure, save_figure

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


BARS = 16
"""Bars of a waterfall before the rest is one."""
FOR, AGAINST, TOTAL = "#E69F00", "#0072B2", "#555555"
"""Okabe and Ito's orange and blue: told apart by colour-blind readers."""


def waterfall(attribution: Attribution, limit: int = BARS) -> list[Part]:
    """The largest parts by size, in order of the forward pass, then the sum of all others; they sum to the score."""
    largest = sorted(attribution.parts, key=lambda part: -abs(part.value))
    if len(largest) <= limit:
        shown, others = set(map(id, largest)), []
    else:
        shown, others = set(map(id, largest[: limit - 1])), largest[limit - 1 :]
    bars = [part for part in attribution.parts if id(part) in shown]
    rest = sum(part.value for part in others) + attribution.rounding
    if others:
        return [*bars, Part("rest", "", None, f"{len(others)} other parts", rest)]
    return [*bars, Part("rest", "", None, "rounding", rest)]


def draw_attribution(
    attribution: Attribution,
    model: LensModel,
    pixels: Float[Tensor, "image 3 height width"],
    title: str,
    path: Path,
) -> None:
    """Write a PNG: the waterfall, direct contributions of heads, and what heads read at each patch."""
    bars = waterfall(attribution)
    figure = new_figure("the picture of an attribution", 12, 0.32 * len(bars) + 1.8)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.9, 1))
    _bars(figure.add_subplot(grid[:, 0]), bars, attribution.score)
    panel = figure.add_subplot(grid[0, 1])
    _matrix(figure, panel, attribution.heads, "direct contribution of each head")
    panel.set_xlabel("head")
    panel.set_ylabel("layer" if model.tower.pool_mlp is None else "")
    panel.set_xticks(range(attribution.heads.shape[1]))
    panel = figure.add_subplot(grid[1, 1])
    picture = seen_picture(pixels)
    panel.imshow(picture.mean(axis=2), cmap="gray", vmin=-0.4, vmax=1.4)
    patches = patch_grid(attribution.tokens, model, pixels)
    height, width = picture.shape[:2]
    _matrix(figure, panel, patches, "what heads read at each patch", alpha=0.65, extent=(0, width, height, 0))
    panel.axis("off")
    figure.suptitle(title, fontsize=11)
    save_figure(figure, path, 130)


def _bars(panel: Any, bars: Sequence[Part], score: float) -> None:
    edge, starts = 0.0, []
    for part in bars:
        starts.append(edge)
        edge += part.value
    labels = [*(part.label for part in bars), "score"]
    values = [*(part.value for part in bars), score]
    colours = [*(FOR if part.value >= 0 else AGAINST for part in bars), TOTAL]
    places = range(len(values))
    panel.barh(places, values, left=[*starts, 0.0], color=colours, height=0.7)
    ends = [start + value for start, value in zip([*starts, 0.0], values, strict=True)]
    reach = max(*ends, 0.0) - min(*ends, 0.0)
    for place, (start, end, value) in enumerate(zip([*starts, 0.0], ends, values, strict=True)):
        panel.text(max(start, end) + 0.01 * reach, place, f"{value:+.4f}", va="center", fontsize=8)
        if place + 1 < len(values):
            panel.plot([end, end], [place, place + 1], color="#999999", linewidth=0.7)
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_yticks(places, labels, fontsize=8)
    panel.invert_yaxis()
    # Without this the axis ends where a bar does.
    panel.use_sticky_edges = False
    panel.margins(x=0.12)
    panel.autoscale_view()
    panel.set_xlabel("contribution to the score, summed from the top")
    panel.spines[["top", "right"]].set_visible(False)


def _matrix(figure: Any, panel: Any, values: Tensor, title: str, **options: Any) -> None:
    scale = max(float(torch.as_tensor(values).abs().max()), 1e-12)
    if "extent" not in options:
        options["aspect"] = "auto"
    drawn = panel.imshow(values.numpy(), cmap=DIVERGING, vmin=-scale, vmax=scale, **options)
    panel.set_title(title, fontsize=9)
    figure.colorbar(drawn, ax=panel, shrink=0.8)


CONCEPTS = 7
"""Concepts in a picture."""
COLUMNS = 4


def draw_concepts(
    found: ImageConcepts, model: LensModel, pixels: Float[Tensor, "image 3 height width"], path: Path
) -> None:
    """Write a PNG: the image, and over it the contribution of each patch to each of the first concepts.

    All maps share one scale, the largest size among them: a pale map is a concept with little behind it.
    """
    concepts = found.concepts[:CONCEPTS]
    picture = seen_picture(pixels)
    height, width = picture.shape[:2]
    rows = -(-(len(concepts) + 1) // COLUMNS)
    figure = new_figure("the picture of an image's concepts", 2.7 * COLUMNS + 0.8, 3.0 * rows * height / width + 0.2)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for panel in panels:
        panel.axis("off")
    panels[0].imshow(picture)
    panels[0].set_title("as the model sees it", fontsize=9)
    if concepts:
        maps = [patch_grid(concept.tokens, model, pixels) for concept in concepts]
        scale = max(float(torch.stack(maps).abs().max()), 1e-12)
        for panel, concept, values in zip(panels[1:], concepts, maps, strict=False):
            panel.imshow(picture.mean(axis=2), cmap="gray", vmin=-0.4, vmax=1.4)
            drawn = panel.imshow(
                values.numpy(), cmap=DIVERGING, vmin=-scale, vmax=scale, alpha=0.65, extent=(0, width, height, 0)
            )
            text = concept.text if len(concept.text) < 30 else concept.text[:28] + "..."
            panel.set_title(f"{text}  {concept.score:.3f}", fontsize=9)
        figure.colorbar(drawn, ax=panels.tolist(), shrink=0.7, label="contribution of a patch to the score")
    save_figure(figure, path, 130)
