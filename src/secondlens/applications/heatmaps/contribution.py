"""Heat maps of what neurons *do* to the score of a text: exact, signed, complete."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.applications.heatmaps.base import SharedPass, distinct
from secondlens.applications.heatmaps.choice import NeuronChoice
from secondlens.applications.heatmaps.writes import Writes


@dataclass
class Contribution:
    """Second-order contribution of each patch to the text, through neurons.

    H[i] = sum_{n, k} b[k,i] p[n,i] <u[n,k], t>        b = a / (sigma sigma_post |z|)

    Summed over all tokens it is the neurons' share of <z/|z|, t> (see `effects.patches`); the map holds the patches.
    choice: only the neurons chosen for the text; None for all of the layers.
    """

    writes: Writes = field(repr=False)
    choice: NeuronChoice | None = field(default=None, repr=False)
    name: str = "contribution"

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the neurons."""
        return self.writes.layers

    @torch.no_grad()
    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """Signed, in units of the score."""
        shared.check_targets(targets)
        sets = distinct(targets)
        masks = None if self.choice is None else self.choice.masks(shared, sets)
        return shared.to_grid(self.writes.tokens(shared, sets, masks))
