"""Removal: the embedding with the second-order effects of the neurons that carry a cue held at their mean.

    z'(I) = z(I)/|z(I)| - sum_{n in S} (phi[n](I) - mean phi[n]),      mean over the survey (the atlas's coefficients)

S are the neurons that carry most of the cues of a pair and tell little of its classes (`carrying`). Beside it the whole
embedding's part in the cues' span held at its mean, whatever carries it:

    z''(I) = u(I) - Q (u(I) - mean u),     u = z/|z|,  Q the projection on the span of the cues' atoms
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.errors import AuditError
from secondlens.lens.capture import capture
from secondlens.lens.classifier import Head
from secondlens.lens.model import LensModel
from secondlens.lens.paths import coefficients, path_weights, write_maps
from secondlens.numerics.intervals import bootstrap_interval
from secondlens.progress import Progress

BATCH = 32
SIZES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 300)
"""Numbers of neurons that are tried."""

NeuronRef = tuple[int, int]


class Remover:
    """Mean-ablates ever larger sets of neurons. neurons: (layer, neuron) in the order in which they go.

    sizes: how many of them, ascending; 0 leaves the embedding as it is.
    """

    def __init__(self, model: LensModel, atlas: Atlas, neurons: Sequence[NeuronRef], sizes: Sequence[int]) -> None:
        """Raises `AuditError` for sizes that are not ascending or exceed the neurons, or neurons that occur twice."""
        if list(sizes) != sorted(set(sizes)) or not sizes or sizes[0] < 0 or sizes[-1] > len(neurons):
            raise AuditError(f"expected ascending numbers of neurons, 0 to {len(neurons)}, got {list(sizes)}")
        if len(set(neurons)) < len(neurons):
            raise AuditError("expected different neurons to remove, some occur twice")
        self.sizes = list(sizes)
        self._model = model
        self._layers = []
        for layer in sorted({layer for layer, _ in neurons[: sizes[-1]]}):
            opened = atlas.layer(layer)
            places = [place for place, (at, _) in enumerate(neurons[: sizes[-1]]) if at == layer]
            which = torch.tensor([neurons[place][1] for place in places])
            opened.require_neuron(int(which.max()))
            writes = write_maps(model.tower, layer, atlas.manifest.convention).directions(which.to(model.device))
            mean = opened.mean_coefficients[which].to(model.device)
            # member[size, neuron]: whether the neuron is among the first so many.
            member = torch.tensor([[place < size for place in places] for size in sizes], device=model.device)
            self._layers.append((layer, which.to(model.device), writes, mean, member))

    @torch.no_grad()
    def embeddings(
        self, pixels: Float[Tensor, "image 3 height width"]
    ) -> tuple[Float[Tensor, "size image embed"], Float[Tensor, " image"]]:
        """z' for each size, in units of the unit-norm embedding, and |z|."""
        model = self._model
        if not self._layers:
            found = model.encode_images(pixels).float()
            norms = found.norm(dim=1)
            return (found / norms[:, None])[None].expand(len(self.sizes), -1, -1), norms
        trace = capture(model.tower, pixels, [layer for layer, *_ in self._layers])
        norms = trace.embeddings.norm(dim=1)
        unit = trace.embeddings / norms[:, None]
        removed = torch.zeros(len(self.sizes), *unit.shape, dtype=unit.dtype, device=unit.device)
        for layer, which, writes, mean, member in self._layers:
            found = coefficients(path_weights(trace, model.tower, layer), trace.activations[layer][:, :, which])
            effects = torch.einsum("bnk,nke->bne", found - mean, writes)
            removed += torch.einsum("sn,bne->sbe", member.to(effects), effects)
        return unit - removed, norms


class Projection(Remover):
    """Holds the embedding's part in the span of some directions at its mean: one "size", after the untouched one."""

    def __init__(self, model: LensModel, atlas: Atlas, directions: Float[Tensor, "cue embed"]) -> None:
        super().__init__(model, atlas, [], [0])
        self.sizes = [0, 1]
        known = atlas.image_embeddings.float()
        self._mean = known.sum(dim=0) / atlas.manifest.images.count
        self._basis = torch.linalg.svd(directions.float(), full_matrices=False).Vh

    @torch.no_grad()
    def embeddings(
        self, pixels: Float[Tensor, "image 3 height width"]
    ) -> tuple[Float[Tensor, "size image embed"], Float[Tensor, " image"]]:
        """u and z'', and |z|."""
        found, norms = super().embeddings(pixels)
        unit, basis = found[0], self._basis.to(found)
        return torch.stack([unit, unit - (unit - self._mean.to(unit)) @ basis.T @ basis]), norms


def predictions(
    remover: Remover,
    model: LensModel,
    head: Head,
    pictures: Sequence[Callable[[], Image.Image]],
    title: str = "pictures",
    progress: Progress | None = None,
) -> Int[Tensor, "size image"]:
    """The class that a head gives to each picture, for each size of a remover. pictures: called when needed."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        some = [load() for load in pictures[start : start + BATCH]]
        changed, norms = remover.embeddings(model.preprocess(some))
        parts.append(torch.stack([head.predict(each, norms) for each in changed]).cpu())
        if progress is not None:
            progress(title, start + len(some), len(pictures))
    return torch.cat(parts, dim=1) if parts else torch.zeros(len(remover.sizes), 0, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class RemovalResult:
    """By number of neurons removed: accuracy on clean images, and share of adversarial ones that still succeed."""

    sizes: list[int]
    clean: Bool[Tensor, "size image"]
    fooled: Bool[Tensor, "size picture"]

    def facts(self) -> list[dict[str, Any]]:
        """As plain data, with 95 % intervals; None where there are no such images."""
        rows = []
        for place, size in enumerate(self.sizes):
            row: dict[str, Any] = {"neurons": size}
            for name, values in (("clean_accuracy", self.clean[place]), ("adversarial_success", self.fooled[place])):
                known = len(values) > 0
                row[name] = float(values.float().mean()) if known else None
                row[f"{name}_interval"] = list(bootstrap_interval(values)) if known else None
            rows.append(row)
        return rows

    def best(self, cost: float = 0.02) -> dict[str, Any]:
        """The row with the least adversarial success among those that cost at most so much clean accuracy."""
        rows = self.facts()
        if rows[0]["clean_accuracy"] is None or rows[0]["adversarial_success"] is None:
            return rows[0]
        able = [row for row in rows if row["clean_accuracy"] >= rows[0]["clean_accuracy"] - cost]
        return min(able, key=lambda row: (row["adversarial_success"], row["neurons"]))
