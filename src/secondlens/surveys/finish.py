"""The end of a survey: the table of images, the thumbnails, and the manifest, last."""

import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import torch
import transformers

import secondlens
from secondlens.atlas.files import sha256, write_table, write_text
from secondlens.atlas.manifest import (
    EMBEDDINGS,
    IMAGES,
    MANIFEST,
    THUMBNAILS,
    ImagesCard,
    LayerCard,
    Manifest,
    ModelCard,
    ids_hash,
    layer_file,
)
from secondlens.effects.paths import paths_of
from secondlens.models.model import LensModel
from secondlens.surveys.checkpoint import Checkpoints, Progress

if TYPE_CHECKING:
    from secondlens.surveys.run import Run


def write_manifest(run: "Run", checkpoints: Checkpoints, progress: Progress, seconds: float) -> None:
    """Complete the atlas of a run whose layers are all written."""
    ids = run.source.ids
    reasons = [progress.skipped.get(position) for position in range(len(ids))]
    table = pa.table({"id": pa.array(ids, pa.string()), "skipped": pa.array(reasons, pa.string())})
    write_table(run.out / IMAGES, table)
    checkpoints.collect_thumbnails(progress, run.out / THUMBNAILS)
    checkpoints.collect_embeddings(progress, run.out / EMBEDDINGS)
    layers = sorted(layer for group in progress.groups for layer in group)
    files = [*(layer_file(layer) for layer in layers), IMAGES, EMBEDDINGS]
    if (run.out / THUMBNAILS).is_file():
        files.append(THUMBNAILS)
    kept = [name for name, reason in zip(ids, reasons, strict=True) if reason is None]
    manifest = Manifest(
        secondlens=secondlens.__version__,
        model=_model_card(run.model),
        images=ImagesCard(
            source=run.source.description,
            count=len(kept),
            skipped=len(progress.skipped),
            ids_sha256=ids_hash(kept),
        ),
        convention=run.convention,
        top=run.top,
        candidates=progress.candidates,
        batch_size=run.batch_size,
        layers=[
            LayerCard(
                layer=layer,
                file=layer_file(layer),
                paths=[(path.reader, path.head) for path in paths_of(run.model.tower, layer)],
                second_pass=progress.second_pass.get(layer, 0),
            )
            for layer in layers
        ],
        files={name: sha256(run.out / name) for name in files},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    )
    write_text(run.out / MANIFEST, manifest.model_dump_json(indent=2))
    checkpoints.remove()


def _model_card(model: LensModel) -> ModelCard:
    tower = model.tower
    return ModelCard(
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
