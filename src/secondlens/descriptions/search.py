"""Which neurons write what a text says?"""

from typing import Any

import torch

from secondlens.atlas.store import Atlas
from secondlens.lens.model import LensModel


def search(model: LensModel, atlas: Atlas, text: str, *, limit: int = 20) -> list[dict[str, Any]]:
    """Find the neurons that write most along a text, over all layers; `search_neurons` has further options."""
    return search_neurons(atlas, model, text, limit=limit)


def search_neurons(
    atlas: Atlas,
    model: LensModel,
    text: str,
    *,
    layer: int | None = None,
    limit: int = 20,
    absolute: bool = False,
) -> list[dict[str, Any]]:
    """Neurons by <r, t> of their direction and the text's unit-norm embedding, largest first: layer, neuron, score.

    absolute: by |<r, t>|. Raises `AtlasError` for an atlas of another model, `ModelError` for a text that the model
    cannot encode.
    """
    atlas.require_model(model)
    vector = model.encode_texts([text])[0].float().cpu()
    layers = atlas.layers if layer is None else [layer]
    scores = torch.stack([atlas.layer(index).directions @ vector for index in layers])
    order = (scores.abs() if absolute else scores).flatten().argsort(descending=True, stable=True)[:limit]
    neurons = scores.shape[1]
    return [
        {"layer": layers[place // neurons], "neuron": place % neurons, "score": float(scores.flatten()[place])}
        for place in order.tolist()
    ]
