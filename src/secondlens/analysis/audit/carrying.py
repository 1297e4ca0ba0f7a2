"""Which neurons carry a cue: the push of `images`, neuron by neuron, over the survey's images.

With phi[n](I) the second-order effect of neuron n, k(I) the class nearest to image I and v the pair's difference,

    y[n](I)         = <phi[n](I) - mean of phi[n] over the images of k(I), v>
    carried[t, n]   = mean of y[n] over the images that show t
    telling[n]      = mean of <phi[n], v> over the images of the predicted class, less that over the shown class

The sum of `carried` over all neurons is the part of score(t) that goes through second-order effects. `telling` is what
the neuron does for the classes themselves: what holding it at its mean costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.analysis.audit.classes import ClassPair
from secondlens.analysis.audit.images import WithinClasses
from secondlens.atlas.store import Atlas
from secondlens.atlas.surveyed import require_unchanged
from secondlens.data.loader import stream
from secondlens.data.sources import ImageSource
from secondlens.errors import AuditError
from secondlens.lens.capture import capture
from secondlens.lens.model import LensModel
from secondlens.lens.paths import coefficients, path_weights, write_maps
from secondlens.progress import RUNNING, Running

SPARE = 0.3
"""What a neuron has to carry of the cues, for what it tells of the classes, to be held at its mean."""


@dataclass(frozen=True)
class CarriedCues:
    """Of every neuron of some layers: see the module. layers, neurons: where a column is in the model."""

    layers: Int[Tensor, " column"]
    neurons: Int[Tensor, " column"]
    carried: Float[Tensor, "cue column"]
    telling: Float[Tensor, " column"]

    def strongest(self, count: int, spare: float = 0.0) -> list[tuple[int, int]]:
        """(layer, neuron) of those that carry most of all cues together, the most first; only what pushes.

        spare: how much a neuron has to carry for what it tells: those with carried <= spare * |telling| are left out.
        """
        total = self.carried.sum(dim=0)
        able = (total > spare * self.telling.abs()) & (total > 0)
        order = total.argsort(descending=True, stable=True)
        kept = [int(column) for column in order if able[column]][:count]
        return [(int(self.layers[column]), int(self.neurons[column])) for column in kept]


@torch.no_grad()
def carried_cues(
    model: LensModel,
    atlas: Atlas,
    source: ImageSource,
    within: WithinClasses,
    pair: ClassPair,
    cues: Sequence[str],
    layers: Sequence[int],
    *,
    running: Running = RUNNING,
) -> CarriedCues:
    """One pass over the survey's images. source: these. cues: texts of the pool.

    Raises `AuditError` for a text that is not in the pool, or images of which too few can be read again, `ImageError`
    for an image that was replaced since the survey.
    """
    unknown = [text for text in cues if text not in within.texts]
    if unknown or not cues:
        raise AuditError(f"{unknown[0]!r} is no text of the pool" if unknown else "expected at least one cue, got none")
    names = [name.lower() for name in within.classes]
    for name in (pair.source_class, pair.target_class):
        if name.lower() not in names:
            raise AuditError(f"the audit's classes lack {name!r}; add it to --classes")
    shows = torch.from_numpy(within.shows[:, [within.texts.index(text) for text in cues]].toarray().T)
    place_of = {int(position): place for place, position in enumerate(within.positions)}
    along = [_along(model, atlas, layer, pair.vector.to(model.device)) for layer in layers]
    groups = int(within.groups.max()) + 1
    width = sum(len(each) for each in along)
    by_group, by_cue = (torch.zeros(rows, width, dtype=torch.float64) for rows in (groups, len(cues)))
    counts, together = torch.zeros(groups), torch.zeros(len(cues), groups, dtype=torch.float64)
    order = [int(position) for position in within.positions]
    for batch in stream(source, model.preprocessing.transform, order, running, "what neurons carry"):
        places = torch.tensor([place_of[int(position)] for position in batch.positions])
        trace = capture(model.tower, batch.pixels, list(layers))
        require_unchanged(source, batch.positions, trace.embeddings)
        parts = [
            torch.einsum("bnk,nk->bn", coefficients(path_weights(trace, model.tower, layer),
                                                    trace.activations[layer]), each)
            for layer, each in zip(layers, along, strict=True)
        ]  # fmt: skip
        found = torch.cat(parts, dim=1).double().cpu()
        of = torch.nn.functional.one_hot(within.groups[places], groups).double()
        by_group += of.T @ found
        counts += of.sum(dim=0)
        by_cue += shows[:, places] @ found
        together += shows[:, places] @ of
    if float(counts.min()) == 0:
        raise AuditError("the survey's images cannot all be read again; survey those that there are")
    means = by_group / counts[:, None]
    of_class = [_mean_of(names.index(name.lower()), within, means) for name in (pair.source_class, pair.target_class)]
    neurons = torch.cat([torch.arange(len(each)) for each in along])
    return CarriedCues(
        layers=torch.tensor(list(layers)).repeat_interleave(torch.tensor([len(each) for each in along])),
        neurons=neurons,
        carried=(by_cue - together @ means) / together.sum(dim=1, keepdim=True).clamp(min=1),
        telling=of_class[1] - of_class[0],
    )


def _along(model: LensModel, atlas: Atlas, layer: int, vector: Tensor) -> Float[Tensor, "neuron path"]:
    """<u[n,k], v>."""
    maps = write_maps(model.tower, layer, atlas.manifest.convention)
    return torch.einsum("kd,kdn->nk", torch.einsum("ked,e->kd", maps.outputs, vector.to(maps.outputs)), maps.values)


def _mean_of(row: int, within: WithinClasses, means: Tensor) -> Tensor:
    """Of a class by its row; zeros for one without images of its own."""
    mine = np.flatnonzero((within.nearest == row).numpy())
    return means[within.groups[mine[0]]] if len(mine) else torch.zeros_like(means[0])
