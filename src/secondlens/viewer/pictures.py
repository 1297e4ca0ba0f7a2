"""Images on the site: their ids, and thumbnails as sprites, a few in one file."""

import io
from functools import cached_property
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from secondlens.atlas.manifest import THUMBNAILS
from secondlens.atlas.store import Atlas
from secondlens.disk.json_text import json_text

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
