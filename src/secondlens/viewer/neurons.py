"""What the site holds of each neuron besides words: columns for grids and charts, slices for a neuron's page."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.atlas.store import Atlas, AtlasLayer
from secondlens.viewer.layout import Field, pack

COLUMNS = (
    "explained_variance",
    "selectivity",
    "top_norm",
    "threshold",
    "root_mean_square",
    "top_fraction",
    "participation",
)
NEAREST = 10
"""Neighbours kept a neuron."""


class NeuronFiles:
    """Files of the neurons of an atlas, made when asked for."""

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas
        self.layers: dict[int, AtlasLayer] = {index: atlas.layer(index) for index in atlas.layers}

    def fields(self, layer: int) -> list[Field]:
        """The arrays of a neuron's slice."""
        opened, top = self.layers[layer], self.atlas.manifest.top
        nearest = min(NEAREST, len(self.layers) * self.atlas.manifest.model.neurons - 1)
        return [
            Field("top_positions", "int32", (top,)),
            Field("top_norms", "float32", (top,)),
            Field("top_projections", "float32", (top,)),
            Field("spectrum", "float32", (opened.spectrum.shape[1],)),
            Field("path_fractions", "float32", (len(opened.paths),)),
            Field("histogram", "int32", (opened.histogram.shape[1],)),
            Field("nearest", "int32", (nearest,)),
            Field("nearest_cosine", "float32", (nearest,)),
        ]

    def columns(self, layer: int) -> bytes:
        """float32 [column, neuron], in the order of `COLUMNS`."""
        opened = self.layers[layer]
        found = {
            "explained_variance": opened.explained_variance,
            "selectivity": opened.selectivity,
            "top_norm": opened.top_norms[:, 0],
            "threshold": opened.thresholds,
            "root_mean_square": opened.variance.sqrt(),
            "top_fraction": opened.top_fraction,
            "participation": opened.participation,
        }
        return np.stack([found[name].float().numpy() for name in COLUMNS]).astype("<f4").tobytes()

    def part(self, layer: int, rows: slice) -> bytes:
        """One slice of neurons: see `fields`."""
        opened = self.layers[layer]
        names, cosines = self._nearest(layer, rows)
        arrays: dict[str, Any] = {
            name: getattr(opened, name)[rows]
            for name in ("top_positions", "top_norms", "top_projections", "spectrum", "path_fractions", "histogram")
        }
        arrays |= {"nearest": names, "nearest_cosine": cosines}
        return pack(self.fields(layer), arrays, rows.stop - rows.start)

    def directions(self, layer: int, rows: slice) -> bytes:
        """float16 [neuron, embed]: enough for cosines between any two neurons to three digits."""
        return self.layers[layer].directions[rows].numpy().astype("<f2").tobytes()

    @cached_property
    def _directions(self) -> Float[Tensor, "neuron embed"]:
        return torch.cat([layer.directions.float() for layer in self.layers.values()])

    def _nearest(self, layer: int, rows: slice) -> tuple[Tensor, Tensor]:
        """Neighbours by the cosine of directions over all layers; number = place of the layer * neurons + neuron."""
        every, neurons = self._directions, self.atlas.manifest.model.neurons
        start = list(self.layers).index(layer) * neurons
        mine = torch.arange(start + rows.start, start + rows.stop)
        cosines = every[mine] @ every.T
        cosines[torch.arange(len(mine)), mine] = -torch.inf
        best = cosines.topk(min(NEAREST, len(every) - 1), dim=1)
        return best.indices, best.values
