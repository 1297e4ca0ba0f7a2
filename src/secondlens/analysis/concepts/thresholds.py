"""From which norm on is a neuron active? The percentile rule, from what an atlas knows of its survey."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.atlas.store import AtlasLayer
from secondlens.errors import SecondLensError
from secondlens.numerics.histogram import norm_above


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
