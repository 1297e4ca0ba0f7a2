"""One pass over images that takes what reconstructions of a layer's effects need, never an effect itself.

With a layer's mean coefficients m[n,k] of the survey, write directions u[n,k] and directions r[n]:

    x[n](I)  = sum_k (s[n,k](I) - m[n,k]) <u[n,k], r[n]>                  projection on the direction
    rest(I)  = z/|z| - sum_n sum_k (s[n,k](I) - m[n,k]) u[n,k]            embedding with all effects at their mean

so that the embedding with the effects reconstructed from any directions d[n] is rest + sum_n x[n] d[n]: a product
[image, neuron] x [neuron, embed] a set of directions. The sum over neurons goes through the factors of u.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.atlas.store import AtlasLayer
from secondlens.lens.model import LensModel
from secondlens.lens.paths import WriteMaps, coefficients, path_weights, write_maps
from secondlens.lens.trace import Trace


@dataclass(frozen=True)
class LayerPart:
    """What one batch gives for one layer. x: projections on the directions. rest: see above. other: projections on
    other directions d, <phi - mean, d[n]>, one [image, neuron] each. activations: mean over tokens.
    """

    x: Float[Tensor, "image neuron"]
    rest: Float[Tensor, "image embed"]
    other: list[Float[Tensor, "image neuron"]]
    activations: Float[Tensor, "image neuron"]


class Projector:
    """The input-independent half for one layer of an atlas."""

    def __init__(self, model: LensModel, layer: AtlasLayer) -> None:
        device = model.device
        self.model = model
        self.layer = layer
        self.maps: WriteMaps = write_maps(model.tower, layer.index, layer.atlas.manifest.convention)
        self.mean = layer.mean_coefficients.to(device)
        self.along = layer.path_projections.to(device)
        self.others: list[Tensor] = []

    def add(self, directions: Float[Tensor, "neuron embed"]) -> int:
        """Project on these too; their place in `LayerPart.other`."""
        reads = torch.einsum("ne,ked->nkd", directions.to(self.maps.outputs), self.maps.outputs)
        self.others.append(torch.einsum("nkd,kdn->nk", reads, self.maps.values))
        return len(self.others) - 1

    def part(self, trace: Trace) -> LayerPart:
        """Everything for one captured batch."""
        index = self.layer.index
        activations = trace.activations[index]
        centred = coefficients(path_weights(trace, self.model.tower, index), activations) - self.mean
        unit = torch.nn.functional.normalize(trace.embeddings, dim=1)
        reads = torch.einsum("bnk,kdn->bkd", centred, self.maps.values.to(centred))
        total = torch.einsum("bkd,ked->be", reads, self.maps.outputs.to(centred))
        return LayerPart(
            x=torch.einsum("bnk,nk->bn", centred, self.along),
            rest=unit - total,
            other=[torch.einsum("bnk,nk->bn", centred, along) for along in self.others],
            activations=activations.mean(dim=1),
        )
