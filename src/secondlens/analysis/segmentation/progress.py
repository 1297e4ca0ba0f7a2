"""An evaluation on disk: one Parquet file a batch, so that a killed run goes on; joined when all are there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from secondlens.analysis.segmentation.metrics import Scores
from secondlens.disk.files import write_table
from secondlens.disk.resumable import Resumable

SCORES = "scores.parquet"
IMAGES = "images.parquet"
_ARRAYS = ("foreground", "background", "above_mean")
_PLAIN = ("ap", "ap_foreground", "constant")


@dataclass(frozen=True)
class Done:
    """What some images gave. images: position, id, name, target (the text) and skipped (the reason), None where not
    so. scores: by method, of the images that were not skipped.
    """

    images: list[dict[str, Any]]
    scores: dict[str, Scores]

    @classmethod
    def merge(cls, parts: list["Done"]) -> "Done":
        """All images of the parts, by position."""
        images = sorted((image for part in parts for image in part.images), key=lambda image: image["position"])
        names = list(dict.fromkeys(name for part in parts for name in part.scores))
        return cls(images, {name: Scores.merge([part.scores[name] for part in parts]) for name in names})


class Shards:
    """The folder of an evaluation.

    Raises `SecondLensError` for a folder that holds an evaluation with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self._kept = Resumable(folder / "progress", settings)

    def read(self, batch: int) -> Done | None:
        """What a batch gave, if it is here."""
        scores, images = _names(batch)
        if scores not in self._kept or images not in self._kept:
            return None
        return Done(pq.read_table(self._kept[images]).to_pylist(), from_table(pq.read_table(self._kept[scores])))

    def write(self, batch: int, done: Done) -> None:
        """Keep a batch."""
        for name, table in zip(_names(batch), (to_table(done.scores), images_table(done.images)), strict=True):
            self._kept.keep(name, lambda path, table=table: pq.write_table(table, path))  # type: ignore[misc]

    def finish(self, done: Done) -> None:
        """Two files for all batches: scores.parquet and images.parquet."""
        write_table(self.folder / SCORES, to_table(done.scores))
        write_table(self.folder / IMAGES, images_table(done.images))


def _names(batch: int) -> tuple[str, str]:
    return f"scores-{batch:05d}.parquet", f"images-{batch:05d}.parquet"


def images_table(images: list[dict[str, Any]]) -> pa.Table:
    """Position, id, name, target, skipped."""
    text = pa.string()
    schema = pa.schema({"position": pa.int64(), "id": text, "name": text, "target": text, "skipped": text})
    return pa.Table.from_pylist(images, schema)


def to_table(scores: Mapping[str, Scores]) -> pa.Table:
    """One row a method and image."""
    columns: dict[str, Any] = {"method": [name for name, found in scores.items() for _ in range(len(found))]}
    joined = list(scores.values()) or [Scores.empty()]
    columns["position"] = np.concatenate([found.positions for found in joined])
    for name in _ARRAYS:
        values = np.concatenate([getattr(found, name) for found in joined])
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.int64()), values.shape[1])
    for name in _PLAIN:
        columns[name] = np.concatenate([getattr(found, name) for found in joined])
    columns["method"] = pa.array(columns["method"], pa.string())
    return pa.table(columns)


def from_table(table: pa.Table) -> dict[str, Scores]:
    """The scores by method."""
    methods = np.array(table["method"].to_pylist(), dtype=object)
    values: dict[str, np.ndarray] = {"positions": table["position"].to_numpy()}
    for name in _ARRAYS:
        column = table[name].combine_chunks()
        width = column.type.list_size
        values[name] = column.flatten().to_numpy().reshape(-1, width)
    for name in _PLAIN:
        values[name] = table[name].to_numpy()
    whole = Scores(**values)
    return {name: whole.take(methods == name) for name in dict.fromkeys(methods.tolist())}
