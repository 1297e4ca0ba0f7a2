"""The methods that read layer-wise relevances: LRP, partial LRP, and transformer attribution."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.analysis.heatmaps.gradcam import EachTarget
from secondlens.analysis.heatmaps.gradients import AttentionPass
from secondlens.analysis.heatmaps.relevance import relevances


@dataclass(frozen=True)
class LRP(EachTarget):
    """Relevance of each patch's token where it enters the first layer, summed over features (Binder et al. 2016).

    The rules are those of `relevance`. The baseline of Chefer et al. goes on through the patch embedding to the
    pixels; that only spreads a token's relevance within its patch.
    """

    name: str = "lrp"

    def row(
        self, found: AttentionPass, targets: Float[Tensor, "image target embed"], target: int
    ) -> Float[Tensor, "image token"]:
        """One backward propagation; signed."""
        return relevances(found, targets, target).tokens


@dataclass(frozen=True)
class PartialLRP(EachTarget):
    """Relevance of the last attention's class-token row, its positive part, mean over heads (Voita et al. 2019).

    H[i] = 1/heads sum_h relu(R_A[last,h,0,i])
    """

    name: str = "partial-lrp"

    def row(
        self, found: AttentionPass, targets: Float[Tensor, "image target embed"], target: int
    ) -> Float[Tensor, "image token"]:
        """One backward propagation."""
        return relevances(found, targets, target).attention[-1][:, :, 0].clamp(min=0).mean(dim=1)


@dataclass(frozen=True)
class TransformerAttribution(EachTarget):
    """Transformer attribution (Chefer, Gur and Wolf, CVPR 2021, equations 13 and 14): "Chefer 2021" of the tables.

    B[l] = I + 1/heads sum_h relu(dS/dA[l,h] * R_A[l,h])
    H    = the class token's row of B[last] ... B[0]

    R_A: relevance of the attention matrix; the gradient is of the score, the matrix seen as a free variable.
    """

    name: str = "chefer"

    def row(
        self, found: AttentionPass, targets: Float[Tensor, "image target embed"], target: int
    ) -> Float[Tensor, "image token"]:
        """One backward pass and one backward propagation."""
        seen = relevances(found, targets, target).attention
        return class_row(found, lambda layer: found.attention_gradients(targets, target, layer) * seen[layer])


@dataclass(frozen=True)
class GenericAttribution(EachTarget):
    """Generic attention explainability (Chefer, Gur and Wolf, ICCV 2021, equations 5 and 6, self-attention).

    As `TransformerAttribution` with the attention itself in the place of its relevance: no propagation is needed.

    B[l] = I + 1/heads sum_h relu(dS/dA[l,h] * A[l,h])
    """

    name: str = "chefer-generic"

    def row(
        self, found: AttentionPass, targets: Float[Tensor, "image target embed"], target: int
    ) -> Float[Tensor, "image token"]:
        """One backward pass."""
        return class_row(found, lambda layer: found.attention_gradients(targets, target, layer) * found.matrices[layer])


def class_row(
    found: AttentionPass, weighted: Callable[[int], Float[Tensor, "image head token token"]]
) -> Float[Tensor, "image token"]:
    """The class token's row of B[last] ... B[0], B[l] = I + 1/heads sum_h relu(weighted(l)[h])."""
    row = torch.zeros_like(found.last_row[:, 0])
    row[:, 0] = 1
    for layer in range(len(found.layers) - 1, -1, -1):
        row = row + torch.einsum("bi,bij->bj", row, weighted(layer).clamp(min=0).mean(dim=1))
    return row
