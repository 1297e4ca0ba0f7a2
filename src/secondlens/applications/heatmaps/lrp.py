"""The methods that read layer-wise relevances: LRP, partial LRP, and transformer attribution."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.applications.heatmaps.base import SharedPass
from secondlens.applications.heatmaps.gradcam import require_class_token
from secondlens.applications.heatmaps.relevance import relevances


@dataclass(frozen=True)
class LRP:
    """Relevance of each patch's token where it enters the first layer, summed over features (Binder et al. 2016).

    The rules are those of `relevance`. The baseline of Chefer et al. goes on through the patch embedding to the
    pixels; that only spreads a token's relevance within its patch.
    """

    name: str = "lrp"
    layers: tuple[int, ...] = ()
    whole: bool = False

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One backward propagation a target; signed."""
        shared.check_targets(targets)
        require_class_token(shared, self.name)
        found = shared.attention
        tokens = [relevances(found, targets, target).tokens for target in range(targets.shape[1])]
        return shared.to_grid(torch.stack(tokens, dim=1))


@dataclass(frozen=True)
class PartialLRP:
    """Relevance of the last attention's class-token row, its positive part, mean over heads (Voita et al. 2019).

    H[i] = 1/heads sum_h relu(R_A[last,h,0,i])
    """

    name: str = "partial-lrp"
    layers: tuple[int, ...] = ()
    whole: bool = False

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One backward propagation a target."""
        shared.check_targets(targets)
        require_class_token(shared, self.name)
        found = shared.attention
        rows = [
            relevances(found, targets, target).attention[-1][:, :, 0].clamp(min=0).mean(dim=1)
            for target in range(targets.shape[1])
        ]
        return shared.to_grid(torch.stack(rows, dim=1))


@dataclass(frozen=True)
class TransformerAttribution:
    """Transformer attribution (Chefer, Gur and Wolf, CVPR 2021, equations 13 and 14): "Chefer 2021" of the tables.

    B[l] = I + 1/heads sum_h relu(dS/dA[l,h] * R_A[l,h])
    H    = the class token's row of B[last] ... B[0]

    R_A: relevance of the attention matrix; the gradient is of the score, the matrix seen as a free variable.
    """

    name: str = "chefer"
    layers: tuple[int, ...] = ()
    whole: bool = False

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One backward pass and one backward propagation a target."""
        shared.check_targets(targets)
        require_class_token(shared, self.name)
        found = shared.attention
        rows = []
        for target in range(targets.shape[1]):
            seen = relevances(found, targets, target).attention
            row = torch.zeros_like(found.last_row[:, 0])
            row[:, 0] = 1
            for layer in range(len(seen) - 1, -1, -1):
                weighted = found.attention_gradients(targets, target, layer) * seen[layer]
                row = row + torch.einsum("bi,bij->bj", row, weighted.clamp(min=0).mean(dim=1))
            rows.append(row)
        return shared.to_grid(torch.stack(rows, dim=1))


@dataclass(frozen=True)
class GenericAttribution:
    """Generic attention explainability (Chefer, Gur and Wolf, ICCV 2021, equations 5 and 6, self-attention).

    As `TransformerAttribution` with the attention itself in the place of its relevance: no propagation is needed.

    B[l] = I + 1/heads sum_h relu(dS/dA[l,h] * A[l,h])
    """

    name: str = "chefer-generic"
    layers: tuple[int, ...] = ()
    whole: bool = False

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One backward pass a target."""
        shared.check_targets(targets)
        require_class_token(shared, self.name)
        found = shared.attention
        rows = []
        for target in range(targets.shape[1]):
            row = torch.zeros_like(found.last_row[:, 0])
            row[:, 0] = 1
            for layer in range(len(found.layers) - 1, -1, -1):
                weighted = found.attention_gradients(targets, target, layer) * found.matrices[layer]
                row = row + torch.einsum("bi,bij->bj", row, weighted.clamp(min=0).mean(dim=1))
            rows.append(row)
        return shared.to_grid(torch.stack(rows, dim=1))
