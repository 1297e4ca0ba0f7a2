"""Heat maps from attention alone: the same for every target."""

from dataclasses import dataclass

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
