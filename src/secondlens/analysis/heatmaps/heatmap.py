"""`heat_map`: one call from images and texts to maps on the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from secondlens.analysis.heatmaps.base import HeatMapMethod, SharedPass, same_for_all
from secondlens.analysis.heatmaps.fit import Fit, assemble, fit_image
from secondlens.analysis.heatmaps.postprocess import THRESHOLD, normalise, refine, segment, upsample
from secondlens.analysis.heatmaps.registry import METHODS, Options, make_methods
from secondlens.atlas.store import Atlas
from secondlens.data.decode import read_image
from secondlens.errors import SecondLensError
from secondlens.lens.model import LensModel


@dataclass(frozen=True, repr=False)
class HeatMap:
    """Heat maps of one image, one a text.

    maps: raw, in the method's unit, on the image's own pixels. normalised: each min-max to [0, 1].
    scores: cosine of the image's embedding (mean over windows) and each text's.
    comparable: whether raw maps of different texts have one unit, parts of the score.
    """

    method: str
    texts: tuple[str, ...]
    scores: Float[Tensor, " target"]
    maps: Float[Tensor, "target height width"]
    normalised: Float[Tensor, "target height width"]
    comparable: bool = False

    def __repr__(self) -> str:
        height, width = self.maps.shape[-2:]
        return f"HeatMap({self.method}: {', '.join(map(repr, self.texts))}, {height} by {width} pixels)"

    def classes(self, threshold: float = THRESHOLD) -> tuple[Bool[Tensor, "target height width"], Tensor]:
        """`segment` of these maps, by raw values where they can be compared."""
        return segment(self.normalised, threshold, self.maps if self.comparable else None)


class HeatMapper:
    """A method, ready to be used on many images.

    texts: what to look for; None for the class that the model itself predicts for each image.

    Raises `SecondLensError` for an unknown method or fit, or where texts are needed; `ModelError` for a text or label
    that the model cannot encode; `AtlasError` for another model's atlas.
    """

    def __init__(
        self,
        model: LensModel,
        atlas: Atlas | None = None,
        texts: Sequence[str] | None = None,
        *,
        method: str = "traced-contribution",
        options: Options | None = None,
        fit: Fit = "squash",
        overlap: float = 0.5,
        edges: bool = False,
    ) -> None:
        if texts is None and model.classifier is None:
            raise SecondLensError(
                f"{model.reference} predicts no labels of its own; give at least one text to look for"
            )
        if isinstance(texts, str) or (texts is not None and not texts):
            raise SecondLensError(f"expected a list of at least one text, got {texts!r}")
        self.model = model
        self.method: HeatMapMethod = make_methods(model, [method], atlas, options)[0]
        self.texts = None if texts is None else tuple(texts)
        self.vectors = None if texts is None else model.encode_texts(list(texts))
        self.fit = fit
        self.overlap = overlap
        self.edges = edges

    def __call__(self, image: Image.Image) -> HeatMap:
        """The maps of one RGB image."""
        fitted = fit_image(self.model, image, self.fit, self.overlap)
        shared = SharedPass.of(self.model, fitted.pixels, [self.method])
        texts, vectors = self._targets(shared)
        maps = self.method.maps(shared, same_for_all(vectors, shared.images)).float()
        if len(maps) > 1:
            maps = upsample(maps, (shared.pixels.shape[-2], shared.pixels.shape[-1]))
        placed = assemble(fitted, maps)
        full = upsample(placed, (image.height, image.width))
        normalised = normalise(full)
        if self.edges:
            guide = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255).permute(2, 0, 1)
            normalised = normalise(refine(normalised.cpu(), guide))
        embedding = torch.nn.functional.normalize(shared.embeddings.float().mean(dim=0), dim=-1)
        scores = vectors.float() @ embedding
        comparable = METHODS[self.method.name].units
        return HeatMap(self.method.name, texts, scores.cpu(), full.cpu(), normalised.cpu(), comparable)

    def _targets(self, shared: SharedPass) -> tuple[tuple[str, ...], Float[Tensor, "target embed"]]:
        if self.texts is not None and self.vectors is not None:
            return self.texts, self.vectors
        label, row = predicted(self.model, shared.embeddings.mean(dim=0, keepdim=True))[0]
        return (label,), row[None]


def predicted(model: LensModel, embeddings: Float[Tensor, "image embed"]) -> list[tuple[str, Float[Tensor, " embed"]]]:
    """The label that a classifier's own head gives each image, and its unit-norm class row."""
    classifier = model.classifier
    if classifier is None:
        raise SecondLensError(f"{model.reference} predicts no labels of its own; give texts")
    weight, bias = classifier.weight().to(embeddings), classifier.bias().to(embeddings)
    rows = (embeddings @ weight.T + bias).argmax(dim=1)
    unit = torch.nn.functional.normalize(weight[rows].float(), dim=-1)
    return [(classifier.labels[row], vector) for row, vector in zip(rows.tolist(), unit, strict=True)]


def heat_map(
    model: LensModel,
    image: str | Path | Image.Image,
    texts: Sequence[str] | None = None,
    atlas: Atlas | None = None,
    *,
    method: str = "traced-contribution",
    options: Options | None = None,
    fit: Fit = "squash",
    edges: bool = False,
) -> HeatMap:
    """Map where one image shows each text, or what the model predicts (`HeatMapper` is for many images).

    image: a path, or a PIL image. texts: what to look for; None for the class that a classifier predicts.
    """
    mapper = HeatMapper(model, atlas, texts, method=method, options=options, fit=fit, edges=edges)
    return mapper(read_image(image))
