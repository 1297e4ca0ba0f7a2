"""How much does each neuron do on an image? Norms and projections of its effect around the survey's mean.

Both are linear in the coefficients s of one image, and so can be told apart by path and by token:

    |phi - mean|     = sum_k (s[k] - mean[k]) q[k],      q = R R^T (s - mean) / |phi - mean|
    <phi - mean, r>  = sum_k (s[k] - mean[k]) q[k],      q[k] = <u[k], r>

with R R^T = u u^T, the Gram matrix of the neuron's write directions.

From which norm on is a neuron active? The percentile rule, from what an atlas knows of its survey.
"""

from copy import copy
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondlens.analysis.concepts.words import Rule
from secondlens.atlas.store import Atlas, AtlasLayer
from secondlens.errors import SecondLensError
from secondlens.lens.layer import Span, gram_roots
from secondlens.lens.model import LensModel
from secondlens.lens.paths import coefficients, path_weights, write_maps
from secondlens.lens.trace import Trace
from secondlens.numerics.histogram import norm_above
from secondlens.numerics.parallel import block_size


@dataclass(frozen=True)
class Thresholds:
    """A neuron is active on an image where |phi - mean| is above its norm. exact: from the top norms alone."""

    norms: Float[Tensor, " neuron"]
    exact: bool


def norm_thresholds(layer: AtlasLayer, percentile: float = 98.0) -> Thresholds:
    """The percentile of each neuron's norms over the survey set (Gandelsman et al. 2025: the 98th), float64.

    Of N norms in ascending order v, the quantile p is v at place (N + 1) p, linear in between (Weibull's plotting
    position): an image that was not surveyed lies above it with probability 1 - p, whatever the distribution.

    Exact where the atlas kept enough top images, i.e. N - floor((N + 1) p) + 1 of them, which is 2 % and one more.
    Else the histogram goes on from the smallest norm kept: its share above that norm is put right to the true one,
    and the threshold is where the missing share has been counted. Linear within bins of a quarter octave, of norms
    around the mean of their time, never above the smallest norm kept. 0: all neurons, with a threshold of 0.

    Raises `SecondLensError` for a percentile outside 0 to 100.
    """
    if not 0 <= percentile < 100:
        raise SecondLensError(f"expected a percentile from 0 to below 100, got {percentile:g}")
    tops = layer.top_norms.double()
    if percentile == 0:
        return Thresholds(torch.zeros(len(tops), dtype=torch.float64), exact=True)
    count, kept = layer.atlas.manifest.images.count, tops.shape[1]
    place = min(max((count + 1) * percentile / 100, 1.0), float(count))
    # Counted from the largest, which is 0: the norms just above and just below the place.
    below = count - int(place)
    above = max(below - 1, 0)
    if below < kept:
        fraction = place - int(place)
        return Thresholds(tops[:, below] + fraction * (tops[:, above] - tops[:, below]), exact=True)
    smallest = tops[:, -1]
    missing = (1 - percentile / 100) - kept / count
    found = norm_above(layer.histogram, layer.share_above(smallest) + missing)
    return Thresholds(torch.minimum(found, smallest), exact=False)


@dataclass(frozen=True)
class LayerActivity:
    """What a batch of images gives for one layer, float64. centred: coefficients less the survey's mean.

    norms: |phi - mean|. projections: <phi - mean, r>. active: norms above the thresholds.
    """

    centred: Float[Tensor, "image neuron path"]
    norms: Float[Tensor, "image neuron"]
    projections: Float[Tensor, "image neuron"]
    active: Bool[Tensor, "image neuron"]

    def weights(self, rule: Rule) -> Float[Tensor, "image neuron"]:
        """The norm or the projection of active neurons, as the rule has it; zero for the others."""
        return torch.where(self.active, self.norms if rule == "paper" else self.projections, 0.0)


class LayerMeter:
    """The input-independent half for one layer of an atlas."""

    def __init__(self, model: LensModel, layer: AtlasLayer, percentile: float = 98.0) -> None:
        self.tower = model.tower
        self.layer = layer
        self.thresholds: Thresholds = norm_thresholds(layer, percentile)
        maps = write_maps(model.tower, layer.index, layer.atlas.manifest.convention)
        blocks = torch.arange(model.neurons, device=model.device).split(block_size(model.device))
        self.root = torch.cat(gram_roots(maps, [Span.of(block, block.device) for block in blocks])).double()
        self.mean = layer.mean_coefficients.to(model.device).double()
        self.along = layer.path_projections.to(model.device).double()

    def within_top(self) -> "LayerMeter":
        """The same with thresholds raised to the smallest top norms, above which the atlas knows every image."""
        other = copy(self)
        smallest = self.layer.top_norms[:, -1].double()
        other.thresholds = Thresholds(torch.maximum(self.thresholds.norms, smallest), exact=True)
        return other

    def measure(self, trace: Trace) -> LayerActivity:
        """Norms and projections of one captured batch."""
        index = self.layer.index
        found = coefficients(path_weights(trace, self.tower, index), trace.activations[index])
        centred = found.double() - self.mean
        norms = torch.bmm(centred.transpose(0, 1), self.root).norm(dim=2).T
        return LayerActivity(
            centred=centred,
            norms=norms,
            projections=torch.einsum("bnk,nk->bn", centred, self.along),
            active=norms > self.thresholds.norms.to(norms),
        )

    def sensitivity(
        self, centred: Float[Tensor, "neuron path"], neurons: Tensor, rule: Rule
    ) -> Float[Tensor, "neuron path"]:
        """q of some neurons (see above), `centred` being their coefficients on one image less the mean."""
        if rule != "paper":
            return self.along[neurons]
        rows = torch.bmm(centred[:, None], self.root[neurons])
        norms = rows.norm(dim=2, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        return torch.bmm(rows / norms, self.root[neurons].mT)[:, 0]


def layer_meters(model: LensModel, atlas: Atlas, percentile: float = 98.0) -> dict[int, LayerMeter]:
    """The meters of all layers of an atlas."""
    return {index: LayerMeter(model, atlas.layer(index), percentile) for index in atlas.layers}
