"""Applications that the image page shows, as handlers of the model's worker: concepts, and a score's waterfall."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from secondlens.analysis.attribution import explain_texts
from secondlens.analysis.concepts import ConceptFinder
from secondlens.analysis.concepts.activity import LayerMeter
from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions
from secondlens.errors import SecondLensError
from secondlens.lens.model import LensModel
from secondlens.viewer.reports.image import waterfall as largest_parts

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
