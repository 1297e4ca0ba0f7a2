"""`Atlas`: a survey's results, read lazily from their folder."""

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import ValidationError
from safetensors import safe_open
from torch import Tensor

from secondlens.atlas import metrics
from secondlens.atlas.manifest import EMBEDDINGS, IMAGES, MANIFEST, SCHEMA_VERSION, THUMBNAILS, LayerMetadata, Manifest
from secondlens.disk.files import sha256
from secondlens.errors import AtlasError, closest
from secondlens.lens.model import LensModel
from secondlens.lens.paths import Path as NeuronPath
from secondlens.numerics.histogram import share_above


def embeddings_table(positions: Int[Tensor, " image"], embeddings: Float[Tensor, "image embed"]) -> pa.Table:
    """Columns `position`, a row of images.parquet, and `embedding`, a list of half-precision numbers."""
    values = pa.array(embeddings.half().cpu().flatten().numpy())
    vectors = pa.FixedSizeListArray.from_arrays(values, embeddings.shape[1])
    return pa.table({"position": pa.array(positions.cpu().numpy()), "embedding": vectors})


def read_embeddings(path: Path, images: int, embed: int) -> Float[Tensor, "image embed"]:
    """Unit-norm embeddings, float32, one row an image of the source; zero for images that were skipped.

    Raises `AtlasError` where the file is missing or damaged.
    """
    if not path.is_file():
        raise AtlasError(f"{path} is missing: the atlas is of an older secondlens; survey the images again")
    try:
        table = pq.read_table(path)
        values = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        rows = torch.from_numpy(table["position"].to_numpy().copy())
        found = torch.from_numpy(values.astype(np.float32)).view(-1, embed)
    except Exception as error:
        raise AtlasError(f"cannot read {path}: {error}; 'secondlens atlas check' lists what is damaged") from error
    embeddings = torch.zeros(images, embed)
    embeddings[rows] = found
    return embeddings


class SkippedImage(NamedTuple):
    """An image that could not be surveyed, and why."""

    id: str
    reason: str | None


class Atlas:
    """An atlas on disk. `Atlas.open(folder)`; `atlas.layer(9)`; `atlas.image_ids`; `atlas.skipped`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: str | Path) -> "Atlas":
        """Open a complete atlas.

        Raises `AtlasError` for a folder that is missing, is no atlas, is an unfinished one, or has another schema.
        """
        folder = Path(folder)
        return cls(folder, _read_manifest(manifest_of(folder)))

    def __repr__(self) -> str:
        layers = ", ".join(map(str, self.layers))
        images = f"{self.manifest.images.count} images"
        return f"Atlas({self.folder}: {self.manifest.model.reference}, layers {layers}, {images})"

    @property
    def layers(self) -> list[int]:
        """Surveyed layers."""
        return [card.layer for card in self.manifest.layers]

    @cached_property
    def _images(self) -> list[SkippedImage]:
        """All images in the source's order, with the reason or None."""
        table = pq.read_table(self.folder / IMAGES)
        return [SkippedImage(*row) for row in zip(table["id"].to_pylist(), table["skipped"].to_pylist(), strict=True)]

    @cached_property
    def image_ids(self) -> list[str]:
        """Ids of the surveyed images, in the source's order."""
        return [image.id for image in self._images if image.reason is None]

    @cached_property
    def source_ids(self) -> list[str]:
        """Ids of all images, skipped ones too; a layer's `top_positions` count into it."""
        return [image.id for image in self._images]

    @property
    def skipped(self) -> list[SkippedImage]:
        """Images that could not be read, with the reason."""
        return [image for image in self._images if image.reason is not None]

    def layer(self, layer: int) -> "AtlasLayer":
        """One layer; raises `AtlasError` with the surveyed layers where it is not among them."""
        for card in self.manifest.layers:
            if card.layer == layer:
                return AtlasLayer(self, card)
        raise AtlasError(f"layer {layer} is not in this atlas; it has layers {', '.join(map(str, self.layers))}")

    def thumbnails(self, ids: Iterable[str]) -> dict[str, bytes]:
        """JPEG thumbnails by id, for those that the survey kept."""
        path = self.folder / THUMBNAILS
        if not path.is_file():
            return {}
        table = pq.read_table(path, filters=[("id", "in", list(ids))])
        return dict(zip(table["id"].to_pylist(), table["jpeg"].to_pylist(), strict=True))

    @cached_property
    def image_embeddings(self) -> Float[Tensor, "source embed"]:
        """Unit-norm embeddings of the surveyed images, one row an image of `source_ids`; zero for skipped ones."""
        return read_embeddings(self.folder / EMBEDDINGS, len(self.source_ids), self.manifest.model.embed_dim)

    def require_model(self, model: LensModel) -> None:
        """Raise `AtlasError` unless this atlas was made of that model."""
        if model.weights_hash != self.manifest.model.weights_sha256:
            raise AtlasError(
                f"{self.folder} is an atlas of {self.manifest.model.reference} (weights "
                f"{self.manifest.model.weights_sha256[:12]}), not of {model.reference} (weights "
                f"{model.weights_hash[:12]}); give the model it was made of, or survey this one"
            )

    def check(self) -> list[str]:
        """Problems with the files: missing or changed ones, tensors of the wrong shape; an empty list if sound."""
        problems = []
        for name, expected in self.manifest.files.items():
            path = self.folder / name
            if not path.is_file():
                problems.append(f"{name} is missing")
            elif sha256(path) != expected:
                problems.append(f"{name} has changed since the survey wrote it")
        if not problems:
            for layer in self.layers:
                problems += self.layer(layer).check()
            if len(self.image_ids) != self.manifest.images.count:
                problems.append(f"{IMAGES} lists {len(self.image_ids)} images, expected {self.manifest.images.count}")
        return problems


class AtlasLayer:
    """One layer of an atlas: the stored tensors of `atlas.metrics.METRICS`, each read once, when it is first used."""

    def __init__(self, atlas: Atlas, card: LayerMetadata) -> None:
        self.atlas = atlas
        self.card = card
        self.path = atlas.folder / card.file
        self._read: dict[str, Tensor] = {}

    @property
    def index(self) -> int:
        """Number of the layer in the model."""
        return self.card.layer

    @property
    def paths(self) -> list[NeuronPath]:
        """(reader, head) of each path."""
        return [NeuronPath(*path) for path in self.card.paths]

    @cached_property
    def names(self) -> list[str]:
        """Names of the tensors in the file."""
        with self._open() as file:
            return sorted(file.keys())

    @property
    def mean_coefficients(self) -> Float[Tensor, "neuron path"]:
        """[neuron, path] mean of the coefficients s."""
        return self._stored("mean_coefficients")

    @property
    def mean_effects(self) -> Float[Tensor, "neuron embed"]:
        """[neuron, embed] mean of the effects phi."""
        return self._stored("mean_effects")

    @property
    def directions(self) -> Float[Tensor, "neuron embed"]:
        """[neuron, embed] first principal component of the centred top effects, unit norm."""
        return self._stored("directions")

    @property
    def explained_variance(self) -> Float[Tensor, " neuron"]:
        """[neuron] fraction of the top effects' energy along the direction."""
        return self._stored("explained_variance")

    @property
    def spectrum(self) -> Float[Tensor, "neuron component"]:
        """[neuron, component] fractions of the energy along the first components."""
        return self._stored("spectrum")

    @property
    def participation(self) -> Float[Tensor, " neuron"]:
        """[neuron] effective rank of the top effects."""
        return self._stored("participation")

    @property
    def components(self) -> Float[Tensor, "neuron component path"]:
        """[neuron, component, path] v_j with r_j = sum_k v_j[k] u[k]."""
        return self._stored("components")

    @property
    def path_projections(self) -> Float[Tensor, "neuron path"]:
        """[neuron, path] <u[k], r_1>."""
        return self._stored("path_projections")

    @property
    def path_fractions(self) -> Float[Tensor, "neuron path"]:
        """[neuron, path] signed fractions of the paths in the projections' energy."""
        return self._stored("path_fractions")

    @property
    def top_positions(self) -> Int[Tensor, "neuron top"]:
        """[neuron, top] rows of `atlas.source_ids`, in descending order of norm."""
        return self._stored("top_positions")

    @property
    def top_norms(self) -> Float[Tensor, "neuron top"]:
        """[neuron, top] norms of the largest effects, descending."""
        return self._stored("top_norms")

    @property
    def top_projections(self) -> Float[Tensor, "neuron top"]:
        """[neuron, top] projections of the same images on r."""
        return self._stored("top_projections")

    @property
    def top_fraction(self) -> Float[Tensor, " neuron"]:
        """[neuron] fraction of the top images in the sum of squared norms."""
        return self._stored("top_fraction")

    @property
    def variance(self) -> Float[Tensor, " neuron"]:
        """[neuron] mean of squared norms."""
        return self._stored("variance")

    @property
    def histogram(self) -> Int[Tensor, "neuron bin"]:
        """[neuron, bin] counts of norms, see `numerics.histogram`."""
        return self._stored("histogram")

    @property
    def certified(self) -> Bool[Tensor, " neuron"]:
        """[neuron] no other image can belong to the top."""
        return self._stored("certified")

    @property
    def tied(self) -> Bool[Tensor, " neuron"]:
        """[neuron] a second pass did not certify it either."""
        return self._stored("tied")

    def metric(self, name: str) -> Shaped[Tensor, "unit ..."]:
        """Return a metric of the registry, stored or computed; `AtlasError` with the closest for an unknown name."""
        for metric in metrics.METRICS:
            if metric.name == name:
                return metric.values(self)
        raise AtlasError(f"no metric {name!r}{closest(name, [metric.name for metric in metrics.METRICS])}")

    def row(self, name: str, neuron: int) -> Tensor:
        """One neuron's row of a tensor, read without the rest."""
        self.require_neuron(neuron)
        with self._open() as file:
            return file.get_slice(name)[neuron]

    def require_neuron(self, neuron: int) -> None:
        """Raise `AtlasError` where there is no such neuron."""
        count = self.atlas.manifest.model.neurons
        if not 0 <= neuron < count:
            raise AtlasError(f"layer {self.index} has neurons 0 to {count - 1}, got {neuron}")

    @cached_property
    def top_images(self) -> np.ndarray:
        """[neuron, top] ids of the images with the largest effects, in descending order of norm."""
        return np.array(self.atlas.source_ids, dtype=object)[self.top_positions.numpy()]

    @cached_property
    def thresholds(self) -> Float[Tensor, " neuron"]:
        """The top-th largest norm: above it an effect counts as significant (paper, section 3)."""
        return self.top_norms[:, -1]

    def share_above(self, threshold: Float[Tensor, " neuron"]) -> Float[Tensor, " neuron"]:
        """Share of images with a norm above a threshold per neuron; norms are around the mean at their time."""
        return share_above(self.histogram, threshold)

    @cached_property
    def selectivity(self) -> Float[Tensor, " neuron"]:
        """Share of images whose effect is at least half as large as the largest: small for a selective neuron."""
        return self.share_above(self.top_norms[:, 0] / 2)

    def check(self) -> list[str]:
        """Tensors of the wrong shape."""
        model, problems = self.atlas.manifest.model, []
        expected = {
            "directions": [model.neurons, model.embed_dim],
            "mean_effects": [model.neurons, model.embed_dim],
            "mean_coefficients": [model.neurons, len(self.paths)],
            "top_norms": [model.neurons, self.atlas.manifest.top],
            "top_positions": [model.neurons, self.atlas.manifest.top],
        }
        for name, shape in expected.items():
            found = list(getattr(self, name).shape) if name in self.names else None
            if found != shape:
                problems.append(f"{self.card.file}: {name} has shape {found}, expected {shape}")
        return problems

    def _stored(self, name: str) -> Tensor:
        if name not in self._read:
            if name not in self.names:
                raise AtlasError(f"{self.path} has no tensor {name!r}; 'secondlens atlas check' lists what is damaged")
            with self._open() as file:
                self._read[name] = file.get_tensor(name)
        return self._read[name]

    def _open(self) -> Any:
        try:
            return safe_open(self.path, framework="pt")
        except Exception as error:
            raise AtlasError(
                f"cannot read {self.path}: {error}; 'secondlens atlas check' lists what is damaged"
            ) from error


def manifest_of(folder: Path) -> Path:
    """Return the path of a complete atlas's manifest; `AtlasError` for a folder that is missing or has none."""
    path = folder / MANIFEST
    if path.is_file():
        return path
    if not folder.is_dir():
        raise AtlasError(f"no such atlas folder: {folder}")
    if (folder / "progress").is_dir():
        raise AtlasError(f"{folder} holds an unfinished survey; run the same survey command again to finish it")
    raise AtlasError(f"{folder} is no atlas: it has no {MANIFEST}; make one with: secondlens survey")


def read_json(path: Path) -> Any:
    """Return the content of a manifest; `AtlasError` where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AtlasError(f"cannot read {path}: {error}; survey the model again") from error


def _read_manifest(path: Path) -> Manifest:
    content = read_json(path)
    found = content.get("schema_version") if isinstance(content, dict) else None
    if found != SCHEMA_VERSION:
        advice = (
            f"run 'secondlens atlas upgrade {path.parent}'"
            if found == 1
            else "survey the model again, or use the secondlens that wrote it"
        )
        raise AtlasError(f"{path} has schema version {found}, this secondlens reads version {SCHEMA_VERSION}; {advice}")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise AtlasError(
            f"{path} does not fit the schema at {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error
