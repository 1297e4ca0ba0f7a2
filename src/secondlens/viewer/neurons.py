"""What the site holds of each neuron besides words: columns for grids and charts, slices for a neuron's page.

Its images are there as ids, and as thumbnails on sprites, a few in one file.
"""

import io
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from secondlens.atlas.manifest import THUMBNAILS
from secondlens.atlas.metrics import metrics_in
from secondlens.atlas.store import Atlas, AtlasLayer
from secondlens.disk.json_text import json_text
from secondlens.viewer.layout import Field, pack

NEAREST = 10
"""Neighbours kept a neuron."""


class NeuronFiles:
    """Files of the neurons of an atlas, made when asked for."""

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas
        self.layers: dict[int, AtlasLayer] = {index: atlas.layer(index) for index in atlas.layers}

    def fields(self, layer: int) -> list[Field]:
        """The arrays of a neuron's slice."""
        opened, top = self.layers[layer], self.atlas.manifest.top
        nearest = min(NEAREST, len(self.layers) * self.atlas.manifest.model.neurons - 1)
        return [
            Field("top_positions", "int32", (top,)),
            Field("top_norms", "float32", (top,)),
            Field("top_projections", "float32", (top,)),
            Field("spectrum", "float32", (opened.spectrum.shape[1],)),
            Field("path_fractions", "float32", (len(opened.paths),)),
            Field("histogram", "int32", (opened.histogram.shape[1],)),
            Field("nearest", "int32", (nearest,)),
            Field("nearest_cosine", "float32", (nearest,)),
        ]

    def columns(self, layer: int) -> bytes:
        """float32 [column, neuron]: the metrics that the viewer draws, in their order."""
        values = [metric.values(self.layers[layer]) for metric in metrics_in("drawn")]
        return np.stack([column.float().numpy() for column in values]).astype("<f4").tobytes()

    def part(self, layer: int, rows: slice) -> bytes:
        """One slice of neurons: see `fields`."""
        opened = self.layers[layer]
        names, cosines = self._nearest(layer, rows)
        arrays: dict[str, Any] = {
            name: getattr(opened, name)[rows]
            for name in ("top_positions", "top_norms", "top_projections", "spectrum", "path_fractions", "histogram")
        }
        arrays |= {"nearest": names, "nearest_cosine": cosines}
        return pack(self.fields(layer), arrays, rows.stop - rows.start)

    def directions(self, layer: int, rows: slice) -> bytes:
        """float16 [neuron, embed]: enough for cosines between any two neurons to three digits."""
        return self.layers[layer].directions[rows].numpy().astype("<f2").tobytes()

    @cached_property
    def _directions(self) -> Float[Tensor, "neuron embed"]:
        return torch.cat([layer.directions.float() for layer in self.layers.values()])

    def _nearest(self, layer: int, rows: slice) -> tuple[Tensor, Tensor]:
        """Neighbours by the cosine of directions over all layers; number = place of the layer * neurons + neuron."""
        every, neurons = self._directions, self.atlas.manifest.model.neurons
        start = list(self.layers).index(layer) * neurons
        mine = torch.arange(start + rows.start, start + rows.stop)
        cosines = every[mine] @ every.T
        cosines[torch.arange(len(mine)), mine] = -torch.inf
        best = cosines.topk(min(NEAREST, len(every) - 1), dim=1)
        return best.indices, best.values


CELL, ACROSS = 96, 2
"""Pixels of a cell, and cells a row and column of a sprite. Small sprites: a neuron's images lie far apart, so that of
each sprite it needs one cell, and reads and decodes them all.
"""

PER_SPRITE = ACROSS * ACROSS
IDS = 1024
"""Ids a file."""


class PictureFiles:
    """Files of the images of an atlas, by their position in the source."""

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas
        self.there = (atlas.folder / THUMBNAILS).is_file()

    def described(self) -> dict[str, Any]:
        """As it stands in `site.json`."""
        return {
            "count": len(self.atlas.source_ids),
            "ids_per_file": IDS,
            "sprite": {"cell": CELL, "across": ACROSS, "per_file": PER_SPRITE} if self.there else None,
        }

    def ids(self, rows: slice) -> bytes:
        """JSON: ids, and the width and height of each thumbnail inside its cell (0, 0 where there is none)."""
        sizes = [self._size(name) for name in self.atlas.source_ids[rows]]
        return json_text({"ids": self.atlas.source_ids[rows], "sizes": sizes}).encode()

    def sprite(self, rows: slice) -> bytes:
        """A JPEG of square cells, each with a thumbnail in its middle."""
        sheet = Image.new("RGB", (ACROSS * CELL, ACROSS * CELL), (127, 127, 127))
        for place, name in enumerate(self.atlas.source_ids[rows]):
            jpeg = self._jpeg(name)
            if jpeg is None:
                continue
            with Image.open(io.BytesIO(jpeg)) as opened:
                picture = opened.resize(_fitted(opened.size), Image.Resampling.LANCZOS)
            left, upper = place % ACROSS * CELL, place // ACROSS * CELL
            sheet.paste(picture, (left + (CELL - picture.width) // 2, upper + (CELL - picture.height) // 2))
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=82)
        return buffer.getvalue()

    @cached_property
    def _table(self) -> Any:
        return pq.read_table(self.atlas.folder / THUMBNAILS)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._table["id"].to_pylist())}

    def _jpeg(self, name: str) -> bytes | None:
        if not self.there or name not in self._rows:
            return None
        return self._table["jpeg"][self._rows[name]].as_py()

    def _size(self, name: str) -> tuple[int, int]:
        jpeg = self._jpeg(name)
        if jpeg is None:
            return (0, 0)
        with Image.open(io.BytesIO(jpeg)) as opened:
            return _fitted(opened.size)


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height scaled so that the longer one fills a cell."""
    longest = max(size)
    return (max(1, round(size[0] * CELL / longest)), max(1, round(size[1] * CELL / longest)))
