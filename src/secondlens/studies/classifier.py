"""From embeddings to classes: a model's own head, or zero-shot from class names and templates."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.models.model import LensModel
from secondlens.pools.build import encode

TEMPLATES = ("a photo of a {}.",)
"""What a class name is put into where nothing else is asked for."""


@dataclass(frozen=True)
class Head:
    """logits = scale * embedding @ weight.T + bias, for unit-norm embeddings; scale is |z| where the head is the
    model's own, which sees z, and 1 for zero-shot.
    """

    weight: Float[Tensor, "class embed"]
    bias: Float[Tensor, " class"]
    own: bool

    def predict(
        self, embeddings: Float[Tensor, "image embed"], norms: Float[Tensor, " image"]
    ) -> Int[Tensor, " image"]:
        """Class of each image, from its embedding over |z| (possibly changed) and the |z| it had."""
        scaled = embeddings * norms[:, None] if self.own else embeddings
        return (scaled @ self.weight.T + self.bias).argmax(dim=1)


def make_head(model: LensModel, classes: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Head:
    """The model's own head where it has one, else the mean over templates of the class names' embeddings."""
    if model.classifier is not None:
        weight, bias = model.classifier.weight(), model.classifier.bias()
        return Head(weight.float(), bias.float(), own=True)
    weight = encode(model, list(classes), templates).to(model.device)
    return Head(weight, torch.zeros(len(classes), device=model.device), own=False)
