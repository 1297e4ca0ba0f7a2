"""The top images of a block of neurons around the final mean, and whether one pass has proved them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.effects.candidates import Candidates
from secondlens.effects.runners import Runners
from secondlens.numerics.norms import Norms


@dataclass(frozen=True)
class TopEffects:
    """What a pass found about a block of neurons.

    mean: mean coefficients. positions, norms: images with the largest |phi - mean phi|, descending, ties by position.
    centred: their coefficients less the mean. rows: the same times R, the effects in an orthonormal basis.
    variance: mean over images of |phi - mean phi|^2.
    proved: no other image can belong to the top. drift: |mean phi - reference|, which blurs the histogram.
    ambiguous: numbers of the images that could belong to the top of a neuron that is not proved; None if any could.
    """

    mean: Float[Tensor, "neuron path"]
    positions: Int[Tensor, "neuron top"]
    norms: Float[Tensor, "neuron top"]
    centred: Float[Tensor, "neuron top path"]
    rows: Float[Tensor, "neuron top path"]
    variance: Float[Tensor, " neuron"]
    proved: Tensor
    drift: Float[Tensor, " neuron"]
    ambiguous: Int[Tensor, " image"] | None


@dataclass(frozen=True)
class Moments:
    """Of a block of neurons, over all images. mean: of the coefficients, float64. variance: of |phi - mean phi|.

    drift: |mean phi - reference phi|. slack: what rounding may add to a norm around the reference.
    """

    mean: Float[Tensor, "neuron path"]
    variance: Float[Tensor, " neuron"]
    drift: Float[Tensor, " neuron"]
    slack: Float[Tensor, " neuron"]


def moments(
    mean: Float[Tensor, "neuron path"],
    reference: Float[Tensor, "neuron path"] | None,
    second: Float[Tensor, " neuron"],
    candidates: Candidates,
    norms_of: Norms,
    count: int,
) -> Moments:
    """Moments from the mean and, around the reference, the second moment; without a reference all images are held."""
    if reference is None:
        centred = torch.where(candidates.taken[:, :, None], candidates.held.double() - mean[:, None], 0.0)
        variance = norms_of.wide(centred).square().sum(dim=(1, 2)) / count
        return Moments(mean, variance, torch.zeros_like(variance), torch.zeros_like(variance))
    around = reference.double()
    drift = norms_of.wide((mean - around)[:, None])[:, 0].norm(dim=1)
    variance = (second / count - drift.square()).clamp(min=0)
    size = candidates.norms.amax(dim=1).clamp(min=0) + norms_of.wide(around[:, None])[:, 0].norm(dim=1)
    return Moments(mean, variance, drift, norms_of.error * size)


def top_effects(candidates: Candidates, runners: Runners, found: Moments, norms_of: Norms, top: int) -> TopEffects:
    """The `top` largest of the candidates; both they and the runners-up are in the order of their positions."""
    # float32 picks a few more than asked for, float64 ranks them: ties are then as close as float32's rounding.
    rough = torch.where(candidates.taken, norms_of(candidates.held, found.mean.float()), -1.0)
    picked = rough.topk(min(rough.shape[1], top + top // 8 + 8), dim=1).indices
    # Ties by position, so that the order in which images came does not show.
    picked = picked.gather(1, candidates.positions.gather(1, picked).argsort(dim=1))
    neuron = torch.arange(len(picked), device=picked.device)[:, None]
    positions = candidates.positions[neuron, picked]
    centred = candidates.held[neuron, picked].double() - found.mean[:, None]
    rows = norms_of.wide(centred)
    norms = torch.where(positions >= 0, rows.norm(dim=2), -1.0)
    order = norms.argsort(dim=1, descending=True, stable=True)[:, :top]
    norms = norms.gather(1, order)
    threshold, blur = norms[:, -1:], found.drift + found.slack
    maybe = (runners.positions >= 0) & (runners.norms + blur[:, None] >= threshold)
    lost = (runners.released > 0) & (runners.released + blur >= threshold[:, 0])
    return TopEffects(
        mean=found.mean,
        positions=positions.gather(1, order),
        norms=norms,
        centred=centred[neuron, order],
        rows=rows[neuron, order],
        variance=found.variance,
        proved=~(maybe.any(dim=1) | lost),
        drift=found.drift,
        ambiguous=None if lost.any() else runners.positions[maybe].unique(),
    )
