"""Heat maps of what neurons *do* to the score of a text: exact, signed, complete."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.analysis.heatmaps.base import PlainMethod, SharedPass, distinct
from secondlens.analysis.heatmaps.choice import NeuronChoice
from secondlens.analysis.heatmaps.mixing import Mixing, back_to_input
from secondlens.analysis.heatmaps.writes import Writes


@dataclass
class Contribution(PlainMethod):
    """Second-order contribution of each patch to the text, through neurons.

    H[i] = sum_{n, k} b[k,i] p[n,i] <u[n,k], t>        b = a / (sigma sigma_post |z|)

    Summed over all tokens it is the neurons' share of <z/|z|, t> (see `effects.patches`); the map holds the patches.
    choice: only the neurons chosen for the text; None for all of the layers.

    traced: by layer l of the neurons, followed back to the input through what mixed the tokens before:

        H = sum_l c[l] B[l] ... B[0]         B: `mixing`, how much of a token came from which

    A patch's token at layer 8 has gathered from other patches; this says from where. Rows of B sum to one, so the map
    (with the class token) still sums to the neurons' share of the score.
    """

    writes: Writes = field(repr=False)
    choice: NeuronChoice | None = field(default=None, repr=False)
    traced: bool = False
    mixing: Mixing = "norms"
    name: str = "contribution"

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the neurons."""
        return self.writes.layers

    @property
    def depths(self) -> Mapping[Mixing, int]:
        """Of the attentions before the last of the layers: neurons of layer l come after l + 1."""
        return {self.mixing: max(self.layers) + 1} if self.traced else {}

    @torch.no_grad()
    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """Signed, in units of the score."""
        shared.check_targets(targets)
        shared.check_layers(self.layers)
        sets = distinct(targets)
        masks = None if self.choice is None else self.choice.masks(shared, sets)
        found = self.writes.tokens(shared, sets, masks)
        if not self.traced:
            return shared.to_grid(torch.stack(list(found.values())).sum(dim=0))
        mixing = shared.mixing(self.mixing, max(self.layers) + 1)
        return shared.to_grid(back_to_input({layer + 1: part for layer, part in found.items()}, mixing))
