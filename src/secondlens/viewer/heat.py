"""Heat maps of neurons on their own top images: where they are active, and where their effect comes from.

    activation: p[n,i](I)          effect: e[n,i](I) = p[n,i](I) sum_k b[k,i](I) <u[n,k], r[n]>

with b as in `lens.second_order` and r the neuron's direction. Summed over all tokens, e is the projection of the whole
effect, <phi[n](I), r[n]>: the survey's projection plus that of the mean effect. Maps are kept as signed bytes, each
with its largest size: 127 stands for it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.atlas.surveyed import require_unchanged
from secondlens.data.loader import stream
from secondlens.data.sources import ImageSource
from secondlens.lens.capture import capture
from secondlens.lens.model import LensModel
from secondlens.lens.paths import path_weights
from secondlens.lens.trace import Trace
from secondlens.progress import Running
from secondlens.viewer.layout import Field, pack

IMAGES = 12
"""Top images a neuron that get heat maps."""
HEAT = Running(batch_size=16)


@dataclass(frozen=True)
class HeatMaps:
    """Heat maps of one layer: see the module's formula. elsewhere: the sum of `effect` over tokens that are no patch,
    as the class token; total: over all tokens.
    """

    activation: Int[Tensor, "neuron image patch"]
    effect: Int[Tensor, "neuron image patch"]
    sizes: Float[Tensor, "neuron image 2"]
    elsewhere: Float[Tensor, "neuron image"]
    total: Float[Tensor, "neuron image"]

    def pack(self, rows: slice) -> bytes:
        """One slice of neurons: see `heat_fields`."""
        arrays = {name: getattr(self, name)[rows] for name in ("activation", "effect", "sizes", "elsewhere", "total")}
        return pack(heat_fields(*self.activation.shape[1:]), arrays, rows.stop - rows.start)


def heat_fields(images: int, patches: int) -> list[Field]:
    """The arrays of a neuron's slice of heat maps."""
    return [
        Field("sizes", "float32", (images, 2)),
        Field("elsewhere", "float32", (images,)),
        Field("total", "float32", (images,)),
        Field("activation", "int8", (images, patches)),
        Field("effect", "int8", (images, patches)),
    ]


def grid_of(model: LensModel) -> tuple[int, int]:
    """Rows and columns of patches."""
    height, width = model.tower.image_size
    return height // model.tower.patch, width // model.tower.patch


def framing(model: LensModel) -> str:
    """What of a picture the model sees: "centre", a square of its middle, or "whole", squeezed to a square."""
    settings: dict[str, Any] = model.preprocessing.settings
    cropped = settings.get("do_center_crop") or settings.get("resize_mode") == "shortest"
    return "centre" if cropped else "whole"


@torch.no_grad()
def layer_heat(
    trace: Trace, model: LensModel, layer: int, along: Float[Tensor, "neuron path"], image: int, neurons: Tensor
) -> tuple[Float[Tensor, "chosen token"], Float[Tensor, "chosen token"]]:
    """Activation and effect at every token, of some neurons on one image of a trace."""
    weights = path_weights(trace, model.tower, layer)[image]
    active = trace.activations[layer][image][:, neurons].T
    return active, active * (along[neurons].to(weights) @ weights)


@torch.no_grad()
def heat_maps(
    model: LensModel,
    atlas: Atlas,
    source: ImageSource,
    layers: list[int],
    *,
    images: int = IMAGES,
    neurons: Tensor | None = None,
    running: Running = HEAT,
) -> dict[int, HeatMaps]:
    """Heat maps of neurons (default: all) of some layers on their first top images, one pass over those images.

    Raises `AtlasError` for an atlas of another model, `ImageError` for an image that was replaced since the survey.
    """
    atlas.require_model(model)
    chosen = torch.arange(model.neurons) if neurons is None else neurons
    count = min(images, atlas.manifest.top)
    rows, columns = grid_of(model)
    places = {layer: atlas.layer(layer).top_positions[chosen, :count] for layer in layers}
    along = {layer: atlas.layer(layer).path_projections[chosen] for layer in layers}
    found = {layer: _empty(len(chosen), count, rows * columns) for layer in layers}
    wanted = torch.cat([place.flatten() for place in places.values()]).unique().tolist()
    for batch in stream(source, model.preprocessing.transform, wanted, running, "heat maps"):
        trace = capture(model.tower, batch.pixels, layers)
        require_unchanged(source, batch.positions, trace.embeddings)
        for layer in layers:
            full = torch.zeros(model.neurons, along[layer].shape[1])
            full[chosen] = along[layer]
            for image, position in enumerate(batch.positions.tolist()):
                row, rank = (places[layer] == position).nonzero(as_tuple=True)
                if len(row):
                    maps = layer_heat(trace, model, layer, full, image, chosen[row])
                    _keep(found[layer], row, rank, *maps, prefix=model.tower.prefix_tokens)
    return found


def _empty(neurons: int, images: int, patches: int) -> HeatMaps:
    maps = torch.zeros(2, neurons, images, patches, dtype=torch.int8)
    return HeatMaps(
        maps[0], maps[1], torch.zeros(neurons, images, 2), torch.zeros(neurons, images), torch.zeros(neurons, images)
    )


def _keep(into: HeatMaps, row: Tensor, rank: Tensor, active: Tensor, effect: Tensor, prefix: int) -> None:
    for place, (maps, target) in enumerate(((active, into.activation), (effect, into.effect))):
        patches = maps[:, prefix:].float().cpu()
        size = patches.abs().amax(dim=1)
        scaled = patches * (127 / size.clamp(min=torch.finfo(torch.float32).tiny))[:, None]
        target[row, rank] = scaled.round().to(torch.int8)
        into.sizes[row, rank, place] = size
    into.elsewhere[row, rank] = effect[:, :prefix].sum(dim=1).float().cpu()
    into.total[row, rank] = effect.sum(dim=1).float().cpu()
