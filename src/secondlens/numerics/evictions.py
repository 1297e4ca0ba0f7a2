"""Bounds on the norms of images that were evicted: what an upper bound around one point says around another.

An image evicted while the reference was c had a norm of at most b around c, so around any m at most b + |(c - m) R|,
by the triangle inequality. Two such entries (b, c) and (b', c') become one around c' by the same inequality:
(max(b', b + |(c - c') R|), c').
"""

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.numerics.norms import PathNorms

ENTRIES = 16
"""Entries kept per neuron; more are folded. Simulated, eight lose no certificate with up to 132 paths, nor with 368 in
one pass, but keep an eighth of them with 368 paths and 5,000 images in eight parts, of which sixteen keep all."""


class Evictions:
    """Upper bounds of evicted norms, float64, each around its own reference, float32."""

    def __init__(self, neurons: int, paths: int, device: torch.device) -> None:
        self.bounds = torch.zeros(neurons, 0, dtype=torch.float64, device=device)
        self.references = torch.zeros(neurons, 0, paths, device=device)

    def add(
        self,
        bounds: Float[Tensor, "neuron entry"],
        references: Float[Tensor, "neuron entry path"],
        norms: PathNorms,
        mean: Float[Tensor, "neuron path"],
    ) -> None:
        """Append entries, and fold pairs while there are more than `ENTRIES`, as suits the current mean best."""
        self.bounds = torch.cat([self.bounds, bounds], dim=1)
        self.references = torch.cat([self.references, references], dim=1)
        while self.bounds.shape[1] > ENTRIES:
            self._fold(norms, mean)

    def bound_around(self, norms: PathNorms, mean: Float[Tensor, "neuron path"]) -> Float[Tensor, " neuron"]:
        """Return the upper bound, around `mean`, of the norm of any evicted image; zero where none was evicted."""
        if not self.bounds.shape[1]:
            return self.bounds.new_zeros(len(self.bounds))
        distances = norms.upcast(self.references.double() - mean[:, None]).norm(dim=2)
        return (self.bounds + distances).amax(dim=1)

    def _fold(self, norms: PathNorms, mean: Float[Tensor, "neuron path"]) -> None:
        """Fold, per neuron, the entry e into the f for which the folded bound around the mean is smallest."""
        rows = norms.upcast(self.references.double() - mean[:, None])
        # Differences, not `cdist`, whose products lose what is left of nearly equal references.
        between = torch.stack([(rows - rows[:, i : i + 1]).norm(dim=2) for i in range(rows.shape[1])], dim=1)
        folded = torch.maximum(self.bounds[:, None], self.bounds[:, :, None] + between)
        around = folded + rows.norm(dim=2)[:, None]
        around.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        pair = around.flatten(1).argmin(dim=1)
        source, target = pair // rows.shape[1], pair % rows.shape[1]
        neuron = torch.arange(len(rows), device=rows.device)
        self.bounds[neuron, target] = folded[neuron, source, target]
        last = rows.shape[1] - 1
        # The last entry takes the slot of the one that was folded; copied, since views of one neuron overlap.
        self.bounds[neuron, source] = self.bounds[:, last].clone()
        self.references[neuron, source] = self.references[:, last].clone()
        self.bounds, self.references = self.bounds[:, :last].clone(), self.references[:, :last].clone()
