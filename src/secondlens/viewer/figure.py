"""A neuron as a matplotlib figure for papers."""

import io
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from secondlens.atlas.store import Atlas
from secondlens.numerics.histogram import edges

TOWARDS, AGAINST = "#5e3c99", "#b35806"


def neuron_figure(atlas: Atlas, card: dict[str, Any], words: int, images: int) -> Figure:
    """Words with their shares, the histogram of norms with the threshold, and the top images below."""
    thumbnails = atlas.thumbnails([image["id"] for image in card["top_images"][:images]])
    shown = [image for image in card["top_images"][:images] if image["id"] in thumbnails]
    figure = Figure(figsize=(7, 4.4 if shown else 3), layout="constrained")
    upper: Any = figure
    lower: Any = None
    if shown:
        halves: Any = figure.subfigures(2, 1, height_ratios=(2.4, 1))
        upper, lower = halves
    left, right = upper.subplots(1, 2, width_ratios=(1.2, 1))
    _words(left, card["texts"][:words])
    _norms(right, atlas.layer(card["layer"]).row("histogram", card["neuron"]).tolist(), card["threshold"])
    figure.suptitle(f"Layer {card['layer']}, neuron {card['neuron']}", x=0.01, ha="left", fontsize=11)
    if lower is not None:
        for panel, image in zip(lower.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            panel.imshow(Image.open(io.BytesIO(thumbnails[image["id"]])))
            panel.set_axis_off()
    return figure


def _words(panel: Any, texts: list[dict[str, Any]]) -> None:
    if not texts:
        panel.text(0.5, 0.5, "not described", ha="center", va="center", transform=panel.transAxes)
        panel.set_axis_off()
        return
    values = [row["coefficient"] for row in texts]
    colours = [TOWARDS if value > 0 else AGAINST for value in values]
    panel.barh(range(len(texts)), values, color=colours)
    # A dollar would start a formula.
    panel.set_yticks(range(len(texts)), [_short(row["text"]).replace("$", r"\$") for row in texts], fontsize=8)
    panel.invert_yaxis()
    panel.axvline(0, color="black", linewidth=0.6)
    panel.set_xlabel("coefficient", fontsize=8)
    panel.tick_params(axis="x", labelsize=8)
    panel.spines[["top", "right", "left"]].set_visible(False)


def _norms(panel: Any, counts: list[int], threshold: float) -> None:
    bounds = edges().tolist()
    filled = [place for place, count in enumerate(counts) if count]
    first, last = (filled[0], filled[-1] + 1) if filled else (0, len(counts))
    panel.stairs(counts[first:last], bounds[first : last + 1], fill=True, color="#9a9a9a")
    if threshold > 0:
        panel.axvline(threshold, color="black", linestyle="--", linewidth=1, label="threshold")
        panel.legend(frameon=False, fontsize=8)
    panel.set_xscale("log", base=2)
    panel.set_xlabel("norm of the effect", fontsize=8)
    panel.set_ylabel("images", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def _short(text: str, most: int = 28) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
