"""Heat maps: where in an image is what a text says? One interface for ours and for every baseline."""

from secondlens.analysis.heatmaps.base import HeatMapMethod, SharedPass, layers_of, same_for_all
from secondlens.analysis.heatmaps.fit import fit_image, fit_images
from secondlens.analysis.heatmaps.heatmap import HeatMap, HeatMapper, heat_map, predicted
from secondlens.analysis.heatmaps.postprocess import normalise, refine, segment, upsample
from secondlens.analysis.heatmaps.registry import METHODS, Options, make_methods

__all__ = [
    "METHODS",
    "HeatMap",
    "HeatMapMethod",
    "HeatMapper",
    "Options",
    "SharedPass",
    "fit_image",
    "fit_images",
    "heat_map",
    "layers_of",
    "make_methods",
    "normalise",
    "predicted",
    "refine",
    "same_for_all",
    "segment",
    "upsample",
]
