"""What the model says of a picture: its prediction, the neurons that act on it, and where a text comes from.

Concepts and a score's waterfall, which the image page shows, are handlers of the model's worker.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.analysis.attribution import explain_texts
from secondlens.analysis.concepts import ConceptFinder
from secondlens.analysis.concepts.activity import LayerActivity, LayerMeter, layer_meters
from secondlens.atlas.store import Atlas
from secondlens.descriptions.pool import Pool
from secondlens.descriptions.search import search_neurons
from secondlens.descriptions.store import Descriptions
from secondlens.errors import SecondLensError
from secondlens.lens.capture import capture
from secondlens.lens.model import LensModel
from secondlens.lens.second_order import token_contributions, write_projections
from secondlens.viewer.heat import framing, grid_of
from secondlens.viewer.reports.image import waterfall as largest_parts

PREDICTIONS = 5
NEURONS = 40
TINY = 1e-30
"""A threshold of zero, of a neuron that hardly acts on the survey's images, shall not divide."""


class Analysis:
    """A model, an atlas of it and, for zero-shot predictions, a pool of texts. One thread uses it.

    Raises `AtlasError` for an atlas of another model.
    """

    def __init__(self, model: LensModel, atlas: Atlas, pool: Pool | None = None) -> None:
        atlas.require_model(model)
        self.model, self.atlas, self.pool = model, atlas, pool
        self.meters = layer_meters(model, atlas)

    @torch.no_grad()
    def images(self, pixels: Sequence[Float[Tensor, "1 3 height width"]]) -> list[dict[str, Any]]:
        """Predictions and active neurons of some preprocessed pictures, in one pass.

        A neuron is active where the norm of its effect around the survey's mean is above the 98th percentile of the
        survey, as `secondlens concepts` has it; those come first that are furthest above, as a ratio.
        """
        trace = capture(self.model.tower, torch.cat(list(pixels)), self.atlas.layers)
        predictions = self._predict(trace.embeddings)
        activity = {index: meter.measure(trace) for index, meter in self.meters.items()}
        found = []
        for image in range(len(pixels)):
            neurons = [row for index, seen in activity.items() for row in self._active(index, seen, image)]
            neurons.sort(key=lambda row: -row["norm"] / max(row["threshold"], TINY))
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

    def _active(self, layer: int, seen: LayerActivity, image: int) -> list[dict[str, Any]]:
        rows = seen.active[image].nonzero()[:, 0]
        thresholds = self.meters[layer].thresholds.norms.to(rows.device)[rows]
        columns = (rows, seen.norms[image, rows], thresholds, seen.projections[image, rows])
        names = ("neuron", "norm", "threshold", "projection")
        return [
            {"layer": layer, **dict(zip(names, row, strict=True))}
            for row in zip(*(column.tolist() for column in columns), strict=True)
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


BEHIND = 5
"""Neurons that are named behind a concept."""


def concepts(
    model: LensModel, atlas: Atlas, meters: dict[int, LayerMeter]
) -> Callable[[Sequence[tuple[Tensor, int]]], list[dict[str, Any]]] | None:
    """Of (pixels, limit) the concepts of a picture; None without a description, or without its pool."""
    if not Descriptions.names(atlas):
        return None
    try:
        finder = ConceptFinder(model, atlas, Descriptions.open(atlas), meters=meters)
    except SecondLensError:
        # The pool is not on this machine any more: the page does without concepts.
        return None

    def find(asked: Sequence[tuple[Tensor, int]]) -> list[dict[str, Any]]:
        return [
            {
                "concepts": [
                    {
                        "text": concept.text,
                        "score": concept.score,
                        "neurons": [
                            {"layer": term.layer, "neuron": term.neuron, "contribution": term.contribution}
                            for term in concept.neurons[:BEHIND]
                        ],
                    }
                    for concept in finder.find(pixels, limit).concepts
                ]
            }
            for pixels, limit in asked
        ]

    return find


def waterfall(model: LensModel) -> Callable[[Sequence[tuple[Tensor, str, str | None]]], list[dict[str, Any]]] | None:
    """Of (pixels, text, other text or None) the parts of the score; None for a model without texts."""
    if model.text_encoder is None:
        return None

    def explain(asked: Sequence[tuple[Tensor, str, str | None]]) -> list[dict[str, Any]]:
        found = [explain_texts(model, pixels, text, against) for pixels, text, against in asked]
        return [
            {
                "score": each.score,
                "parts": [
                    {"label": part.label, "kind": part.kind, "value": part.value} for part in largest_parts(each)
                ],
            }
            for each in found
        ]

    return explain
