"""`atlas.json`: what an atlas is of, and which files make it up. Written last, so a folder with it is complete."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION: Literal[2] = 2
MANIFEST = "atlas.json"
IMAGES = "images.parquet"
THUMBNAILS = "thumbnails.parquet"
EMBEDDINGS = "embeddings.parquet"


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelMetadata(_Metadata):
    """The model a survey was made of, and everything of its preprocessing that changes numbers."""

    reference: str
    family: str
    weights_sha256: str
    layers: int
    neurons: int
    heads: int
    embed_dim: int
    activation: str
    pooling: str
    dtype: str
    preprocessing: dict[str, Any]


class ImagesMetadata(_Metadata):
    """The images: where they came from, how many were surveyed and skipped, and the hash of their ordered ids."""

    source: dict[str, Any]
    count: int
    skipped: int
    ids_sha256: str


class LayerMetadata(_Metadata):
    """One layer's file.

    paths: (reader, head) of each path. second_pass: number of neurons that were surveyed twice. uncertified: number of
    neurons whose top images are not certified and that still need a second pass. tied: of those that had one, number of
    neurons whose last top image equals others to within rounding.
    """

    layer: int
    file: str
    paths: list[tuple[int, int]]
    second_pass: int
    uncertified: int
    tied: int


class Manifest(_Metadata):
    """Everything in atlas.json. files: name to SHA-256 of every other file of the atlas."""

    schema_version: Literal[2] = SCHEMA_VERSION
    secondlens: str
    model: ModelMetadata
    images: ImagesMetadata
    convention: Literal["centred", "released"]
    top: int
    capacity: int
    batch_size: int
    layers: list[LayerMetadata]
    files: dict[str, str]
    created: str
    seconds: float
    versions: dict[str, str]


def ids_hash(ids: Sequence[str]) -> str:
    """SHA-256 of the JSON list of ids, in order."""
    return hashlib.sha256(json.dumps(list(ids), ensure_ascii=False).encode()).hexdigest()


def layer_file(layer: int) -> str:
    """Name of a layer's file."""
    return f"layer-{layer:02d}.safetensors"
