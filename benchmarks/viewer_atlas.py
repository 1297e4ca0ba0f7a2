"""An atlas of any size with random numbers, for the viewer's benchmarks: the files of a survey and of a description."""

import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch.nn.functional import normalize

from secondlens.atlas import Atlas
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
from secondlens.atlas.store import embeddings_table
from secondlens.descriptions.pool import Pool, PoolCard
from secondlens.descriptions.pools import pools_folder
from secondlens.descriptions.store import (
    CARD,
    FOLDER,
    DescriptionCard,
    DescriptionSettings,
    figures_file,
    texts_file,
)
from secondlens.descriptions.tables import texts_table
from secondlens.disk.files import write_table, write_tensors, write_text
from secondlens.numerics.histogram import BINS

LAYERS, HEADS, EMBED, TOP, COMPONENTS = 12, 12, 512, 100, 4
SIZES = [4, 8, 16, 32, 64, 128]
NOW = datetime.now(UTC).isoformat(timespec="milliseconds")
WEIGHTS = "0" * 64


def random_atlas(
    folder: Path, layers: Sequence[int], *, neurons: int, images: int, texts: int, photos: Path | None = None
) -> Atlas:
    """A survey of ViT-B-32's shape and a description of `texts` texts, 128 a neuron; no number means anything.

    The pool goes to the cache. photos: whose thumbnails are used, over and over; smooth noise without them.
    """
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    ids = [f"photo-{number:05d}.jpg" for number in range(images)]
    for layer in layers:
        write_tensors(folder / layer_file(layer), _layer(layer, neurons, images, generator))
    write_table(folder / IMAGES, pa.table({"id": ids, "skipped": pa.array([None] * images, pa.string())}))
    embeddings = normalize(torch.randn(images, EMBED, generator=generator), dim=1)
    write_table(folder / EMBEDDINGS, embeddings_table(torch.arange(images), embeddings))
    some = list(_thumbnails(photos))
    write_table(folder / THUMBNAILS, pa.table({"id": ids, "jpeg": [some[n % len(some)] for n in range(images)]}))
    write_text(folder / MANIFEST, _manifest(layers, neurons, ids).model_dump_json())
    atlas = Atlas.open(folder)
    _describe(atlas, texts, generator)
    return atlas


def _layer(layer: int, neurons: int, images: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    paths = (LAYERS - 1 - layer) * HEADS
    norms = torch.rand(neurons, TOP, generator=generator).pow(3).sort(dim=1, descending=True).values * 0.2 + 0.01
    counts = torch.zeros(neurons, BINS, dtype=torch.int32)
    counts[:, 50:70] = images // 20
    return {
        "mean_coefficients": torch.randn(neurons, paths, generator=generator),
        "mean_effects": torch.randn(neurons, EMBED, generator=generator),
        "directions": normalize(torch.randn(neurons, EMBED, generator=generator), dim=1),
        "explained_variance": torch.rand(neurons, generator=generator),
        "spectrum": torch.rand(neurons, COMPONENTS, generator=generator),
        "participation": torch.rand(neurons, generator=generator) * 9 + 1,
        "components": torch.randn(neurons, COMPONENTS, paths, generator=generator),
        "path_projections": torch.randn(neurons, paths, generator=generator),
        "path_fractions": normalize(torch.randn(neurons, paths, generator=generator), dim=1),
        "top_positions": torch.rand(neurons, images, generator=generator).topk(TOP, dim=1).indices,
        "top_norms": norms,
        "top_projections": norms * 0.9,
        "top_fraction": torch.rand(neurons, generator=generator),
        "variance": torch.rand(neurons, generator=generator) * 1e-4,
        "histogram": counts,
        "drift": torch.zeros(neurons),
        "proved": torch.ones(neurons, dtype=torch.bool),
    }


def _thumbnails(photos: Path | None) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    paths = sorted(photos.rglob("*.jpg"))[:500] if photos else [None] * 100
    for path in paths:
        if path is None:
            coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            picture = coarse.resize((128, 128), Image.Resampling.BICUBIC)
        else:
            picture = Image.open(path).convert("RGB")
            picture.thumbnail((128, 128))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=85)
        yield buffer.getvalue()


def _manifest(layers: Sequence[int], neurons: int, ids: list[str]) -> Manifest:
    return Manifest(
        secondlens="0", convention="centred", top=TOP, candidates=2 * TOP, batch_size=32, files={}, created=NOW,
        seconds=1.0, versions={},
        model=ModelMetadata(
            reference="random", family="hf-clip", weights_sha256=WEIGHTS, layers=LAYERS, neurons=neurons, heads=HEADS,
            embed_dim=EMBED, activation="quick_gelu", pooling="class token", dtype="torch.float32", preprocessing={},
        ),
        images=ImagesMetadata(
            source={"kind": "folder", "location": "none"}, count=len(ids), skipped=0, ids_sha256=ids_hash(ids)
        ),
        layers=[
            LayerMetadata(
                layer=layer,
                file=layer_file(layer),
                paths=[(reader, head) for reader in range(layer + 1, LAYERS) for head in range(HEADS)],
                second_pass=0,
            )
            for layer in layers
        ],
    )  # fmt: skip


def _describe(atlas: Atlas, count: int, generator: torch.Generator) -> None:
    """Random texts for every neuron, with least-squares-like figures, and their pool in the cache."""
    nonzero, neurons = SIZES[-1], atlas.manifest.model.neurons
    texts = [f"word {number} of the pool" for number in range(count)]
    key = f"random-{count}-{atlas.folder.name}"
    card = PoolCard(
        name="random", source="random", count=count, left_out={}, templates=("{}",), truncated=False, model="random",
        weights_sha256=WEIGHTS, texts_sha256=WEIGHTS, key=key, generated=None, created=NOW, secondlens="0",
    )  # fmt: skip
    embeddings = normalize(torch.randn(count, EMBED, generator=generator), dim=1)
    Pool(card, texts, embeddings).save(pools_folder() / key)
    folder = atlas.folder / FOLDER / "random"
    folder.mkdir(parents=True)
    for layer in atlas.layers:
        indices = torch.stack([torch.randperm(count, generator=generator)[:nonzero] for _ in range(neurons)])
        coefficients = torch.randn(neurons, nonzero, generator=generator)
        shares = coefficients.abs() / coefficients.abs().sum(dim=1, keepdim=True)
        senses = torch.where(torch.arange(nonzero) < 24, torch.arange(nonzero) % 3, -1).expand(neurons, -1)
        codes = {"indices": indices, "coefficients": coefficients, "fractions": shares}
        write_table(folder / texts_file(layer), texts_table(codes, senses, texts))
        figures = {
            name: torch.rand(neurons, len(SIZES), generator=generator)
            for name in ("cosines", "p_isotropic", "p_matched")
        }
        figures |= {
            "senses": torch.full((neurons,), 3),
            "silhouette": torch.rand(neurons, generator=generator),
            "polysemy": torch.rand(neurons, generator=generator) * 20,
            "top_senses": torch.zeros(neurons, TOP, dtype=torch.int8),
        }
        write_tensors(folder / figures_file(layer), figures)
    settings = DescriptionSettings(
        atlas_created=atlas.manifest.created, pool="random", pool_key=key, texts=count, nonzero=nonzero,
        nonnegative=False, method="omp", normalisation="unit", n_resamples=0, seed=0,
    )  # fmt: skip
    described = DescriptionCard(
        settings=settings, sizes=SIZES, layers=atlas.layers, pool_source="random", generated=None, created=NOW,
        seconds=1.0, secondlens="0", files={},
    )  # fmt: skip
    write_text(folder / CARD, described.model_dump_json())
