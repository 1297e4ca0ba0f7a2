"""What speaks for a text, followed back to the patches it came from."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.applications.heatmaps.attention import back_to_input
from secondlens.applications.heatmaps.base import SharedPass, distinct
from secondlens.applications.heatmaps.writes import Writes

Mixing = Literal["attention", "norms"]


@dataclass
class TracedSupport:
    """The positive second-order contributions of single neurons at single patches, followed back to the input.

    c[l,n,i] = sum_k b[k,i] p[n,i] <u[n,k], t>        what neuron n of layer l at token i adds to the score of t
    s[l,i]   = sum_n max(0, c[l,n,i])                 at patches; 0 at other tokens
    H        = sum_l s[l] B[l] ... B[0]

    Contributions of one patch cancel: what speaks for the text there does so whatever speaks against it in the same
    place. And a token of a middle layer has gathered from other patches. B is rollout's (I + mean over heads of A) / 2
    with "attention", or `SharedPass.shares` with "norms".
    """

    writes: Writes = field(repr=False)
    mixing: Mixing = "attention"
    name: str = "traced-support"
    whole: bool = True

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the neurons."""
        return self.writes.layers

    @torch.no_grad()
    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """Not negative, in units of the score; a patch's share of the support, not a part of the score itself."""
        shared.check_targets(targets)
        shared.check_layers(self.layers)
        if self.mixing == "norms":
            mixing = shared.shares
        else:
            mixing = [(matrix + torch.eye(matrix.shape[-1]).to(matrix)) / 2 for matrix in shared.mixing]
        sets = distinct(targets)
        prefix = shared.model.tower.prefix_tokens
        found: dict[int, list[Tensor]] = {layer: [] for layer in self.layers}
        for row, some in enumerate(sets):
            images = slice(None) if len(sets) == 1 else slice(row, row + 1)
            for layer, along in self.writes.along(some).items():
                activations = shared.trace.activations[layer][images]
                weights = self.writes.path_weights(shared, layer)[images]
                # One target at a time: [image, token, neuron] is as much as the activations themselves.
                sums = [((weights.mT @ each) * activations).clamp_(min=0).sum(dim=-1) for each in along.to(activations)]
                found[layer].append(torch.stack(sums, dim=1))
        tokens = {layer + 1: torch.cat(parts) for layer, parts in found.items()}
        for part in tokens.values():
            part[..., :prefix] = 0
        return shared.to_grid(back_to_input(tokens, mixing))
