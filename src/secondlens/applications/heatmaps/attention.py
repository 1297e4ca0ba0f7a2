"""Heat maps from attention alone: the same for every target."""

from collections.abc import Mapping
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
    whole: bool = False

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
    whole: bool = True

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One map an image, repeated for every target."""
        shared.check_targets(targets)
        mixing = shared.halves
        if shared.model.tower.pool_mlp is None:
            row = torch.zeros_like(mixing[0][:, 0])
            row[:, 0] = 1
        else:
            row = shared.attention.last_row.mean(dim=1)
        rows = back_to_input({len(mixing): row[:, None]}, mixing)
        return shared.to_grid(rows).expand(-1, targets.shape[1], -1, -1)


def back_to_input(
    found: Mapping[int, Float[Tensor, "image target token"]], mixing: list[Float[Tensor, "image token token"]]
) -> Float[Tensor, "image target token"]:
    """Values of tokens at some depths to the tokens of the input: sum_d found[d] B[d-1] ... B[0].

    found: by depth, i.e. how many attentions came before. mixing: B of each layer; where its rows sum to one, sums over
    tokens are kept.
    """
    total: Tensor | None = found.get(len(mixing))
    for depth in range(len(mixing) - 1, -1, -1):
        if total is not None:
            total = total @ mixing[depth]
        if depth in found:
            total = found[depth] if total is None else total + found[depth]
    assert total is not None
    return total
