"""Statistics of indirect effects over images: the same rule as for second-order effects, so that the two compare.

A neuron's direction is the first right singular vector of its largest effects, centred on the mean over all images,
and its explained variance that component's share (`effects.rank_one`). Indirect effects do not factor into paths, so
what `numerics.largest` keeps an image is the effect itself: its "paths" are the dimensions of the joint space, in an
orthonormal basis already.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondlens.numerics.largest import LargestEffects
from secondlens.numerics.rank_one import rank_one

BLOCK = 32
"""Neurons worked on at a time."""


@dataclass(frozen=True)
class IndirectResult:
    """What is known of each neuron, in the order of the neurons asked for.

    directions: first principal component of the largest centred effects, unit norm. explained_variance: its share.
    mean_effects: over all images. top_norms, top_positions: |effect - mean|, descending, and whose.
    root_mean_square: of |effect - mean| over all images. certified: no other image can belong to the top.
    """

    directions: Float[Tensor, "neuron embed"]
    explained_variance: Float[Tensor, " neuron"]
    mean_effects: Float[Tensor, "neuron embed"]
    top_norms: Float[Tensor, "neuron top"]
    top_positions: Int[Tensor, "neuron top"]
    root_mean_square: Float[Tensor, " neuron"]
    certified: Bool[Tensor, " neuron"]


class IndirectStatistics:
    """Streaming statistics of the indirect effects of some neurons; memory is neurons x capacity x embed floats."""

    def __init__(self, neurons: int, embed: int, capacity: int) -> None:
        basis = torch.eye(embed)
        sizes = [len(block) for block in torch.arange(neurons).split(BLOCK)]
        self.blocks = [LargestEffects(basis.expand(size, -1, -1), capacity) for size in sizes]

    @property
    def count(self) -> int:
        """Images taken in so far."""
        return self.blocks[0].count

    def update(self, effects: Float[Tensor, "image neuron embed"], positions: Int[Tensor, " image"]) -> None:
        """Take in some images; `positions` are their unique numbers."""
        parts = effects.transpose(0, 1).float().cpu().split(BLOCK)
        for block, part in zip(self.blocks, parts, strict=True):
            block.update(part, positions.cpu())

    def merge(self, other: "IndirectStatistics") -> None:
        """Add what another pass over other images found."""
        for mine, theirs in zip(self.blocks, other.blocks, strict=True):
            mine.merge(theirs)

    def result(self, top: int) -> IndirectResult:
        """Directions and explained variance from the `top` largest effects; raises where fewer images have come."""
        parts = []
        for block in self.blocks:
            found = block.result(top)
            leading = rank_one(found, block.root, components=1)
            parts.append(
                (
                    torch.nn.functional.normalize(leading.components[:, 0], dim=1).float(),
                    leading.spectrum[:, 0].float(),
                    found.mean.float(),
                    found.norms.float(),
                    found.positions,
                    found.variance.sqrt().float(),
                    found.certified,
                )
            )
        return IndirectResult(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
