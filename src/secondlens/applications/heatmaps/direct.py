"""TextSpan's heat map: what the heads write to the embedding directly, by token."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.applications.heatmaps.base import SharedPass, distinct
from secondlens.effects.first_order_patches import read_directions, reader_contributions


@dataclass(frozen=True)
class TextSpan:
    """First-order token map (Gandelsman et al. 2024, section 5): each token's direct contribution through all heads.

    H[i] = sum_{readers, heads} a[h,i] <Proj diag(g_post) C W_O[h] (W_V[h] x[i] + b_V[h]), t> / (sigma_post |z|)

    used: how many of the last readers; None: all.
    """

    used: int | None = None
    name: str = "text-span"
    layers: tuple[int, ...] = ()

    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """No pass beyond the shared one; signed, in units of the score."""
        shared.check_targets(targets)
        sets = distinct(targets)
        if len(sets) == 1:
            return shared.to_grid(self._rows(shared, sets[0], slice(None)))
        parts = [self._rows(shared, sets[image], slice(image, image + 1)) for image in range(shared.images)]
        return shared.to_grid(torch.cat(parts))

    @torch.no_grad()
    def _rows(self, shared: SharedPass, targets: Float[Tensor, "target embed"], images: slice) -> Tensor:
        tower = shared.model.tower
        seen = shared.direct
        reads = read_directions(tower, targets.to(seen[0].tokens))
        start = 0 if self.used is None else max(len(seen) - self.used, 0)
        total = torch.stack(
            [
                reader_contributions(
                    tower.readers[index].weights(), reads, seen[index].tokens[images], seen[index].attention[images]
                )
                for index in range(start, len(seen))
            ]
        ).sum(dim=0)
        return total * shared.scale[images, None, None]
