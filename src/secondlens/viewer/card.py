"""One neuron: everything an atlas knows about it as plain data, a contact sheet, a card for notebooks, a figure."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageOps

from secondlens.atlas.metrics import metrics_in
from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions
from secondlens.disk.files import make_folder, write_whole
from secondlens.errors import AtlasError
from secondlens.numerics.histogram import edges
from secondlens.viewer.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The ends of a diverging scale that colour-blind readers tell apart (ColorBrewer's PuOr); words are darker than bars.
TOWARDS, AGAINST, AGAINST_BAR = "#5e3c99", "#8a4b08", "#b35806"


def neuron_figure(atlas: Atlas, card: dict[str, Any], words: int, images: int) -> "Figure":
    """Draw words with their shares, the histogram of norms with the threshold, and the top images below.

    Raises `MissingExtra` without matplotlib.
    """
    thumbnails = atlas.thumbnails([image["id"] for image in card["top_images"][:images]])
    shown = [image for image in card["top_images"][:images] if image["id"] in thumbnails]
    figure = new_figure("a figure of a neuron", 7, 4.4 if shown else 3)
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
    colours = [TOWARDS if value > 0 else AGAINST_BAR for value in values]
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


CELL, GAP, CAPTION = 128, 6, 14
COLUMNS = 5


def neuron_card(atlas: Atlas, layer: int, neuron: int) -> dict[str, Any]:
    """JSON-able: layer, neuron, figures, spectrum, paths with their fractions, all top images.

    `texts` is empty: descriptions know of the atlas, not the other way round.

    Raises `AtlasError` for a layer or neuron that is not in the atlas.
    """
    opened = atlas.layer(layer)
    opened.require_neuron(neuron)
    paths = zip(opened.paths, opened.path_fractions[neuron].tolist(), strict=True)
    images = zip(
        opened.top_images[neuron],
        opened.top_norms[neuron].tolist(),
        opened.top_projections[neuron].tolist(),
        strict=True,
    )
    return {
        "layer": layer,
        "neuron": neuron,
        **{metric.name: float(metric.values(opened)[neuron]) for metric in metrics_in("card")},
        "spectrum": opened.spectrum[neuron].tolist(),
        "paths": [{"readout": path.reader, "head": path.head, "fraction": share} for path, share in paths],
        "texts": [],
        "top_images": [{"id": image, "norm": norm, "projection": x} for image, norm, x in images],
    }


def contact_sheet(atlas: Atlas, images: Sequence[dict[str, Any]], path: Path) -> None:
    """A PNG of top images with their norms, from the atlas's thumbnails; raises `AtlasError` where it kept none."""
    thumbnails = atlas.thumbnails([image["id"] for image in images])
    if not thumbnails:
        raise AtlasError(
            f"{atlas.folder} has no thumbnails (it was surveyed with --no-thumbnails); survey it with them"
        )
    across, down = CELL + GAP, CELL + CAPTION + GAP
    sheet = Image.new("RGB", (COLUMNS * across + GAP, -(-len(images) // COLUMNS) * down + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for place, image in enumerate(images):
        left, upper = GAP + place % COLUMNS * across, GAP + place // COLUMNS * down
        picture = ImageOps.contain(Image.open(io.BytesIO(thumbnails[image["id"]])), (CELL, CELL))
        sheet.paste(picture, (left + (CELL - picture.width) // 2, upper + (CELL - picture.height) // 2))
        pen.text((left, upper + CELL), f"{image['norm']:.4f}", fill="black")
    make_folder(path.parent)
    write_whole(path, lambda temporary: sheet.save(temporary, "PNG"))


SHOWN, WORDS = 12, 10


def full_card(atlas: Atlas, layer: int, neuron: int, pool: str | None = None) -> dict[str, Any]:
    """Everything known of a neuron as plain data, with its description over a pool (default: the latest) if any."""
    card = neuron_card(atlas, layer, neuron)
    if pool is not None or Descriptions.names(atlas):
        card |= Descriptions.open(atlas, pool).neuron(layer, neuron)
    return card


class NeuronView:
    """A neuron of an atlas; Jupyter shows it as a card. `data` is what `secondlens neurons show --json` prints."""

    def __init__(self, atlas: Atlas, layer: int, neuron: int, pool: str | None = None) -> None:
        self.atlas = atlas
        self.data = full_card(atlas, layer, neuron, pool)

    def __repr__(self) -> str:
        words = ", ".join(row["text"] for row in self.data["texts"][:4])
        return f"<neuron {self.data['neuron']} of layer {self.data['layer']}: {words or 'not described'}>"

    def _repr_html_(self) -> str:
        """Self-contained HTML; every text is escaped."""
        data = self.data
        figures = {
            "explained variance": f"{100 * data['explained_variance']:.0f} %",
            "selectivity": f"{100 * data['selectivity']:.1f} % of images",
            "threshold": f"{data['threshold']:.4f}",
            "effective rank": f"{data['participation']:.1f}",
        }
        facts = "".join(
            f'<span style="margin-right:1.5em"><small>{escape(name)}</small> <b>{escape(value)}</b></span>'
            for name, value in figures.items()
        )
        return (
            '<div style="max-width:60em;font-family:system-ui,sans-serif;line-height:1.5">'
            f'<div style="font-size:1.3em;font-weight:600">Layer {data["layer"]}, neuron {data["neuron"]}</div>'
            f"<div>{facts}</div>{self._words()}{self._images()}</div>"
        )

    def _words(self) -> str:
        senses = self.data.get("senses", [])
        if not senses:
            return '<p style="opacity:.7">Not described yet.</p>'
        rows = []
        for sense in senses:
            words = ", ".join(
                f'<span style="color:{AGAINST}">&minus;&#8202;{escape(text[1:])}</span>'
                if row["coefficient"] < 0
                else f"<span>{escape(text)}</span>"
                for text, row in zip(sense["texts"][:WORDS], self._rows(sense), strict=False)
            )
            rows.append(f"<li><b>{100 * sense['fraction']:.0f} %</b> {words}</li>")
        return (
            f'<ul style="margin:.5em 0;padding-left:1.2em">{"".join(rows)}</ul>'
            f'<small style="opacity:.7">Words of {escape(self.data["pool"])}, by sense; after a minus, what it writes '
            "against.</small>"
        )

    def _rows(self, sense: dict[str, Any]) -> list[dict[str, Any]]:
        index = self.data["senses"].index(sense)
        return [row for row in self.data["texts"] if row["sense"] == index]

    def _images(self) -> str:
        images = self.data["top_images"][:SHOWN]
        thumbnails = self.atlas.thumbnails([image["id"] for image in images])
        cells = []
        for image in images:
            name = escape(image["id"], quote=True)
            jpeg = thumbnails.get(image["id"])
            picture = (
                f'<img alt="{name}" title="{name}" style="width:96px;height:96px;object-fit:contain" '
                f'src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
                if jpeg
                else f'<span style="display:inline-block;width:96px;overflow-wrap:anywhere">{name}</span>'
            )
            caption = f"<figcaption><small>{image['norm']:.4f}</small></figcaption>"
            cells.append(f'<figure style="margin:0">{picture}{caption}</figure>')
        return f'<div style="display:flex;flex-wrap:wrap;gap:6px;margin-top:.5em">{"".join(cells)}</div>'

    def figure(self, words: int = 12, images: int = 8) -> Any:
        """A matplotlib figure for papers: words with their shares, the norm histogram, top images.

        Raises `MissingExtra` without matplotlib.
        """
        return neuron_figure(self.atlas, self.data, words, images)
