"""Pictures of an evaluation: mean IoU against the threshold, and a grid of images and methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from secondlens.applications.heatmaps import HeatMapMethod, SharedPass
from secondlens.applications.heatmaps.fit import fit_images
from secondlens.applications.segmentation.evaluate import Evaluation, Plan
from secondlens.applications.segmentation.fit import fit_mask
from secondlens.applications.segmentation.metrics import unit_range
from secondlens.applications.segmentation.targets import Targets
from secondlens.applications.segmentation.views import pixel_maps, views_of
from secondlens.data.masks import MaskedImages
from secondlens.lens.model import LensModel
from secondlens.plots import new_figure, save_figure
from secondlens.studies.report import COLOURS

STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Panel:
    """One row of the grid: an image on the model's square, its mask, its target's text, maps in [0, 1] by method."""

    image: Image.Image
    mask: Bool[np.ndarray, "y x"]
    target: str
    maps: dict[str, Float[np.ndarray, "y x"]]


PURPOSE = "the pictures of the report"


def make_panels(
    model: LensModel,
    images: MaskedImages,
    methods: Sequence[HeatMapMethod],
    targets: Targets,
    evaluation: Evaluation,
    plan: Plan,
    rows: int = 8,
) -> list[Panel]:
    """Rows for images spread evenly over those evaluated: chosen by position, not by how good they look."""
    usable = [image["position"] for image in evaluation.done.images if image["skipped"] is None]
    chosen = [usable[index] for index in np.linspace(0, len(usable) - 1, min(rows, len(usable))).round().astype(int)]
    size, views = model.tower.image_size, views_of(plan.views, model.tower.patch)
    panels = []
    for position in chosen:
        item = images.read(position)
        shared = SharedPass.of(model, fit_images(model, [item.image]), methods)
        texts, vectors = targets.of(shared.embeddings, [images.names[position]])
        maps = pixel_maps(model, methods, shared, vectors[:, None], views)
        panels.append(
            Panel(
                item.image.resize(size[::-1]),
                fit_mask(item, size, "model")[0],
                texts[0],
                {name: unit_range(found[0, 0].cpu().numpy()) for name, found in maps.items()},
            )
        )
    return panels


def draw_grid(panels: Sequence[Panel], path: Path) -> None:
    """Images down, methods across; the mask's outline in white on every map."""
    names = list(panels[0].maps)
    width, height = len(names) + 2, len(panels)
    figure = new_figure(PURPOSE, 1.5 * width, 1.62 * height + 0.5)
    axes = figure.subplots(height, width, squeeze=False)
    for panel, line in zip(panels, axes, strict=True):
        for axis in line:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        line[0].imshow(panel.image)
        line[0].set_xlabel(_short(panel.target.split(",")[0]), fontsize=8)
        line[1].imshow(panel.mask, cmap="gray", vmin=0, vmax=1)
        for axis, name in zip(line[2:], names, strict=True):
            axis.imshow(panel.maps[name], cmap="inferno", vmin=0, vmax=1)
            if panel.mask.any() and not panel.mask.all():
                axis.contour(panel.mask, levels=[0.5], colors="white", linewidths=0.7)
    for axis, name in zip(axes[0], ["image", "mask", *names], strict=True):
        axis.set_title(name.replace("-", "\n", 1), fontsize=9)
    save_figure(figure, path, 110)


def draw_curves(found: dict[str, Any], path: Path) -> None:
    """Mean IoU of the data set against the threshold, the best method first in the legend."""
    figure = new_figure(PURPOSE, 8, 4.4)
    axis = figure.subplots()
    order = sorted(found["curves"], key=lambda name: -max(value or 0 for value in found["curves"][name]["miou"]))
    for index, name in enumerate(order):
        values = [np.nan if value is None else 100 * value for value in found["curves"][name]["miou"]]
        colour, style = COLOURS[index % len(COLOURS)], STYLES[index // len(COLOURS) % len(STYLES)]
        axis.plot(found["thresholds"], values, color=colour, linestyle=style, linewidth=1.6, label=name)
    axis.axvline(0.5, color="dimgray", linewidth=0.8)
    axis.set_xlabel("threshold on the map in [0, 1]")
    axis.set_ylabel("mIoU (%)")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=8)
    save_figure(figure, path, 130)


def _short(text: str) -> str:
    return text if len(text) <= 22 else text[:21] + "…"
