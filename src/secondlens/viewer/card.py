"""One neuron: everything an atlas knows about it as plain data, a contact sheet, a card for notebooks."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions
from secondlens.disk.files import make_folder, write_whole
from secondlens.errors import AtlasError, MissingExtra

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
        "explained_variance": float(opened.explained_variance[neuron]),
        "participation": float(opened.participation[neuron]),
        "threshold": float(opened.thresholds[neuron]),
        "selectivity": float(opened.selectivity[neuron]),
        "top_fraction": float(opened.top_fraction[neuron]),
        "root_mean_square": float(opened.variance[neuron].sqrt()),
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
# The ends of a diverging scale that colour-blind readers tell apart (ColorBrewer's PuOr).
AGAINST, TOWARDS = "#8a4b08", "#5e3c99"


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
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise MissingExtra("matplotlib", "plots", "a figure of a neuron") from error
        from secondlens.viewer.figure import neuron_figure

        return neuron_figure(self.atlas, self.data, words, images)
