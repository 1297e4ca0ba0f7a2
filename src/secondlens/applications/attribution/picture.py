"""A picture of an attribution: a waterfall of sources, the heads, and the patches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.applications.attribution.explain import Attribution, Part
from secondlens.applications.pictures import DIVERGING, patch_grid, seen_picture
from secondlens.lens.model import LensModel
from secondlens.plots import new_figure, save_figure

SHOWN = 16
"""Bars of a waterfall before the rest is one."""
FOR, AGAINST, TOTAL = "#E69F00", "#0072B2", "#555555"
"""Okabe and Ito's orange and blue: told apart by colour-blind readers."""


def waterfall(attribution: Attribution, limit: int = SHOWN) -> list[Part]:
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
