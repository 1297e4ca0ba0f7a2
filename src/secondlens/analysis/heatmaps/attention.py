"""Heat maps from attention alone: the same for every target."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.analysis.heatmaps.base import PlainMethod, SharedPass
from secondlens.analysis.heatmaps.mixing import Mixing, back_to_input


@dataclass(frozen=True)
class RawAttention(PlainMethod):
    """The last attention from the pooled token to each patch, mean over heads.

    H[i] = 1/heads sum_h A[last,h,pooled,i]
    """

    name: str = "raw-attention"

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One map an image, repeated for every target."""
        shared.check_targets(targets)
        last = len(shared.model.tower.readers) - 1
        rows = shared.to_grid(shared.trace.readouts[last].attention.mean(dim=1))
        return rows[:, None].expand(-1, targets.shape[1], -1, -1)


@dataclass(frozen=True)
class Rollout(PlainMethod):
    """Attention rollout (Abnar and Zuidema 2020): attention through all layers, the residual stream as an identity.

    B[l] = (I + 1/heads sum_h A[l,h]) / 2
    H    = the pooled query's row of B[last] ... B[1] B[0]

    With an attention-pooling head the row is that head's attention (mean over heads) times the product.
    attentions: how many the tower has. mixing: another B than the paper's.
    """

    attentions: int
    mixing: Mixing = "attention"
    name: str = "rollout"

    @property
    def depths(self) -> Mapping[Mixing, int]:
        """All attentions."""
        return {self.mixing: self.attentions}

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One map an image, repeated for every target."""
        shared.check_targets(targets)
        mixing = shared.mixing(self.mixing, self.attentions)
        if shared.model.tower.pool_mlp is None:
            row = torch.zeros_like(mixing[0][:, 0])
            row[:, 0] = 1
        else:
            row = shared.trace.readouts[0].attention.mean(dim=1)
        rows = back_to_input({len(mixing): row[:, None]}, mixing)
        return shared.to_grid(rows).expand(-1, targets.shape[1], -1, -1)
