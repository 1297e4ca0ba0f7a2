"""How selective neurons are, and how nearly of rank one: distributions over the neurons of an atlas, from it alone.

The share of images above the survey's threshold is top / images by construction. So selectivity is measured at
thresholds that know nothing of how many images they let through:

- half of the neuron's largest norm; it depends on one image, and on how many there are to be the largest of;
- 2, 4 and 8 times its median norm: how heavy the tail is (|g| of a Gaussian g: 18 %, 0.7 % and none of it);
- twice its root mean square (of a Gaussian: 4.6 %).

Rank: the explained variance of the first component over the top images, and the participation ratio
(sum l)^2 / sum l^2 of all eigenvalues, 1 for rank one.

Neuron-head pairs: an effect is the sum of what it writes through each path; `path_fractions` are signed shares of
sum_I x(I)^2 and sum to one. From w = |share|: the largest, the effective number of paths (sum w)^2 / sum w^2, and how
many paths make up nine tenths of sum w.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.atlas.store import Atlas, AtlasLayer
from secondlens.numerics.histogram import norm_above
from secondlens.studies.shuffles import STATISTICS, ShuffleTest

MEDIANS = (2, 4, 8)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def neuron_figures(layer: AtlasLayer) -> dict[str, Float[Tensor, " neuron"]]:
    """Figures of every neuron of a layer; norms are |phi - mean|, counted by the survey's histogram."""
    median = norm_above(layer.histogram, torch.full((len(layer.histogram),), 0.5))
    shares = layer.path_fractions.abs()
    whole = shares.sum(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    running = shares.sort(dim=1, descending=True).values.cumsum(dim=1)
    figures = {
        "above_half_of_largest": layer.selectivity,
        **{f"above_{times}_medians": layer.share_above(times * median) for times in MEDIANS},
        "above_2_rms": layer.share_above(2 * layer.variance.sqrt()),
        "above_threshold": layer.share_above(layer.thresholds),
        "top_fraction": layer.top_fraction,
        "explained_variance": layer.explained_variance,
        "participation": layer.participation,
        "largest_path_fraction": shares.amax(dim=1) / whole,
        "effective_paths": whole.square() / shares.square().sum(dim=1).clamp(min=torch.finfo(torch.float32).tiny),
        "paths_for_nine_tenths": (running < 0.9 * whole[:, None]).sum(dim=1) + 1,
    }
    return {name: values.float() for name, values in figures.items()}


def path_figures(layer: AtlasLayer) -> list[dict[str, Any]]:
    """For each path (reader, head): its mean share over neurons, and for which share of them it is the largest."""
    shares = layer.path_fractions
    largest: Int[Tensor, " neuron"] = shares.abs().argmax(dim=1)
    counts = torch.bincount(largest, minlength=shares.shape[1]) / len(shares)
    return [
        {"readout": path.reader, "head": path.head, "mean_fraction": mean, "largest_for": first}
        for path, mean, first in zip(layer.paths, shares.mean(dim=0).tolist(), counts.tolist(), strict=True)
    ]


def distribution(values: Float[Tensor, " neuron"]) -> dict[str, float]:
    """Mean, and quantiles by name ("q05" to "q95"), of a figure over neurons."""
    found = torch.quantile(values.double(), torch.tensor(QUANTILES, dtype=torch.float64))
    names = [f"q{round(100 * q):02d}" for q in QUANTILES]
    return {"mean": float(values.double().mean()), **dict(zip(names, found.tolist(), strict=True))}


SIGNIFICANT = 0.05


def selectivity_summary(
    atlas: Atlas, layers: Sequence[int] | None = None, tests: Sequence[ShuffleTest] = ()
) -> dict[str, Any]:
    """Plain data: by layer, the distribution over neurons of each figure (mean and quantiles), the paths, and of a
    shuffle test the medians observed and under the null, and the share of neurons with p < 0.05.
    """
    by_layer = {test.layer: test for test in tests}
    found = []
    for index in atlas.layers if layers is None else sorted(set(layers)):
        layer = atlas.layer(index)
        entry: dict[str, Any] = {
            "layer": index,
            "neurons": {name: distribution(values) for name, values in neuron_figures(layer).items()},
            "paths": path_figures(layer),
        }
        if index in by_layer:
            entry["shuffled"] = _shuffled(by_layer[index])
        found.append(entry)
    return {"images": atlas.manifest.images.count, "top": atlas.manifest.top, "layers": found}


def _shuffled(test: ShuffleTest) -> dict[str, Any]:
    return {
        "neurons": len(test.neurons),
        **{
            name: {
                "observed": float(test.observed[name].median()),
                "null": float(test.null[name].median()),
                "significant": float((test.p_values[name] < SIGNIFICANT).float().mean()),
            }
            for name in STATISTICS
        },
        "pairs_above_half_of_largest": distribution(test.pairs.flatten()),
    }
