"""The end of a survey: the table of images, embeddings and thumbnails, and the manifest, last.

Thumbnails become one Parquet file sorted by id, in memory that hardly grows with their number:

1. Read the ids of all parts and sort them: the rank of every row. Read the sizes of the pictures: where each begins
   in a file that holds them in order.
2. Read the parts again, some rows at a time, and write each picture to its place in that file.
3. Write the table from the file, which is mapped into memory: the system gives its pages back when it needs them.
"""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import transformers
from safetensors.torch import load_file

import secondlens
from secondlens.atlas.manifest import (
    EMBEDDINGS,
    IMAGES,
    MANIFEST,
    THUMBNAILS,
    ImagesMetadata,
    LayerMetadata,
    Manifest,
    ModelMetadata,
    ids_hash,
    layer_file,
)
from secondlens.disk.files import disk_errors, sha256, write_table, write_tables, write_text
from secondlens.lens.layer import LayerResult
from secondlens.lens.model import LensModel
from secondlens.lens.paths import Path as EffectPath

ROWS = 4096
"""Rows that are read at a time."""
TOGETHER = 1024
"""Rows of a row group: who looks some pictures up reads a few megabytes, not all of them."""
LARGEST = 2**31 - 1
"""Bytes that one array of pictures can hold."""


def sort_thumbnails(parts: Sequence[Path], target: Path, scratch: Path) -> None:
    """Write the rows (id, jpeg) of all parts, at least one, sorted by id.

    The file is bit for bit what sorting one table in memory gives, as far as one array can hold it (2 GB of pictures).

    scratch: a file to work in, as large as all pictures; it is removed. Memory: some 100 bytes an image and two to
    three times its id.
    """
    ids = pa.chunked_array([chunk for part in parts for chunk in pq.read_table(part, columns=["id"])["id"].chunks])
    order = pc.sort_indices(ids)
    rows = order.to_numpy()
    sizes = np.concatenate([pc.binary_length(some).to_numpy() for some in _pictures(parts)])
    ends = np.cumsum(sizes[rows], dtype=np.int64)
    starts = np.empty_like(ends)
    starts[rows] = ends - sizes[rows]
    try:
        with disk_errors(scratch.parent), scratch.open("wb") as file:
            row = 0
            for some in _pictures(parts):
                for picture in some:
                    file.seek(starts[row])
                    file.write(picture.as_buffer())
                    row += 1
        with pa.memory_map(str(scratch)) as mapped:
            pictures = pa.chunked_array(_chunks(mapped.read_buffer(), np.concatenate([[0], ends])))
            write_table(target, pa.table({"id": ids.take(order), "jpeg": pictures}), TOGETHER)
    finally:
        scratch.unlink(missing_ok=True)


def _pictures(parts: Sequence[Path]) -> Iterator[pa.BinaryArray]:
    for part in parts:
        # Read as it is needed: a column of a part may be large.
        with pq.ParquetFile(part, buffer_size=1 << 20, pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS, columns=["jpeg"]):
                yield batch.column(0)


def _chunks(data: pa.Buffer, offsets: np.ndarray) -> list[pa.BinaryArray]:
    """Arrays of as many pictures over one buffer as they can hold; offsets: where each begins, and the end."""
    found, first, rows = [], 0, len(offsets) - 1
    while first < rows:
        last = int(np.searchsorted(offsets, offsets[first] + LARGEST, side="right")) - 1
        mine = offsets[first : last + 1]
        here = pa.py_buffer((mine - mine[0]).astype(np.int32))
        there = data.slice(int(mine[0]), int(mine[-1] - mine[0]))
        found.append(pa.Array.from_buffers(pa.binary(), last - first, [None, here, there]))
        first = last
    return found


@dataclass(frozen=True)
class SurveyedImages:
    """The images of a survey. ids: of all; skipped: reasons by position."""

    ids: Sequence[str]
    source: Mapping[str, Any]
    skipped: Mapping[int, str]


def read_result(path: Path) -> LayerResult:
    """Return the result in a layer's file."""
    return LayerResult(**load_file(path))


def layer_summary(layer: int, paths: Sequence[EffectPath], result: LayerResult, second_pass: int) -> LayerMetadata:
    """Return what the manifest says of a layer."""
    return LayerMetadata(
        layer=layer,
        file=layer_file(layer),
        paths=[(path.reader, path.head) for path in paths],
        second_pass=second_pass,
        uncertified=int(result.uncertified.sum()),
        tied=int(result.tied.sum()),
    )


def collect_extras(folder: Path, embeddings: Sequence[Path], thumbnails: Sequence[Path]) -> None:
    """Join the tables of batches or parts in a folder: embeddings in order, thumbnails sorted by id.

    Memory does not grow with the number of images.
    """
    if thumbnails:
        sort_thumbnails(thumbnails, folder / THUMBNAILS, folder / f".{THUMBNAILS}.sorted")
    if embeddings:
        write_tables(folder / EMBEDDINGS, (pq.read_table(path) for path in embeddings))


def write_manifest(
    out: Path,
    model: ModelMetadata,
    images: SurveyedImages,
    layers: Sequence[LayerMetadata],
    settings: Mapping[str, Any],
    capacity: int,
    seconds: float,
) -> None:
    """Complete an atlas whose layers, embeddings and thumbnails are written. settings: of `Job.settings`."""
    reasons = [images.skipped.get(position) for position in range(len(images.ids))]
    table = pa.table({"id": pa.array(images.ids, pa.string()), "skipped": pa.array(reasons, pa.string())})
    write_table(out / IMAGES, table)
    names = [*(card.file for card in layers), IMAGES, EMBEDDINGS, THUMBNAILS]
    kept = [name for name, reason in zip(images.ids, reasons, strict=True) if reason is None]
    manifest = Manifest(
        secondlens=secondlens.__version__,
        model=model,
        images=ImagesMetadata(
            source=dict(images.source), count=len(kept), skipped=len(images.skipped), ids_sha256=ids_hash(kept)
        ),
        convention=settings["convention"],
        top=settings["top"],
        capacity=capacity,
        batch_size=settings["batch size"],
        layers=list(layers),
        files={name: sha256(out / name) for name in names if (out / name).is_file()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    )
    write_text(out / MANIFEST, manifest.model_dump_json(indent=2))


def model_metadata(model: LensModel) -> ModelMetadata:
    """Return what an atlas says of its model."""
    tower = model.tower
    return ModelMetadata(
        reference=model.reference,
        family=model.family,
        weights_sha256=model.weights_hash,
        layers=model.layers,
        neurons=model.neurons,
        heads=model.heads,
        embed_dim=model.embed_dim,
        activation=tower.activation,
        pooling=tower.pooling,
        dtype=str(model.dtype),
        preprocessing=model.preprocessing.settings,
    )
