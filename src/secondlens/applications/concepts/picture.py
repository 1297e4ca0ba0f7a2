"""A picture of an image's concepts: where in the image each comes from."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.applications.concepts.find import ImageConcepts
from secondlens.applications.pictures import DIVERGING, patch_grid, seen_picture
from secondlens.lens.model import LensModel
from secondlens.plots import new_figure, save_figure

SHOWN = 7
"""Concepts in a picture."""
COLUMNS = 4


def draw_concepts(
    found: ImageConcepts, model: LensModel, pixels: Float[Tensor, "image 3 height width"], path: Path
) -> None:
    """Write a PNG: the image, and over it the contribution of each patch to each of the first concepts.

    All maps share one scale, the largest size among them: a pale map is a concept with little behind it.
    """
    concepts = found.concepts[:SHOWN]
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
