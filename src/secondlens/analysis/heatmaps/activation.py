"""Heat maps from where the neurons that mean a text are active: the paper's, and one with signs."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.analysis.heatmaps.base import PlainMethod, SharedPass, distinct
from secondlens.analysis.heatmaps.choice import NeuronChoice


@dataclass
class Activation(PlainMethod):
    """Mean activation of the neurons chosen for a text (Gandelsman et al. 2025, section 5.2).

    H[i] = 1/|N| sum_{n in N} p[n,i]                   N: the paper's 200 neurons with the largest |<r[n], t>|
    H[i] = 1/|N| sum_{n in N} <r[n], t> p[n,i]         with `signed`: what speaks against the text is taken off
    """

    choice: NeuronChoice = field(repr=False)
    signed: bool = False
    name: str = "activation"

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the neurons to choose from."""
        return self.choice.layers

    @torch.no_grad()
    def maps(
        self, shared: SharedPass, targets: Float[Tensor, "image target embed"]
    ) -> Float[Tensor, "image target row column"]:
        """One small product a layer."""
        shared.check_targets(targets)
        shared.check_layers(self.layers)
        sets = distinct(targets)
        masks = self.choice.masks(shared, sets)
        alignment = self.choice.alignment(sets) if self.signed else masks
        count = torch.stack([mask.sum(dim=-1) for mask in masks.values()]).sum(dim=0).clamp(min=1)
        rows = []
        for layer, mask in masks.items():
            activations = shared.trace.activations[layer]
            weights = mask * alignment[layer] / count[..., None]
            rows.append(weights.to(activations) @ activations.mT)
        return shared.to_grid(torch.stack(rows).sum(dim=0))
