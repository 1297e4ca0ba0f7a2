"""Applications that the image page shows where they are there: concepts, and a score's waterfall."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions
from secondlens.errors import SecondLensError
from secondlens.models.model import LensModel

CONCEPTS = "secondlens.applications.concepts"
WATERFALL = "secondlens.applications.attribution"


def concepts(model: LensModel, atlas: Atlas) -> Callable[[Sequence[tuple[Tensor, int]]], list[dict[str, Any]]] | None:
    """Of (pixels, limit) the concepts of a picture; None without that application or a description with its pool."""
    if not _there(CONCEPTS) or not Descriptions.names(atlas):
        return None
    from importlib import import_module

    try:
        finder = import_module(CONCEPTS).ConceptFinder(model, atlas, Descriptions.open(atlas))
    except SecondLensError:
        # The pool is not on this machine any more: the page does without its concepts.
        return None

    def find(asked: Sequence[tuple[Tensor, int]]) -> list[dict[str, Any]]:
        found = [finder.find(pixels, limit) for pixels, limit in asked]
        return [
            {
                "concepts": [
                    {
                        "text": concept.text,
                        "score": concept.score,
                        "neurons": [
                            {"layer": term.layer, "neuron": term.neuron, "contribution": term.contribution}
                            for term in concept.neurons[:5]
                        ],
                    }
                    for concept in each.concepts
                ]
            }
            for each in found
        ]

    return find


def waterfall(model: LensModel) -> Callable[[Sequence[tuple[Tensor, str, str | None]]], list[dict[str, Any]]] | None:
    """Of (pixels, text, other text or None) the parts of the score; None without that application."""
    if not _there(WATERFALL) or model.text_encoder is None:
        return None
    from importlib import import_module

    explain = import_module(WATERFALL).explain_texts
    shorten = import_module(f"{WATERFALL}.picture").waterfall

    def parts(asked: Sequence[tuple[Tensor, str, str | None]]) -> list[dict[str, Any]]:
        found = [explain(model, pixels, text, against) for pixels, text, against in asked]
        return [
            {
                "score": each.score,
                "parts": [{"label": part.label, "kind": part.kind, "value": part.value} for part in shorten(each)],
            }
            for each in found
        ]

    return parts


def _there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
