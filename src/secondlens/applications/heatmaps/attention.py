"""Heat maps from attention alone: the same for every target."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.applications.heatmaps.base import SharedPass


@dataclass(frozen=True)
class RawAttention:
    """The last attention from the pooled token to each patch, mean over heads.

    H[i] = 1/heads sum_h A[last,h,pooled,i]
    """

    name: str = "raw-attention"
    layers: tuple[int, ...] = ()

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One map an image, repeated for every target."""
        shared.check_targets(targets)
        last = len(shared.model.tower.readers) - 1
        rows = shared.to_grid(shared.trace.readers[last].attention.mean(dim=1))
        return rows[:, None].expand(-1, targets.shape[1], -1, -1)


@dataclass(frozen=True)
class Rollout:
    """Attention rollout (Abnar and Zuidema 2020): attention through all layers, the residual stream as an identity.

    B[l] = (I + 1/heads sum_h A[l,h]) / 2
    H    = the pooled query's row of B[last] ... B[1] B[0]

    With an attention-pooling head the row is that head's attention (mean over heads) times the product.
    """

    name: str = "rollout"
    layers: tuple[int, ...] = ()

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One map an image, repeated for every target."""
        shared.check_targets(targets)
        found = shared.attention
        matrices = [matrix.mean(dim=1) for matrix in found.matrices]
        rows = through_layers(matrices, found.last_row.mean(dim=1), pooled=shared.model.tower.pool_mlp is not None)
        return shared.to_grid(rows)[:, None].expand(-1, targets.shape[1], -1, -1)


def through_layers(
    matrices: list[Float[Tensor, "image token token"]], last_row: Float[Tensor, "image token"], pooled: bool
) -> Float[Tensor, "image token"]:
    """The pooled query's row of the product of (I + A) / 2 over layers, a vector times a matrix at a time.

    last_row: the pooling head's attention where `pooled`; unused with a class token, whose row the last matrix holds.
    """
    row = last_row
    if not pooled:
        row = torch.zeros_like(last_row)
        row[:, 0] = 1
    for matrix in reversed(matrices):
        row = (row + torch.einsum("bi,bij->bj", row, matrix)) / 2
    return row
