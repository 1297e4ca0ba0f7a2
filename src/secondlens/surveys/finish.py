"""The end of a survey: the table of images, embeddings and thumbnails, and the manifest, last."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
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
from secondlens.disk.files import sha256, write_table, write_tables, write_text
from secondlens.lens.layer import LayerResult
from secondlens.lens.model import LensModel
from secondlens.lens.paths import Path as EffectPath
from secondlens.surveys.thumbnails import sort_thumbnails


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
