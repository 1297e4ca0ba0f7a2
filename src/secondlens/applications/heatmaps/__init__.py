"""Heat maps: where in an image is what a text says? One interface for ours and for every baseline."""

from secondlens.applications.heatmaps.base import HeatMapMethod, SharedPass, layers_of, same_for_all
from secondlens.applications.heatmaps.registry import METHODS, Options, make_methods

__all__ = ["METHODS", "HeatMapMethod", "Options", "SharedPass", "layers_of", "make_methods", "same_for_all"]
