"""What the model says of a picture: its prediction, the neurons that act on it, and where a text comes from."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.descriptions.search import search_neurons
from secondlens.effects.patches import token_contributions, write_projections
from secondlens.effects.paths import coefficients, path_weights
from secondlens.models.capture import Trace, capture
from secondlens.models.model import LensModel
from secondlens.pools.pool import Pool
from secondlens.viewer.heat import framing, grid_of

PREDICTIONS = 5
NEURONS = 40


class Analysis:
    """A model, an atlas of it and, for zero-shot predictions, a pool of texts. One thread uses it.

    Raises `AtlasError` for an atlas of another model.
    """

    def __init__(self, model: LensModel, atlas: Atlas, pool: Pool | None = None) -> None:
        atlas.require_model(model)
        self.model, self.atlas, self.pool = model, atlas, pool
        self.layers = {index: atlas.layer(index) for index in atlas.layers}
        self.along = {index: layer.path_projections.to(model.device) for index, layer in self.layers.items()}
        self.shift = {
            index: (layer.mean_coefficients * layer.path_projections).sum(dim=1).to(model.device)
            for index, layer in self.layers.items()
        }
        self.thresholds = {index: layer.thresholds.to(model.device) for index, layer in self.layers.items()}

    @torch.no_grad()
    def images(self, pixels: Sequence[Float[Tensor, "1 3 height width"]]) -> list[dict[str, Any]]:
        """Predictions and active neurons of some preprocessed pictures, in one pass.

        A neuron counts as active where its effect along its own direction, x = <phi - mean, r>, is at least its
        survey's threshold in size: |x| never exceeds the norm of the effect, so it is then above the threshold too.
        """
        trace = capture(self.model.tower, torch.cat(list(pixels)), self.atlas.layers)
        predictions = self._predict(trace.embeddings)
        projections = {index: self._projections(trace, index) for index in self.layers}
        found = []
        for image in range(len(pixels)):
            neurons = [row for index, x in projections.items() for row in self._active(index, x[image])]
            neurons.sort(key=lambda row: -abs(row["projection"]))
            found.append({**predictions[image], "active": len(neurons), "neurons": neurons[:NEURONS]})
        return found

    @torch.no_grad()
    def heat(self, asked: Sequence[tuple[Tensor, str, int]]) -> list[dict[str, Any]]:
        """For (pixels, text, layer): the contribution of each patch to <z/|z|, text> through the layer's neurons."""
        return [self._heat(*each) for each in asked]

    def search(self, asked: Sequence[tuple[str, int | None, int, bool]]) -> list[list[dict[str, Any]]]:
        """For (text, layer, limit, absolute): neurons by <r, t>, as `search_neurons`."""
        return [
            search_neurons(self.atlas, self.model, text, layer=layer, limit=limit, absolute=absolute)
            for text, layer, limit, absolute in asked
        ]

    def _projections(self, trace: Trace, layer: int) -> Float[Tensor, "image neuron"]:
        found = coefficients(path_weights(trace, self.model.tower, layer), trace.activations[layer])
        return torch.einsum("bnk,nk->bn", found, self.along[layer]) - self.shift[layer]

    def _active(self, layer: int, x: Float[Tensor, " neuron"]) -> list[dict[str, Any]]:
        thresholds = self.thresholds[layer]
        rows = ((x.abs() >= thresholds) & (thresholds > 0)).nonzero()[:, 0]
        return [
            {"layer": layer, "neuron": neuron, "projection": value, "threshold": threshold}
            for neuron, value, threshold in zip(rows.tolist(), x[rows].tolist(), thresholds[rows].tolist(), strict=True)
        ]

    def _predict(self, embeddings: Float[Tensor, "image embed"]) -> list[dict[str, Any]]:
        """By the model's own head as probabilities, else by the cosine with the pool's texts."""
        if self.model.classifier is not None:
            head = self.model.classifier
            logits = embeddings @ head.weight().to(embeddings).T + head.bias().to(embeddings)
            return _largest(logits.softmax(dim=1), head.labels, "probability")
        if self.pool is not None:
            unit = torch.nn.functional.normalize(embeddings, dim=1)
            return _largest(unit @ self.pool.embeddings.to(unit).T, self.pool.texts, "cosine")
        return [{"measure": None, "predictions": []} for _ in embeddings]

    def _heat(self, pixels: Tensor, text: str, layer: int) -> dict[str, Any]:
        vector = self.model.encode_texts([text])
        trace = capture(self.model.tower, pixels, [layer])
        along = write_projections(self.model.tower, layer, vector, self.atlas.manifest.convention)
        tokens = token_contributions(trace, self.model.tower, layer, along)[0, 0]
        prefix = self.model.tower.prefix_tokens
        unit = torch.nn.functional.normalize(trace.embeddings, dim=1)
        rows, columns = grid_of(self.model)
        return {
            "text": text,
            "layer": layer,
            "cosine": float(unit[0] @ vector[0].to(unit)),
            "through_layer": float(tokens.sum()),
            "elsewhere": float(tokens[:prefix].sum()),
            "rows": rows,
            "columns": columns,
            "framing": framing(self.model),
            "values": tokens[prefix:].tolist(),
        }


def _largest(scores: Float[Tensor, "image text"], names: Sequence[str], measure: str) -> list[dict[str, Any]]:
    best = scores.topk(min(PREDICTIONS, scores.shape[1]), dim=1)
    return [
        {
            "measure": measure,
            "predictions": [
                {"text": names[row], "value": value} for row, value in zip(rows, values, strict=True)
            ],
        }
        for rows, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]  # fmt: skip
