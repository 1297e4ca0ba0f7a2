"""Histograms of norms a neuron, on fixed logarithmic bins, so that they can be added."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Norms are in units of the unit-norm embedding: 2^-20 is float32 noise, 2^4 is more than any neuron writes.
LOWEST, HIGHEST, PER_OCTAVE = -20, 4, 4
BINS = (HIGHEST - LOWEST) * PER_OCTAVE


def edges() -> Float[Tensor, " edge"]:
    """The BINS + 1 edges, 2^(-20) to 2^4 by quarter octaves; the outermost bins also hold what lies beyond."""
    return torch.exp2(torch.arange(BINS + 1, dtype=torch.float64) / PER_OCTAVE + LOWEST)


class NormHistogram:
    """Counts of norms; `counts` [neuron, bin]."""

    def __init__(self, neurons: int, device: torch.device | None = None) -> None:
        self.counts: Int[Tensor, "neuron bin"] = torch.zeros(neurons, BINS, dtype=torch.int32, device=device)

    def update(self, norms: Float[Tensor, "neuron image"]) -> None:
        """Count some norms."""
        index = ((norms.log2() - LOWEST) * PER_OCTAVE).clamp(0, BINS - 1).to(torch.int64)
        self.counts.scatter_add_(1, index, torch.ones_like(index, dtype=torch.int32))

    def merge(self, other: "NormHistogram") -> None:
        """Add another's counts."""
        self.counts += other.counts


def share_above(counts: Int[Tensor, "neuron bin"], threshold: Float[Tensor, " neuron"]) -> Float[Tensor, " neuron"]:
    """Share of images with a norm above a threshold a neuron, linear within the threshold's bin."""
    total = counts.sum(dim=1).clamp(min=1)
    place = ((threshold.double().log2() - LOWEST) * PER_OCTAVE).clamp(0, BINS - 1e-9)
    index = place.floor().to(torch.int64)
    above = counts.flip(1).cumsum(1).flip(1)
    within = counts.gather(1, index[:, None])[:, 0]
    return (above.gather(1, index[:, None])[:, 0] - within * (place - index)) / total


def norm_above(counts: Int[Tensor, "neuron bin"], share: Float[Tensor, " neuron"]) -> Float[Tensor, " neuron"]:
    """The norm above which a share of the images lies, the inverse of `share_above`; zero for a neuron without any."""
    total = counts.sum(dim=1)
    target = share.double().clamp(0, 1) * total
    above = counts.flip(1).cumsum(1).flip(1)
    # The highest bin at whose lower edge enough images lie above.
    index = ((above >= target[:, None]).sum(dim=1) - 1).clamp(min=0)
    within = counts.gather(1, index[:, None])[:, 0]
    beyond = above.gather(1, index[:, None])[:, 0] - within
    place = index + 1 - ((target - beyond) / within.clamp(min=1)).clamp(0, 1)
    return torch.where(total > 0, torch.exp2(place / PER_OCTAVE + LOWEST), 0.0)
